"""Which image a session belongs to."""

from __future__ import annotations

import hashlib
from itertools import product
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

_BLOCK = 16
"""Rows and columns of a block of pixels that is looked at."""

_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where blocks are taken along rows and columns."""

_SLICES = (0.0, 1.0)
"""Slices that are looked at along every other axis: reading one may take long."""

_CENTRE = 1024
"""Rows and columns in the middle of the middle slice that are looked at whole."""


class ImageIdentity(BaseModel):
    """Shape, data type and some pixels of an image: enough to tell it from others.

    Parameters
    ----------
    name : str
        What it is called; does not count.
    shape : tuple of int
        With the channels of RGB.
    dtype : str
    digest : str
        SHA-256 of blocks of pixels spread over it, 16 hexadecimal digits.
    centre : str
        SHA-256 of the middle of its middle slice, as many digits: blocks may all lie on black
        ground. Empty in sessions of before.
    source : str
        File that it was read from; empty if that is not known. Does not count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: tuple[int, ...]
    dtype: str
    digest: str
    centre: str = ""
    source: str = ""

    @classmethod
    def of(cls, name: str, data: Any, channels: bool = False, source: str = "") -> ImageIdentity:
        """Of an array, which may be lazy; a few blocks and the middle of a slice are read.

        Parameters
        ----------
        name : str
        data : array, at least two axes
        channels : bool
            Whether the last axis holds the channels of RGB.
        source : str
            File that it was read from.
        """
        shape = tuple(int(size) for size in data.shape)
        spatial = len(shape) - channels
        starts = [
            sorted({round(part * (size - 1)) for part in _SLICES})
            if axis < spatial - 2
            else sorted({round(part * max(size - _BLOCK, 0)) for part in _PLACES})
            for axis, size in enumerate(shape[:spatial])
        ]
        digest = hashlib.sha256()
        for corner in product(*starts):
            *others, row, column = corner
            block = (*others, slice(row, row + _BLOCK), slice(column, column + _BLOCK))
            digest.update(_content(data[block]))
        middle = tuple(
            size // 2 if axis < spatial - 2 else _middle(size)
            for axis, size in enumerate(shape[:spatial])
        )
        return cls(
            name=writable(name),
            shape=shape,
            dtype=np.dtype(data.dtype).name,
            digest=digest.hexdigest()[:16],
            centre=hashlib.sha256(_content(data[middle])).hexdigest()[:16],
            # A path that cannot be written down would not be found again.
            source=source if writable(source) == source else "",
        )

    def same(self, other: ImageIdentity) -> bool:
        """Whether both are of the same image, whatever it is called."""
        if self.centre and other.centre and self.centre != other.centre:
            return False
        return (self.shape, self.dtype, self.digest) == (other.shape, other.dtype, other.digest)

    def __str__(self) -> str:
        return f"“{self.name}” ({'x'.join(map(str, self.shape))}, {self.dtype}, {self.digest[:6]})"


def _middle(size: int) -> slice:
    start = max((size - _CENTRE) // 2, 0)
    return slice(start, start + _CENTRE)


def _content(pixels: Any) -> bytes:
    """Pixels as bytes that are the same on every machine."""
    array = np.asarray(pixels)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def writable(text: str) -> str:
    """Text that can be written down: names of files, and what is pasted, need not be."""
    return text.encode("utf-8", "replace").decode("utf-8")
