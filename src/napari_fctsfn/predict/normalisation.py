"""Intensities to 0..1: what the annotator sees is what the network sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_fctsfn.errors import InputError

LOW_PERCENTILE = 0.5
HIGH_PERCENTILE = 99.8
"""Clipped ends of the intensities. Dark pixels are background, dead pixels and black frames, of
which nothing is missed; bright ones are often the sparse objects themselves, so at the bright end
only as many are clipped as hot pixels and glare take."""

_SAMPLE = 1 << 18
"""Pixels whose percentiles are taken: some 500 lie beyond the upper one."""

_READ = 1 << 22
"""Pixels read from an array for its sample, at most; smaller arrays are read in one piece."""

_PLANES = (16, 256)
"""Slices of a larger stack that are looked at: so many, and more if they are small, up to this."""

_TILE = 1 << 16
"""Pixels of a tile, where a slice is too large to be read."""

_BLOCK = 1 << 18
"""Pixels that are mapped at a time, in float64 or by 64-bit indices."""


class ArrayLike(Protocol):
    """Anything that is read by slices: an array of NumPy, Dask, Zarr, ..."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of every axis."""

    @property
    def dtype(self) -> Any:
        """Type of a pixel."""

    def __getitem__(self, index: Any, /) -> Any:
        """The part at `index`, a tuple of integers and slices."""


@dataclass(frozen=True)
class Normalisation:
    """A range of intensities that is mapped to 0..1, clipped at both ends.

    Parameters
    ----------
    low, high : float
        Intensity of 0 and of 1. If both are the same, larger intensities are 1 and all others 0.

    Raises
    ------
    InputError
        If one is not a finite number or `low` is above `high`.

    Examples
    --------
    >>> Normalisation(100, 300).apply([50, 150, 300])
    array([0.  , 0.25, 1.  ], dtype=float32)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        if self.low > self.high:
            raise InputError(
                f"intensity range {self.low!r} to {self.high!r}: low must not be above high"
            )

    @classmethod
    def from_array(
        cls, array: ArrayLike, low: float = LOW_PERCENTILE, high: float = HIGH_PERCENTILE
    ) -> Normalisation:
        """The range between two percentiles of a grey slice or stack.

        Parameters
        ----------
        array : array-like, shape (..., rows, columns)
            Any real dtype. Of an array above 4 million pixels at most so many are read, as whole
            slices or tiles of them: evenly spread, shaken with a fixed seed.
        low, high : float
            Percentiles, 0..100, of the finite values.

        Returns
        -------
        Normalisation
            The same for the same array. 0 to 1 for bool, and where no value is finite; smallest
            to largest of the values where the percentiles are equal.

        Raises
        ------
        InputError
            If the array has less than two axes or no real numbers.
        """
        kind = _real(array.dtype).kind
        if len(array.shape) < 2:
            raise InputError(
                f"an image of shape {tuple(array.shape)} has no rows and columns: give an array "
                f"of two or more axes"
            )
        if kind == "b":
            return cls(0.0, 1.0)
        values = sample(array)
        if kind == "f":
            values = values[np.isfinite(values)]
        if not values.size:
            return cls(0.0, 1.0)
        # Of the values themselves, so that no interpolation rounds or overflows.
        bottom, top = np.percentile(values, [low, high], method="nearest")
        if bottom == top:
            bottom, top = values.min(), values.max()
        return cls(float(bottom), float(top))

    @classmethod
    def from_limits(cls, limits: Sequence[float]) -> Normalisation:
        """The range of a layer's contrast limits.

        Parameters
        ----------
        limits : sequence of two float
            Lowest and highest intensity displayed.

        Raises
        ------
        InputError
            If these are not two finite numbers in ascending order.
        """
        if len(limits) != 2:
            raise InputError(f"contrast limits {limits!r}: give two numbers, low and high")
        return cls(limits[0], limits[1])

    @classmethod
    def for_rgb(cls, dtype: DTypeLike) -> Normalisation:
        """The range in which RGB is displayed.

        Parameters
        ----------
        dtype : dtype
            Type of the colour values.

        Returns
        -------
        Normalisation
            0 to the largest value of an integer type (255 for uint8, 65535 for uint16), 0 to 1
            for bool and floating-point types.

        Raises
        ------
        InputError
            If the type is not one of real numbers.
        """
        real = _real(dtype)
        return cls(0.0, float(np.iinfo(real).max) if real.kind in "iu" else 1.0)

    def apply(self, array: Any) -> NDArray[np.float32]:
        """Intensities mapped to 0..1.

        Parameters
        ----------
        array : array-like
            Any shape, any real dtype.

        Returns
        -------
        array of float32, same shape
            A new array, 0..1: computed in float64, then rounded. NaN is 0, infinity 1.

        Raises
        ------
        InputError
            If the values are not real numbers.
        """
        pixels = np.asarray(array)
        dtype = _real(pixels.dtype)
        values = 1 << 8 * dtype.itemsize
        # Where there are fewer values than pixels, a table of all of them is as exact, and faster.
        to_unit = self._table(dtype) if dtype.itemsize <= 2 and pixels.size > values else self._map
        result = np.empty(pixels.shape, dtype=np.float32)
        if pixels.ndim == 0:
            result[...] = to_unit(pixels)
            return result
        rows = max(1, _BLOCK * len(pixels) // max(pixels.size, 1))
        for start in range(0, len(pixels), rows):
            result[start : start + rows] = to_unit(pixels[start : start + rows])
        return result

    def _table(self, dtype: np.dtype[Any]) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
        """`_map` for a dtype of one or two bytes, by looking its values up."""
        code = np.dtype(f"u{dtype.itemsize}")
        codes = np.arange(1 << 8 * dtype.itemsize).astype(code)
        table = self._map(codes if dtype.kind == "b" else codes.view(dtype))

        def look_up(pixels: NDArray[Any]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = table.take(pixels.astype(dtype, copy=False).view(code))
            return found

        return look_up

    def _map(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        with np.errstate(all="ignore"):
            values = pixels.astype(np.float64)
            if self.low == self.high:
                return (values > self.low).astype(np.float32)
            np.clip(values, self.low, self.high, out=values)
            # A span that overflows is the only one that needs halving, and can bear it.
            scale = 1.0 if math.isfinite(self.high - self.low) else 0.5
            values *= scale
            values -= self.low * scale
            values /= self.high * scale - self.low * scale
        values[np.isnan(values)] = 0.0
        return values.astype(np.float32)

    def to_dict(self) -> dict[str, float]:
        """The range as plain data, ``{"low": ..., "high": ...}``."""
        return {"low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, data: Any) -> Normalisation:
        """The range that `to_dict` gave.

        Parameters
        ----------
        data : mapping
            Plain data, as it was read from a file.

        Raises
        ------
        InputError
            If these are not exactly a valid low and high.
        """
        if not isinstance(data, Mapping) or set(data) != {"low", "high"}:
            raise InputError(
                f'intensity range {data!r} is not of the form {{"low": number, "high": number}}'
            )
        return cls(data["low"], data["high"])


def as_rgb(image: NDArray[Any]) -> NDArray[Any]:
    """A slice with three channels.

    Parameters
    ----------
    image : array, shape (rows, columns), (rows, columns, 3) or (rows, columns, 4)
        Grey, RGB or RGBA.

    Returns
    -------
    array, shape (rows, columns, 3), same dtype
        A view: grey three times over (not writable), RGB as it is, RGBA without its alpha, which
        is dropped, not blended.

    Raises
    ------
    InputError
        If the image has another shape.
    """
    if image.ndim == 2:
        return np.broadcast_to(image[..., None], (*image.shape, 3))
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return image[..., :3]
    raise InputError(
        f"an image of shape {image.shape} is not one slice: give (rows, columns), or "
        f"(rows, columns, 3) for RGB"
    )


def _finite(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"intensity range: {name} must be a finite number, not {value!r}")
    return number


def _real(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype in native byte order, if it is one of real numbers."""
    try:
        real = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        real = np.dtype(object)
    if real.kind not in "biuf":
        raise InputError(
            f"an image of {dtype} cannot be segmented: convert it to real numbers of NumPy, such "
            f"as uint16 or float32" + (", by its magnitude or phase" if real.kind == "c" else "")
        )
    return real


