"""The laptop member of the family: EfficientNet-Lite0, a thin interaction stream, a light refiner.

The paper's future work 1 (a more advanced base network) under the constraint that a click costs
little: everything about the image is computed in `encode_image`.
"""

from __future__ import annotations

from typing import cast

import timm
import torch
from torch import Tensor, nn

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.fctsfn import Fusion, Refiner
from napari_fctsfn.network.layers import SeparableBlock, SplitConv2d, conv_norm, upsample

IMAGE_CHANNELS = (16, 24, 40, 112, 320)
"""Channels of the image stream at strides 2, 4, 8, 16 and 32."""

STEM_CHANNELS = 8
"""Channels of the image stream at full resolution."""

_DECAYS = (6.0, 40.0)
"""Lengths, in pixels, of the bounded encodings exp(-d / length) of a distance map."""


class ImageStream(nn.Module):
    """EfficientNet-Lite0 with a full-resolution stem.

    Takes RGB in 0..1, shape (batch, 3, rows, columns); gives six feature maps at strides 1 to 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, STEM_CHANNELS)
        self.backbone = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        scaled = (image * 255 - 127) / 128
        return [self.stem(scaled), *self.backbone(scaled)]


class InteractionStream(nn.Module):
    """Thin learned stream over the encoded interaction maps, five stages.

    Parameters
    ----------
    map_channels : int
        2, or 3 with the previous mask.
    channels : tuple of int
        Channels at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, map_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.encoded_channels = 2 * (1 + len(_DECAYS)) + (map_channels - 2)
        stages = []
        inputs = self.encoded_channels
        for stage, outputs in enumerate(channels):
            first = conv_norm(inputs, outputs, 3, stride=2)
            stages.append(
                first if stage == 0 else nn.Sequential(first, conv_norm(outputs, outputs))
            )
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    @staticmethod
    def encode(maps: Tensor) -> Tensor:
        """Distances (0..255) as one global and two local bounded encodings; the mask as it is."""
        distance = maps[:, :2]
        local = [torch.exp(distance * (-1 / length)) for length in _DECAYS]
        return torch.cat([1 - distance / 255, *local, maps[:, 2:]], dim=1)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Encoded maps and the five stages' features, finest first."""
        levels = [self.encode(maps)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels


class LiteFusion(Fusion):
    """Late fusion at strides 32 and 16, with a global-average term.

    Parameters
    ----------
    config : NetworkConfig
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.channels = width = config.fusion_channels
        interaction = config.interaction_channels
        self.fuse32 = SplitConv2d(IMAGE_CHANNELS[4], interaction[4], width, 1)
        self.blocks32 = nn.Sequential(SeparableBlock(width), SeparableBlock(width))
        self.context = nn.Linear(width, width)
        self.fuse16 = SplitConv2d(IMAGE_CHANNELS[3], interaction[3], width, 1)
        self.blocks16 = nn.Sequential(*(SeparableBlock(width) for _ in range(config.fusion_blocks)))
        self.score = nn.Conv2d(width, 1, 1)

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of both fusions."""
        return self.fuse32.image_half(levels[5]), self.fuse16.image_half(levels[4])

    def forward(
        self, image_halves: tuple[Tensor, ...], interaction: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Coarse score and features at stride 16."""
        half32, half16 = image_halves
        fused = self.blocks32(torch.relu(self.fuse32(half32, interaction[5])))
        fused = fused + self.context(fused.mean(dim=(2, 3)))[:, :, None, None]
        fused = upsample(fused, (half16.shape[2], half16.shape[3]))
        fused = self.blocks16(torch.relu(self.fuse16(half16, interaction[4]) + fused))
        return self.score(fused), fused

    def rescore(self, fused: Tensor, coarse: Tensor) -> Tensor:
        """The coarse score of changed features."""
        score: Tensor = self.score(fused)
        return score


class _RefineStage(nn.Module):
    """A bottleneck fusion layer: both streams and the coarser features, then a convolution."""

    def __init__(self, image: int, interaction: int, coarser: int, width: int) -> None:
        super().__init__()
        self.bottleneck = SplitConv2d(image, interaction, width, 1)
        self.coarser = nn.Conv2d(coarser, width, 1, bias=False)
        self.mix = conv_norm(width, width)

    def forward(self, image_half: Tensor, interaction: Tensor, coarser: Tensor) -> Tensor:
        size = (image_half.shape[2], image_half.shape[3])
        up = upsample(self.coarser(coarser), size)
        mixed: Tensor = self.mix(torch.relu(self.bottleneck(image_half, interaction) + up))
        return mixed


class LiteRefiner(Refiner):
    """Top-down multi-scale refinement at strides 8, 4 and 2, sub-pixel step to full resolution.

    Parameters
    ----------
    config : NetworkConfig
    encoded_channels : int
        Channels of the interaction stream's encoded maps at full resolution.
    """

    def __init__(self, config: NetworkConfig, encoded_channels: int) -> None:
        super().__init__()
        *widths, full = config.bottleneck_channels
        coarser = [config.fusion_channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            _RefineStage(IMAGE_CHANNELS[level], config.interaction_channels[level], below, width)
            for level, below, width in zip((2, 1, 0), coarser, widths, strict=True)
        )
        self.subpixel = nn.Sequential(nn.Conv2d(widths[-1], 4 * full, 1), nn.PixelShuffle(2))
        self.bottleneck = SplitConv2d(STEM_CHANNELS, encoded_channels, full, 1)
        self.score = nn.Conv2d(full, 1, 3, padding=1)

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of the bottleneck fusion layers at strides 8, 4, 2 and 1."""
        halves = [
            cast(_RefineStage, stage).bottleneck.image_half(levels[level])
            for stage, level in zip(self.stages, (3, 2, 1), strict=True)
        ]
        return (*halves, self.bottleneck.image_half(levels[0]))

    def forward(
        self,
        image_halves: tuple[Tensor, ...],
        interaction: list[Tensor],
        fused: Tensor,
        coarse: Tensor,
    ) -> Tensor:
        """Refined logit: a correction added to the coarse score."""
        *halves, full = image_halves
        features = fused
        for stage, half, level in zip(self.stages, halves, (3, 2, 1), strict=True):
            features = stage(half, interaction[level], features)
        fine = torch.relu(self.subpixel(features) + self.bottleneck(full, interaction[0]))
        logit: Tensor = self.score(fine) + coarse
        return logit


def parts(config: NetworkConfig) -> tuple[nn.Module, nn.Module, Fusion, Refiner]:
    """Image stream, interaction stream, fusion net and refiner for `config`."""
    stream = InteractionStream(3 if config.previous_mask else 2, config.interaction_channels)
    return ImageStream(), stream, LiteFusion(config), LiteRefiner(config, stream.encoded_channels)
