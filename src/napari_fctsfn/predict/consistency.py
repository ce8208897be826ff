"""Clicks are obeyed: where a mask contradicts one, the features behind the fusion are adjusted.

After f-BRS (Sofiiuk et al., CVPR 2020): a scale and a bias for each channel of the fused features
are optimised until all clicks are satisfied. Only the refiner is gone through backward; the
streams and the fusion are computed once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_fctsfn.network import FCTSFN, Fused, ImageFeatures, Scores

_STEPS = 8
_RATE = 0.2
_STAY = 0.02
"""Weight of the mean squared change of scale and bias."""
_MARGIN = 0.3
"""A click is asked for a probability this far below one, or above zero."""
_ENOUGH = 0.5
"""The logit that ends the search: scaling back to the slice's pixels must not undo it."""


def contradicted(logit: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.1) -> bool:
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
    before = fused.features
    shape = (1, before.shape[1], 1, 1)
    scale = torch.ones(shape, device=before.device, requires_grad=True)
    bias = torch.zeros(shape, device=before.device, requires_grad=True)
    optimizer = torch.optim.Adam([scale, bias], lr=_RATE)
    with torch.enable_grad():
        for step in range(_STEPS + 1):
            changed = before * scale + bias
            coarse = network.fusion.rescore(changed, fused.coarse)
            scores = network.refine(features, Fused(changed, coarse, fused.interaction))
            if step == _STEPS or not contradicted(
                scores.logit.detach(), positive, negative, _ENOUGH
            ):
                break
            probability = scores.logit.float().sigmoid()
            missed = torch.relu(1 - _MARGIN - probability[positive]).square().sum()
            taken = torch.relu(probability[negative] - _MARGIN).square().sum()
            change = (scale - 1).square().mean() + bias.square().mean()
            gradients = torch.autograd.grad(missed + taken + _STAY * change, (scale, bias))
            for parameter, gradient in zip((scale, bias), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    quality = None if scores.quality is None else scores.quality.detach()
    return Scores(scores.logit.detach(), scores.coarse.detach(), quality)
