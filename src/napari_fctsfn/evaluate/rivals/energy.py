"""The energy of a labelling and its minimum by max-flow (PyMaxflow)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FORWARD = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Steps to half of the 8 neighbours: every pair is met once."""

_NEVER = 1e6
"""More than any labelling of a picture costs that keeps all seeds and all paths."""


def contrast(image: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """What it costs to part neighbours: ``exp(-|I_p - I_q|^2 / (2 sigma^2)) / distance(p, q)``.

    Parameters
    ----------
    image : array of float32, shape (rows, columns, channels)

    Returns
    -------
    list of four arrays of float64, shape (rows, columns)
        Towards the right, lower, lower right and lower left neighbour, 0..1; 0 where there is none.
        sigma^2 is the mean of ``|I_p - I_q|^2``.
    """
    squares = []
    for offset in FORWARD:
        here, there = neighbours(image, offset)
        squares.append(((there - here).astype(np.float64) ** 2).sum(axis=2))
    mean = np.concatenate([square.ravel() for square in squares]).mean()
    weights = []
    for offset, square in zip(FORWARD, squares, strict=True):
        weight = np.zeros(image.shape[:2])
        # Where all neighbours are alike, all weigh the same.
        similar = np.exp(square / (-2 * mean)) if mean > 0 else 1.0
        neighbours(weight, offset)[0][...] = similar / np.hypot(*offset)
        weights.append(weight)
    return weights


def minimum_cut(
    object_cost: NDArray[np.float64],
    background_cost: NDArray[np.float64],
    weights: list[NDArray[np.float64]],
    seeds: NDArray[np.int8],
    parents: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """The labelling of least energy.

    Parameters
    ----------
    object_cost, background_cost : array of float64, shape (rows, columns)
        What either label costs a pixel, 0 or more.
    weights : list of four arrays of float64, shape (rows, columns)
        What it costs to part neighbours, in the directions of `contrast`.
    seeds : array of int8, shape (rows, columns)
        1 where the label is object, -1 where it is background, 0 where it is open.
    parents : array of int64, shape (rows, columns), optional
        Place (in reading order) of the pixel that must be object if this one is; its own place, if
        none must.

    Returns
    -------
    array of bool, shape (rows, columns)
        True on the object.
    """
    from maxflow import GraphFloat

    graph = GraphFloat(seeds.size, 5 * seeds.size)
    nodes = graph.add_grid_nodes(seeds.shape)
    for (row, column), weight in zip(FORWARD, weights, strict=True):
        structure = np.zeros((3, 3))
        structure[1 + row, 1 + column] = 1
        graph.add_grid_edges(nodes, weight, structure, symmetric=True)
    # The source is the object's end: a pixel cut off from it pays what background costs.
    to_source = np.select([seeds > 0, seeds < 0], [_NEVER, 0.0], background_cost)
    to_sink = np.select([seeds > 0, seeds < 0], [0.0, _NEVER], object_cost)
    graph.add_grid_tedges(nodes, to_source, to_sink)
    if parents is not None:
        child = np.flatnonzero(parents.ravel() != np.arange(parents.size))
        parent = parents.ravel()[child]
        never = np.full(len(child), _NEVER)
        graph.add_edges(child, parent, never, np.zeros_like(never))
    graph.maxflow()
    mask: NDArray[np.bool_] = ~graph.get_grid_segments(nodes)
    return mask


def neighbours(array: NDArray[Any], offset: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two views of an array (rows, columns, ...): pixels, and their neighbours at `offset`.

    Parameters
    ----------
    array : array, shape (rows, columns, ...)
    offset : (int, int)
        0 or 1 row and -1, 0 or 1 columns.
    """
    row, column = offset
    rows, columns = array.shape[:2]
    here = array[: rows - row, max(-column, 0) : columns - max(column, 0)]
    there = array[row:, max(column, 0) : columns + min(column, 0)]
    return here, there
