"""Clicks for training: the first ones from the object, the next ones from the model's errors.

Initial clicks follow Xu et al. (2016), as the paper does (section 4.1), and iterative clicks
Mahadevan et al. (2018); both are drawn off-centre, because people do not click centres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.clicks.click import Click, Clicks

_DEPTHS = (0.0, 0.3, 0.5, 0.8)
"""A click falls where the distance to the border exceeds one of these parts of its maximum."""

_HOLE = 0.6
"""A hole reaches at most this far towards the object's border, in parts of its place's depth."""

_DEEP = 6.0
"""Depth of a hole's place in the object, at least, in pixels."""

_BAND = 40.0
"""Width in pixels of the band around the object for background clicks (Xu's d)."""


def _depth(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in pixels to the outside of `region`; the border of the array counts as outside."""
    depth: NDArray[np.float64] = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    return depth


def click_in(
    region: NDArray[np.bool_], positive: bool, rng: np.random.Generator, step: int = 1
) -> Click | None:
    """A random click in a region, more often deep inside than near its border.

    Parameters
    ----------
    region : array of bool, shape (rows, columns)
    positive : bool
        The kind of the click.
    rng : Generator
    step : int
        Only every `step`-th row and column is looked at; if these miss the region, all are.

    Returns
    -------
    Click or None
        None if the region is empty.
    """
    coarse = region[::step, ::step]
    if not coarse.any():
        if step == 1:
            return None
        return click_in(region, positive, rng)
    depth = _depth(coarse)
    deep = np.flatnonzero(depth > rng.choice(_DEPTHS) * depth.max())
    row, column = np.unravel_index(rng.choice(deep), depth.shape)
    return Click(int(row) * step, int(column) * step, positive)


def initial_clicks(
    truth: NDArray[np.bool_],
    rng: np.random.Generator,
    step: int = 1,
    ignore: NDArray[np.bool_] | None = None,
) -> Clicks:
    """Clicks as at the start of an interaction: mostly one, sometimes a handful of both kinds.

    Parameters
    ----------
    truth : array of bool, shape (rows, columns)
        The object; must not be empty.
    rng : Generator
    step : int
        See `click_in`.
    ignore : array of bool, same shape, optional
        Where no background click falls: nobody knows what is there.

    Returns
    -------
    Clicks
        The first one is positive. With probability 0.35 up to three more positive ones, and up to
        four negative ones in a band of 40 pixels around the object.

    Raises
    ------
    ValueError
        If the object is empty.
    """
    first = click_in(truth, True, rng, step)
    if first is None:
        raise ValueError("the object is empty: there is nothing to click on")
    clicks = [first]
    if rng.random() < 0.35:
        clicks += [c for _ in range(rng.integers(0, 4)) if (c := click_in(truth, True, rng, step))]
        outside = distance_transform_edt(~truth[::step, ::step]) * step
        around = (outside > 2) & (outside < _BAND)
        if ignore is not None:
            around &= ~ignore[::step, ::step]
        rows, columns = np.nonzero(around)
        for _ in range(rng.integers(0, 5) if len(rows) else 0):
            i = rng.integers(len(rows))
            clicks.append(Click(int(rows[i]) * step, int(columns[i]) * step, False))
    return Clicks(clicks)


def error_click(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], rng: np.random.Generator, step: int = 1
) -> Click | None:
    """The click that a user might make next: in the kind of error that reaches deeper.

    Parameters
    ----------
    mask, truth : array of bool, shape (rows, columns)
        The model's mask and the object.
    rng : Generator
    step : int
        See `click_in`.

    Returns
    -------
    Click or None
        Positive where the object is missed, negative where background is taken; None if at
        this `step` nothing is wrong.
    """
    missed = truth & ~mask
    extra = mask & ~truth
    depths = [_depth(part[::step, ::step]).max(initial=0) for part in (missed, extra)]
    if max(depths) == 0:
        return None
    positive = depths[0] > depths[1]
    return click_in(missed if positive else extra, positive, rng, step)


def hole_click(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], clicks: Clicks, rng: np.random.Generator
) -> tuple[Click, float] | None:
    """A background click well inside an object: it means a small place there, not the object.

    Parameters
    ----------
    mask, truth : array of bool, shape (rows, columns)
        The model's mask, where the click falls, and the object.
    clicks : Clicks
        Those that were made; the hole holds none of the positive ones.
    rng : Generator

    Returns
    -------
    (Click, float) or None
        The click, and how far from it the hole may reach, in pixels: the object goes on all around.
        None if there is no room.
    """
    depth = _depth(truth)
    free = np.ones(truth.shape, dtype=bool)
    free[tuple(clicks.positive.pixels().T)] = False
    apart = distance_transform_edt(free) if clicks.positive else np.full(truth.shape, np.inf)
    deep = depth >= max(_DEEP, 0.25 * depth.max())
    places = np.argwhere(mask & truth & deep & (apart > _HOLE * depth))
    if not len(places):
        return None
    row, column = (int(n) for n in places[rng.integers(len(places))])
    return Click(row, column, False), float(_HOLE * depth[row, column])
