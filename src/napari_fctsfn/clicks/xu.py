"""Synthetic clicks for training after Xu et al. (2016), the paper's reference 15 (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.clicks.click import Click, Clicks

MARGIN = 5.0
"""Pixels between a click and the boundary of the object (Xu's d_margin)."""

SPACING = 10.0
"""Pixels between two clicks of a kind (Xu's d_step)."""

BAND = 40.0
"""Width in pixels of the band around the object for negative clicks (Xu's d)."""

MOST_POSITIVE = 5
MOST_AROUND = 10
MOST_IN_OTHER = 5
SPREAD = 10
"""Numbers of clicks: 1 to 5 positive ones; negative ones of the three strategies."""


def xu_clicks(
    truth: NDArray[np.bool_],
    others: Iterable[NDArray[np.bool_]],
    rng: np.random.Generator,
    ignored: NDArray[np.bool_] | None = None,
) -> Clicks:
    """One set of clicks on an object, with negative ones by one of three strategies, drawn evenly.

    Parameters
    ----------
    truth : array of bool, shape (rows, columns)
        The object; must not be empty.
    others : iterable of arrays of bool, shape (rows, columns)
        The other labelled objects of the picture; only the second strategy looks at them.
    rng : Generator
    ignored : array of bool, shape (rows, columns), optional
        Pixels of which nothing is known: no negative click of the band falls on them.

    Returns
    -------
    Clicks
        The positive ones of `inside`, then the negative ones of `around` (strategy 1),
        `in_others` (2) or `spread` (3).

    Raises
    ------
    ValueError
        If the object is empty.
    """
    positive = inside(truth, rng)
    strategy = int(rng.integers(1, 4))
    if strategy == 1:
        return Clicks([*positive, *around(truth, rng, ignored)])
    if strategy == 2:
        return Clicks([*positive, *in_others(others, rng)])
    return Clicks([*positive, *spread(truth, rng, ignored)])


def inside(truth: NDArray[np.bool_], rng: np.random.Generator) -> list[Click]:
    """1 to 5 positive clicks: even over the object, 5 pixels within its boundary, 10 apart.

    If no pixel is so deep inside, the whole object is taken; if no further pixel is far enough
    from the clicks there are, there are fewer.

    Raises
    ------
    ValueError
        If the object is empty.
    """
    if not truth.any():
        raise ValueError("the object is empty: there is nothing to click on")
    return _apart(_deep(truth), int(rng.integers(1, MOST_POSITIVE + 1)), True, rng)


def around(
    truth: NDArray[np.bool_],
    rng: np.random.Generator,
    ignored: NDArray[np.bool_] | None = None,
) -> list[Click]:
    """Strategy 1: 0 to 10 negative clicks, even over the band around the object, 10 apart."""
    return _apart(_band(truth, ignored), int(rng.integers(MOST_AROUND + 1)), False, rng)


def in_others(others: Iterable[NDArray[np.bool_]], rng: np.random.Generator) -> list[Click]:
    """Strategy 2: 0 to 5 negative clicks in each other object, drawn as positive ones are."""
    return [
        click
        for other in others
        for click in _apart(_deep(other), int(rng.integers(MOST_IN_OTHER + 1)), False, rng)
    ]


def spread(
    truth: NDArray[np.bool_],
    rng: np.random.Generator,
    ignored: NDArray[np.bool_] | None = None,
) -> list[Click]:
    """Strategy 3: 10 negative clicks all over the band.

    The first is drawn evenly, each next one is the pixel of the band farthest from all negative
    clicks before; there are fewer only if the band has fewer pixels.
    """
    pixels = _band(truth, ignored)
    if not len(pixels):
        return []
    chosen = pixels[rng.integers(len(pixels))]
    nearest = np.full(len(pixels), np.inf)
    clicks = []
    for _ in range(min(SPREAD, len(pixels))):
        clicks.append(_click(chosen, False))
        nearest = np.minimum(nearest, _squared(pixels, chosen))
        chosen = pixels[int(nearest.argmax())]
    return clicks


def _deep(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of a region that keep the margin to what is outside, else all; shape (n, 2)."""
    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    pixels = np.argwhere(depth >= MARGIN)
    return pixels if len(pixels) else np.argwhere(region)


def _band(truth: NDArray[np.bool_], ignored: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Pixels around the object, with a margin if there are such; shape (n, 2)."""
    away = distance_transform_edt(~truth)
    near = (away > 0) & (away < BAND)
    if ignored is not None:
        near &= ~ignored
    pixels = np.argwhere(near & (away >= MARGIN))
    return pixels if len(pixels) else np.argwhere(near)


def _apart(
    pixels: NDArray[np.int64], count: int, positive: bool, rng: np.random.Generator
) -> list[Click]:
    """At most `count` clicks on some pixels, drawn evenly, none too near to another."""
    clicks: list[Click] = []
    while len(clicks) < count and len(pixels):
        chosen = pixels[rng.integers(len(pixels))]
        clicks.append(_click(chosen, positive))
        pixels = pixels[_squared(pixels, chosen) >= SPACING**2]
    return clicks


def _squared(pixels: NDArray[np.int64], one: NDArray[np.int64]) -> NDArray[np.int64]:
    difference: NDArray[np.int64] = pixels - one
    squared: NDArray[np.int64] = (difference**2).sum(axis=1)
    return squared


def _click(pixel: NDArray[np.int64], positive: bool) -> Click:
    return Click(int(pixel[0]), int(pixel[1]), positive)
