"""Feature pyramids as image streams: EfficientNet-Lite, and timm's (the paper's future work 1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from napari_fctsfn.errors import InputError
from napari_fctsfn.network.efficientnet import EfficientNetLite

STAGES = 5
"""Stages of a pyramid, at strides 2, 4, 8, 16 and 32."""


def create_pyramid(name: str, in_channels: int = 3) -> Any:
    """A feature pyramid by timm's name, randomly initialised; nothing is downloaded.

    Parameters
    ----------
    name : str
        As in ``timm.list_models()``. Only those of `EfficientNetLite` are there without timm.
    in_channels : int

    Returns
    -------
    Module
        From (batch, in_channels, rows, columns) to a list of feature maps at strides 2 (which may
        be missing), 4, 8, 16 and 32; its attributes ``channels``, ``ends`` (None where it cannot
        be cut) and ``scale`` are those of `EfficientNetLite`. Features at stride 1, as VGG's have,
        are left out.

    Raises
    ------
    ValueError
        If timm has no model of that name, or the model no such pyramid.
    InputError
        If timm is needed and not installed.
    """
    if name in EfficientNetLite.NAMES:
        return EfficientNetLite(name, in_channels)
    return _from_timm(name, in_channels)


def _from_timm(name: str, in_channels: int) -> Any:
    try:
        import timm
        from timm.layers.format import Format
    except ModuleNotFoundError:
        raise InputError(
            f"the image model {name!r} is one of timm's: pip install 'napari-fctsfn[timm]'"
        ) from None
    if not timm.is_model(name):
        raise ValueError(f"timm knows no image model {name!r}; timm.list_models() gives all names")

    def create(**stages: Any) -> Any:
        return timm.create_model(
            name, pretrained=False, features_only=True, in_chans=in_channels, **stages
        )

    try:
        pyramid: Any = create()
        if pyramid.feature_info.reduction()[0] == 1:
            pyramid = create(out_indices=pyramid.feature_info.out_indices[1:])
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the image model {name!r} has no feature pyramid: {error}") from None
    strides = list(pyramid.feature_info.reduction())
    if strides not in ([2, 4, 8, 16, 32], [4, 8, 16, 32]):
        raise ValueError(
            f"the image model {name!r} has features at strides {strides}; "
            f"4, 8, 16 and 32, and maybe 2, are needed"
        )
    if pyramid.pretrained_cfg.get("fixed_input_size"):
        raise ValueError(f"the image model {name!r} takes images of one size only")
    if getattr(pyramid, "output_fmt", Format.NCHW) == Format.NHWC:
        pyramid.register_forward_hook(_channels_first)
    info, settings = pyramid.feature_info, pyramid.pretrained_cfg
    pyramid.channels = tuple(info.channels())
    blocks = info.module_name() if isinstance(pyramid, timm.models.EfficientNetFeatures) else ()
    ends = tuple(int(block.removeprefix("blocks.")) for block in blocks)
    pyramid.ends = ends if len(ends) == STAGES else None
    pyramid.scale = [255 * m for m in settings["mean"]], [255 * s for s in settings["std"]]
    return pyramid


def _channels_first(_pyramid: nn.Module, _inputs: object, features: list[Tensor]) -> list[Tensor]:
    """Features (batch, rows, columns, channels) as (batch, channels, rows, columns)."""
    return [feature.permute(0, 3, 1, 2) for feature in features]


class Stages(nn.Module):
    """Consecutive stages of an EfficientNet; the layers keep timm's names.

    Parameters
    ----------
    pyramid : Module
        From `create_pyramid`; its layers are taken over.
    first, last : int
        Half-open range of stages, of 0 to 5.

    Raises
    ------
    ValueError
        If the pyramid is no EfficientNet, since others cannot be cut.
    """

    def __init__(self, pyramid: Any, first: int, last: int) -> None:
        super().__init__()
        if pyramid.ends is None:
            raise ValueError(
                "only an EfficientNet can be cut into blocks: another image_model needs "
                "5 stream_blocks and no layerwise interaction"
            )
        ends = [0, *(end + 1 for end in pyramid.ends)]
        self.first, self.last = first, last
        self._keys = {n: [str(b) for b in range(ends[n], ends[n + 1])] for n in range(STAGES)}
        if first == 0 < last:
            self.conv_stem, self.bn1 = pyramid.conv_stem, pyramid.bn1
        self.blocks = nn.ModuleDict(
            {key: pyramid.blocks[int(key)] for n in range(first, last) for key in self._keys[n]}
        )

    def stage(self, number: int, inputs: Tensor) -> Tensor:
        """Features of one stage, 0 to 4, from those of the stage before or from the image."""
        features = self.bn1(self.conv_stem(inputs)) if number == 0 else inputs
        for key in self._keys[number]:
            features = self.blocks[key](features)
        return features

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Features of all stages."""
        features = [inputs]
        for number in range(self.first, self.last):
            features.append(self.stage(number, features[-1]))
        return features[1:]
