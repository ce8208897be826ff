"""Layers that the members of the family share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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


def fold_norms(module: nn.Module) -> None:
    """Fold batch norms into the convolutions before them, in place; for prediction only.

    A pair is a convolution and the batch norm that is registered next to it in the same module;
    an activation that the norm brings along, as `NormAct` does, stays.

    Parameters
    ----------
    module : Module
        In evaluation mode.
    """
    convolution: nn.Conv2d | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Identity):
            continue
        if isinstance(child, nn.BatchNorm2d) and convolution is not None:
            fused = fuse_conv_bn_eval(convolution, child)
            convolution.weight, convolution.bias = fused.weight, fused.bias
            module.add_module(name, getattr(child, "act", nn.Identity()))
        else:
            fold_norms(child)
        convolution = child if isinstance(child, nn.Conv2d) else None


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


class QualityHead(nn.Module):
    """Predicts the IoU of a mask with the object, from what the mask was made of.

    Features are averaged over the mask, over its uncertain pixels and over everything; how sure
    the mask is, how large, and how much of the border it covers is put beside them. Gradients
    end here: the mask learns nothing from it.

    Parameters
    ----------
    channels : int
        Of the fused features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * channels + 4, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()
        )
        self.score = nn.Linear(32, 1)

    def forward(self, fused: Tensor, logit: Tensor) -> Tensor:
        """Logit of the predicted IoU, shape (batch,).

        Parameters
        ----------
        fused : Tensor, shape (batch, channels, r, c)
        logit : Tensor, shape (batch, 1, rows, columns)
            Of the mask.
        """
        fused = fused.detach().float()
        fine = logit.detach().float().sigmoid()
        size = (fused.shape[2], fused.shape[3])
        mask = nn.functional.adaptive_avg_pool2d(fine, size)
        unsure = nn.functional.adaptive_avg_pool2d(4 * fine * (1 - fine), size)
        pools = [
            (fused * weight).sum(dim=(2, 3)) / (weight.sum(dim=(2, 3)) + 1e-3)
            for weight in (mask, unsure, torch.ones_like(mask))
        ]
        area, doubt = mask.mean(dim=(2, 3)), unsure.mean(dim=(2, 3))
        border = torch.cat(
            [fine[:, 0, 0], fine[:, 0, -1], fine[:, 0, :, 0], fine[:, 0, :, -1]], dim=1
        )
        numbers = [
            area,
            (area + 1e-4).log() / 4,
            doubt / (area + 1e-2),
            border.mean(dim=1, keepdim=True),
        ]
        score: Tensor = self.score(self.layers(torch.cat([*pools, *numbers], dim=1)))
        return score[:, 0]


def he_init(module: nn.Module) -> None:
    """He initialisation of all convolutions (the paper's reference 31), biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Resized(nn.Module):
    """Interaction maps at several strides, in place of the features of an interaction stream.

    Parameters
    ----------
    inputs : Module
        An interaction stream without blocks: gives the maps as a stream takes them, in a list.
    strides : sequence of int
        Each cell has the mean of its pixels.
    """

    def __init__(self, inputs: nn.Module, strides: Sequence[int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.strides = tuple(strides)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """One tensor (batch, channels, rows / stride, columns / stride) for each stride."""
        (inputs,) = self.inputs(maps)
        return [nn.functional.avg_pool2d(inputs, stride) for stride in self.strides]


def upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centred: the paper's fixed bilinear deconvolution with its crop."""
    return nn.functional.interpolate(features, size=size, mode="bilinear", align_corners=False)


def deconvolve(features: Tensor, stride: int) -> Tensor:
    """The authors' deconvolution: a bilinear kernel of size 2 `stride`, no padding.

    What lies around the features counts as zero, so that it is the bilinear upsampling of the
    features with a border of zeros, half a cell of it left.

    Parameters
    ----------
    features : Tensor, shape (batch, channels, rows, columns)
    stride : int
        Even.

    Returns
    -------
    Tensor, shape (batch, channels, stride * (rows + 1), stride * (columns + 1))
    """
    rows, columns = (stride * (length + 1) for length in features.shape[2:])
    bordered = nn.functional.pad(features, (1, 1, 1, 1))
    size = (rows + stride, columns + stride)
    return crop(upsample(bordered, size), stride // 2, (rows, columns))


def crop(features: Tensor, offset: int, size: tuple[int, int]) -> Tensor:
    """The part of `size` that begins at row and column `offset`."""
    return features[:, :, offset : offset + size[0], offset : offset + size[1]]


def foreground(score: Tensor) -> Tensor:
    """Difference of two scores, whose sigmoid is their softmax's foreground probability.

    Parameters
    ----------
    score : Tensor, shape (batch, 2, rows, columns)
        Of background and foreground; or (batch, 1, rows, columns), their difference already.
    """
    return score if score.shape[1] == 1 else score[:, 1:] - score[:, :1]
