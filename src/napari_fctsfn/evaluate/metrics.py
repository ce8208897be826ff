"""Measures of interactive segmentation (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float] | None
"""95 % interval of a mean; None where all objects are of one picture."""


def iou(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], ignore: NDArray[np.bool_] | None = None
) -> float:
    """Intersection over union of two masks of one shape, 0..1; 1 if both are empty.

    Parameters
    ----------
    mask, truth : array of bool
    ignore : array of bool, optional
        Pixels that do not count.
    """
    if ignore is not None:
        mask, truth = mask & ~ignore, truth & ~ignore
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def clustered_interval(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int = 0, draws: int = 2000
) -> Interval:
    """95 % interval of a mean over objects, by a bootstrap that draws whole clusters.

    Parameters
    ----------
    values : sequence of float
        One for each object.
    clusters : sequence of hashable
        The picture of each object: objects of one picture are not independent.
    seed : int
    draws : int

    Returns
    -------
    (float, float) or None
        See `percentiles`.
    """
    return percentiles(bootstrap_means(values, clusters, seed, draws))


def percentiles(draws: NDArray[np.float64]) -> Interval:
    """Percentiles 2.5 and 97.5 of the draws of a mean; None where they are NaN."""
    if np.isnan(draws).any():
        return None
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_means(
    values: Sequence[float], clusters: Sequence[Hashable], seed: int = 0, draws: int = 2000
) -> NDArray[np.float64]:
    """Means over objects in draws of whole clusters, with replacement.

    Parameters
    ----------
    values, clusters, seed, draws
        As in `clustered_interval`.

    Returns
    -------
    array of float64, shape (draws,)
        NaN if there is one cluster only: all draws would be the same, as if the mean were certain.
    """
    names, cluster = np.unique([str(name) for name in clusters], return_inverse=True)
    if len(names) == 1:
        return np.full(draws, np.nan)
    sums = np.bincount(cluster, weights=values, minlength=len(names))
    counts = np.bincount(cluster, minlength=len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means: NDArray[np.float64] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def number_of_clicks(ious: Sequence[float], threshold: float) -> tuple[int, bool]:
    """NoC: the first click that reaches an IoU of `threshold`.

    Parameters
    ----------
    ious : sequence of float
        IoU after each click.
    threshold : float
        0..1.

    Returns
    -------
    (int, bool)
        The number of clicks, all of them if it is never reached, and whether it is reached.
    """
    for count, value in enumerate(ious, 1):
        if value >= threshold:
            return count, True
    return len(ious), False
