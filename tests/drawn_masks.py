"""Masks with clicks from a seed, and their components by a walk from pixel to pixel."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks


def drawn(seed, density):
    """A mask of that density and clicks on, beside and outside it."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 10, 2)
    points = rng.integers(-1, shape + 1, (rng.integers(0, 9), 2))
    clicks = Clicks([Click(int(r), int(c), bool(rng.integers(2))) for r, c in points])
    return rng.random(shape) < density, clicks


# From a seed: arrays that are drawn value by value are mostly of one value, without any hole.
PROBLEMS = st.builds(drawn, st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.9, 1.0]))

FOUR = [(0, 1), (1, 0), (0, -1), (-1, 0)]
EIGHT = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]


def flood(mask, steps):
    """Components of a mask as sets of pixels."""
    left, components = {tuple(map(int, pixel)) for pixel in np.argwhere(mask)}, []
    while left:
        border = [left.pop()]
        found = set(border)
        while border:
            row, column = border.pop()
            for step in steps:
                pixel = (row + step[0], column + step[1])
                if pixel in left:
                    left.remove(pixel)
                    found.add(pixel)
                    border.append(pixel)
        components.append(found)
    return components


def as_mask(shape, components):
    mask = np.zeros(shape, dtype=bool)
    for pixel in itertools.chain(*components):
        mask[pixel] = True
    return mask
