"""The laptop member of the family: EfficientNet-Lite0, a thin interaction stream, a light refiner.

The paper's future work 1 (a more advanced base network) under the constraint that a click costs
little: everything about the image is computed in `encode_image`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from napari_fctsfn.network.config import Encoding, NetworkConfig
from napari_fctsfn.network.fctsfn import Fusion, Refiner, Unrefined
from napari_fctsfn.network.layers import (
    Resized,
    SeparableBlock,
    SplitConv2d,
    conv_norm,
    upsample,
)
from napari_fctsfn.network.pyramid import STAGES, Stages, create_pyramid

STEM_CHANNELS = 8
"""Channels of the image stream at full resolution; twice as many where it makes stride 2."""

_DECAYS = (6.0, 40.0)
"""Lengths, in pixels, of the bounded encodings exp(-d / length) of a distance map."""

_DISK = 5
"""Radius of a disk, in pixels."""


class ImageStream(nn.Module):
    """A feature pyramid, for a refiner with a full-resolution stem.

    Takes RGB in 0..1, shape (batch, 3, rows, columns); gives feature maps at strides 1 to 32, or
    as far as the pyramid is cut; without a stem the scaled image stands for the first.

    Parameters
    ----------
    backbone : Module
        From the scaled image to a list of feature maps.
    scale : (list of float, list of float)
        Mean and standard deviation, 0..255, of red, green and blue.
    stem : bool
        Whether there is a stem.
    half : bool
        Whether the stem makes the features at stride 2, which the backbone does not have.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, scale: tuple[list[float], list[float]], stem: bool, half: bool
    ) -> None:
        super().__init__()
        self.stem = conv_norm(3, STEM_CHANNELS) if stem else nn.Identity()
        self.backbone = backbone
        self.stem2 = conv_norm(STEM_CHANNELS, 2 * STEM_CHANNELS, stride=2) if half else None
        for name, values in zip(("mean", "std"), scale, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        scaled = (image * 255 - self.mean) / self.std
        full = self.stem(scaled)
        half = [] if self.stem2 is None else [self.stem2(full)]
        return [full, *half, *self.backbone(scaled)]


class InteractionStream(nn.Module):
    """Thin learned stream over the encoded interaction maps, five stages.

    Parameters
    ----------
    map_channels : int
        2, or 3 with the previous mask.
    channels : tuple of int
        Channels at strides 2, 4, 8, 16 and 32.
    depth : int
        Convolutions of each stage but the first.
    encoding : {"both", "distance", "bounded", "disks"}
        See `NetworkConfig`.
    """

    def __init__(
        self, map_channels: int, channels: tuple[int, ...], depth: int, encoding: Encoding
    ) -> None:
        super().__init__()
        self.encoding = encoding
        encodings = {"both": 1 + len(_DECAYS), "bounded": len(_DECAYS)}.get(encoding, 1)
        self.encoded_channels = 2 * encodings + (map_channels - 2)
        stages = []
        inputs = self.encoded_channels
        for stage, outputs in enumerate(channels):
            first = conv_norm(inputs, outputs, 3, stride=2)
            deeper = range(depth - 1) if stage else ()
            more = [conv_norm(outputs, outputs) for _ in deeper]
            stages.append(nn.Sequential(first, *more) if stage else first)
            inputs = outputs
        self.stages = nn.ModuleList(stages)

    def encode(self, maps: Tensor) -> Tensor:
        """Distances (0..255) in their encoding, each from 0 to 1 at a click; the mask as it is."""
        # copied, since arithmetic with two of three interleaved channels is slower than the copy
        distance = maps[:, :2].contiguous(memory_format=torch.channels_last)
        encoded = []
        if self.encoding in ("both", "distance"):
            encoded.append(1 - distance / 255)
        if self.encoding in ("both", "bounded"):
            encoded += [torch.exp(distance * (-1 / length)) for length in _DECAYS]
        if self.encoding == "disks":
            encoded.append((distance <= _DISK).to(maps.dtype))
        return torch.cat([*encoded, maps[:, 2:]], dim=1)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """Encoded maps and the five stages' features, finest first."""
        levels = [self.encode(maps)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels


class LiteFusion(Fusion):
    """Late fusion at strides 32, 16 and 8, down to that of the score, with a global-average term.

    Where fewer than five stages are streams, or fusion is layerwise, the stages that are left run
    here. The interaction features are added to their inputs after a 1x1 convolution; before the
    1x1 convolution that the next stage begins with, this is as general as concatenating. In an
    SSFCN the encoded maps are concatenated with the scaled image.

    Parameters
    ----------
    config : NetworkConfig
    image_channels : sequence of int
        Of the five stages.
    interaction_channels : sequence of int
        Of the interaction stream's encoded maps and of its stages.
    tail : Stages or None
        The stages that are not in the image stream.
    """

    def __init__(
        self,
        config: NetworkConfig,
        image_channels: Sequence[int],
        interaction_channels: Sequence[int],
        tail: Stages | None,
    ) -> None:
        super().__init__()
        self.channels = width = config.fusion_channels
        self.kept = config.image_blocks
        self.tail = tail

        def fuse(stage: int) -> nn.Module:
            channels = image_channels[stage - 1]
            if stage > self.kept:
                return nn.Conv2d(channels, width, 1)
            return SplitConv2d(channels, interaction_channels[stage], width, 1)

        self.fuse32 = fuse(5)
        self.blocks32 = nn.Sequential(SeparableBlock(width), SeparableBlock(width))
        self.context = nn.Linear(width, width)
        self.finer = [stage for stage in (4, 3) if config.stride <= 2**stage]
        for stage, depth in zip(self.finer, (config.fusion_blocks, 1), strict=False):
            self.add_module(f"fuse{2**stage}", fuse(stage))
            blocks = nn.Sequential(*(SeparableBlock(width) for _ in range(depth)))
            self.add_module(f"blocks{2**stage}", blocks)
        self.score = nn.Conv2d(width, 1, 1)
        layerwise = config.interaction == "layerwise"
        meeting = range(1 if layerwise else max(self.kept, 1), config.stream_blocks + 1)
        self.merges = nn.ModuleDict(
            {
                str(stage): nn.Conv2d(interaction_channels[stage], image_channels[stage - 1], 1)
                for stage in meeting
                if tail is not None
            }
        )

    def _fuse(self, stage: int) -> nn.Module:
        return self.get_submodule(f"fuse{2**stage}")

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of all fusions of both streams, before them what the tail takes."""
        halves = [
            cast(SplitConv2d, self._fuse(stage)).image_half(levels[stage - self.kept - 1])
            for stage in (5, *self.finer)
            if stage <= self.kept
        ]
        return tuple(halves) if self.tail is None else (levels[-1], *halves)

    def _deeper(
        self, tail: Stages, features: Tensor, interaction: list[Tensor]
    ) -> dict[int, Tensor]:
        """Features of the stages that are not in the image stream."""
        if self.kept == 0:
            features = torch.cat([features, interaction[0]], dim=1)
        deeper = {}
        for stage in range(self.kept, STAGES + 1):
            if stage > self.kept:
                features = tail.stage(stage - 1, features)
            if str(stage) in self.merges:
                features = features + self.merges[str(stage)](interaction[stage])
            deeper[stage] = features
        return deeper

    def forward(
        self, image_halves: tuple[Tensor, ...], interaction: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Coarse score and fused features, both at the score's stride."""
        halves = list(image_halves)
        deeper: dict[int, Tensor] = {}
        if self.tail is not None:
            deeper = self._deeper(self.tail, halves.pop(0), interaction)

        def lateral(stage: int) -> Tensor:
            layer = self._fuse(stage)
            if stage > self.kept:
                return cast(Tensor, layer(deeper[stage]))
            return cast(Tensor, layer(halves.pop(0), interaction[stage]))

        fused = self.blocks32(torch.relu(lateral(5)))
        fused = fused + self.context(fused.mean(dim=(2, 3)))[:, :, None, None]
        for stage in self.finer:
            finer = lateral(stage)
            fused = upsample(fused, (finer.shape[2], finer.shape[3]))
            fused = self.get_submodule(f"blocks{2**stage}")(torch.relu(finer + fused))
        return self.score(fused), fused

    def rescore(self, fused: Tensor, coarse: Tensor) -> Tensor:
        """The coarse score of changed features."""
        score: Tensor = self.score(fused)
        return score


_REFINED = (3, 2, 1)
"""Levels of the streams that are refined at, before full resolution: strides 8, 4 and 2."""


class _RefineStage(nn.Module):
    """A bottleneck fusion layer: both streams and the coarser features, then convolutions."""

    def __init__(self, image: int, interaction: int, coarser: int, width: int, blocks: int) -> None:
        super().__init__()
        self.bottleneck = SplitConv2d(image, interaction, width, 1)
        self.coarser = nn.Conv2d(coarser, width, 1, bias=False)
        self.mix = conv_norm(width, width)
        self.blocks = nn.Sequential(*(SeparableBlock(width) for _ in range(blocks)))

    def forward(self, image_half: Tensor, interaction: Tensor, coarser: Tensor) -> Tensor:
        size = (image_half.shape[2], image_half.shape[3])
        up = upsample(self.coarser(coarser), size)
        mixed = self.mix(torch.relu(self.bottleneck(image_half, interaction) + up))
        refined: Tensor = self.blocks(mixed)
        return refined


def to_full_resolution(config: NetworkConfig) -> bool:
    """Whether the refiner's last bottleneck fusion layer is at stride 1."""
    return len(config.bottleneck_channels) > len(_REFINED)


class LiteRefiner(Refiner):
    """Top-down multi-scale refinement at strides 8, 4 and 2, sub-pixel step to full resolution.

    With fewer bottleneck fusion layers it ends at stride 2 or 4, and the logit is upsampled.

    Parameters
    ----------
    config : NetworkConfig
    image_channels : sequence of int
        Of the five stages.
    interaction_channels : sequence of int
        Of the interaction stream's encoded maps and of its stages.
    """

    def __init__(
        self,
        config: NetworkConfig,
        image_channels: Sequence[int],
        interaction_channels: Sequence[int],
    ) -> None:
        super().__init__()
        widths = config.bottleneck_channels[: len(_REFINED)]
        self.levels = _REFINED[: len(widths)]
        coarser = [config.fusion_channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            _RefineStage(
                image_channels[level - 1],
                interaction_channels[level],
                below,
                width,
                config.refiner_blocks,
            )
            for level, below, width in zip(self.levels, coarser, widths, strict=True)
        )
        last = config.bottleneck_channels[-1]
        self.full = to_full_resolution(config)
        if self.full:
            self.subpixel = nn.Sequential(nn.Conv2d(widths[-1], 4 * last, 1), nn.PixelShuffle(2))
            self.bottleneck = SplitConv2d(STEM_CHANNELS, interaction_channels[0], last, 1)
        self.score = nn.Conv2d(last, 1, 3, padding=1)

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of the bottleneck fusion layers at strides 8, 4, 2 and 1."""
        halves = [
            cast(_RefineStage, stage).bottleneck.image_half(levels[level])
            for stage, level in zip(self.stages, self.levels, strict=True)
        ]
        return (*halves, self.bottleneck.image_half(levels[0])) if self.full else tuple(halves)

    def forward(
        self,
        image_halves: tuple[Tensor, ...],
        interaction: list[Tensor],
        fused: Tensor,
        coarse: Tensor,
    ) -> Tensor:
        """Refined logit: a correction added to the coarse score."""
        features = fused
        for stage, half, level in zip(self.stages, image_halves, self.levels, strict=False):
            features = stage(half, interaction[level], features)
        if self.full:
            fine = self.bottleneck(image_halves[-1], interaction[0])
            features = torch.relu(self.subpixel(features) + fine)
        correction: Tensor = self.score(features)
        if not self.full:
            correction = upsample(correction, (coarse.shape[2], coarse.shape[3]))
        return correction + coarse


def parts(config: NetworkConfig) -> tuple[nn.Module, nn.Module, Fusion, Refiner]:
    """Image stream, interaction stream, fusion net and refiner for `config`."""
    kept, blocks = config.image_blocks, config.stream_blocks
    stream = InteractionStream(
        config.map_channels, config.interaction_channels, config.interaction_depth, config.encoding
    )
    interaction: nn.Module = stream
    interaction_channels = [stream.encoded_channels, *config.interaction_channels]
    if config.interaction == "resized":
        interaction = Resized(stream, [2**stage for stage in range(blocks + 1)])
        interaction_channels = [stream.encoded_channels] * (blocks + 1)
    pyramid = create_pyramid(config.image_model, 3 if kept else 3 + stream.encoded_channels)
    image_channels = list(pyramid.channels)
    half = False
    if len(image_channels) < STAGES:
        image_channels.insert(0, 2 * STEM_CHANNELS)
        half = config.refines
    backbone: Any = pyramid
    tail = None
    if kept < STAGES:
        backbone, tail = Stages(pyramid, 0, kept), Stages(pyramid, kept, STAGES)
    refiner = (
        LiteRefiner(config, image_channels, interaction_channels) if config.refines else Unrefined()
    )
    return (
        ImageStream(backbone, pyramid.scale, half or to_full_resolution(config), half),
        interaction,
        LiteFusion(config, image_channels, interaction_channels, tail),
        refiner,
    )
