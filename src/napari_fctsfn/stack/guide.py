"""Clicks that a mask implies: what propagation clicks in the next slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.prediction import mask_box

_INSIDE = 5
"""Positive clicks, at most."""

_OUTSIDE = 8
"""Negative clicks around the object, at most."""

_REACH = 20.0
"""They lie so many pixels outside, at most; nearer to a small object."""

_NEIGHBOURS = 6
"""Negative clicks in other objects, at most."""

_APART = 2.0
"""Pixels that clicks of a kind lie apart, at least."""

_Place = tuple[int, int, bool]


def guide_clicks(
    mask: NDArray[np.bool_], others: NDArray[np.integer] | None = None, single: bool = False
) -> Clicks:
    """Clicks by which to find an object again.

    The first is the deepest place of the mask; further ones spread over the mask where it is
    deeper than a fifth of that. Negative ones spread along a line around the mask, and sit in the
    other objects that are near.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        The object as it was in the neighbouring slice; not empty.
    others : array of int, shape (rows, columns), optional
        Labels of objects that are known in this slice, 0 elsewhere.
    single : bool
        Only the first click.

    Returns
    -------
    Clicks

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    box = mask_box(mask)
    if box is None:
        raise ValueError("there is no object to click on: the mask is empty")
    # all that counts is near, and distances over a whole slice take their time
    margin = int(3 * _REACH) + 1
    top, left = max(box[0] - margin, 0), max(box[1] - margin, 0)
    near = slice(top, box[2] + margin), slice(left, box[3] + margin)
    clicks = _guides(mask[near], None if others is None else others[near], single)
    return Clicks(Click(row + top, column + left, positive) for row, column, positive in clicks)


def _guides(
    mask: NDArray[np.bool_], others: NDArray[np.integer] | None, single: bool
) -> list[_Place]:
    depth = _depth(mask)
    first = np.array(np.unravel_index(depth.argmax(), mask.shape))
    places = [(first, True)]
    if not single:
        core = np.argwhere(depth > depth.max() / 5)
        places += [(place, True) for place in _spread(core, [first], _INSIDE - 1)]
        reach = min(_REACH, max(3.0, float(depth.max())))
        away = distance_transform_edt(~mask)
        ring = np.argwhere((away >= reach) & (away < reach + 1))
        places += [(place, False) for place in _spread(ring, [], _OUTSIDE)]
        if others is not None:
            free = (away <= 3 * reach) & ~mask
            places += [(place, False) for place in _in_others(others * free)]
    return [(int(place[0]), int(place[1]), positive) for place, positive in places]


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels to the outside; the border of the array counts as outside."""
    depth: NDArray[np.float64] = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return depth


def _spread(
    candidates: NDArray[np.intp], taken: list[NDArray[np.intp]], count: int
) -> list[NDArray[np.intp]]:
    """Candidates far from each other and from those taken: farthest-point sampling."""
    chosen: list[NDArray[np.intp]] = []
    if not len(candidates):
        return chosen
    distance = np.full(len(candidates), np.inf)
    for place in taken:
        distance = np.minimum(distance, ((candidates - place) ** 2).sum(axis=1))
    for _ in range(count):
        best = int(distance.argmax())
        if distance[best] <= _APART**2:
            break
        chosen.append(candidates[best])
        distance = np.minimum(distance, ((candidates - candidates[best]) ** 2).sum(axis=1))
    return chosen


def _in_others(others: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """The deepest place of each of the other objects, the largest first."""
    labels, counts = np.unique(others[others > 0], return_counts=True)
    largest = labels[np.argsort(-counts, kind="stable")][:_NEIGHBOURS]
    return [
        np.array(np.unravel_index(_depth(others == label).argmax(), others.shape))
        for label in largest
    ]
