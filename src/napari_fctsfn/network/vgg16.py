"""The published network's streams and fusion net, out of VGG16 (paper, sections 3.1 and 4.2).

Padding 1 everywhere and half-pixel-centred bilinear upsampling give the geometry of the paper's
deconvolutions. The authors' model file pads its first layers by 100 instead, pads fc6 not at all,
and crops what comes out; `NetworkConfig.caffe` does the same.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.fctsfn import Fusion, Refiner, Unrefined
from napari_fctsfn.network.layers import (
    Resized,
    SplitConv2d,
    crop,
    deconvolve,
    foreground,
    he_init,
    upsample,
)
from napari_fctsfn.network.msrn import MSRN

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and channels of the five blocks (conv1_x .. conv5_x)."""

BGR_MEAN = (104.00699, 116.66877, 122.67892)
"""Means of blue, green and red, 0..255, subtracted from the image."""

MAP_MEAN = (166.90557, 147.47697)
"""Means of the positive and the negative map, 0..255, subtracted from the maps."""

PADDING = 100
"""Of conv1_1 in the authors' Caffe files."""

SKIP_CROPS = {4: 5, 3: 9}
"""Offset at which those crop the score of a pool, by the number of the pool."""

SCORE_CROPS = {32: 19, 16: 27, 8: 31}
"""Offset at which those crop the upsampled score, by its stride."""


