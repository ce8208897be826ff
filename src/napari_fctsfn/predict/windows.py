"""Which part of a slice the network looks at, and at what scale.

A window is a function of the slice's shape, the clicks and the previous mask alone, and it is
snapped to a ladder of sizes and a grid of places, so that small changes of the mask keep it: its
features are then found in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_fctsfn.clicks import Clicks

Box = tuple[int, int, int, int]
"""First row, first column, row after the last, column after the last."""

Part = tuple[slice, slice]
"""Index of an array's rows and columns."""

CONTEXT = 2048
"""The first look sees the whole slice up to this many rows and columns, else so many around."""

_MARGIN = 2.0
"""Side of the window around the object, in parts of the object's."""

_SMALLEST = 48
"""A window has at least so many rows and columns, where the slice has them."""

_ZOOM = 3.0
"""A slice is enlarged at most so much."""

_NEAREST = 64
"""Rows and columns of the closest window around a first click."""

_APART = 5.0
"""Windows around a first click are at most so many times as large as the next smaller one."""

_LADDER = 2**0.25
_GRID = 8


@dataclass(frozen=True)
class Window:
    """A part of the slice and the size at which the network sees it.

    Parameters
    ----------
    box : (int, int, int, int)
        Rows and columns of the slice, half-open.
    rows, columns : int
        Size of the network input before it is padded to multiples of 32.
    """

    box: Box
    rows: int
    columns: int

    @property
    def height(self) -> int:
        """Rows of the slice."""
        return self.box[2] - self.box[0]

    @property
    def width(self) -> int:
        """Columns of the slice."""
        return self.box[3] - self.box[1]

    @property
    def factor(self) -> tuple[float, float]:
        """Network-input pixels for one pixel of the slice, along rows and columns."""
        return self.rows / self.height, self.columns / self.width

    def project(self, clicks: Clicks) -> Clicks:
        """Clicks of the slice in network-input pixels."""
        return clicks.scaled(self.factor, (self.box[0], self.box[1]))

    @classmethod
    def over(cls, box: Box, input_size: int) -> Window:
        """The window over `box`, its longer side `input_size` unless that enlarges too much."""
        height, width = box[2] - box[0], box[3] - box[1]
        factor = min(input_size / max(height, width), _ZOOM)
        return cls(box, max(1, round(height * factor)), max(1, round(width * factor)))


def overview(shape: tuple[int, int], clicks: Clicks, input_size: int) -> Window:
    """The first look: the whole slice, or 2048 x 2048 pixels around the clicks of a larger one."""
    pixels = clicks.pixels()
    low, high = pixels.min(axis=0), pixels.max(axis=0) + 1
    top, bottom = _span(int(low[0]), int(high[0]), shape[0], CONTEXT)
    left, right = _span(int(low[1]), int(high[1]), shape[1], CONTEXT)
    return Window.over((top, left, bottom, right), input_size)


def around(shape: tuple[int, int], box: Box, input_size: int) -> Window:
    """The window around an object that fills `box`."""
    height, width = box[2] - box[0], box[3] - box[1]
    # A narrow object needs its surroundings too, so the shorter side is at least half the longer.
    need = [max(extent, max(height, width) / 2) * _MARGIN for extent in (height, width)]
    top, bottom = _span(box[0], box[2], shape[0], need[0])
    left, right = _span(box[1], box[3], shape[1], need[1])
    return Window.over((top, left, bottom, right), input_size)


def beside(shape: tuple[int, int], box: Box, side: float, input_size: int) -> Window:
    """The window of at least `side` rows and columns around `box`."""
    top, bottom = _span(box[0], box[2], shape[0], side)
    left, right = _span(box[1], box[3], shape[1], side)
    return Window.over((top, left, bottom, right), input_size)


def sides(whole: Window) -> list[float]:
    """Sides of the windows around a first click that are looked at beside a view of everything.

    Parameters
    ----------
    whole : Window
        The view of everything.

    Returns
    -------
    list of float
        Ascending, in pixels of the slice, two at least; with the whole view they are evenly apart
        on a logarithmic scale.
    """
    widest = max(whole.height, whole.width) / _NEAREST
    steps = max(2, math.ceil(math.log(widest, _APART)))
    return [_NEAREST * widest ** (step / steps) for step in range(steps)]


def bounds(clicks: Clicks, mask_box: Box | None) -> Box:
    """The smallest box that holds the positive clicks and the box of a mask."""
    points = (clicks.positive or clicks).pixels()
    boxes = [(*points.min(axis=0), *(points.max(axis=0) + 1))]
    if mask_box is not None:
        boxes.append(mask_box)
    array = np.array(boxes)
    low, high = array[:, :2].min(axis=0), array[:, 2:].max(axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def overlap(box: Box, other: Box) -> tuple[Part, Part]:
    """What two boxes share, as indices of arrays that fill the one and the other."""
    low = max(box[0], other[0]), max(box[1], other[1])
    high = max(low[0], min(box[2], other[2])), max(low[1], min(box[3], other[3]))

    def within(each: Box) -> Part:
        rows, columns = (slice(low[i] - each[i], high[i] - each[i]) for i in (0, 1))
        return rows, columns

    return within(box), within(other)


def _span(start: int, stop: int, length: int, need: float) -> tuple[int, int]:
    """Snapped half-open range of at least `need` pixels around ``start..stop`` within `length`."""
    need = max(need, stop - start, _SMALLEST)
    size = math.ceil(_LADDER ** math.ceil(math.log(need, _LADDER) - 1e-9))
    grid = max(size // _GRID, 1)
    first = round((start + stop - size) / 2 / grid) * grid
    # Snapping moves the range by up to half a grid step; never past the object itself.
    first = min(max(first, stop - size), start)
    if size >= length:
        return 0, length
    first = min(max(first, 0), length - size)
    return first, first + size
