"""What a prediction is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.predict.windows import Box


@dataclass(frozen=True, eq=False)
class Prediction:
    """A mask and the probability behind it, within a box of the slice.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns) of the box
        True on the object; outside the box everything is background.
    probability : array of float32, same shape
        Foreground probability, 0..1, before post-processing; 0 outside the box.
    bbox : (int, int, int, int)
        The box in the slice: first row, first column, row after the last, column after the last.
    shape : (int, int)
        Rows and columns of the slice.
    quality : float
        Predicted IoU of the mask with the object, 0..1; not a number where the model predicts none.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    bbox: Box
    shape: tuple[int, int]
    quality: float = math.nan

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array of the slice."""
        return slice(self.bbox[0], self.bbox[2]), slice(self.bbox[1], self.bbox[3])

    def full_mask(self) -> NDArray[np.bool_]:
        """The mask in the whole slice, shape `shape`."""
        full = np.zeros(self.shape, dtype=bool)
        full[self.slices] = self.mask
        return full

    def full_probability(self) -> NDArray[np.float32]:
        """The probability in the whole slice, shape `shape`."""
        full = np.zeros(self.shape, dtype=np.float32)
        full[self.slices] = self.probability
        return full

    def object_box(self) -> Box | None:
        """The smallest box around the mask, in the slice; None if the mask is empty."""
        return mask_box(self.mask, (self.bbox[0], self.bbox[1]))


def mask_box(mask: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)) -> Box | None:
    """The smallest box around the true pixels of `mask`, whose first pixel is `origin`."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return (
        int(rows[0]) + origin[0],
        int(columns[0]) + origin[1],
        int(rows[-1]) + origin[0] + 1,
        int(columns[-1]) + origin[1] + 1,
    )
