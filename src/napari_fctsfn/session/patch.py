"""A change of labels in one slice that can be written, taken back and written again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.session.masks import Box, Mask
from napari_fctsfn.session.plane import Plane


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
            Its labels, or those of a part of it.
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
        # one number for each pair: labels take 31 bits
        pairs = before[rows, columns].astype(np.int64) << 32 | after[rows, columns].astype(np.int64)
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
