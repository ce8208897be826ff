"""The published refiner: the multi-scale refining network (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.fctsfn import Refiner
from napari_fctsfn.network.layers import (
    SplitConv2d,
    crop,
    deconvolve,
    foreground,
    he_init,
    upsample,
)

CROPS = (99, 100, 101, 103, 107)
"""Offsets at which the authors' Caffe files crop the upsampled scales, finest first."""

KERNELS = (7, 5, 3, 3, 3)
"""Sizes of the kernels of the full-resolution layers."""

WIDTH = 64
"""Channels of the full-resolution layers."""


class MSRN(Refiner):
    """Multi-scale refining network: bottleneck fusion layers, sum, full-resolution layers.

    Parameters
    ----------
    config : NetworkConfig
        `bottleneck_channels[0]` is the width of the bottleneck fusion layers.
    channels : sequence of int
        Of conv1_2, conv2_2, conv3_3 and conv4_3, which both streams have, and of conv5_3.

    Notes
    -----
    Batch norm as in the authors' model file. The TSLFN's score enters as one channel, the
    difference of the two that a softmax turns into the same probability; with
    `NetworkConfig.caffe` as both.
    """

    def __init__(self, config: NetworkConfig, channels: Sequence[int]) -> None:
        super().__init__()
        (width,) = config.bottleneck_channels
        *both, fused = channels
        resized = config.interaction == "resized"
        self.bottlenecks = nn.ModuleList(
            SplitConv2d(image, config.map_channels if resized else image, width, 1, bias=False)
            for image in both
        )
        self.bottleneck5 = nn.Conv2d(fused, width, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in channels)
        self.caffe = config.caffe
        scores = 2 if config.caffe else 1
        self.score_norm = nn.BatchNorm2d(scores)
        layers: list[nn.Module] = []
        inputs = width + scores
        for kernel in KERNELS:
            layers += [
                nn.Conv2d(inputs, WIDTH, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(WIDTH),
                nn.ReLU(inplace=True),
                nn.Dropout(0.5),
            ]
            inputs = WIDTH
        self.refine = nn.Sequential(*layers)
        self.score = nn.Conv2d(WIDTH, 2, 1)
        he_init(self)

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of the bottleneck fusion layers of conv1_2, conv2_2, conv3_3, conv4_3."""
        return tuple(
            cast(SplitConv2d, bottleneck).image_half(level)
            for bottleneck, level in zip(self.bottlenecks, self._scales(levels), strict=True)
        )

    def _scales(self, levels: list[Tensor]) -> list[Tensor]:
        """A stream's features at four scales; the finest, which is not upsampled, is cropped."""
        finest, *coarser = levels[-4:]
        if self.caffe:
            border = CROPS[0]
            finest = finest[:, :, border:-border, border:-border]
        return [finest, *coarser]

    def _upsampled(self, features: Tensor, number: int, size: tuple[int, int]) -> Tensor:
        """Scale `number`, 0 the finest, at full resolution."""
        if not self.caffe:
            return upsample(features, size)
        if not number:
            return features
        return crop(deconvolve(features, 2**number), CROPS[number], size)

    def forward(
        self,
        image_halves: tuple[Tensor, ...],
        interaction: list[Tensor],
        fused: Tensor,
        coarse: Tensor,
    ) -> Tensor:
        """Refined logit at full resolution."""
        size = (coarse.shape[2], coarse.shape[3])
        scales = [
            bottleneck(half, level)
            for bottleneck, half, level in zip(
                self.bottlenecks, image_halves, self._scales(interaction), strict=True
            )
        ]
        scales.append(self.bottleneck5(fused))
        total = torch.zeros(())
        for number, (norm, scale) in enumerate(zip(self.norms, scales, strict=True)):
            total = total + self._upsampled(torch.relu(norm(scale)), number, size)
        score = self.score(self.refine(torch.cat([total, self.score_norm(coarse)], dim=1)))
        return foreground(score)
