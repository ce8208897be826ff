"""Interactive graph cut (GC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate.rivals.colours import Colours
from napari_fctsfn.evaluate.rivals.energy import contrast, minimum_cut
from napari_fctsfn.evaluate.rivals.rival import Rival


@dataclass(frozen=True, eq=False)
class CutPicture:
    """What a cut needs of a picture.

    Parameters
    ----------
    image : array of float32, shape (rows, columns, 3)
    colours : Colours
    weights : list of four arrays of float64, shape (rows, columns)
        See `contrast`.
    """

    image: NDArray[np.float32]
    colours: Colours
    weights: list[NDArray[np.float64]]


class GraphCut(Rival):
    """Interactive graph cut, by PyMaxflow.

    Y. Boykov, M.-P. Jolly: Interactive graph cuts for optimal boundary and region segmentation of
    objects in N-D images. ICCV 2001. The regional term is the negative logarithm of the object's
    probability by kernel densities of colours (theirs: histograms of grey values), the boundary
    term the usual one of 8 neighbours.

    Attributes
    ----------
    smoothness : float
        Weight of the boundary term against the regional one.
    """

    needs: ClassVar[dict[str, str]] = {"maxflow": "PyMaxflow"}
    smoothness: ClassVar[float] = 10.0

    def prepare(self, image: NDArray[np.float32]) -> CutPicture:
        """Colours, and contrast of neighbours."""
        weights = [self.smoothness * weight for weight in contrast(image)]
        return CutPicture(image, Colours.of(image), weights)

    def segment(self, prepared: CutPicture, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Cut once."""
        probability = prepared.colours.foreground(seeds)
        parents = self.parents(prepared, seeds > 0)
        return minimum_cut(
            -np.log(probability), -np.log1p(-probability), prepared.weights, seeds, parents
        )

    def parents(self, prepared: CutPicture, centres: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """The next pixel on the way to a star's centre, see `minimum_cut`; here there is no star.

        Parameters
        ----------
        prepared : CutPicture
        centres : array of bool, shape (rows, columns)
            Pixels given as object.
        """
        return None
