"""Clicks as strokes of a brush: pixels whose label is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks


def brush(clicks: Clicks, shape: tuple[int, int], radius: float) -> NDArray[np.int8]:
    """Discs around clicks.

    Parameters
    ----------
    clicks : Clicks
        In coordinates of the array.
    shape : (int, int)
        Rows and columns.
    radius : float
        In pixels; at 0 only the pixel under a click is given.

    Returns
    -------
    array of int8, shape `shape`
        1 in discs of positive clicks, -1 in those of negative ones, 0 elsewhere. Where discs meet
        the nearest click counts, of equally near ones the last: no stroke covers another click.
    """
    seeds = np.zeros(shape, dtype=np.int8)
    nearest = np.full(shape, np.inf)
    reach = int(np.ceil(radius))
    for click in clicks:
        row = min(max(click.pixel[0], 0), shape[0] - 1)
        column = min(max(click.pixel[1], 0), shape[1] - 1)
        top, left = max(row - reach, 0), max(column - reach, 0)
        part = np.s_[top : row + reach + 1, left : column + reach + 1]
        rows, columns = np.ogrid[part]
        rows, columns = rows[: seeds[part].shape[0]], columns[:, : seeds[part].shape[1]]
        square = (rows - row) ** 2.0 + (columns - column) ** 2.0
        hit = (square <= radius**2) & (square <= nearest[part])
        seeds[part][hit] = 1 if click.positive else -1
        nearest[part][hit] = square[hit]
    return seeds


def with_rim(seeds: NDArray[np.int8]) -> NDArray[np.int8]:
    """The seeds with background on all pixels of the rim that are not given."""
    framed = seeds.copy()
    for side in (framed[0], framed[-1], framed[:, 0], framed[:, -1]):
        side[side == 0] = -1
    return framed
