"""What a click may change: the mask about it, and elsewhere little, and only its own way.

The first three work on probabilities, in the order in which the predictor calls them, the others on
masks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening, label

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.prediction import Prediction
from napari_fctsfn.predict.windows import Box, overlap

_EIGHT = np.ones((3, 3), dtype=bool)

_OBEYED = 0.2
"""How far from the threshold a contradicted click draws its pixel, in parts of the way to sure."""

_SHARE = 0.25
"""What a contradicted click asks for is done everywhere by this part, in log-odds ..."""

_MOST = 1.0
"""... but not more of it than this."""


def steadied(
    probability: NDArray[np.float32], box: Box, before: Prediction, last: Click, share: float
) -> NDArray[np.float32]:
    """A probability that is drawn to the one before, but where the last click changes the mask.

    What a click changes far away is less often right than what it changes there; where the
    network is sure, it still does. Beyond the window before there is nothing to be drawn to.

    Parameters
    ----------
    probability : array of float32, shape (rows, columns) of the box
        Foreground, 0..1.
    box : (int, int, int, int)
        Rows and columns of the slice, half-open.
    before : Prediction
        Of the same slice.
    last : Click
        In coordinates of the box, perhaps outside it.
    share : float
        What the one before counts, 0..1.

    Returns
    -------
    array of float32, same shape
    """
    here, there = overlap(box, before.bbox)
    new, old = probability[here], before.probability[there]
    change = np.zeros(probability.shape, dtype=bool)
    change[here] = (new > 0.5) != (old > 0.5)
    drawn = probability.copy()
    drawn[here] += np.float32(share) * (old - new)
    return np.where(component(change, last), probability, drawn)


def obeyed(
    probability: NDArray[np.float32], clicks: Clicks, threshold: float, reach: float
) -> NDArray[np.float32]:
    """A probability that is on the right side of the threshold at every click.

    Where it is not, the outline was meant to run elsewhere. All of it moves a little, unless clicks
    of both kinds are contradicted; the rest is done about each click that still is, the less the
    farther away, so that a place of which the network is less sure changes farther.

    Parameters
    ----------
    probability : array of float32, shape (rows, columns)
        Foreground, 0..1.
    clicks : Clicks
        In coordinates of the array; those outside it are left out. Of several on one pixel the
        last one counts.
    threshold : float
        A pixel is object where its probability is larger, 0..1.
    reach : float
        Pixels about a click that may change; at most half of the way to a click of the other kind.

    Returns
    -------
    array of float32, same shape
        `probability` itself if no click is contradicted.
    """
    shape = (probability.shape[0], probability.shape[1])
    kinds = {click.pixel: click.positive for click in clicks if click.inside(shape)}
    wrong = _contradicted(probability, kinds, threshold)
    if not wrong:
        return probability
    aims = {True: threshold + _OBEYED * (1 - threshold), False: threshold - _OBEYED * threshold}
    moved = probability
    if len({kinds[place] for place in wrong}) == 1:
        kind = kinds[wrong[0]]
        asked = max(abs(_log_odds(aims[kind]) - _log_odds(moved[place])) for place in wrong)
        odds = np.float32(math.exp(_SHARE * min(asked, _MOST) * (1 if kind else -1)))
        moved = probability * odds / (1 + probability * (odds - 1))
        wrong = _contradicted(moved, kinds, threshold)
    drawn = moved.copy()
    for row, column in wrong:
        kind = kinds[row, column]
        others = [place for place in kinds if kinds[place] != kind]
        near = min([reach, *(math.dist((row, column), place) / 2 for place in others)])
        rows, columns = (
            np.arange(max(at - int(near), 0), min(at + int(near) + 1, length))
            for at, length in zip((row, column), shape, strict=True)
        )
        distance = np.hypot(rows[:, None] - row, columns - column)
        part = np.clip((near - distance) / max(near - 1, 1e-6), distance < 1, 1)
        place = np.ix_(rows, columns)
        changed = moved[place] + part * (aims[kind] - moved[place])
        drawn[place] = (np.maximum if kind else np.minimum)(drawn[place], changed)
    return drawn


def onward(
    probability: NDArray[np.float32], box: Box, before: Prediction, last: Click
) -> NDArray[np.float32]:
    """A probability that a click on the object nowhere lowers, and one on the background raises.

    Parameters
    ----------
    probability : array of float32, shape (rows, columns) of the box
        Foreground, 0..1.
    box : (int, int, int, int)
        Rows and columns of the slice, half-open.
    before : Prediction
        Of the same slice, before the click. Beyond its window all is background.
    last : Click
        The click.

    Returns
    -------
    array of float32, same shape
    """
    here, there = overlap(box, before.bbox)
    old = np.zeros_like(probability)
    old[here] = before.probability[there]
    return (np.maximum if last.positive else np.minimum)(probability, old)


def change_near(
    before: NDArray[np.bool_], after: NDArray[np.bool_], click: Click
) -> NDArray[np.bool_]:
    """The mask before, changed only where the change hangs together with a click.

    The progressive merge of FocalClick (Chen et al., CVPR 2022, section 3.3): what was drawn by
    hand elsewhere stays. A rim of one or two pixels does not connect a change to the click.

    Parameters
    ----------
    before, after : array of bool, shape (rows, columns)
        The mask there was and the one that is proposed.
    click : Click
        In coordinates of the masks, perhaps outside them.

    Returns
    -------
    array of bool, same shape
        `before` itself if nothing changes at the click.
    """
    near = attached(before != after, click)
    if not near.any():
        return before
    merged: NDArray[np.bool_] = np.where(near, after, before)
    return merged


def component(mask: NDArray[np.bool_], click: Click) -> NDArray[np.bool_]:
    """The 8-connected component of a mask that a click lies on; nothing if it lies on none.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
    click : Click
        In coordinates of the mask, perhaps outside it.

    Returns
    -------
    array of bool, same shape
    """
    if not click.inside((mask.shape[0], mask.shape[1])) or not mask[click.pixel]:
        return np.zeros_like(mask)
    joined, _ = label(mask, _EIGHT)
    found: NDArray[np.bool_] = joined == joined[click.pixel]
    return found


def attached(mask: NDArray[np.bool_], click: Click) -> NDArray[np.bool_]:
    """The part of a mask that hangs together with a click; rims of one or two pixels do not count.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
    click : Click
        In coordinates of the mask, perhaps outside it.

    Returns
    -------
    array of bool, same shape
        Nothing if the click is not on the mask; of a mask that is all rim, the whole component.
    """
    near = component(mask, click)
    if near.any():
        row, column = click.pixel
        parts, _ = label(binary_opening(mask, _EIGHT), _EIGHT)
        touched = np.unique(parts[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3])
        touched = touched[touched > 0]
        if len(touched):
            near &= binary_dilation(np.isin(parts, touched), _EIGHT, iterations=2)
    return near


def _contradicted(
    probability: NDArray[np.float32], kinds: dict[tuple[int, int], bool], threshold: float
) -> list[tuple[int, int]]:
    """Those places of clicks where the mask is of the other kind."""
    return [place for place, kind in kinds.items() if (probability[place] > threshold) != kind]


def _log_odds(probability: float) -> float:
    """Of a probability, 0..1; what is nearly sure is finite."""
    kept = min(max(float(probability), 1e-6), 1 - 1e-6)
    return math.log(kept / (1 - kept))
