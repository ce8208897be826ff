"""A change of labels in one slice that can be written, taken back and written again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.session.masks import Box, Mask
from napari_fctsfn.session.plane import Plane

LARGEST = 2**31 - 1
"""Of the labels of objects; napari shows none beyond 32 bits."""


@dataclass(frozen=True, slots=True)
class Change:
    """Pixels that go from one label to another."""

    old: int
    new: int
    pixels: Mask


@dataclass(frozen=True, slots=True)
class Patch:
    """The pixels of a slice whose label changes, with both values.

    Parameters
    ----------
    plane : Plane
        The slice.
    changes : tuple of Change
        Disjoint sets of pixels, never empty.
    """

    plane: Plane
    changes: tuple[Change, ...]

    @classmethod
    def between(
        cls,
        plane: Plane,
        before: NDArray[np.integer],
        after: NDArray[np.integer],
        origin: tuple[int, int] = (0, 0),
        shape: tuple[int, int] | None = None,
    ) -> Patch | None:
        """The patch from one state of a slice to another; None if they are equal.

        Parameters
        ----------
        plane : Plane
            The slice.
        before, after : array of int, shape (rows, columns)
            Its labels, or those of a part of it. What cannot be the label of an object, below 0 or
            above `LARGEST`, counts as background.
        origin : (int, int)
            Row and column at which the part begins.
        shape : (int, int), optional
            Of the slice; by default that of the labels.
        """
        # far faster than rows and columns at once where few pixels differ
        changed = np.flatnonzero(before != after)
        if changed.size == 0:
            return None
        rows, columns = np.divmod(changed, before.shape[1])
        old, new = (_possible(labels[rows, columns]) for labels in (before, after))
        differ = old != new
        if not differ.any():
            return None
        rows, columns = rows[differ], columns[differ]
        # one number for each pair: labels take 31 bits
        pairs = old[differ] << 32 | new[differ]
        kinds, which, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        groups = np.split(order, np.cumsum(counts)[:-1])
        whole = shape or (before.shape[0], before.shape[1])
        rows, columns = rows + origin[0], columns + origin[1]
        return cls(
            plane,
            tuple(
                Change(
                    int(kind) >> 32,
                    int(kind) & 0xFFFFFFFF,
                    Mask.of_pixels(rows[group], columns[group], whole),
                )
                for kind, group in zip(kinds, groups, strict=True)
            ),
        )

    @property
    def box(self) -> Box:
        """Bounding box of all changes in the slice."""
        boxes = np.array([change.pixels.box for change in self.changes])
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    @property
    def nbytes(self) -> int:
        """Bytes the packed pixels take."""
        return sum(change.pixels.nbytes for change in self.changes)

    @property
    def labels(self) -> set[int]:
        """All labels that lose or win pixels, with 0 if the background does."""
        return {label for change in self.changes for label in (change.old, change.new)}

    def inverse(self) -> Patch:
        """The patch that takes this one back."""
        return Patch(
            self.plane,
            tuple(Change(change.new, change.old, change.pixels) for change in self.changes),
        )

    def writes(
        self, labels: NDArray[np.integer]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], int]]:
        """What to write into a slice.

        Parameters
        ----------
        labels : array of int, shape (rows, columns)
            The labels of the slice as they are.

        Yields
        ------
        rows, columns : array of int, shape (n,), n > 0
            Pixels to write. Those that no longer hold the old value are left out: somebody else
            has written them since, and that is not ours to overwrite.
        value : int
            Their new label.
        """
        for change in self.changes:
            rows, columns = change.pixels.pixels()
            ours = labels[rows, columns] == change.old
            if ours.any():
                yield rows[ours], columns[ours], change.new

    def apply(self, labels: NDArray[np.integer]) -> None:
        """Write the patch into the labels of its slice, shape (rows, columns), in place."""
        for rows, columns, value in self.writes(labels):
            labels[rows, columns] = value

    def apply_across(self, plane: Plane, labels: NDArray[np.integer]) -> None:
        """Write what of the patch lies in a slice along other axes.

        Parameters
        ----------
        plane : Plane
            The other slice.
        labels : array of int, shape (rows, columns)
            Its labels; changed in place, with pixels left out as in `writes`.
        """
        for change in self.changes:
            at = self.plane.indices(*change.pixels.pixels())
            there = np.ones(at[0].shape, dtype=bool)
            for places, index in zip(at, plane.index, strict=True):
                if index is not None:
                    there &= places == index
            rows, columns = (at[axis][there] for axis in plane.axes)
            ours = labels[rows, columns] == change.old
            labels[rows[ours], columns[ours]] = change.new


def _possible(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels of pixels, with 0 for those that no object can have."""
    return np.where((labels < 0) | (labels > LARGEST), 0, labels).astype(np.int64)
