"""GrabCut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate.rivals.colours import Colours
from napari_fctsfn.evaluate.rivals.rival import Rival

_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture and the colours in it.

    Parameters
    ----------
    pixels : array of uint8, shape (rows, columns, 3)
    colours : Colours
    """

    pixels: NDArray[np.uint8]
    colours: Colours


class GrabCut(Rival):
    """Graph cuts and mixtures of colours in turns, by OpenCV.

    C. Rother, V. Kolmogorov, A. Blake: GrabCut: interactive foreground extraction using iterated
    graph cuts. SIGGRAPH 2004. There the first labels come from a rectangle; here, where only
    clicks are given, from the colours under the strokes.
    """

    needs: ClassVar[dict[str, str]] = {"cv2": "opencv-python-headless"}

    def prepare(self, image: NDArray[np.float32]) -> Photograph:
        """Colours."""
        return Photograph(np.rint(image * 255).astype(np.uint8), Colours.of(image))

    def segment(self, prepared: Photograph, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Start from the colours, then cut and learn the mixtures anew, three times."""
        import cv2

        likely = prepared.colours.foreground(seeds) > 0.5
        labels = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[seeds > 0], labels[seeds < 0] = cv2.GC_FGD, cv2.GC_BGD
        on_object = (cv2.GC_FGD, cv2.GC_PR_FGD)
        mask = np.isin(labels, on_object)
        if mask.all():  # no background to learn from
            return mask
        cv2.setRNGSeed(0)
        rectangle = (0, 0, 0, 0)  # of no meaning to GC_INIT_WITH_MASK
        models = np.zeros((1, 65)), np.zeros((1, 65))  # written to by OpenCV
        cv2.grabCut(prepared.pixels, labels, rectangle, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
        return np.isin(labels, on_object)
