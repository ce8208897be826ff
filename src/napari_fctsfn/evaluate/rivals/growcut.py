"""GrowCut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from napari_fctsfn.evaluate.rivals.energy import FORWARD, neighbours
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
        place = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])
        starts, ends, steps, lengths = [], [], [], []
        for offset in FORWARD:
            here, there = neighbours(image, offset)
            steps.append(np.linalg.norm(there - here, axis=2).astype(np.float64).ravel())
            start, end = neighbours(place, offset)
            starts.append(start.ravel())
            ends.append(end.ravel())
            lengths.append(np.full(start.size, np.hypot(*offset)))
        start, end, step = np.concatenate(starts), np.concatenate(ends), np.concatenate(steps)
        left = np.maximum(1 - step / max(float(step.max()), 1e-12), _WEAKEST)
        cost = _PATIENCE * np.concatenate(lengths) - np.log(left)
        both = (np.concatenate([cost, cost]), (np.r_[start, end], np.r_[end, start]))
        return coo_array(both, shape=(place.size, place.size)).tocsr()

    def segment(self, prepared: coo_array, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Find the stroke that wins each pixel."""
        given = seeds.ravel()
        _, _, winner = dijkstra(
            prepared, indices=np.flatnonzero(given), min_only=True, return_predecessors=True
        )
        mask: NDArray[np.bool_] = (given[winner] > 0).reshape(seeds.shape)
        return mask
