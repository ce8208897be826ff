"""Snapping a mask's outline to edges of the image by a graph cut (paper, section 3.4).

The energy of a labelling L, with probability Q and image I, is::

    strength * sum_p R_p(L_p) + sum_{p, q neighbours} B_pq [L_p != L_q]
    R_p(object) = -log Q_p,   R_p(background) = -log(1 - Q_p),   Q within 1e-4 .. 1 - 1e-4
    B_pq = exp(-|I_p - I_q|^2 / (2 sigma^2)) / distance(p, q),   8 neighbours

with 2 sigma^2 twice the mean of |I_p - I_q|^2. The label under a click is given, that of the last
one where several are on one pixel.

Only pixels whose label is open are in the graph; all others keep the label of Q > 0.5 and enter as
boundary terms, so that the cost follows the length of the outline and not the size of the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from napari_fctsfn.clicks import Clicks

BAND = 6
"""Pixels on each side of the outline whose label is open: how far the network's outline is off."""

_AROUND = 12
"""Pixels around a contradicted click whose label is open."""

_WHOLE = 1 << 15
"""A contradicted component of up to so many pixels is open as a whole ..."""

_PART = 64
"""... and of a larger one, which is rarely wrong as a whole, so many pixels around the click."""

_CERTAIN = 1e-4
"""No probability is nearer to 0 or 1."""

_SEED = 16.0
"""More than all neighbours together weigh (4 + 4 / sqrt 2), so that no seed is ever overruled."""

_EIGHT = np.ones((3, 3), dtype=bool)
_FORWARD = ((0, 1), (1, 0), (1, 1), (1, -1))
_FIXED, _OUTSIDE = -1, -2


def refine(
    probability: NDArray[np.float32],
    image: NDArray[np.float32],
    clicks: Clicks,
    strength: float,
    band: int = BAND,
) -> NDArray[np.bool_]:
    """The mask of least energy near the outline of a probability.

    Parameters
    ----------
    probability : array of float32, shape (rows, columns)
        Foreground probability, 0..1.
    image : array of float32, shape (rows, columns, channels)
        The pixels under it; their unit does not matter.
    clicks : Clicks
        In coordinates of the arrays; those outside are left out.
    strength : float
        Weight of the probability against the image's edges, above 0.
    band : int
        Pixels on each side of the outline whose label is open, 0 or more.

    Returns
    -------
    array of bool, shape (rows, columns)
        True on the object.

    Raises
    ------
    ValueError
        If probability and image do not have the same rows and columns.
    ModuleNotFoundError
        If PyMaxflow is not installed.
    """
    if image.ndim != 3 or image.shape[:2] != probability.shape:
        raise ValueError(
            f"a probability of shape {probability.shape} does not fit an image of shape "
            f"{image.shape}: give an image of shape (rows, columns, channels)"
        )
    graph_type = _graph_type()
    seeds = _seeds(clicks, probability.shape)
    mask: NDArray[np.bool_] = probability > 0.5
    region = open_region(mask, seeds, band)
    if not region.any():
        return mask

    to_object, to_background, edges, weights = _links(region, image, mask)
    object_cost, background_cost = _data_costs(probability, region, seeds, strength)
    graph = graph_type(len(to_object), len(weights))
    numbers = graph.add_nodes(len(to_object))
    # The source is the object's end: a pixel cut off from it pays what background costs.
    graph.add_grid_tedges(numbers, background_cost + to_object, object_cost + to_background)
    graph.add_edges(*edges, weights, weights)
    graph.maxflow()
    mask[region] = ~graph.get_grid_segments(numbers)
    return mask


def open_region(
    mask: NDArray[np.bool_], seeds: dict[tuple[int, int], bool], band: int
) -> NDArray[np.bool_]:
    """The pixels whose label a graph cut may change.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        The labels so far.
    seeds : dict of (row, column) to bool
        Pixels that must be object (True) or background (False).
    band : int
        Pixels on each side of the outline that are open, in rows and columns.

    Returns
    -------
    array of bool, shape (rows, columns)
        The band along the outline and, for every seed that the mask contradicts, its surroundings
        and the wrong component (object: 8-connected, background: 4-connected) that holds it: the
        whole of it, or what lies within 64 pixels of the seed if it is large.
    """
    region = np.zeros_like(mask) if band < 1 else _dilated(mask, band) & _dilated(~mask, band)
    labels: dict[bool, tuple[NDArray[np.int32], NDArray[np.int64]]] = {}
    for (row, column), positive in seeds.items():
        if mask[row, column] == positive:
            continue
        region[_square(row, column, _AROUND)] = True
        if positive not in labels:
            components, _ = label(~mask if positive else mask, None if positive else _EIGHT)
            labels[positive] = components, np.bincount(components.ravel())
        components, areas = labels[positive]
        wrong = components[row, column]
        where = _square(row, column, _PART) if areas[wrong] > _WHOLE else slice(None)
        region[where] |= components[where] == wrong
    return region


