"""A click and an ordered, immutable sequence of clicks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError


@dataclass(frozen=True, slots=True)
class Click:
    """One user interaction: a point on the object or on the background.

    Parameters
    ----------
    row, column : float
        Data coordinates in the slice, in pixels; the centre of the first pixel is (0, 0).
    positive : bool
        True on the object, False on the background.

    Raises
    ------
    InputError
        If a coordinate is not a finite number.
    """

    row: float
    column: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.row) and math.isfinite(self.column)):
            raise InputError(
                f"click at ({self.row}, {self.column}): coordinates must be finite numbers"
            )

    @property
    def pixel(self) -> tuple[int, int]:
        """Row and column of the pixel under the click, ``floor(x + 0.5)``."""
        return math.floor(self.row + 0.5), math.floor(self.column + 0.5)

    def inside(self, shape: tuple[int, int]) -> bool:
        """Whether the click's pixel lies in an image of `shape` (rows, columns)."""
        row, column = self.pixel
        return 0 <= row < shape[0] and 0 <= column < shape[1]


class Clicks(Sequence[Click]):
    """Ordered, immutable clicks; the order is the order in which the user made them.

    Parameters
    ----------
    clicks : iterable of Click, optional
        The clicks, first one first.

    Examples
    --------
    >>> clicks = Clicks([Click(4, 5), Click(0, 0, positive=False)])
    >>> len(clicks.positive), clicks.append(Click(9, 9))[-1].row
    (1, 9)
    """

    __slots__ = ("_clicks",)

    def __init__(self, clicks: Iterable[Click] = ()) -> None:
        self._clicks = tuple(clicks)

    @overload
    def __getitem__(self, index: int) -> Click: ...
    @overload
    def __getitem__(self, index: slice) -> Clicks: ...
    def __getitem__(self, index: int | slice) -> Click | Clicks:
        if isinstance(index, slice):
            return Clicks(self._clicks[index])
        return self._clicks[index]

    def __len__(self) -> int:
        return len(self._clicks)

    def __iter__(self) -> Iterator[Click]:
        return iter(self._clicks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clicks) and self._clicks == other._clicks

    def __hash__(self) -> int:
        return hash(self._clicks)

    def __repr__(self) -> str:
        return f"Clicks({list(self._clicks)})"

    @property
    def positive(self) -> Clicks:
        """The positive clicks, in order."""
        return Clicks(click for click in self if click.positive)

    @property
    def negative(self) -> Clicks:
        """The negative clicks, in order."""
        return Clicks(click for click in self if not click.positive)

    def append(self, click: Click) -> Clicks:
        """These clicks followed by `click`."""
        return Clicks((*self._clicks, click))

    def pixels(self) -> NDArray[np.int64]:
        """Pixels under the clicks, shape (n, 2), rows and columns."""
        return np.array([click.pixel for click in self], dtype=np.int64).reshape(-1, 2)

    def scaled(
        self, factor: tuple[float, float], origin: tuple[float, float] = (0.0, 0.0)
    ) -> Clicks:
        """The clicks in a grid that starts at pixel edge `origin` and is `factor` times as fine.

        Parameters
        ----------
        factor : (float, float)
            New pixels for one old pixel, along rows and columns.
        origin : (float, float)
            First pixel (row, column) of the new grid, in old pixels.

        Returns
        -------
        Clicks
            Pixel edges are kept: ``new = (old - origin + 0.5) * factor - 0.5``.
        """
        return Clicks(
            Click(
                (click.row - origin[0] + 0.5) * factor[0] - 0.5,
                (click.column - origin[1] + 0.5) * factor[1] - 0.5,
                click.positive,
            )
            for click in self
        )

    def check_inside(self, shape: tuple[int, int]) -> None:
        """Raise if a click lies outside an image of `shape` (rows, columns).

        Raises
        ------
        InputError
            Naming the first click outside and the valid range.
        """
        for click in self:
            if not click.inside(shape):
                row, column = round(click.row, 1), round(click.column, 1)
                raise InputError(
                    f"click at row {row:g}, column {column:g} is outside the image "
                    f"of {shape[0]} rows and {shape[1]} columns; rows go from 0 to {shape[0] - 1} "
                    f"and columns from 0 to {shape[1] - 1}"
                )
