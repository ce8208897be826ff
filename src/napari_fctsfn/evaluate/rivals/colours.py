"""How likely a colour is on the object: densities of colours under the strokes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from skimage.color import rgb2lab

_CELL = 4.0
"""Side of a cell in CIE Lab: colours nearer than this are hardly told apart."""

_BANDWIDTH = 8.0
"""Standard deviation of the kernel, in units of CIE Lab."""

_DOUBT = 0.02
"""Added to both densities (1 is the most): a colour seen under no stroke says nothing."""

_BACKDROP = 200.0
"""The whole picture counts as background of so many pixels, about one stroke of radius 8: the only
background there is before a negative click, and the less the more there are."""


@dataclass(frozen=True, eq=False)
class Colours:
    """The colours of a picture in cells of CIE Lab.

    Parameters
    ----------
    cells : array of int, shape (rows, columns)
        Cell of each pixel.
    likeness : array of float32, shape (cells, cells)
        Gaussian kernel between the mean colours of two cells, 1 on the diagonal.
    backdrop : array of float, shape (cells,)
        Density of the whole picture, 0..1.
    """

    cells: NDArray[np.int64]
    likeness: NDArray[np.float32]
    backdrop: NDArray[np.float64]

    @classmethod
    def of(cls, image: NDArray[np.float32]) -> Colours:
        """The colours of an image (rows, columns, 3), RGB, 0..1."""
        lab = rgb2lab(image).reshape(-1, 3)
        _, cells, counts = np.unique(
            np.floor(lab / _CELL).astype(np.int64), axis=0, return_inverse=True, return_counts=True
        )
        cells = cells.ravel()
        sums = [np.bincount(cells, channel, minlength=len(counts)) for channel in lab.T]
        means = (np.array(sums) / counts).T
        likeness = np.exp(cdist(means, means, "sqeuclidean") / (-2 * _BANDWIDTH**2))
        likeness = likeness.astype(np.float32)
        return cls(cells.reshape(image.shape[:2]), likeness, likeness @ (counts / counts.sum()))

    def foreground(self, seeds: NDArray[np.int8]) -> NDArray[np.float64]:
        """Probability of the object from the colours under the strokes alone.

        Parameters
        ----------
        seeds : array of int8, shape (rows, columns)
            1 on the object, -1 on the background, 0 elsewhere.

        Returns
        -------
        array of float64, same shape
            Strictly between 0 and 1; 0.5 where no stroke saw a like colour.
        """
        on_object, on_background = (
            np.bincount(self.cells[seeds == kind], minlength=len(self.likeness)) for kind in (1, -1)
        )
        inside = self.likeness @ on_object / on_object.sum()
        outside = self.likeness @ on_background + _BACKDROP * self.backdrop
        outside /= on_background.sum() + _BACKDROP
        probability: NDArray[np.float64] = (inside + _DOUBT) / (inside + outside + 2 * _DOUBT)
        return probability[self.cells]
