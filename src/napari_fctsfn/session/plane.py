"""The 2-D slice of an nD image that is being annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plane:
    """A 2-D slice of an nD array, whichever two axes it shows.

    Parameters
    ----------
    index : tuple of (int or None)
        One entry per axis of the array: None on the two axes the slice spans (the first one is its
        rows, the second its columns), the position of the slice on every other axis.

    Raises
    ------
    ValueError
        Unless exactly two entries are None and the others are not negative.

    Examples
    --------
    >>> plane = Plane.through((4.2, 10.0, 11.0), axes=(1, 2))
    >>> plane.index, plane.point(3.0, 5.0)
    ((4, None, None), (4.0, 3.0, 5.0))
    """

    index: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if self.index.count(None) != 2 or any(i is not None and i < 0 for i in self.index):
            raise ValueError(
                f"slice {self.index}: exactly two axes must be open (None) and the others not "
                "negative"
            )

    @classmethod
    def through(cls, point: Sequence[float], axes: tuple[int, int]) -> Plane:
        """The slice through a point that spans two axes.

        Parameters
        ----------
        point : sequence of float
            Data coordinates, one per axis of the array.
        axes : (int, int)
            The axes the slice spans, in any order.

        Notes
        -----
        Positions are rounded as napari rounds them (halves to even), so that the slice on the
        screen is the slice that is written.
        """
        return cls(tuple(None if i in axes else round(float(x)) for i, x in enumerate(point)))

    def at(self, axis: int, index: int) -> Plane:
        """The slice at another place of one of the axes it does not span."""
        return Plane(tuple(index if n == axis else i for n, i in enumerate(self.index)))

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the rows and of the columns, ascending."""
        rows, columns = (axis for axis, i in enumerate(self.index) if i is None)
        return rows, columns

    def crossing(self, other: Plane) -> tuple[int | slice, int | slice] | None:
        """Rows and columns that another slice of the same array has of this one.

        Returns
        -------
        (int or slice, int or slice) or None
            An index of arrays of shape (rows, columns); None if they have no pixel in common.
        """
        pairs = zip(self.index, other.index, strict=True)
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            return None
        rows, columns = (other.index[axis] for axis in self.axes)
        return (
            slice(None) if rows is None else rows,
            slice(None) if columns is None else columns,
        )

    @property
    def key(self) -> tuple[int | slice, ...]:
        """Index that takes the slice out of the array, as a view where the array allows it."""
        return tuple(slice(None) if i is None else i for i in self.index)

    def shape(self, full: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the slice of an array of shape `full`."""
        rows, columns = self.axes
        return full[rows], full[columns]

    def inside(self, full: Sequence[int]) -> bool:
        """Whether an array of shape `full` has this slice."""
        return len(full) == len(self.index) and all(
            i is None or i < size for i, size in zip(self.index, full, strict=True)
        )

    def check_inside(self, full: Sequence[int]) -> None:
        """Raise if an array of shape `full` does not have this slice.

        Raises
        ------
        ValueError
            Naming the slice and the shape.
        """
        if not self.inside(full):
            raise ValueError(f"slice {self.index} is not one of an image of shape {tuple(full)}")

    def point(self, row: float, column: float) -> tuple[float, ...]:
        """Data coordinates in the array of a position in the slice."""
        rows, _ = self.axes
        return tuple(
            float(i) if i is not None else (row if axis == rows else column)
            for axis, i in enumerate(self.index)
        )

    def row_column(self, point: Sequence[float]) -> tuple[float, float]:
        """Position in the slice of data coordinates in the array."""
        rows, columns = self.axes
        return float(point[rows]), float(point[columns])

    def indices(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> tuple[NDArray[np.unsignedinteger], ...]:
        """Index arrays, one per axis of the array, of pixels of the slice.

        Parameters
        ----------
        rows, columns : array of int, shape (n,)
            Pixels of the slice.

        Returns
        -------
        tuple of array of unsigned int, each of shape (n,)
            In the smallest type that holds them: napari keeps them in its own history.
        """
        largest = max([i for i in self.index if i is not None], default=0)
        if rows.size:
            largest = max(largest, int(rows.max()), int(columns.max()))
        kind = np.min_scalar_type(largest)
        row_axis, _ = self.axes
        return tuple(
            np.full(rows.shape, i, dtype=kind)
            if i is not None
            else (rows if axis == row_axis else columns).astype(kind)
            for axis, i in enumerate(self.index)
        )
