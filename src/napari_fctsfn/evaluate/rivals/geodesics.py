"""Shortest paths on the grid of pixels.

Where a cost is of pixels, by scikit-image's minimal cost paths; where it is of steps, by SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from skimage.graph import MCP_Geometric

from napari_fctsfn.evaluate.rivals.energy import FORWARD, neighbours


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


def steps_between(costs: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> coo_array:
    """The graph of 8 neighbours in which every step has a cost of its own, the same both ways.

    Parameters
    ----------
    costs : sequence of four arrays of float64
        Above 0, in the directions of `FORWARD`, each in the shape of `neighbours`.
    shape : (int, int)
        Rows and columns.

    Returns
    -------
    sparse array, shape (pixels, pixels)
        Compressed rows.
    """
    place = np.arange(shape[0] * shape[1]).reshape(shape)
    ends = [neighbours(place, offset) for offset in FORWARD]
    here, there = (np.concatenate([pair[side].ravel() for pair in ends]) for side in (0, 1))
    cost = np.concatenate([part.ravel() for part in costs])
    both = (np.r_[cost, cost], (np.r_[here, there], np.r_[there, here]))
    return coo_array(both, shape=(place.size, place.size)).tocsr()


def nearest_stroke(graph: coo_array, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether the stroke on the shortest path from a pixel is one on the object.

    Parameters
    ----------
    graph : sparse array, shape (pixels, pixels)
        See `steps_between`.
    seeds : array of int8, shape (rows, columns)
        1 on the object, -1 on the background, 0 elsewhere; at least one is given.

    Returns
    -------
    array of bool, shape (rows, columns)
    """
    given = seeds.ravel()
    _, _, nearest = dijkstra(
        graph, indices=np.flatnonzero(given), min_only=True, return_predecessors=True
    )
    mask: NDArray[np.bool_] = (given[nearest] > 0).reshape(seeds.shape)
    return mask
