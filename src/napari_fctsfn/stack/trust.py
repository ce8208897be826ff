"""How far the network is believed against the mask of the slice before.

A mask that is followed may change from slice to slice by what the image shows, and should not by
what the network gets wrong about this kind of object. In a slice where the object is known both
are told apart: the network is given masks that are as wrong there as a neighbour's would be, and a
logistic regression of the known mask on its answer and on the wrong mask weighs the one against
the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.optimize import minimize

from napari_fctsfn.predict import Prediction
from napari_fctsfn.predict.prediction import mask_box
from napari_fctsfn.predict.windows import Box

_TRIALS = 4
"""Wrong masks, of alternating size."""

_CHANGE = 0.15
"""How far an outline moves from slice to slice, in radii of a disk of the object's area."""

_BAND = 3.0
"""Pixels up to so many such changes from the outline count."""

_CLIP = 6.0
"""The network's logits are not believed beyond."""

_RIDGE = 1e-3


@dataclass(frozen=True)
class Trust:
    """Weights of the network's logit and of the distance to the outline of the mask before.

    Parameters
    ----------
    network, before, offset : float
        The logit of a pixel is ``network * logit + before * tanh(distance / change) + offset``.
    change : float
        Pixels.
    """

    network: float = 1.0
    before: float = 0.0
    offset: float = 0.0
    change: float = 1.0

    def apply(
        self, probability: NDArray[np.float32], before: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The probability of both together.

        Parameters
        ----------
        probability : array of float32, shape (rows, columns)
            The network's, 0..1.
        before : array of bool, same shape
            The mask that is followed.

        Returns
        -------
        array of float32, same shape, 0..1
        """
        if not self.before and self.network == 1 and not self.offset:
            return probability
        terms = _terms(probability, before, self.change)
        logit = self.network * terms[0] + self.before * terms[1] + self.offset
        weighed: NDArray[np.float32] = (1 / (1 + np.exp(-logit))).astype(np.float32)
        return weighed


def weigh(mask: NDArray[np.bool_], trials: Sequence[tuple[Prediction, NDArray[np.bool_]]]) -> Trust:
    """The weights that give a known mask back.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        The object where it is known; not empty.
    trials : sequence of (Prediction, array of bool, shape (rows, columns))
        What the network has made of wrong masks there, and these masks.

    Returns
    -------
    Trust
        That in the network alone if there is nothing to learn from.
    """
    change = _change(mask)
    columns, wanted = [], []
    for prediction, wrong in trials:
        known = cut(mask, prediction.bbox)
        near = np.abs(signed_distance(known)) < _BAND * change
        terms = _terms(prediction.probability, cut(wrong, prediction.bbox), change)
        columns.append(terms[:, near])
        wanted.append(known[near])
    truth = np.concatenate([*wanted, np.zeros(0, bool)]).astype(np.float64)
    if truth.all() or not truth.any():
        return Trust()
    terms = np.concatenate(columns, axis=1)
    design = np.vstack([terms, np.ones(terms.shape[1])])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = weights @ design
        error = 1 / (1 + np.exp(-logit)) - truth
        value = np.logaddexp(0, logit).mean() - (truth * logit).mean() + _RIDGE * weights @ weights
        return float(value), design @ error / len(truth) + 2 * _RIDGE * weights

    bounds = [(0.0, None), (0.0, None), (None, None)]
    found = minimize(loss, np.array([1.0, 1.0, 0.0]), jac=True, bounds=bounds, method="L-BFGS-B")
    network, before, offset = (float(weight) for weight in found.x)
    return Trust(network, before, offset, change)


def wrong_masks(mask: NDArray[np.bool_], seed: int) -> Iterator[NDArray[np.bool_]]:
    """A mask as it might be in neighbouring slices: its outline moved in and out, smoothly.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        Not empty.
    seed : int

    Yields
    ------
    array of bool, shape (rows, columns)
        Up to four, none empty.
    """
    change = _change(mask)
    rng = np.random.default_rng(seed)
    box = mask_box(mask)
    if box is None:
        return
    margin = math.ceil(4 * change) + 1
    top, left = max(box[0] - margin, 0), max(box[1] - margin, 0)
    part = slice(top, box[2] + margin), slice(left, box[3] + margin)
    distance = signed_distance(mask[part])
    for trial in range(_TRIALS):
        noise = gaussian_filter(rng.standard_normal(distance.shape), 2 * change)
        noise *= change / max(float(noise.std()), 1e-9)
        wrong = np.zeros_like(mask)
        wrong[part] = distance + noise + (change / 2 if trial % 2 else -change / 2) > 0
        if wrong.any():
            yield wrong


def _change(mask: NDArray[np.bool_]) -> float:
    """How far an outline may move from slice to slice, in pixels."""
    return max(_CHANGE * math.sqrt(float(mask.sum()) / math.pi), 1.0)


def _terms(
    probability: NDArray[np.float32], before: NDArray[np.bool_], change: float
) -> NDArray[np.float64]:
    """Logit of the network and bounded distance to the outline before, each of the mask's shape."""
    sure = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    logit = np.clip(np.log(sure / (1 - sure)), -_CLIP, _CLIP)
    return np.stack([logit, np.tanh(signed_distance(before) / change)])


def cut(mask: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    """The part of a slice's mask in a box."""
    return mask[box[0] : box[2], box[1] : box[3]]


def signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels to the border of a mask, positive inside.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)

    Returns
    -------
    array of float64, same shape
        Infinite where there is no border.
    """
    if not mask.any():
        return np.full(mask.shape, -np.inf)
    inside: NDArray[np.float64] = distance_transform_edt(mask)
    outside: NDArray[np.float64] = distance_transform_edt(~mask)
    return inside - outside
