"""The published network: two VGG16 streams, TSLFN at stride 8, MSRN (paper, sections 3.1, 3.2).

Padding 1 everywhere and half-pixel-centred bilinear upsampling give the geometry of the paper's
deconvolutions; the authors' model file pads its first layer by 100 instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.fctsfn import Fusion, Refiner
from napari_fctsfn.network.layers import SplitConv2d, upsample

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512))
"""Convolutions and channels of the four blocks (conv1_x .. conv4_x) of a stream."""

BGR_MEAN = (104.00699, 116.66877, 122.67892)
"""Means of blue, green and red, 0..255, subtracted from the image."""

MAP_MEAN = (166.90557, 147.47697)
"""Means of the positive and the negative map, 0..255, subtracted from the maps."""


class Stream(nn.Module):
    """First ten convolutions of VGG16 (conv1_1 .. conv4_3), with the pools after each block.

    Parameters
    ----------
    channels : int
        Input channels: 3 of an image, 2 (or 3) of the interaction maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for depth, width in BLOCKS:
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            self.blocks.append(nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """conv1_2, conv2_2, conv3_3 and conv4_3 after ReLU, then pool3 and pool4."""
        features, pools = [], []
        for block in self.blocks:
            features.append(block(inputs))
            inputs = self.pool(features[-1])
            pools.append(inputs)
        return [*features, pools[2], pools[3]]


class ImageStream(Stream):
    """`Stream` over RGB in 0..1, turned into BGR 0..255 minus the mean."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__(3)
        self.register_buffer("mean", torch.tensor(BGR_MEAN)[:, None, None], persistent=False)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Feature maps of the image."""
        return super().forward(inputs.flip(1) * 255 - self.mean)


class InteractionStream(Stream):
    """`Stream` over the interaction maps minus their mean; a previous mask is scaled to 0..255."""

    mean: Tensor
    scale: Tensor

    def __init__(self, map_channels: int) -> None:
        super().__init__(map_channels)
        mask = map_channels - 2
        mean = torch.tensor((*MAP_MEAN, *[127.5] * mask))
        scale = torch.tensor((1.0, 1.0, *[255.0] * mask))
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("scale", scale[:, None, None], persistent=False)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Feature maps of the interactions."""
        return super().forward(inputs * self.scale - self.mean)


def _relu_convs(layers: Iterable[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU(inplace=True))))


class TSLFNFusion(Fusion):
    """Fusion net of the TSLFN: conv5_1..3, fc6, fc7, score and both skips, to stride 8.

    Parameters
    ----------
    config : NetworkConfig
        `fusion_channels` is the width of fc6 and fc7.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.channels = 512
        width = config.fusion_channels
        self.conv5_1 = SplitConv2d(512, 512, 512, 3)
        self.conv5 = _relu_convs(nn.Conv2d(512, 512, 3, padding=1) for _ in range(2))
        self.pool5 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.fc = nn.Sequential(
            nn.Conv2d(512, width, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.score_fr = nn.Conv2d(width, 2, 1)
        self.score_pool4 = SplitConv2d(512, 512, 2, 1)
        self.score_pool3 = SplitConv2d(256, 256, 2, 1)

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of conv5_1 and of both skip scores."""
        *_, pool3, pool4 = levels
        return (
            self.conv5_1.image_half(pool4),
            self.score_pool4.image_half(pool4),
            self.score_pool3.image_half(pool3),
        )

    def forward(
        self, image_halves: tuple[Tensor, ...], interaction: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Foreground minus background score at stride 8, and conv5_3."""
        half5, half4, half3 = image_halves
        *_, pool3, pool4 = interaction
        conv5_3 = self.conv5(torch.relu(self.conv5_1(half5, pool4)))
        score = self.score_fr(self.fc(self.pool5(conv5_3)))
        for skip, half, pool in (
            (self.score_pool4, half4, pool4),
            (self.score_pool3, half3, pool3),
        ):
            score = upsample(score, (half.shape[2], half.shape[3])) + skip(half, pool)
        return score[:, 1:] - score[:, :1], conv5_3


class MSRN(Refiner):
    """Multi-scale refining network: bottleneck fusion layers, sum, full-resolution layers.

    Parameters
    ----------
    config : NetworkConfig
        `bottleneck_channels[0]` is the width of the bottleneck fusion layers.

    Notes
    -----
    Batch norm as in the authors' model file. The TSLFN's score enters as one channel, the
    difference of the two that a softmax turns into the same probability.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        (width,) = config.bottleneck_channels
        self.bottlenecks = nn.ModuleList(
            SplitConv2d(channels, channels, width, 1, bias=False) for _, channels in BLOCKS
        )
        self.bottleneck5 = nn.Conv2d(512, width, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(len(BLOCKS) + 1))
        self.score_norm = nn.BatchNorm2d(1)
        layers: list[nn.Module] = []
        inputs = width + 1
        for kernel in (7, 5, 3, 3, 3):
            layers += [
                nn.Conv2d(inputs, 64, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(inplace=True),
                nn.Dropout(0.5),
            ]
            inputs = 64
        self.refine = nn.Sequential(*layers)
        self.score = nn.Conv2d(64, 2, 1)

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of the bottleneck fusion layers of conv1_2, conv2_2, conv3_3, conv4_3."""
        return tuple(
            cast(SplitConv2d, bottleneck).image_half(level)
            for bottleneck, level in zip(self.bottlenecks, levels[:4], strict=True)
        )

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
                self.bottlenecks, image_halves, interaction[:4], strict=True
            )
        ]
        scales.append(self.bottleneck5(fused))
        total = torch.zeros(())
        for norm, scale in zip(self.norms, scales, strict=True):
            total = total + upsample(torch.relu(norm(scale)), size)
        score = self.score(self.refine(torch.cat([total, self.score_norm(coarse)], dim=1)))
        logit: Tensor = score[:, 1:] - score[:, :1]
        return logit


def parts(config: NetworkConfig) -> tuple[nn.Module, nn.Module, Fusion, Refiner]:
    """Image stream, interaction stream, fusion net and refiner for `config`."""
    interaction = InteractionStream(3 if config.previous_mask else 2)
    return ImageStream(), interaction, TSLFNFusion(config), MSRN(config)
