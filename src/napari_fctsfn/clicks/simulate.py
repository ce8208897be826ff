"""The user that evaluation plays: where the next click falls.

Two protocols, ``ritm`` (the field's usual) and ``fctsfn`` (paper, section 4.1). Both place the
click deep inside an error; they differ in what they take for one error.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label

from napari_fctsfn.clicks.click import Click, Clicks
from napari_fctsfn.errors import InputError

Protocol = Literal["ritm", "fctsfn"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)

_Found = tuple[float, int, int]
"""Distance to the region's boundary, row and column of the pixel that lies deepest."""


def next_click(
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    clicks: Clicks,
    protocol: Protocol = "ritm",
    ignore: NDArray[np.bool_] | None = None,
    *,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Click | None:
    """The click that the simulated user makes next.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        What is segmented so far; all False before the first click.
    truth : array of bool, same shape
        The object.
    clicks : Clicks
        The clicks made so far.
    protocol : {"ritm", "fctsfn"}
        ``ritm``: the maximum of the distance transforms of the false negatives and of the false
        positives, wherever it lies; pixels already clicked are left out. ``fctsfn``: the pixel
        farthest from the boundary of the largest 8-connected component among those of the false
        negatives and of the false positives. In both the border of the image is a boundary, false
        positives win ties, and of several such pixels the first in reading order is taken.
    ignore : array of bool, same shape, optional
        Pixels that count neither as object nor as background.
    jitter : float
        How far off the deepest pixel a click may fall, 0..1: any pixel of the same error that lies
        at least (1 - jitter) times as deep is as likely. At 0 there is no chance in it.
    rng : Generator, optional
        Needed with a jitter.

    Returns
    -------
    Click or None
        At the centre of a pixel; positive on a false negative. None if nothing is left to click.

    Raises
    ------
    InputError
        If the shapes differ or the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    shapes = [a.shape for a in (mask, truth, ignore) if a is not None]
    if len(set(shapes)) > 1:
        raise InputError(f"mask, truth and ignored pixels differ in shape: {shapes}")
    if not 0 <= jitter <= 1 or (jitter and rng is None):
        raise InputError(f"a jitter of {jitter} needs a random generator and lies between 0 and 1")
    chance = rng if jitter else None
    missed, extra = truth & ~mask, mask & ~truth
    if ignore is not None:
        missed &= ~ignore
        extra &= ~ignore
    if protocol == "ritm":
        found, positive = _deepest_error(missed, extra, clicks)
    else:
        found, positive = _largest_error(missed, extra)
    if found is not None and chance is not None:
        found = _nearby(missed if positive else extra, found, clicks, jitter, chance)
    return None if found is None else Click(found[1], found[2], positive)


def _nearby(
    region: NDArray[np.bool_],
    found: _Found,
    clicks: Clicks,
    jitter: float,
    rng: np.random.Generator,
) -> _Found:
    """A pixel of the same component that lies nearly as deep as the one found."""
    components, _ = label(region, _EIGHT_NEIGHBOURS)
    component = components == components[found[1], found[2]]
    depth = distance_transform_edt(np.pad(component, 1))[1:-1, 1:-1]
    clicked = clicks.pixels()
    clicked = clicked[((clicked >= 0) & (clicked < region.shape)).all(axis=1)]
    depth[tuple(clicked.T)] = 0
    near = np.argwhere((depth > 0) & (depth >= (1 - jitter) * found[0]))
    if not len(near):
        return found
    row, column = near[rng.integers(len(near))]
    return float(depth[row, column]), int(row), int(column)


def _deepest_error(
    missed: NDArray[np.bool_], extra: NDArray[np.bool_], clicks: Clicks
) -> tuple[_Found | None, bool]:
    in_missed, in_extra = _deepest(missed, clicks), _deepest(extra, clicks)
    if in_missed is not None and (in_extra is None or in_missed[0] > in_extra[0]):
        return in_missed, True
    return in_extra, False


def _largest_error(
    missed: NDArray[np.bool_], extra: NDArray[np.bool_]
) -> tuple[_Found | None, bool]:
    in_missed, in_extra = _largest_component(missed), _largest_component(extra)
    positive = in_missed.sum() > in_extra.sum()
    return _deepest(in_missed if positive else in_extra, Clicks()), bool(positive)


def _largest_component(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 8-connected component, the first in reading order of several."""
    components, count = label(region, _EIGHT_NEIGHBOURS)
    if count < 2:
        return region
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    result: NDArray[np.bool_] = components == sizes.argmax()
    return result


def _deepest(region: NDArray[np.bool_], clicks: Clicks) -> _Found | None:
    """The pixel of `region` farthest from its outside that is not yet clicked.

    Everything around the region's box is outside of it, hence the distance transform of the box
    with a rim of one pixel is that of the whole image.
    """
    boxes = find_objects(region.astype(np.uint8))
    if not boxes:
        return None
    box = boxes[0]
    depth = distance_transform_edt(np.pad(region[box], 1))[1:-1, 1:-1]
    top, left = box[0].start, box[1].start
    for row, column in clicks.pixels() - (top, left):
        if 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]:
            depth[row, column] = 0
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    if depth[row, column] == 0:
        return None
    return float(depth[row, column]), int(row) + top, int(column) + left
