"""What was seen in a window, and which of several looks at a first click is believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.predict.region import Region
from napari_fctsfn.predict.windows import Window, overlap

_SURE = 2.0
"""Weight of how sure a first look is of its mask against its agreement with the other looks."""

_CUT = 1.0
"""Weight of how much of its window's border the mask of a first look covers."""

_ALIKE = 0.5
"""Weight of a first look's likeness in size to objects like this one, where that is known."""


@dataclass(frozen=True)
class Look:
    """What was seen in a window.

    Parameters
    ----------
    window : Window
    probability : array of float32, shape (window.height, window.width)
        Foreground, 0..1, at the slice's resolution.
    quality : float
        Predicted IoU, 0..1; not a number where the network predicts none.
    """

    window: Window
    probability: NDArray[np.float32]
    quality: float

    def seen(self, threshold: float) -> Region | None:
        """What it takes for the object; None if that is nothing."""
        return Region.of(self.probability > threshold, self.window.box)


def most_believed(looks: Sequence[Look], threshold: float, extent: float) -> Look:
    """The look at a first click that most likely shows the object.

    Small things in a large view are seen too coarsely, and near by a part of a thing may look like
    a thing in itself. The look is believed whose mask the others agree with, of which the network
    is sure, which the window does not cut off, and which is as large as objects like this one.

    Parameters
    ----------
    looks : sequence of Look
        At least one.
    threshold : float
        A pixel is object where its probability is larger.
    extent : float
        Longest side of objects like this one, in pixels of the slice; 0 if it is not known.
    """
    seen = [look.seen(threshold) for look in looks]

    def belief(index: int) -> float:
        mine, others = seen[index], seen[:index] + seen[index + 1 :]
        if mine is None or not others:
            return -math.inf
        agreement = float(np.mean([0.0 if its is None else mine.iou(its) for its in others]))
        probability = looks[index].probability
        within, _ = overlap(looks[index].window.box, mine.box)
        sure = float(np.abs(2 * probability[within][mine.mask] - 1).mean())
        border = probability[0], probability[-1], probability[:, 0], probability[:, -1]
        cut = float((np.concatenate(border) > threshold).mean())
        return agreement + _SURE * sure - _CUT * cut + _ALIKE * _alike(mine.extent, extent)

    return looks[max(range(len(looks)), key=belief)]


def _alike(extent: float, usual: float) -> float:
    """1 for a mask as large as usual, 0 for half or twice that; 0 where nothing is usual."""
    return max(0.0, 1 - abs(math.log2(extent / usual))) if usual else 0.0
