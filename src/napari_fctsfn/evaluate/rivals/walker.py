"""Random walks (RW)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import random_walker

from napari_fctsfn.evaluate.rivals.rival import Rival


class RandomWalker(Rival):
    """A pixel belongs to the strokes that a random walk from it reaches first.

    L. Grady: Random walks for image segmentation. PAMI 28(11), 2006, by scikit-image: with a
    multigrid solver where pyamg is installed, else with conjugate gradients, at a quarter of the
    speed.

    Attributes
    ----------
    beta : float
        How hard an edge is to walk over.
    """

    rim = True
    beta: ClassVar[float] = 1000.0

    def prepare(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Nothing: scikit-image builds the equations of each set of strokes."""
        if np.ptp(image) == 0:
            # scikit-image divides by the standard deviation: a pixel of the rim stands out a bit.
            image = image.copy()
            image[0, 0, 0] += 1e-3
        return image

    def segment(self, prepared: NDArray[np.float32], seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Solve for these strokes."""
        labels = np.select([seeds > 0, seeds < 0], [1, 2], 0)
        reached = random_walker(
            prepared,
            labels,
            beta=self.beta,
            mode="cg_mg" if find_spec("pyamg") else "cg_j",
            tol=1e-3,
            prob_tol=np.inf,  # which is larger counts, not how large it is
            channel_axis=-1,
        )
        mask: NDArray[np.bool_] = reached == 1
        return mask
