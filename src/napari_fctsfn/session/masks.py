"""Masks in little memory: the pixels of a bounding box, packed to bits and compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""First row, first column, end row, end column (half-open)."""


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """Smallest box that holds all True pixels; (0, 0, 0, 0) if there are none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return 0, 0, 0, 0
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def union(boxes: Iterable[Box]) -> Box:
    """Smallest box that holds all of some boxes, of which empty ones do not count."""
    some = [box for box in boxes if box[2] > box[0] and box[3] > box[1]]
    if not some:
        return 0, 0, 0, 0
    rows, columns, end_rows, end_columns = zip(*some, strict=True)
    return min(rows), min(columns), max(end_rows), max(end_columns)


def part_of(array: NDArray[Any], box: Box) -> NDArray[Any]:
    """The pixels of a slice in a box; a view."""
    return array[box[0] : box[2], box[1] : box[3]]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A binary mask of a slice; equal masks compare equal, whichever zlib has packed them.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the slice.
    box : (int, int, int, int)
        Bounding box in the slice: first row, first column, end row, end column.
    bits : bytes
        The pixels of the box in row order, eight to a byte, compressed with zlib.
    """

    shape: tuple[int, int]
    box: Box
    bits: bytes

    @classmethod
    def of(
        cls, mask: NDArray[np.bool_], shape: tuple[int, int], origin: tuple[int, int] = (0, 0)
    ) -> Mask:
        """Pack a mask, or a piece of one.

        Parameters
        ----------
        mask : array of bool, shape (rows, columns)
            True on the object.
        shape : (int, int)
            Rows and columns of the slice.
        origin : (int, int)
            Row and column of the slice at which `mask` begins.
        """
        row, column, end_row, end_column = box = bounding_box(mask)
        if end_row:
            box = (row + origin[0], column + origin[1], end_row + origin[0], end_column + origin[1])
        bits = np.packbits(mask[row:end_row, column:end_column])
        # level 1: a tenth of the time of the default and nearly as small for masks
        return cls(shape, box, zlib.compress(bits.tobytes(), 1))

    @classmethod
    def of_pixels(
        cls, rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]
    ) -> Mask:
        """Pack the mask of some pixels, rows and columns of shape (n,), n > 0."""
        row, column = int(rows.min()), int(columns.min())
        piece = np.zeros((int(rows.max()) - row + 1, int(columns.max()) - column + 1), dtype=bool)
        piece[rows - row, columns - column] = True
        return cls.of(piece, shape, (row, column))

    def __eq__(self, other: object) -> bool:
        """Whether it is the same mask of a slice of the same shape."""
        if not isinstance(other, Mask):
            return NotImplemented
        if (self.shape, self.box) != (other.shape, other.box):
            return False
        return self.bits == other.bits or np.array_equal(self.inner(), other.inner())

    def __hash__(self) -> int:
        return hash((self.shape, self.box))

    @property
    def empty(self) -> bool:
        """Whether no pixel is True."""
        return self.box[2] == 0

    @property
    def nbytes(self) -> int:
        """Bytes the packed pixels take."""
        return len(self.bits)

    def inner(self) -> NDArray[np.bool_]:
        """The mask inside its box, bool, shape (box rows, box columns).

        Raises
        ------
        ValueError
            If the packed pixels are damaged.
        """
        row, column, end_row, end_column = self.box
        size = (end_row - row) * (end_column - column)
        # the bound keeps a damaged session file from unpacking to gigabytes
        try:
            raw = zlib.decompressobj().decompress(self.bits, max((size + 7) // 8, 1))
        except zlib.error as error:
            raise ValueError(f"packed mask of box {self.box} is damaged: {error}") from error
        bits = np.frombuffer(raw, dtype=np.uint8)
        if len(bits) != (size + 7) // 8:
            raise ValueError(f"packed mask of box {self.box} is damaged: {len(bits)} bytes")
        return (
            np.unpackbits(bits, count=size).view(bool).reshape(end_row - row, end_column - column)
        )

    def full(self) -> NDArray[np.bool_]:
        """The mask of the whole slice, bool, shape `shape`."""
        whole = np.zeros(self.shape, dtype=bool)
        row, column, end_row, end_column = self.box
        whole[row:end_row, column:end_column] = self.inner()
        return whole

    def pixels(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns in the slice of the True pixels, each of shape (n,)."""
        rows, columns = np.nonzero(self.inner())
        return rows + self.box[0], columns + self.box[1]
