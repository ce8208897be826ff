"""Graph cuts under star convexity: Euclidean (ESC) and geodesic (GSC)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.evaluate.rivals.geodesics import geodesics
from napari_fctsfn.evaluate.rivals.graphcut import CutPicture, GraphCut


class EuclideanStars(GraphCut):
    """Graph cut whose object is a union of stars around the positive strokes.

    V. Gulshan, C. Rother, A. Criminisi, A. Blake, A. Zisserman: Geodesic star convexity for
    interactive image segmentation. CVPR 2010, after O. Veksler: Star shape prior for graph-cut
    image segmentation. ECCV 2008. Every pixel of the strokes is a centre, a pixel belongs to the
    nearest, and with a pixel all of the straight way to its centre is object.
    """

    def parents(self, prepared: CutPicture, centres: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The neighbour on the straight line to the nearest centre; the line is strictly nearing.

        Parameters
        ----------
        prepared : CutPicture
        centres : array of bool, shape (rows, columns)

        Returns
        -------
        array of int64, same shape
        """
        nearest = distance_transform_edt(~centres, return_distances=False, return_indices=True)
        here = np.indices(centres.shape)
        way = nearest - here
        length = np.maximum(np.abs(way).max(axis=0), 1)
        row, column = here + np.rint(way / length).astype(np.int64)
        return np.asarray(row * centres.shape[1] + column, dtype=np.int64)


class GeodesicStars(GraphCut):
    """Graph cut whose object is a union of geodesic stars around the positive strokes.

    V. Gulshan, C. Rother, A. Criminisi, A. Blake, A. Zisserman: Geodesic star convexity for
    interactive image segmentation. CVPR 2010. With a pixel all of the shortest path to the strokes
    is object, where a step d over an image gradient g is ``sqrt((1 - s) d^2 + s g^2)`` long.

    Attributes
    ----------
    sensitivity : float
        s, 0..1: how much longer edges make a path.
    """

    sensitivity: ClassVar[float] = 0.9

    def parents(self, prepared: CutPicture, centres: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The neighbour on the shortest path to the strokes.

        Parameters
        ----------
        prepared : CutPicture
        centres : array of bool, shape (rows, columns)

        Returns
        -------
        array of int64, same shape
        """
        rows, columns = np.gradient(prepared.image, axis=(0, 1))
        square = (rows.astype(np.float64) ** 2 + columns**2).sum(axis=2)
        # Gradients are taken against their root mean square, so that 1 is a usual one.
        square /= max(float(square.mean()), 1e-12)
        step = np.sqrt(1 - self.sensitivity + self.sensitivity * square)
        return geodesics(step, centres)[1]
