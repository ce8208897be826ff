"""The FCTSFN family: two streams, late fusion, refinement (paper, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.layers import QualityHead, foreground, upsample


@dataclass(frozen=True)
class ImageFeatures:
    """Everything about an image that does not depend on the clicks.

    Parameters
    ----------
    fusion, refiner : tuple of Tensor
        Image halves of the fusion net and of the refiner, shape (batch, channels, rows, columns);
        none of the refiner where there is none.
    size : (int, int)
        Rows and columns of the network input.
    """

    fusion: tuple[Tensor, ...]
    refiner: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold."""
        return sum(t.numel() * t.element_size() for t in (*self.fusion, *self.refiner))

    def expand(self, batch: int) -> ImageFeatures:
        """Features of one image for a batch of click lists, without copying."""
        return ImageFeatures(
            tuple(t.expand(batch, -1, -1, -1) for t in self.fusion),
            tuple(t.expand(batch, -1, -1, -1) for t in self.refiner),
            self.size,
        )

    def one(self, index: int) -> ImageFeatures:
        """Features of one image of a batch, without copying."""
        place = slice(index, index + 1)
        return ImageFeatures(
            tuple(t[place] for t in self.fusion), tuple(t[place] for t in self.refiner), self.size
        )


class Scores(NamedTuple):
    """Output of a click.

    Attributes
    ----------
    logit : Tensor, shape (batch, 1, rows, columns)
        Foreground minus background score at full resolution; its sigmoid is the probability.
    coarse : Tensor, shape (batch, 1, rows, columns)
        The same of the late-fusion network before refinement, bilinearly upsampled; where there is
        no refiner, `logit` itself.
    quality : Tensor, shape (batch,), or None
        Logit of the predicted IoU of the mask, where the network predicts it.
    """

    logit: Tensor
    coarse: Tensor
    quality: Tensor | None = None

    def each(self) -> list[Scores]:
        """Those of each image of the batch, a batch of one."""
        logits, coarse, quality = self
        every = []
        for i in range(len(logits)):
            place = slice(i, i + 1)
            sure = None if quality is None else quality[place]
            every.append(Scores(logits[place], coarse[place], sure))
        return every


class Fused(NamedTuple):
    """What both streams give together, before refinement.

    Attributes
    ----------
    features : Tensor, shape (batch, channels, r, c)
        What the refiner starts from, or where there is none, the last features before the score.
    coarse : Tensor, shape (batch, 1 or 2, r', c')
        Score of the late-fusion network: foreground minus background, or with `caffe` both.
    interaction : list of Tensor
        Features of the interaction stream.
    """

    features: Tensor
    coarse: Tensor
    interaction: list[Tensor]

    def one(self, index: int) -> Fused:
        """Those of one image of a batch, without copying."""
        place = slice(index, index + 1)
        levels = [level[place] for level in self.interaction]
        return Fused(self.features[place], self.coarse[place], levels)


