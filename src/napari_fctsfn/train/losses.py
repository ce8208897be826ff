"""Losses of the modern recipe."""

from __future__ import annotations

import torch
from torch import Tensor


def normalized_focal_loss(
    logit: Tensor, truth: Tensor, valid: Tensor, gamma: float = 2.0
) -> Tensor:
    """Normalized focal loss (Sofiiuk et al., ICCV 2019): focal weights rescaled to mean one.

    Parameters
    ----------
    logit : Tensor of float, shape (batch, 1, rows, columns)
    truth, valid : Tensor of float, shape (batch, 1, rows, columns)
        The object, 0 or 1, and what counts, 0 or 1.
    gamma : float
        Exponent of the focal weight.

    Returns
    -------
    Tensor, shape (batch,)
        Mean over the valid pixels of each example.
    """
    logit = logit.float()
    log_right = torch.nn.functional.logsigmoid(torch.where(truth > 0.5, logit, -logit))
    weight = (1 - log_right.exp()) ** gamma * valid
    count = valid.sum(dim=(1, 2, 3)).clamp(min=1)
    scale = (count / weight.sum(dim=(1, 2, 3)).clamp(min=1e-4)).detach()
    return -(weight * log_right).sum(dim=(1, 2, 3)) * scale / count


def dice_loss(logit: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each example, shape (batch,); see above."""
    probability = logit.float().sigmoid() * valid
    truth = truth * valid
    both = (probability * truth).sum(dim=(1, 2, 3))
    either = probability.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))
    return 1 - (2 * both + 1) / (either + 1)
