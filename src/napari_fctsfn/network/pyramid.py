"""Feature pyramids of timm as image streams (the paper's future work 1)."""

from __future__ import annotations

from typing import Any

import timm
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.format import Format
from timm.models import EfficientNetFeatures
from torch import Tensor, nn

STAGES = 5
"""Stages of a pyramid, at strides 2, 4, 8, 16 and 32."""


def create_pyramid(name: str, in_channels: int = 3) -> Any:
    """A feature pyramid by timm's name, randomly initialised; nothing is downloaded.

    Parameters
    ----------
    name : str
        As in ``timm.list_models()``.
    in_channels : int

    Returns
    -------
    Module
        From (batch, in_channels, rows, columns) to a list of feature maps at strides 2 (which may
        be missing), 4, 8, 16 and 32; ``feature_info.channels()`` says how many channels each has.
        Features at stride 1, as VGG's have, are left out.

    Raises
    ------
    ValueError
        If timm has no model of that name, or the model no such pyramid.
    """
    if not timm.is_model(name):
        raise ValueError(f"timm knows no image model {name!r}; timm.list_models() gives all names")

    def create(**stages: Any) -> Any:
        return timm.create_model(
            name, pretrained=False, features_only=True, in_chans=in_channels, **stages
        )

    try:
        pyramid = create()
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
    return pyramid


def _channels_first(_pyramid: nn.Module, _inputs: object, features: list[Tensor]) -> list[Tensor]:
    """Features (batch, rows, columns, channels) as (batch, channels, rows, columns)."""
    return [feature.permute(0, 3, 1, 2) for feature in features]


def scaling(pyramid: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, 0..255, of red, green and blue that a pyramid was trained with.

    EfficientNet-Lite's own are 127 and 128, where timm says 127.5 for both.
    """
    settings = pyramid.pretrained_cfg
    if settings["architecture"].startswith("tf_efficientnet_lite"):
        return [127.0] * 3, [128.0] * 3
    return [255 * m for m in settings["mean"]], [255 * s for s in settings["std"]]


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
        if not isinstance(pyramid, EfficientNetFeatures) or len(pyramid.feature_info) != STAGES:
            raise ValueError(
                "only an EfficientNet can be cut into blocks: another image_model needs "
                "5 stream_blocks and no layerwise interaction"
            )
        ends = [
            0,
            *(int(n.removeprefix("blocks.")) + 1 for n in pyramid.feature_info.module_name()),
        ]
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


def fold_padding(module: nn.Module) -> None:
    """Let depthwise convolutions of stride 2 pad on their own, in place; for prediction only.

    TensorFlow's padding (timm's `Conv2dSame`) has a row and a column more at the end than at the
    beginning where rows and columns are even, which takes a copy of the input. A kernel with a zero
    row and column more at its beginning does the same with equal padding around, without the copy.

    Parameters
    ----------
    module : Module
        Whose inputs have even rows and columns at every stride.
    """
    for name, child in list(module.named_children()):
        if (
            isinstance(child, Conv2dSame)
            and child.groups > 1
            and (child.stride, child.dilation) == ((2, 2), (1, 1))
        ):
            size = child.kernel_size[0]
            even = nn.Conv2d(
                child.in_channels,
                child.out_channels,
                size + 1,
                stride=2,
                padding=size // 2,
                groups=child.groups,
                bias=child.bias is not None,
            )
            even.weight = nn.Parameter(nn.functional.pad(child.weight.data, (1, 0, 1, 0)))
            even.bias = child.bias
            module.add_module(name, even)
        else:
            fold_padding(child)
