"""Geodesic matting (GM), its segmentation step."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate.rivals.colours import Colours
from napari_fctsfn.evaluate.rivals.energy import FORWARD, neighbours
from napari_fctsfn.evaluate.rivals.geodesics import nearest_stroke, steps_between
from napari_fctsfn.evaluate.rivals.rival import Rival


class GeodesicMatting(Rival):
    """A pixel belongs to the strokes that are nearer, over the object's probability as a relief.

    X. Bai, G. Sapiro: A geodesic framework for fast interactive image and video segmentation and
    matting. ICCV 2007. The probability comes from kernel densities of colours under the strokes.
    A path is as long as the probability changes along it (their equation 3): a step along an edge
    costs nothing, a step over it all of the edge. The transparency along the outline is left out,
    since masks are compared.

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
        """Find the stroke that is nearer."""
        probability = prepared.foreground(seeds)
        costs = []
        for offset in FORWARD:
            here, there = neighbours(probability, offset)
            costs.append(np.abs(there - here) + self.flat * np.hypot(*offset))
        return nearest_stroke(steps_between(costs, probability.shape), seeds)
