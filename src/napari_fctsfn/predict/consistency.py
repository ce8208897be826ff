"""The features behind the fusion are adjusted, to clicks that are contradicted or to a known mask.

After f-BRS (Sofiiuk et al., CVPR 2020): a scale and a bias for each channel of the fused features
are optimised until all clicks are satisfied. Only the refiner is gone through backward; the
streams and the fusion are computed once. The same two vectors are fitted to a slice where the
object is known, and serve in the slices around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from napari_fctsfn.network import FCTSFN, Fused, ImageFeatures, Scores

_STEPS = 8
_RATE = 0.2
_STAY = 0.02
"""Weight of the mean squared change of scale and bias."""
_MARGIN = 0.3
"""A click is asked for a probability this far below one, or above zero."""
_ENOUGH = 0.5
"""The logit that ends the search: scaling back to the slice's pixels must not undo it."""
_NEAR = 3
"""A click so many pixels from the mask's outline asks for a little more or less there alone."""

_FIT_STEPS = 24
_FIT_RATE = 0.1
_LEAST = 0.05
"""The loss is counted in areas of the object, of at least this part of the window."""


@dataclass(frozen=True)
class Adjustment:
    """A scale and a bias for each channel of the fused features.

    Parameters
    ----------
    scale, bias : Tensor of float32, shape (1, channels, 1, 1)
    """

    scale: Tensor
    bias: Tensor

    @classmethod
    def none(cls, fused: Fused) -> Adjustment:
        """One that changes nothing, to be optimised."""
        shape = (1, fused.features.shape[1], 1, 1)
        device = fused.features.device
        return cls(
            torch.ones(shape, device=device, requires_grad=True),
            torch.zeros(shape, device=device, requires_grad=True),
        )

    def refine(self, network: FCTSFN, features: ImageFeatures, fused: Fused) -> Scores:
        """The scores of fused features that are adjusted."""
        changed = fused.features * self.scale.to(fused.features.device)
        changed = changed + self.bias.to(changed.device)
        coarse = network.fusion.rescore(changed, fused.coarse)
        return network.refine(features, Fused(changed, coarse, fused.interaction))

    def change(self) -> Tensor:
        """Mean squared change, a number."""
        return (self.scale - 1).square().mean() + self.bias.square().mean()


class _Adam:
    """Steps downhill for an adjustment (Kingma & Ba, ICLR 2015, algorithm 1).

    torch's own optimizers load its compiler first, which takes seconds in the middle of a click.

    Parameters
    ----------
    adjustment : Adjustment
        Is changed in place.
    rate : float
    """

    _DECAYS = 0.9, 0.999
    _EPSILON = 1e-8

    def __init__(self, adjustment: Adjustment, rate: float) -> None:
        self._values = adjustment.scale, adjustment.bias
        self._moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in self._values]
        self._rate = rate
        self._steps = 0

    def step(self, loss: Tensor) -> None:
        """One step; gradients of the network's weights are not computed."""
        gradients = torch.autograd.grad(loss, self._values)
        self._steps += 1
        first, second = (1 - decay**self._steps for decay in self._DECAYS)
        with torch.no_grad():
            for value, gradient, (mean, square) in zip(
                self._values, gradients, self._moments, strict=True
            ):
                mean.lerp_(gradient, 1 - self._DECAYS[0])
                square.lerp_(gradient.square(), 1 - self._DECAYS[1])
                value.sub_(self._rate * mean / first / ((square / second).sqrt() + self._EPSILON))


def contradicted(logit: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.0) -> bool:
    """Whether a positive click lies outside the mask or a negative one inside.

    Parameters
    ----------
    logit : Tensor, shape (1, 1, rows, columns)
    positive, negative : Tensor of bool, same shape
        True at the clicks of each kind.
    margin : float
        By how much the logit at a click must at least have the right sign.
    """
    return bool((positive & (logit < margin)).any() or (negative & (logit > -margin)).any())


def far_off(logit: Tensor, positive: Tensor, negative: Tensor) -> bool:
    """Whether a click is contradicted, and not by an outline that runs a few pixels beside it.

    Parameters
    ----------
    logit, positive, negative : Tensor
        As for `contradicted`.
    """
    for sign, clicks in ((1, positive), (-1, negative)):
        wanted = sign * logit[0, 0]
        for row, column in (clicks[0, 0] & (wanted < 0)).nonzero().tolist():
            rows = slice(max(row - _NEAR, 0), row + _NEAR + 1)
            columns = slice(max(column - _NEAR, 0), column + _NEAR + 1)
            if wanted[rows, columns].max() < 0:
                return True
    return False


def adjust(
    network: FCTSFN, features: ImageFeatures, fused: Fused, positive: Tensor, negative: Tensor
) -> Scores:
    """Scores that satisfy all clicks, or come as near to it as eight steps get.

    Parameters
    ----------
    network : FCTSFN
        Its weights stay as they are.
    features : ImageFeatures
    fused : Fused
        Computed without gradients.
    positive, negative : Tensor of bool, shape (1, 1, rows, columns)
        True at the clicks of each kind.
    """
    adjustment = Adjustment.none(fused)
    optimizer = _Adam(adjustment, _RATE)
    with torch.enable_grad():
        for step in range(_STEPS + 1):
            scores = adjustment.refine(network, features, fused)
            if step == _STEPS or not contradicted(
                scores.logit.detach(), positive, negative, _ENOUGH
            ):
                break
            probability = scores.logit.float().sigmoid()
            missed = torch.relu(1 - _MARGIN - probability[positive]).square().sum()
            taken = torch.relu(probability[negative] - _MARGIN).square().sum()
            optimizer.step(missed + taken + _STAY * adjustment.change())
    quality = None if scores.quality is None else scores.quality.detach()
    return Scores(scores.logit.detach(), scores.coarse.detach(), quality)


def fit(
    network: FCTSFN, examples: Sequence[tuple[ImageFeatures, Fused]], truths: Sequence[Tensor]
) -> Adjustment:
    """The adjustment that brings scores nearest to known masks.

    Parameters
    ----------
    network : FCTSFN
        Its weights stay as they are.
    examples : sequence of (ImageFeatures, Fused)
        At least one; computed without gradients.
    truths : sequence of Tensor of float32, shape (1, 1, rows, columns)
        The object in each of them, 0..1; what is padded may be left out at the far ends.

    Returns
    -------
    Adjustment
        Without gradients.
    """
    adjustment = Adjustment.none(examples[0][1])
    optimizer = _Adam(adjustment, _FIT_RATE)
    with torch.enable_grad():
        for step in range(_FIT_STEPS):
            features, fused = examples[step % len(examples)]
            truth = truths[step % len(examples)]
            logit = adjustment.refine(network, features, fused).logit
            seen = logit[:, :, : truth.shape[2], : truth.shape[3]].float()
            area = truth.mean().clamp(min=_LEAST)
            loss = binary_cross_entropy_with_logits(seen, truth) / area
            optimizer.step(loss + _STAY * adjustment.change())
    return Adjustment(adjustment.scale.detach(), adjustment.bias.detach())
