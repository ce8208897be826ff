"""What a network is, as data: the part of a model card from which the network is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Backbone = Literal["vgg16", "lite"]
Interaction = Literal["stream", "resized", "layerwise"]
Encoding = Literal["both", "distance", "bounded", "disks"]

_LARGEST_WIDTH = 4096
_MOST_BLOCKS = 32
_LONGEST_NAME = 100
_OWN = -1

_OWN_VALUES: dict[str, dict[str, Any]] = {
    "vgg16": {"stream_blocks": 4, "stride": 8, "image_model": ""},
    "lite": {"stream_blocks": 5, "stride": 16, "image_model": "tf_efficientnet_lite0"},
}
"""What each backbone has where nothing else is said."""


@dataclass(frozen=True)
class NetworkConfig:
    """Configuration of one member of the FCTSFN family.

    Parameters
    ----------
    backbone : {"vgg16", "lite"}
        ``vgg16``: the published network, two VGG16 streams, TSLFN at stride 8 and the MSRN (paper,
        sections 3.1 and 3.2). ``lite``: the same idea for laptops, an EfficientNet-Lite0 image
        stream, a thin interaction stream, late fusion and a light multi-scale refiner.
    previous_mask : bool
        Whether the previous mask is a third interaction channel.
    interaction_channels : tuple of int
        ``lite`` only: channels of the interaction stream at strides 2, 4, 8, 16 and 32, one for
        each of its blocks; none where there is no interaction stream.
    fusion_channels : int
        Channels of the fusion net; for ``vgg16`` those of fc6 and fc7 (4096 as published).
    fusion_blocks : int
        ``lite`` only: depthwise-separable blocks of the fusion net at stride 16.
    interaction_depth : int
        ``lite`` only: convolutions of each block of the interaction stream but the first, which has
        one.
    encoding : {"both", "distance", "bounded", "disks"}
        ``lite`` only: how the distance to the nearest click enters. ``distance``: in parts of 255
        pixels, as in the paper (section 3.1). ``bounded``: as two exponentials of it, 6 and 40
        pixels long. ``disks``: whether it is at most 5 pixels. ``both``: the first two.
    bottleneck_channels : tuple of int
        Channels of the bottleneck fusion layers. ``lite``: at strides 8, 4, 2 and 1, or only the
        first two or three of them: the result is upsampled from there. ``vgg16``: one number for
        all scales (60 as published). None at all: there is no refiner, and the result is the
        upsampled coarse score (a TSLFN).
    refiner_blocks : int
        ``lite`` only: depthwise-separable blocks behind each bottleneck fusion layer but that of
        full resolution.
    quality : bool
        Whether the network also predicts the IoU of its mask.
    interaction : {"stream", "resized", "layerwise"}
        How the interactions enter. ``stream``: through a stream of their own, fused late (TSLFN).
        ``resized``: as maps, resized and concatenated with what the image stream gives (TSLFN-,
        section 4.2). ``layerwise``: through a stream whose features are added to those of the
        image after each block (section 3.1, after Hazirbas et al.).
    stream_blocks : int
        The first blocks of the backbone, 1 to 5, are the streams, the others belong to the fusion
        net (TSLFN_1 to TSLFN_5, section 4.2). 0: maps and image are concatenated at the input of
        a single stream (SSFCN). By default the backbone's own: 4 of ``vgg16``, 5 of ``lite``.
    stride : {32, 16, 8}
        Of the coarse score (section 3.3). By default the backbone's own: 8 of ``vgg16``, 16 of
        ``lite``.
    image_model : str
        ``lite`` only: timm's name of the image stream, any model with a feature pyramid (the
        paper's future work 1); fewer than 5 `stream_blocks` and ``layerwise`` need an EfficientNet.
        By default ``tf_efficientnet_lite0``.
    caffe : bool
        Whether the network is the authors' to the pixel, as their Caffe files have it, so that it
        takes their weights: conv1_1 of both streams is padded by 100, upsampling is a
        deconvolution with a crop, and the refiner takes both scores, not their difference. Only
        for ``vgg16`` networks whose streams are the published ones.

    Raises
    ------
    ValueError
        If a value is unknown or out of range, or values do not go together; nothing is allocated
        before this check.
    """

    backbone: Backbone = "lite"
    previous_mask: bool = True
    interaction_channels: tuple[int, ...] = (16, 24, 32, 64, 128)
    fusion_channels: int = 128
    fusion_blocks: int = 4
    bottleneck_channels: tuple[int, ...] = (48, 32, 24, 12)
    refiner_blocks: int = 0
    quality: bool = False
    interaction: Interaction = "stream"
    stream_blocks: int = _OWN
    stride: int = _OWN
    image_model: str = ""
    caffe: bool = False
    interaction_depth: int = 2
    encoding: Encoding = "both"

    def __post_init__(self) -> None:
        if self.backbone not in ("vgg16", "lite"):
            raise ValueError(f"unknown backbone {self.backbone!r}; known are 'vgg16' and 'lite'")
        for name, own in _OWN_VALUES[self.backbone].items():
            if getattr(self, name) in (_OWN, ""):
                object.__setattr__(self, name, own)
        for name in ("previous_mask", "quality", "caffe"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}")
        self._check_variant()
        self._check_widths()

    def _check_variant(self) -> None:
        if self.interaction not in ("stream", "resized", "layerwise"):
            raise ValueError(
                f"unknown interaction {self.interaction!r}; "
                f"known are 'stream', 'resized' and 'layerwise'"
            )
        fewest = 0 if self.interaction == "stream" else 1
        if self.encoding not in ("both", "distance", "bounded", "disks"):
            raise ValueError(
                f"unknown encoding {self.encoding!r}; "
                f"known are 'both', 'distance', 'bounded' and 'disks'"
            )
        if type(self.stream_blocks) is not int or not fewest <= self.stream_blocks <= 5:
            raise ValueError(
                f"stream_blocks of a network with interaction {self.interaction!r} must be from "
                f"{fewest} to 5, not {self.stream_blocks!r}"
            )
        if type(self.stride) is not int or self.stride not in (32, 16, 8):
            raise ValueError(f"stride must be 32, 16 or 8, not {self.stride!r}")
        if type(self.image_model) is not str or len(self.image_model) > _LONGEST_NAME:
            raise ValueError(f"image_model must be a name that timm knows: {self.image_model!r}")
        if self.backbone == "vgg16" and self.image_model:
            raise ValueError("image_model is for lite networks only: a vgg16 network has VGG16")
        published = (self.backbone, self.interaction, self.stream_blocks) == ("vgg16", "stream", 4)
        if self.caffe and (not published or self.previous_mask or self.quality):
            raise ValueError(
                "caffe is for vgg16 networks with the two published streams, "
                "without previous_mask and quality"
            )

    def _check_widths(self) -> None:
        lite = self.backbone == "lite"
        stages = self.stream_blocks if lite and self.interaction != "resized" else 0
        for name, lengths in (
            ("interaction_channels", (stages,)),
            ("bottleneck_channels", (4, 3, 2, 0) if lite else (1, 0)),
        ):
            if len(getattr(self, name)) not in lengths:
                raise ValueError(
                    f"{name} of such a {self.backbone} network needs "
                    f"{' or '.join(map(str, lengths))} numbers, not {getattr(self, name)!r}"
                )
        widths = (*self.interaction_channels, self.fusion_channels, *self.bottleneck_channels)
        if not all(type(width) is int and 1 <= width <= _LARGEST_WIDTH for width in widths):
            raise ValueError(f"channels must be whole numbers from 1 to {_LARGEST_WIDTH}: {widths}")
        for name in ("fusion_blocks", "refiner_blocks"):
            blocks = getattr(self, name)
            if type(blocks) is not int or not 0 <= blocks <= _MOST_BLOCKS:
                raise ValueError(f"{name} must be from 0 to {_MOST_BLOCKS}, not {blocks!r}")
        depth = self.interaction_depth
        if type(depth) is not int or not 1 <= depth <= _MOST_BLOCKS:
            raise ValueError(f"interaction_depth must be from 1 to {_MOST_BLOCKS}, not {depth!r}")
        if not lite and (depth != 2 or self.encoding != "both"):
            raise ValueError("interaction_depth and encoding are for lite networks only")
        if self.refiner_blocks and not (lite and self.refines):
            raise ValueError("refiner_blocks are for lite networks with a refiner only")
        own = _OWN_VALUES[self.backbone]["stream_blocks"]
        if self.refines and (self.interaction == "layerwise" or self.stream_blocks != own):
            raise ValueError(
                f"a refiner needs both streams apart and at every scale: a {self.backbone} network "
                f"with bottleneck_channels has {own} stream_blocks and no layerwise interaction"
            )

    @property
    def map_channels(self) -> int:
        """Interaction channels: positive map, negative map and, if configured, previous mask."""
        return 3 if self.previous_mask else 2

    @property
    def image_blocks(self) -> int:
        """Blocks of the backbone that see the image alone, so that they run once per image.

        With layerwise fusion the interactions enter after the first.
        """
        return 1 if self.interaction == "layerwise" else self.stream_blocks

    @property
    def multiple(self) -> int:
        """Rows and columns of a network input must be multiples of this."""
        return 1 if self.caffe else 32

    @property
    def refines(self) -> bool:
        """Whether there is a refiner."""
        return bool(self.bottleneck_channels)

    @classmethod
    def vgg16(cls, fusion_channels: int = 4096) -> NetworkConfig:
        """The published network; `fusion_channels` below 4096 shrinks fc6 and fc7 only."""
        return cls(
            backbone="vgg16",
            previous_mask=False,
            interaction_channels=(),
            fusion_channels=fusion_channels,
            fusion_blocks=0,
            bottleneck_channels=(60,),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Configuration from the plain values of a model card.

        Raises
        ------
        ValueError
            If a key is unknown or a value is out of range.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown network settings {sorted(unknown)}; is the model newer?")
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
        }
        try:
            return cls(**plain)
        except TypeError as error:
            raise ValueError(f"network settings {values!r} are not valid: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model card; `from_dict` reads them back.

        What tells the variants apart is left out where it is the backbone's own: cards and
        checkpoints of ordinary networks stay as they were before there were variants.
        """
        own = {
            "refiner_blocks": 0,
            "interaction": "stream",
            "caffe": False,
            "interaction_depth": 2,
            "encoding": "both",
            **_OWN_VALUES[self.backbone],
        }
        return {
            key: value for key, value in asdict(self).items() if key not in own or value != own[key]
        }
