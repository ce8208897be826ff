"""EfficientNet-Lite (Tan & Le, ICML 2019; the variant without squeeze and excitation) as a pyramid.

Layers, their names and their order are those of timm's ``tf_efficientnet_lite0`` to ``4`` without
classifier, so that weights fit. It is written out here because timm takes longer to be imported
than all that is clicked with.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import pad

_SCALES = {
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
    "tf_efficientnet_lite3": (1.2, 1.4),
    "tf_efficientnet_lite4": (1.4, 1.8),
}
"""Of channels and of blocks."""

_STEM = 32

_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel size, stride, expansion and channels (Table 1). The ends of groups 0, 1, 2, 4 and
6 are the last features at their strides."""

_ENDS = (0, 1, 2, 4, 6)

_EPSILON = 1e-3


class EfficientNetLite(nn.Module):
    """Five feature maps, at strides 2, 4, 8, 16 and 32.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    in_channels : int

    Attributes
    ----------
    channels : tuple of int
        Of the five.
    ends : tuple of int
        Groups of blocks (`blocks`) that end with them.
    scale : (list of float, list of float)
        Mean and standard deviation, 0..255, of red, green and blue in training.
    """

    NAMES = tuple(_SCALES)

    def __init__(self, name: str, in_channels: int = 3) -> None:
        super().__init__()
        wide, deep = _SCALES[name]
        self.scale = [127.0] * 3, [128.0] * 3
        self.ends = _ENDS
        self.conv_stem = SameConv2d(in_channels, _STEM, 3)
        self.bn1 = NormAct(_STEM)
        inputs = _STEM
        groups = []
        for number, (repeats, kernel, stride, expansion, channels) in enumerate(_GROUPS):
            outputs = _rounded(channels * wide)
            fixed = number in (0, len(_GROUPS) - 1)
            group: list[nn.Module] = []
            for repeat in range(repeats if fixed else math.ceil(repeats * deep)):
                make = _Inverted if expansion > 1 else _Separable
                group.append(make(inputs, outputs, kernel, 1 if repeat else stride, expansion))
                inputs = outputs
            groups.append(nn.Sequential(*group))
        self.blocks = nn.Sequential(*groups)
        self.channels = tuple(_rounded(_GROUPS[end][-1] * wide) for end in _ENDS)
        for module in self.modules():
            # on "meta" it would draw nothing, but load torch's compiler
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        features = self.bn1(self.conv_stem(image))
        found = []
        for number, group in enumerate(self.blocks):
            features = group(features)
            if number in self.ends:
                found.append(features)
        return found


class NormAct(nn.BatchNorm2d):
    """Batch norm and ReLU6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, _EPSILON)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shape as `inputs`."""
        activated: Tensor = self.act(super().forward(inputs))
        return activated


class SameConv2d(nn.Conv2d):
    """A convolution of stride 2 with TensorFlow's padding.

    Where rows and columns are even, that is a row and a column more at the end than before.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size, 2, groups=groups, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rows and columns are halved, rounded up."""
        sides = []
        for size in reversed(inputs.shape[2:]):
            missing = self.kernel_size[0] - (1 if size % 2 else 2)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(pad(inputs, sides))


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride > 1:
        return SameConv2d(channels, channels, kernel, channels)
    return nn.Conv2d(channels, channels, kernel, 1, kernel // 2, groups=channels, bias=False)


class _Separable(nn.Module):
    """Depthwise and pointwise convolution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, _expansion: int
    ) -> None:
        super().__init__()
        self.residual = inputs == outputs and stride == 1
        self.conv_dw = _depthwise(inputs, kernel, stride)
        self.bn1 = NormAct(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, _EPSILON)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(inputs))))
        return found + inputs if self.residual else found


class _Inverted(nn.Module):
    """Inverted residual: to more channels, depthwise convolution, linearly to fewer."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = inputs == outputs and stride == 1
        self.conv_pw = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = NormAct(inner)
        self.conv_dw = _depthwise(inner, kernel, stride)
        self.bn2 = NormAct(inner)
        self.conv_pwl = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, _EPSILON)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.bn2(self.conv_dw(self.bn1(self.conv_pw(inputs))))
        found: Tensor = self.bn3(self.conv_pwl(hidden))
        return found + inputs if self.residual else found


def _rounded(channels: float) -> int:
    """To a multiple of eight that is not below nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def fold_padding(module: nn.Module) -> None:
    """Let depthwise convolutions of stride 2 pad on their own, in place; for prediction only.

    TensorFlow's padding takes a copy of the input. A kernel with a zero row and column more at its
    beginning does the same with equal padding around, without the copy.

    Parameters
    ----------
    module : Module
        Whose inputs have even rows and columns at every stride.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, SameConv2d) and child.groups > 1:
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
            even.weight = nn.Parameter(pad(child.weight.data, (1, 0, 1, 0)))
            even.bias = child.bias
            module.add_module(name, even)
        else:
            fold_padding(child)