def _graph_type() -> Any:
    try:
        from maxflow import GraphFloat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "graph-cut refinement needs PyMaxflow, which is not installed: install it with "
            "`pip install PyMaxflow`, or switch graph_cut off in the settings",
            name=error.name,
        ) from error
    return GraphFloat


def _seeds(clicks: Clicks, shape: tuple[int, ...]) -> dict[tuple[int, int], bool]:
    rows, columns = shape
    return {click.pixel: click.positive for click in clicks if click.inside((rows, columns))}


def _square(row: int, column: int, radius: int) -> tuple[slice, slice]:
    return (
        slice(max(row - radius, 0), row + radius + 1),
        slice(max(column - radius, 0), column + radius + 1),
    )


def _data_costs(
    probability: NDArray[np.float32],
    region: NDArray[np.bool_],
    seeds: dict[tuple[int, int], bool],
    strength: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the labels object and background cost at every open pixel, in the order of place."""
    certain = np.clip(probability[region].astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    object_cost, background_cost = -strength * np.log(certain), -strength * np.log1p(-certain)
    if seeds:
        seeded = np.zeros(region.shape, dtype=np.int8)
        for pixel, positive in seeds.items():
            seeded[pixel] = 1 if positive else -1
        given = seeded[region]
        object_cost = np.select([given > 0, given < 0], [0.0, _SEED], object_cost)
        background_cost = np.select([given > 0, given < 0], [_SEED, 0.0], background_cost)
    return object_cost, background_cost


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """True within `radius` rows and columns of a true pixel; doubling steps, so a few passes."""
    for axis in (0, 1):
        reached = 0
        while reached < min(radius, mask.shape[axis]):
            step = min(reached + 1, radius - reached)
            near, far = [slice(None)] * 2, [slice(None)] * 2
            near[axis], far[axis] = slice(None, -step), slice(step, None)
            wider = mask.copy()
            wider[tuple(far)] |= mask[tuple(near)]
            wider[tuple(near)] |= mask[tuple(far)]
            mask, reached = wider, reached + step
    return mask


def _links(
    region: NDArray[np.bool_], image: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    tuple[NDArray[np.int32], NDArray[np.int32]],
    NDArray[np.float64],
]:
    """Weights B between open pixels, and from them to fixed ones.

    Parameters
    ----------
    region : array of bool, shape (rows, columns)
        The n open pixels, numbered in the order of their place.
    image : array of float32, shape (rows, columns, channels)
    mask : array of bool, shape (rows, columns)
        Labels of the fixed pixels.

    Returns
    -------
    to_object, to_background : array of float64, shape (n,)
        Sum of the weights to fixed neighbours of either label.
    edges : pair of array of int32, shape (m,)
        Open neighbours.
    weights : array of float64, shape (m,)
    """
    width = region.shape[1]
    place = np.flatnonzero(region)
    count = len(place)
    # A frame of one pixel spares looking for the borders.
    numbers = np.full((region.shape[0] + 2, width + 2), _OUTSIDE, dtype=np.int32)
    numbers[1:-1, 1:-1] = _FIXED
    numbers[1:-1, 1:-1][region] = np.arange(count, dtype=np.int32)
    framed = place + width + 3 + 2 * (place // width)
    if image.strides[2] == 0:
        # Grey shown as RGB: three equal channels weigh as one.
        image = image[..., :1]
    pixels = image.reshape(-1, image.shape[2])
    colours = pixels[place]

    starts, ends, squares, distances, on_object = [], [], [], [], []
    for row, column in (*_FORWARD, *((-row, -column) for row, column in _FORWARD)):
        end = numbers.take(framed + row * (width + 2) + column)
        # Pairs of open pixels are met going forward.
        start = np.flatnonzero(end > _OUTSIDE if (row, column) in _FORWARD else end == _FIXED)
        other = place[start] + row * width + column
        difference = colours.take(start, axis=0)
        difference -= pixels.take(other, axis=0)
        starts.append(start)
        ends.append(end[start])
        squares.append(np.einsum("ij,ij->i", difference, difference))
        distances.append(np.full(len(start), np.hypot(row, column)))
        on_object.append(mask.take(other))
    start, end = np.concatenate(starts), np.concatenate(ends)
    square = np.concatenate(squares).astype(np.float64)
    mean = square.mean() if len(square) else 0.0
    # Where all neighbours are alike there is no edge to snap to, and all weigh the same.
    similar = np.exp(square / (-2 * mean)) if mean > 0 else np.ones_like(square)
    weight = similar / np.concatenate(distances)
    outer = np.flatnonzero(end == _FIXED)
    label_of_outer = np.concatenate(on_object)[outer]
    sums = [
        np.bincount(start[chosen], weight[chosen], minlength=count).astype(np.float64)
        for chosen in (outer[label_of_outer], outer[~label_of_outer])
    ]
    inner = end >= 0
    edges = start[inner].astype(np.int32), end[inner].astype(np.int32)
    return sums[0], sums[1], edges, weight[inner]
