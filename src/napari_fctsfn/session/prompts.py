"""What boxes and scribbles say, in clicks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_fctsfn.clicks import Click, Clicks

DrawnBox = tuple[float, float, float, float]
"""First row, first column, last row, last column in data coordinates; pixel centres are whole."""

_GAP = 0.05
"""The clicks beside a box lie off it by this part of its side, and by a pixel at least."""

_STROKE_CLICKS = 5
"""A scribble becomes at most so many clicks."""

_STROKE_GAP = 0.15
"""They are apart by this part of the scribble's extent, and by `_STROKE_PIXELS` at least."""

_STROKE_PIXELS = 3.0


def clip_box(corners: NDArray[np.floating], shape: tuple[int, int]) -> DrawnBox:
    """The part of a box that lies in a slice.

    Parameters
    ----------
    corners : array of float, shape (n, 2)
        Rows and columns of points that it holds.
    shape : (int, int)
        Rows and columns of the slice.

    Raises
    ------
    ValueError
        If no pixel of the slice is in it.
    """
    top, left = np.maximum(corners.min(axis=0), -0.5)
    bottom, right = np.minimum(corners.max(axis=0), np.array(shape) - 0.5)
    if bottom - top < 1 or right - left < 1:
        raise ValueError("the box holds no pixel of the image: draw it around the object")
    return float(top), float(left), float(bottom), float(right)


def box_clicks(box: DrawnBox, shape: tuple[int, int]) -> Clicks:
    """A click in the middle of a box, and clicks on the background beside its four sides.

    Parameters
    ----------
    box : (float, float, float, float)
        As `clip_box` gives it.
    shape : (int, int)
        Rows and columns of the slice; clicks outside it are left out.
    """
    top, left, bottom, right = box
    row, column = (top + bottom) / 2, (left + right) / 2
    down, across = max(_GAP * (bottom - top), 1.0), max(_GAP * (right - left), 1.0)
    beside = [
        (top - down, column),
        (bottom + down, column),
        (row, left - across),
        (row, right + across),
    ]
    last = shape[0] - 1, shape[1] - 1
    return Clicks(
        [
            Click(float(np.clip(row, 0, last[0])), float(np.clip(column, 0, last[1]))),
            *(Click(r, c, False) for r, c in beside if 0 <= r <= last[0] and 0 <= c <= last[1]),
        ]
    )


def box_mask(box: DrawnBox, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The ellipse that fits a box, bool, shape (rows, columns).

    As the mask before the first click it says where the object is and how large.
    """
    top, left, bottom, right = box
    rows = (np.arange(shape[0]) - (top + bottom) / 2) / ((bottom - top) / 2)
    columns = (np.arange(shape[1]) - (left + right) / 2) / ((right - left) / 2)
    ellipse: NDArray[np.bool_] = rows[:, None] ** 2 + columns**2 <= 1
    return ellipse


def scribble_clicks(path: ArrayLike, positive: bool) -> Clicks:
    """A few clicks along a scribble: its middle, then always the point farthest from all before.

    Parameters
    ----------
    path : array of float, shape (n, 2)
        Rows and columns of its vertices, one or more.
    positive : bool
        Whether they are on the object.
    """
    points = _along(np.asarray(path, dtype=float))
    gap = max(_STROKE_GAP * float(np.ptp(points, axis=0).max()), _STROKE_PIXELS)
    chosen = [len(points) // 2]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < _STROKE_CLICKS and distance.max() >= gap:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return Clicks(Click(float(row), float(column), positive) for row, column in points[chosen])


def _along(vertices: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points of a path, one pixel or less apart."""
    pieces = [vertices[:1]]
    for start, end in pairwise(vertices):
        steps = max(int(np.ceil(np.linalg.norm(end - start))), 1)
        share = np.arange(1, steps + 1)[:, None] / steps
        pieces.append(start + share * (end - start))
    return np.concatenate(pieces)
