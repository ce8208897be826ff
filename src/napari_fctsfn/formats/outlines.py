"""Outlines of masks along the edges of their pixels: exact, holes included."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.int64]
"""Corners of pixels, (n, 2) as row and column; a corner is a pixel's upper left one."""


def outlines(mask: NDArray[np.bool_]) -> list[Loop]:
    """The closed lines around a mask.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)

    Returns
    -------
    list of array of int, shape (n, 2)
        Row and column of the corners where a line turns, 0..rows and 0..columns. Lines around the
        mask run clockwise on the screen, those around holes the other way, so that either rule of
        filling gives the mask. Pixels that touch at a corner alone are parts of their own.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    ends: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    # with the mask on the right of each edge
    for row, column in np.argwhere(np.diff(padded, axis=0)[:, 1:-1]).tolist():
        below = padded[row + 1, column + 1]
        start, end = (row, column), (row, column + 1)
        ends[start if below else end].append(end if below else start)
    for row, column in np.argwhere(np.diff(padded, axis=1)[1:-1]).tolist():
        right = padded[row + 1, column + 1]
        start, end = (row, column), (row + 1, column)
        ends[end if right else start].append(start if right else end)
    loops = []
    while ends:
        first = min(ends)
        loops.append(_follow(first, ends))
    return loops


def _follow(first: tuple[int, int], ends: dict[tuple[int, int], list[tuple[int, int]]]) -> Loop:
    """The loop through a corner, taken out of the edges that are left."""
    here, step = first, (0, 0)
    corners: list[tuple[int, int]] = []
    while here in ends:
        choices = ends[here]
        # Where two parts touch, turn right: then they stay apart.
        turned = (here[0] + step[1], here[1] - step[0])
        after = turned if turned in choices else choices[0]
        choices.remove(after)
        if not choices:
            del ends[here]
        ahead = (after[0] - here[0], after[1] - here[1])
        if ahead != step:
            corners.append(here)
        here, step = after, ahead
        if here == first and first not in ends:
            break
    return np.array(corners, dtype=np.int64)