def sample(array: ArrayLike) -> NDArray[Any]:
    """A bounded number of an array's values, the same at every call; shape (n,).

    Parameters
    ----------
    array : array-like, shape (..., rows, columns)
        Of a large one only some slices, or tiles of them, are read.
    """
    shape = tuple(int(extent) for extent in array.shape)
    if 0 in shape:
        return np.empty(0, dtype=_real(array.dtype))
    rng = np.random.default_rng(0)
    if math.prod(shape) <= _READ:
        values = np.asarray(array[tuple(slice(None) for _ in shape)]).ravel()
    else:
        parts = (np.asarray(array[index]).ravel() for index in _indices(shape, rng))
        values = np.concatenate(list(parts))
    if values.size > _SAMPLE:
        # At random, since a stride may fall into step with rows or a pattern in them.
        values = values[rng.integers(values.size, size=_SAMPLE)]
    return values


def _indices(shape: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int | slice, ...]]:
    """Slices, or tiles of them, that cover at most `_READ` pixels of a larger array."""
    *leading, rows, columns = shape
    planes = math.prod(leading)
    looked_at = min(planes, max(_PLANES[0], min(_PLANES[1], _READ // (rows * columns))))
    budget = _READ // looked_at
    height, width = rows, columns
    tiles = 1
    if rows * columns > budget:
        height = min(rows, max(math.isqrt(_TILE), _TILE // columns))
        width = min(columns, _TILE // height)
        tiles = budget // (height * width)
    indices: list[tuple[int | slice, ...]] = []
    for number in range(looked_at):
        # Shaken, so that evenly spaced slices of an interleaved stack are not all of one channel.
        first, end = number * planes // looked_at, (number + 1) * planes // looked_at
        plane = int(rng.integers(first, end))
        place = [int(axis) for axis in np.unravel_index(plane, leading)] if leading else []
        for _ in range(tiles):
            top = int(rng.integers(rows - height + 1))
            left = int(rng.integers(columns - width + 1))
            indices.append((*place, slice(top, top + height), slice(left, left + width)))
    return indices
