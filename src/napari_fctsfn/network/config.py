"""What a network is, as data: the part of a model card from which the network is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Backbone = Literal["vgg16", "lite"]

_LARGEST_WIDTH = 4096


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
        ``lite`` only: channels of the interaction stream at strides 2, 4, 8, 16 and 32.
    fusion_channels : int
        Channels of the fusion net; for ``vgg16`` those of fc6 and fc7 (4096 as published).
    fusion_blocks : int
        ``lite`` only: depthwise-separable blocks of the fusion net at stride 16.
    bottleneck_channels : tuple of int
        Channels of the bottleneck fusion layers. ``lite``: at strides 8, 4, 2 and 1. ``vgg16``: one
        number for all scales (60 as published).
    quality : bool
        Whether the network also predicts the IoU of its mask.

    Raises
    ------
    ValueError
        If a value is unknown or out of range; nothing is allocated before this check.
    """

    backbone: Backbone = "lite"
    previous_mask: bool = True
    interaction_channels: tuple[int, ...] = (16, 24, 32, 64, 128)
    fusion_channels: int = 128
    fusion_blocks: int = 4
    bottleneck_channels: tuple[int, ...] = (48, 32, 24, 12)
    quality: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in ("vgg16", "lite"):
            raise ValueError(f"unknown backbone {self.backbone!r}; known are 'vgg16' and 'lite'")
        lengths = {"lite": (5, 4), "vgg16": (0, 1)}[self.backbone]
        for name, length in zip(
            ("interaction_channels", "bottleneck_channels"), lengths, strict=True
        ):
            if len(getattr(self, name)) != length:
                raise ValueError(
                    f"{name} of a {self.backbone} network needs {length} numbers, "
                    f"not {getattr(self, name)!r}"
                )
        widths = (*self.interaction_channels, self.fusion_channels, *self.bottleneck_channels)
        if not all(type(width) is int and 1 <= width <= _LARGEST_WIDTH for width in widths):
            raise ValueError(f"channels must be whole numbers from 1 to {_LARGEST_WIDTH}: {widths}")
        if type(self.fusion_blocks) is not int or not 0 <= self.fusion_blocks <= 32:
            raise ValueError(f"fusion_blocks must be from 0 to 32, not {self.fusion_blocks!r}")
        for name in ("previous_mask", "quality"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}")

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
        """Plain values for a model card; `from_dict` reads them back."""
        return asdict(self)
