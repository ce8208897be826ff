"""What napari tells of a stroke in a Labels layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.session import Plane


def spans(atom: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    """First place and end of a part of a stroke, along each axis of labels of some shape."""
    return [_span(index, size) for index, size in zip(atom[0], shape, strict=True)]


def by_slice(
    atom: Any, axes: tuple[int, int]
) -> Iterator[tuple[Plane, NDArray[np.intp], NDArray[np.intp], NDArray[Any]]]:
    """The pixels of a part of a stroke, slice by slice.

    Parameters
    ----------
    atom : tuple
        As napari keeps it for its own undo: arrays of places along each axis, old and new labels;
        or a slice along each axis, the mask of changed pixels therein or None for all, and the
        same.
    axes : (int, int)
        Those that slices span.

    Yields
    ------
    Plane
    rows, columns, old : array, shape (pixels,)
        Places, and the labels before.
    """
    index = atom[0]
    if any(isinstance(part, slice) for part in index):
        _, mask, old, _ = atom
        begins, sizes = zip(
            *(
                (part.start, part.stop - part.start) if isinstance(part, slice) else (part, 1)
                for part in index
            ),
            strict=True,
        )
        inside = np.ones(sizes, bool) if mask is None else mask.reshape(sizes)
        places = [found + begin for found, begin in zip(np.nonzero(inside), begins, strict=True)]
    else:
        places = [part.ravel() for part in np.broadcast_arrays(*index)]
        old = np.broadcast_to(atom[1], np.broadcast_shapes(*map(np.shape, index)))
    old = np.ravel(old)
    hidden = [axis for axis in range(len(places)) if axis not in axes]
    if not hidden:
        yield Plane((None, None)), places[axes[0]], places[axes[1]], old
        return
    slices, which = np.unique([places[axis] for axis in hidden], axis=1, return_inverse=True)
    for number, at in enumerate(slices.T):
        own = np.ravel(which) == number
        where = dict(zip(hidden, map(int, at), strict=True))
        plane = Plane(tuple(where.get(axis) for axis in range(len(places))))
        yield plane, places[axes[0]][own], places[axes[1]][own], old[own]


def _span(index: Any, size: int) -> tuple[int, int]:
    if isinstance(index, slice):
        first, end, _ = index.indices(size)
        return first, end
    places = np.asarray(index)
    return (int(places.min()), int(places.max()) + 1) if places.size else (0, 0)
