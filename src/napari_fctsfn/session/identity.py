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
    source : str
        File that it was read from; empty if that is not known. Does not count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: tuple[int, ...]
    dtype: str
    digest: str
    source: str = ""

    @classmethod
    def of(cls, name: str, data: Any, channels: bool = False, source: str = "") -> ImageIdentity:
        """Of an array, which may be lazy; a few blocks of it are read.

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
            pixels = np.asarray(data[block])
            digest.update(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
        dtype = np.dtype(data.dtype).name
        return cls(
            name=name, shape=shape, dtype=dtype, digest=digest.hexdigest()[:16], source=source
        )

    def same(self, other: ImageIdentity) -> bool:
        """Whether both are of the same image, whatever it is called."""
        return (self.shape, self.dtype, self.digest) == (other.shape, other.dtype, other.digest)

    def __str__(self) -> str:
        return f"“{self.name}” ({'x'.join(map(str, self.shape))}, {self.dtype}, {self.digest[:6]})"
