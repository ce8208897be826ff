"""Interaction maps: clicks as truncated Euclidean distances (paper, section 3.4, equation 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.clicks.click import Clicks

TRUNCATION = 255.0
"""Largest value of an interaction map, in pixels; the value everywhere where there is no click."""

_FEW = 24
"""Up to so many clicks of one kind, one pass over the map per click beats the exact transform."""


def distance_map(pixels: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Distance of every pixel to the nearest of some pixels, truncated at 255.

    Parameters
    ----------
    pixels : array of int, shape (n, 2)
        Rows and columns; those outside the map are left out.
    shape : (int, int)
        Rows and columns of the map.

    Returns
    -------
    array of float32, shape `shape`
        ``min(Euclidean distance, 255)`` in pixels; 255 everywhere if `pixels` is empty.

    Notes
    -----
    Exact, in time linear in the number of pixels of the map: a bounded number of passes for few
    clicks, the exact Euclidean distance transform for many.
    """
    pixels = pixels[((pixels >= 0) & (pixels < np.array(shape))).all(axis=1)]
    if len(pixels) > _FEW:
        seeds = np.ones(shape, dtype=bool)
        seeds[tuple(pixels.T)] = False
        exact: NDArray[np.float64] = distance_transform_edt(seeds)
        return np.minimum(exact, TRUNCATION).astype(np.float32)
    squared = np.full(shape, TRUNCATION**2, dtype=np.float32)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    for row, column in pixels:
        np.minimum(squared, (rows - row) ** 2 + (columns - column) ** 2, out=squared)
    return np.sqrt(squared, out=squared)


def interaction_maps(clicks: Clicks, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Positive and negative interaction maps of clicks (paper, equation 1).

    Parameters
    ----------
    clicks : Clicks
        In the coordinates of the map, that is in network-input pixels.
    shape : (int, int)
        Rows and columns of the maps.

    Returns
    -------
    array of float32, shape (2, rows, columns)
        First the positive map, then the negative one, 0 to 255 pixels; 255 everywhere for a kind
        without clicks.
    """
    return np.stack(
        [
            distance_map(clicks.positive.pixels(), shape),
            distance_map(clicks.negative.pixels(), shape),
        ]
    )
