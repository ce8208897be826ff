"""Masks that know where in the slice they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.predict.prediction import mask_box
from napari_fctsfn.predict.windows import Box, overlap


@dataclass(frozen=True)
class Region:
    """A mask that is not empty, within its box.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        The part of the slice in `box`; its outermost rows and columns are not empty.
    box : (int, int, int, int)
        Rows and columns of the slice, half-open.
    """

    mask: NDArray[np.bool_]
    box: Box

    @classmethod
    def of(cls, mask: NDArray[np.bool_], box: Box) -> Region | None:
        """The region of a mask that fills `box`; None if it is empty."""
        tight = mask_box(mask)
        if tight is None:
            return None
        part = mask[tight[0] : tight[2], tight[1] : tight[3]]
        top, left = box[0], box[1]
        return cls(part, (tight[0] + top, tight[1] + left, tight[2] + top, tight[3] + left))

    @property
    def extent(self) -> int:
        """The longer side of the box, in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def within(self, box: Box) -> NDArray[np.bool_]:
        """The mask in another box."""
        part = np.zeros((box[2] - box[0], box[3] - box[1]), dtype=bool)
        there, here = overlap(box, self.box)
        part[there] = self.mask[here]
        return part

    def iou(self, other: Region) -> float:
        """Intersection over union with another region of the slice, 0..1."""
        both = int((self.mask & other.within(self.box)).sum())
        return both / (int(self.mask.sum()) + int(other.mask.sum()) - both)