def _relu_convs(inputs: int, outputs: int, depth: int, padding: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        channels, border = (outputs, 1) if number else (inputs, padding)
        layers += [nn.Conv2d(channels, outputs, 3, padding=border), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Stream(nn.Module):
    """First blocks of VGG16, each followed by a pool.

    Parameters
    ----------
    channels : int
        Input channels: 3 of an image, 2 (or 3) of the interaction maps.
    blocks : int
        0 to 5; the published streams have 4 (conv1_1 .. conv4_3).
    padding : int
        Of conv1_1.
    """

    def __init__(self, channels: int, blocks: int, padding: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for depth, width in BLOCKS[:blocks]:
            self.blocks.append(_relu_convs(channels, width, depth, padding))
            channels, padding = width, 1
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """The inputs, the pool after each block, then each block's features before its pool."""
        pools, features = [inputs], []
        for block in self.blocks:
            features.append(block(pools[-1]))
            pools.append(self.pool(features[-1]))
        return [*pools, *features]


class ImageStream(Stream):
    """`Stream` over RGB in 0..1, turned into BGR 0..255 minus the mean."""

    mean: Tensor

    def __init__(self, blocks: int, padding: int = 1) -> None:
        super().__init__(3, blocks, padding)
        self.register_buffer("mean", torch.tensor(BGR_MEAN)[:, None, None], persistent=False)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Feature maps of the image."""
        return super().forward(inputs.flip(1) * 255 - self.mean)


class InteractionStream(Stream):
    """`Stream` over the interaction maps minus their mean; a previous mask is scaled to 0..255."""

    mean: Tensor
    scale: Tensor

    def __init__(self, map_channels: int, blocks: int, padding: int = 1) -> None:
        super().__init__(map_channels, blocks, padding)
        mask = map_channels - 2
        mean = torch.tensor((*MAP_MEAN, *[127.5] * mask))
        scale = torch.tensor((1.0, 1.0, *[255.0] * mask))
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("scale", scale[:, None, None], persistent=False)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Feature maps of the interactions."""
        return super().forward(inputs * self.scale - self.mean)


class TSLFNFusion(Fusion):
    """Fusion net: the blocks of VGG16 that are not in the streams, fc6, fc7, score and skips.

    Its first convolution takes both streams' last pools (conv5_1 in the published network, conv1_1
    in the SSFCN, fc6 in TSLFN_5). A skip takes both streams' pool where both have it, the fusion
    net's own otherwise. With layerwise fusion a block's features are added to those of the
    interaction stream's block before they are pooled. The scores start from zero (section 3.3).

    Parameters
    ----------
    config : NetworkConfig
        `fusion_channels` is the width of fc6 and fc7.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        kept, width = config.image_blocks, config.fusion_channels
        self.channels = BLOCKS[-1][1] if config.refines else width
        image = (3, *(channels for _, channels in BLOCKS))
        maps = config.map_channels
        resized = config.interaction == "resized"
        interaction = (maps,) * len(image) if resized else (maps, *image[1:])
        self._joint = "" if config.interaction == "layerwise" else f"conv{kept + 1}_1"
        if kept == len(BLOCKS):
            self._joint = "fc6"
        for block in range(kept + 1, len(BLOCKS) + 1):
            depth, channels = BLOCKS[block - 1]
            inputs = image[block - 1]
            if self._joint == f"conv{block}_1":
                split = SplitConv2d(inputs, interaction[block - 1], channels, 3)
                self.add_module(self._joint, split)
                depth, inputs = depth - 1, channels
            self.add_module(f"conv{block}", _relu_convs(inputs, channels, depth))
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        fc6: nn.Module = nn.Conv2d(image[-1], width, 7, padding=0 if config.caffe else 3)
        if self._joint == "fc6":
            self.fc6 = SplitConv2d(image[-1], interaction[-1], width, 7)
            fc6 = nn.Identity()
        self.fc = nn.Sequential(
            fc6,
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        he_init(self)
        scores: list[nn.Module] = [nn.Conv2d(width, 2, 1)]
        self.score_fr = scores[0]
        for number in self._skips:
            both = SplitConv2d(image[number], interaction[number], 2, 1)
            scores.append(both if number <= kept else nn.Conv2d(image[number], 2, 1))
            self.add_module(f"score_pool{number}", scores[-1])
        for score in scores:
            for parameter in score.parameters():
                nn.init.zeros_(parameter)

    @property
    def _skips(self) -> list[int]:
        """Numbers of the pools that add to the score, deepest first."""
        return [number for number in (4, 3) if self.config.stride <= 2**number]

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Image halves of the first convolution and of the skips that both streams have.

        With layerwise fusion the image's first block (conv1_2) in place of the former.
        """
        kept = self.config.image_blocks
        joint = self.get_submodule(self._joint) if self._joint else None
        first = joint.image_half(levels[kept]) if isinstance(joint, SplitConv2d) else levels[-1]
        skips = [
            cast(SplitConv2d, self.get_submodule(f"score_pool{number}")).image_half(levels[number])
            for number in self._skips
            if number <= kept
        ]
        return (first, *skips)

    def _joined(self, first: Tensor, interaction: list[Tensor]) -> Tensor:
        """Where the streams meet: what the next convolution or fc6's activation takes."""
        config = self.config
        if not self._joint:
            return cast(Tensor, self.pool(first + interaction[config.stream_blocks + 1]))
        joined: Tensor = self.get_submodule(self._joint)(first, interaction[config.image_blocks])
        return joined if self._joint == "fc6" else torch.relu(joined)

    def forward(
        self, image_halves: tuple[Tensor, ...], interaction: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The score, and conv5_3 for a refiner, else fc7."""
        config = self.config
        first, *halves = image_halves
        features = conv5_3 = self._joined(first, interaction)
        pools = {}
        for block in range(config.image_blocks + 1, len(BLOCKS) + 1):
            conv5_3 = self.get_submodule(f"conv{block}")(features)
            if config.interaction == "layerwise" and block <= config.stream_blocks:
                conv5_3 = conv5_3 + interaction[config.stream_blocks + block]
            features = pools[block] = self.pool(conv5_3)
        fc7 = self.fc(features)
        score = self.score_fr(fc7)
        for number in self._skips:
            skip = self.get_submodule(f"score_pool{number}")
            if number in pools:
                finer = skip(pools[number])
            else:
                finer = skip(halves.pop(0), interaction[number])
            if config.caffe:
                score = deconvolve(score, 2)
                finer = crop(finer, SKIP_CROPS[number], (score.shape[2], score.shape[3]))
            else:
                score = upsample(score, (finer.shape[2], finer.shape[3]))
            score = score + finer
        return self._coarse(score), conv5_3 if config.refines else fc7

    def upsampled(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        """The score at full resolution."""
        stride = self.config.stride
        if not self.config.caffe:
            return super().upsampled(coarse, size)
        return crop(deconvolve(coarse, stride), SCORE_CROPS[stride], size)

    def rescore(self, fused: Tensor, coarse: Tensor) -> Tensor:
        """The score of changed fc7 at stride 32; a skip's part is not known here."""
        if self.config.refines or self._skips:
            return coarse
        return self._coarse(self.score_fr(fused))

    def _coarse(self, score: Tensor) -> Tensor:
        """What becomes of both scores: `Fused.coarse`."""
        return score if self.config.caffe else foreground(score)


def parts(config: NetworkConfig) -> tuple[nn.Module, nn.Module, Fusion, Refiner]:
    """Image stream, interaction stream, fusion net and refiner for `config`."""
    resized, blocks = config.interaction == "resized", config.stream_blocks
    padding = PADDING if config.caffe else 1
    interaction: nn.Module = InteractionStream(
        config.map_channels, 0 if resized else blocks, padding
    )
    if resized:
        pools = [2**block for block in range(blocks + 1)]
        interaction = Resized(interaction, [*pools, *pools[:-1]])
    refiner = MSRN(config, [width for _, width in BLOCKS]) if config.refines else Unrefined()
    image = ImageStream(config.image_blocks, padding)
    return image, interaction, TSLFNFusion(config), refiner
