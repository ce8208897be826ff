"""Slices of images that are read window by window, and the channels the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.predict.normalisation import ArrayLike, Normalisation

MOST_CHANNELS = 3
"""A network sees three channels."""


@dataclass(frozen=True)
class Channels:
    """What the network sees of an image with an axis of channels.

    Parameters
    ----------
    axis : int
        The axis of the channels.
    chosen : tuple of int
        One to three channels: one is seen as grey, more as red, green and blue in this order.
    ranges : tuple of Normalisation
        The intensity range of each.

    Raises
    ------
    InputError
        If it is not one to three channels, each with its range.
    """

    axis: int
    chosen: tuple[int, ...]
    ranges: tuple[Normalisation, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.chosen) <= MOST_CHANNELS or len(self.ranges) != len(self.chosen):
            raise InputError(
                f"channels {list(self.chosen)} with {len(self.ranges)} ranges: choose one to "
                f"{MOST_CHANNELS} channels, each with its range"
            )
        if min(self.axis, *self.chosen) < 0:
            raise InputError(f"channels {list(self.chosen)} of axis {self.axis}: count from 0")

    @classmethod
    def of(cls, data: ArrayLike, axis: int, chosen: tuple[int, ...]) -> Channels:
        """Channels of an image, with their percentiles as ranges.

        Parameters
        ----------
        data : array, three axes or more
            May be lazy: a bounded sample of each channel is read.
        axis : int
            The axis of the channels.
        chosen : tuple of int
            One to three of them.

        Raises
        ------
        InputError
            If the image has no such channels.
        """
        shape = tuple(data.shape)
        if len(shape) < 3 or not 0 <= axis < len(shape):
            raise InputError(f"an image of shape {shape} has no axis {axis} beside its slices")
        if any(not 0 <= channel < shape[axis] for channel in chosen):
            raise InputError(
                f"channels {list(chosen)}: axis {axis} has channels 0 to {shape[axis] - 1}"
            )
        ranges = tuple(Normalisation.from_array(_Channel(data, axis, number)) for number in chosen)
        return cls(axis, tuple(chosen), ranges)

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Whether an image of this shape has these channels."""
        return self.axis < len(shape) and max(self.chosen) < shape[self.axis]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "axis": self.axis,
            "chosen": list(self.chosen),
            "ranges": [each.to_dict() for each in self.ranges],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Channels:
        """The channels that `to_dict` gave.

        Raises
        ------
        InputError
            If these are no channels.
        """
        try:
            chosen = tuple(int(channel) for channel in data["chosen"])
            ranges = tuple(Normalisation.from_dict(each) for each in data["ranges"])
            return cls(int(data["axis"]), chosen, ranges)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{data!r} are no channels: {error}") from None


class SliceView:
    """A slice of an image of which only the windows that are looked at are read.

    Parameters
    ----------
    data : array, n axes, or n + 1 with RGB(A) last
        May be lazy.
    index : tuple of int or slice, one for each of n axes
        Two of them whole slices: the rows and the columns.
    channels : Channels, optional
        Its index along their axis does not count.

    Attributes
    ----------
    shape : tuple of int
        (rows, columns), or (rows, columns, 3 or 4) for colours.
    dtype : dtype
        That of the image; float32 with `channels`, which are brought to 0..1.
    """

    def __init__(
        self, data: Any, index: tuple[int | slice, ...], channels: Channels | None = None
    ) -> None:
        self._data, self._index, self._channels = data, index, channels
        self._axes = [axis for axis, part in enumerate(index) if isinstance(part, slice)]
        colours: tuple[int, ...] = tuple(data.shape[len(index) :])
        if channels is not None:
            colours = () if len(channels.chosen) == 1 else (MOST_CHANNELS,)
        self.shape = (*(int(data.shape[axis]) for axis in self._axes), *map(int, colours))
        self.dtype = np.dtype(np.float32 if channels is not None else data.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[Any]:
        """The pixels of some rows and columns."""
        index = list(self._index)
        for axis, part in zip(self._axes, window, strict=True):
            index[axis] = part
        channels = self._channels
        if channels is None:
            return np.asarray(self._data[tuple(index)])
        planes = []
        for channel, span in zip(channels.chosen, channels.ranges, strict=True):
            index[channels.axis] = channel
            planes.append(span.apply(np.asarray(self._data[tuple(index)])))
        if len(planes) == 1:
            return planes[0]
        missing = [np.zeros_like(planes[0])] * (MOST_CHANNELS - len(planes))
        return np.stack([*planes, *missing], axis=-1)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        whole = self[slice(None), slice(None)]
        return whole if dtype is None else whole.astype(dtype, copy=bool(copy))


class _Channel:
    """One channel of an image as an array of its own, read where it is indexed."""

    def __init__(self, data: ArrayLike, axis: int, channel: int) -> None:
        self._data, self._axis, self._channel = data, axis, channel
        self.shape = tuple(n for at, n in enumerate(data.shape) if at != axis)
        self.dtype = data.dtype

    def __getitem__(self, index: tuple[int | slice, ...], /) -> Any:
        return self._data[(*index[: self._axis], self._channel, *index[self._axis :])]
