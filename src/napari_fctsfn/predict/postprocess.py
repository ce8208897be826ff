"""What is tidied in a mask: parts that nobody clicked on, small holes, what belongs to others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening, label

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.predict.prediction import mask_box

_EIGHT = np.ones((3, 3), dtype=bool)

SMALL_HOLE = 0.02
"""A hole is small if its area is at most this part of the mask's: noise has no structure to lose,
and a part of the mask, unlike a number of pixels, is the same at every zoom."""


def drop_unclicked(mask: NDArray[np.bool_], clicks: Clicks) -> NDArray[np.bool_]:
    """The mask without the components that hold no positive click.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        Its components are 8-connected.
    clicks : Clicks
        In coordinates of the mask; those outside it are left out.

    Returns
    -------
    array of bool, same shape
        `mask` itself if nothing is dropped. That is also so if no component holds a positive
        click: an answer that misses every click shows more than an empty one.
    """
    box = mask_box(mask)
    if box is None:
        return mask
    part = mask[box[0] : box[2], box[1] : box[3]]
    labels, count = label(part, _EIGHT)
    if count == 1:
        return mask
    clicked = labels[_indices(clicks.positive, box)]
    keep = np.zeros(count + 1, dtype=bool)
    keep[clicked] = True
    keep[0] = False
    if not keep.any() or keep[1:].all():
        return mask
    kept = np.zeros_like(mask)
    kept[box[0] : box[2], box[1] : box[3]] = keep[labels]
    return kept


def beside_others(
    mask: NDArray[np.bool_], free: NDArray[np.bool_], clicks: Clicks
) -> NDArray[np.bool_]:
    """What other objects leave of a mask, without the components that hold no positive click.

    Nor is the rind kept that runs around another object which was cut tighter: what is one or two
    pixels thin, that near to what was cut off, and not clicked on.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
    free : array of bool, same shape
        Where no other object is.
    clicks : Clicks
        In coordinates of the mask; those outside it are left out.

    Returns
    -------
    array of bool, same shape
        `mask` itself if nothing is taken off. Empty if every positive click is on another object
        and more than half of the mask too: the rest is not what was meant.
    """
    left = mask & free
    size, kept = np.count_nonzero(mask), np.count_nonzero(left)
    if kept == size:
        return mask
    clicked = free[_indices(clicks.positive, (0, 0, *mask.shape))]
    if len(clicked) and not clicked.any() and 2 * kept < size:
        return np.zeros_like(left)
    return drop_unclicked(_without_rind(left, mask & ~free, clicks), clicks)


def _without_rind(
    left: NDArray[np.bool_], cut: NDArray[np.bool_], clicks: Clicks
) -> NDArray[np.bool_]:
    """What is left of a mask without what is thin along the part that was cut off.

    A mask that nobody clicked on stays whole.
    """
    body, places = binary_opening(left, _EIGHT), _indices(clicks.positive, (0, 0, *left.shape))
    if not body.any() or not len(places[0]):
        return left
    thin = left & ~binary_dilation(body, _EIGHT)
    pieces, _ = label(thin & binary_dilation(cut, _EIGHT, iterations=2), _EIGHT)
    kept: NDArray[np.bool_] = left & ((pieces == 0) | np.isin(pieces, pieces[places]))
    return kept


def fill_small_holes(
    mask: NDArray[np.bool_], clicks: Clicks, max_part: float = SMALL_HOLE
) -> NDArray[np.bool_]:
    """The mask with its small holes filled, but for those that hold a negative click.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        A hole is a 4-connected component of its background that does not touch the array's border.
    clicks : Clicks
        In coordinates of the mask; those outside it are left out.
    max_part : float
        A hole is filled if its area is at most this part of the mask's.

    Returns
    -------
    array of bool, same shape
        `mask` itself if nothing is filled.
    """
    box = mask_box(mask)
    if box is None:
        return mask
    # Outside the box all is background, so what touches the box's border is no hole.
    part = mask[box[0] : box[2], box[1] : box[3]]
    labels, count = label(~part)
    if count == 0:
        return mask
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    fill = areas <= max_part * areas[0]
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[border] = False
    fill[labels[_indices(clicks.negative, box)]] = False
    fill[0] = False
    if not fill.any():
        return mask
    filled = mask.copy()
    filled[box[0] : box[2], box[1] : box[3]] |= fill[labels]
    return filled


def _indices(
    clicks: Clicks, box: tuple[int, int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index, within a box, of the pixels under those clicks that lie in it."""
    pixels = clicks.pixels() - box[:2]
    size = (box[2] - box[0], box[3] - box[1])
    pixels = pixels[((pixels >= 0) & (pixels < size)).all(axis=1)]
    return pixels[:, 0], pixels[:, 1]
