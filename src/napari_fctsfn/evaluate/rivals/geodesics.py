"""Shortest paths on the grid of pixels, by scikit-image's minimal cost paths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.graph import MCP_Geometric


def geodesics(
    cost: NDArray[np.float64], start: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance of every pixel from a set, and the way back.

    Parameters
    ----------
    cost : array of float64, shape (rows, columns)
        What a step of one pixel costs, above 0. A step between 8 neighbours costs the mean of
        theirs times its length.
    start : array of bool, shape (rows, columns)
        The set; at least one pixel.

    Returns
    -------
    distance : array of float64, shape (rows, columns)
        0 in the set.
    parent : array of int64, shape (rows, columns)
        Place (in reading order) of the next pixel on a shortest path to the set; its own in it.
    """
    paths = MCP_Geometric(cost)
    distance, step = paths.find_costs(np.argwhere(start))
    offsets = np.concatenate([np.asarray(paths.offsets), [[0, 0]]])
    step = np.where(step < 0, len(offsets) - 1, step)
    row, column = np.indices(cost.shape) - np.moveaxis(offsets[step], -1, 0)
    return np.asarray(distance), np.asarray(row * cost.shape[1] + column, dtype=np.int64)
