"""Losses: the paper's, and those of the modern recipe."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d


def softmax_loss(logit: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Pixel-wise softmax loss of two classes (section 3.3), a mean over the known pixels.

    The authors' solver sums over pixels; a mean has the same gradient at a rate that is rows x
    columns times as high.

    Parameters
    ----------
    logit : Tensor of float, shape (batch, 1, rows, columns)
        Foreground minus background score.
    truth : Tensor of float, shape (batch, 1, rows, columns)
        The object, 0 or 1.
    valid : Tensor of float, shape (batch, 1, rows, columns)
        0 where nothing is known; these pixels are left out, else 1.

    Returns
    -------
    Tensor, shape (batch,)
        Mean of each example; 0 for one without known pixels.
    """
    each = binary_cross_entropy_with_logits(logit.float(), truth, reduction="none")
    return (each * valid).sum(dim=(1, 2, 3)) / valid.sum(dim=(1, 2, 3)).clamp(min=1)


def boundary_weight(truth: Tensor, weight: float = 2.0, width: int = 2) -> Tensor:
    """What a pixel counts for its nearness to the object's boundary.

    Parameters
    ----------
    truth : Tensor of float, shape (batch, 1, rows, columns)
        The object, 0 or 1.
    weight : float
        Of the pixels of the band; all others count one.
    width : int
        Pixels of the band on either side of the boundary.

    Returns
    -------
    Tensor of float, shape (batch, 1, rows, columns)
    """
    size = 2 * width + 1
    grown = max_pool2d(truth, size, 1, width)
    shrunken = -max_pool2d(-truth, size, 1, width)
    return 1 + (weight - 1) * (grown - shrunken)


def normalized_focal_loss(
    logit: Tensor, truth: Tensor, valid: Tensor, gamma: float = 2.0
) -> Tensor:
    """Normalized focal loss (Sofiiuk et al., ICCV 2019): focal weights rescaled to mean one.

    Parameters
    ----------
    logit : Tensor of float, shape (batch, 1, rows, columns)
    truth : Tensor of float, shape (batch, 1, rows, columns)
        The object, 0 or 1.
    valid : Tensor of float, shape (batch, 1, rows, columns)
        What each pixel counts, 0 where nothing is known.
    gamma : float
        Exponent of the focal weight.

    Returns
    -------
    Tensor, shape (batch,)
        Weighted mean over the pixels of each example.
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
