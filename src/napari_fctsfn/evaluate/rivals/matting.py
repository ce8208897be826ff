"""Geodesic matting (GM), its segmentation step."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate.rivals.colours import Colours
from napari_fctsfn.evaluate.rivals.geodesics import geodesics
from napari_fctsfn.evaluate.rivals.rival import Rival


class GeodesicMatting(Rival):
    """A pixel belongs to the strokes that are nearer, over the object's probability as a relief.

    X. Bai, G. Sapiro: A geodesic framework for fast interactive image and video segmentation and
    matting. ICCV 2007. The probability comes from kernel densities of colours under the strokes;
    distances are minimal cost paths of scikit-image. The transparency along the outline is left
    out, since masks are compared.

    Attributes
    ----------
    flat : float
        What a step of one pixel costs where the probability does not change.
    """

    rim = True
    flat: ClassVar[float] = 0.005

    def prepare(self, image: NDArray[np.float32]) -> Colours:
        """Colours."""
        return Colours.of(image)

    def segment(self, prepared: Colours, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Compare the distances from both kinds of strokes."""
        probability = prepared.foreground(seeds)
        relief = self.flat + np.hypot(*np.gradient(probability))
        nearer: NDArray[np.bool_] = (
            geodesics(relief, seeds > 0)[0] < geodesics(relief, seeds < 0)[0]
        )
        return nearer