class Fusion(nn.Module):
    """Fusion net of two streams; see `vgg16.TSLFNFusion` and `lite.LiteFusion`.

    Attributes
    ----------
    channels : int
        Of the features that `forward` gives.
    """

    channels: int

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """All that depends on the image stream's `levels` alone."""
        raise TypeError(f"{type(self).__name__} must define image_halves")

    def forward(
        self, image_halves: tuple[Tensor, ...], interaction: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """`Fused.coarse` and `Fused.features`."""
        raise TypeError(f"{type(self).__name__} must define forward")

    def upsampled(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        """The coarse score at full resolution."""
        return upsample(coarse, size)

    def rescore(self, fused: Tensor, coarse: Tensor) -> Tensor:
        """The coarse score of changed features; where none follows from them, the one before."""
        return coarse


class Refiner(nn.Module):
    """Multi-scale refinement to full resolution; see `vgg16.MSRN` and `lite.LiteRefiner`."""

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """All that depends on the image stream's `levels` alone."""
        raise TypeError(f"{type(self).__name__} must define image_halves")

    def forward(
        self,
        image_halves: tuple[Tensor, ...],
        interaction: list[Tensor],
        fused: Tensor,
        coarse: Tensor,
    ) -> Tensor:
        """Foreground logit at full resolution, shape (batch, 1, rows, columns)."""
        raise TypeError(f"{type(self).__name__} must define forward")


class Unrefined(Refiner):
    """No refinement: the upsampled coarse score is the result (a TSLFN)."""

    def image_halves(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    def forward(
        self,
        image_halves: tuple[Tensor, ...],
        interaction: list[Tensor],
        fused: Tensor,
        coarse: Tensor,
    ) -> Tensor:
        """The foreground logit of `coarse`."""
        return foreground(coarse)


class FCTSFN(nn.Module):
    """Fully convolutional two-stream fusion network.

    Parameters
    ----------
    config : NetworkConfig
        What was built.
    image_stream, interaction_stream : Module
        From (batch, 3, rows, columns) RGB in 0..1, respectively from the interaction maps, to a
        list of feature maps in an order that fusion and refiner know.
    fusion : Fusion
        Late fusion of the streams' features to a coarse score.
    refiner : Refiner
        From the coarse score to full resolution.
    """

    def __init__(
        self,
        config: NetworkConfig,
        image_stream: nn.Module,
        interaction_stream: nn.Module,
        fusion: Fusion,
        refiner: Refiner,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_stream = image_stream
        self.interaction_stream = interaction_stream
        self.fusion = fusion
        self.refiner = refiner
        self.quality = QualityHead(fusion.channels) if config.quality else None

    @property
    def map_channels(self) -> int:
        """Interaction channels: positive map, negative map and, if configured, previous mask."""
        return self.config.map_channels

    @property
    def multiple(self) -> int:
        """Rows and columns of a network input must be multiples of this."""
        return self.config.multiple

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """Compute once per image all that the clicks do not change.

        With late fusion that is the whole image stream and the image half of whatever takes both
        streams; the more blocks are in the fusion net, the less it is. With layerwise fusion it is
        the first block only. In an SSFCN it is no more than the image half of the first
        convolution (``vgg16``) or the scaled image (``lite``): every click runs the whole network.

        Parameters
        ----------
        image : Tensor, shape (batch, 3, rows, columns)
            RGB in 0..1; rows and columns multiples of 32, or with `caffe` any.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if (
            image.ndim != 4
            or image.shape[1] != 3
            or any(n % self.multiple or not n for n in image.shape[2:])
        ):
            raise ValueError(
                f"the network needs images of shape (batch, 3, rows, columns), rows and columns "
                f"multiples of {self.multiple}, not {tuple(image.shape)}"
            )
        levels = self.image_stream(image)
        rows, columns = image.shape[2:]
        return ImageFeatures(
            self.fusion.image_halves(levels), self.refiner.image_halves(levels), (rows, columns)
        )

    def click(self, features: ImageFeatures, maps: Tensor) -> Scores:
        """Segment, given the image's features and the interaction maps.

        Parameters
        ----------
        features : ImageFeatures
            From `encode_image`.
        maps : Tensor, shape (batch, 2 or 3, rows, columns)
            Positive map, negative map (0..255, network-input pixels) and, if the network takes
            one, the previous mask (0..1).

        Raises
        ------
        ValueError
            If the maps do not fit the features or the network.
        """
        return self.refine(features, self.fuse(features, maps))

    def fuse(self, features: ImageFeatures, maps: Tensor) -> Fused:
        """Late fusion of both streams, the first half of `click`."""
        if tuple(maps.shape[1:]) != (self.map_channels, *features.size):
            raise ValueError(
                f"interaction maps of shape {tuple(maps.shape)} do not fit: "
                f"(batch, {self.map_channels}, {features.size[0]}, {features.size[1]}) is needed"
            )
        interaction = self.interaction_stream(maps)
        coarse, fused = self.fusion(features.fusion, interaction)
        return Fused(fused, coarse, interaction)

    def refine(self, features: ImageFeatures, fused: Fused) -> Scores:
        """Refinement to full resolution, the second half of `click`."""
        coarse = self.fusion.upsampled(fused.coarse, features.size)
        logit = self.refiner(features.refiner, fused.interaction, fused.features, coarse)
        quality = None if self.quality is None else self.quality(fused.features, logit)
        return Scores(logit, foreground(coarse), quality)

    def forward(self, image: Tensor, maps: Tensor) -> Scores:
        """`encode_image` and `click` in one."""
        return self.click(self.encode_image(image), maps)


def build_network(config: NetworkConfig) -> FCTSFN:
    """The network that `config` describes, randomly initialised, in training mode."""
    from napari_fctsfn.network import lite, vgg16

    parts = {"lite": lite.parts, "vgg16": vgg16.parts}[config.backbone](config)
    return FCTSFN(config, *parts).to(memory_format=torch.channels_last)
