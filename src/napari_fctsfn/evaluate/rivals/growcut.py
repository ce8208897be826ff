"""GrowCut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from napari_fctsfn.evaluate.rivals.energy import FORWARD, neighbours
from napari_fctsfn.evaluate.rivals.geodesics import nearest_stroke, steps_between
from napari_fctsfn.evaluate.rivals.rival import Rival

_PATIENCE = 1e-6
"""Cost of a step of one pixel between equal colours: of equally strong cells the nearer wins."""

_WEAKEST = 1e-6
"""Strength that is left after the largest step in colour; 0 would never arrive."""


class GrowCut(Rival):
    """Cells of the strokes conquer their neighbours, the weaker the more the colours differ.

    V. Vezhnevets, V. Konouchine: GrowCut: interactive multi-label N-D image segmentation by
    cellular automata. Graphicon 2005. Its state of rest is computed at once: a pixel falls to the
    stroke from which the product of ``1 - |I_p - I_q| / max |I_p - I_q|`` along a path is largest,
    which is a shortest path (L. Zhu et al.: An effective interactive medical image segmentation
    method using fast GrowCut. MICCAI workshop IMIC 2014).
    """

    rim = True

    def prepare(self, image: NDArray[np.float32]) -> coo_array:
        """The graph of 8 neighbours, a step costing the negative logarithm of what is left."""
        steps = []
        for offset in FORWARD:
            here, there = neighbours(image, offset)
            steps.append(np.linalg.norm(there - here, axis=2).astype(np.float64))
        largest = max(1e-12, *(float(step.max(initial=0)) for step in steps))
        costs = [
            _PATIENCE * np.hypot(*offset) - np.log(np.maximum(1 - step / largest, _WEAKEST))
            for offset, step in zip(FORWARD, steps, strict=True)
        ]
        return steps_between(costs, image.shape[:2])

    def segment(self, prepared: coo_array, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Find the stroke that wins each pixel."""
        return nearest_stroke(prepared, seeds)
