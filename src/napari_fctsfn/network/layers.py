"""Layers that the members of the family share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SplitConv2d(nn.Module):
    """A convolution over concat(image features, interaction features), in two halves.

    A convolution of concatenated inputs is the sum of a convolution of each; the image half does
    not depend on the clicks and is computed once per slice (`image_half`), the interaction half
    with every click (`forward`).

    Parameters
    ----------
    image_channels, interaction_channels, out_channels : int
        Channels of the two inputs and of the output.
    kernel_size : int
        Odd size of the square kernel; the padding keeps rows and columns.
    bias : bool
        Whether the sum has a bias (it belongs to the image half).
    """

    def __init__(
        self,
        image_channels: int,
        interaction_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.image = nn.Conv2d(
            image_channels, out_channels, kernel_size, padding=padding, bias=bias
        )
        self.interaction = nn.Conv2d(
            interaction_channels, out_channels, kernel_size, padding=padding, bias=False
        )

    def image_half(self, image_features: Tensor) -> Tensor:
        """The part of the output that does not depend on the clicks, bias included."""
        half: Tensor = self.image(image_features)
        return half

    def forward(self, image_half: Tensor, interaction_features: Tensor) -> Tensor:
        """The whole convolution, given its image half."""
        total: Tensor = image_half + self.interaction(interaction_features)
        return total


def conv_norm(inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SeparableBlock(nn.Module):
    """Residual depthwise-separable block: 5x5 depthwise, 1x1, each with batch norm.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Same shape as `inputs`."""
        hidden = torch.relu(self.norm1(self.depthwise(inputs)))
        return torch.relu(inputs + self.norm2(self.pointwise(hidden)))


def upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centred: the paper's fixed bilinear deconvolution with its crop."""
    return nn.functional.interpolate(features, size=size, mode="bilinear", align_corners=False)
