"""Components without a click go, small holes close: against flood fills by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.postprocess import drop_unclicked, fill_small_holes

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: arrays(bool, s))
CLICKS = st.lists(
    st.builds(Click, st.integers(-1, 9), st.integers(-1, 9), st.booleans()), max_size=4
).map(Clicks)

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


@settings(max_examples=200, deadline=None)
@given(mask=MASKS, clicks=CLICKS)
def test_components_without_a_positive_click_go(mask, clicks):
    before = mask.copy()
    points = {click.pixel for click in clicks.positive}
    components = flood(mask, EIGHT)
    clicked = [component for component in components if component & points]
    expected = as_mask(mask.shape, clicked or components)
    np.testing.assert_array_equal(drop_unclicked(mask, clicks), expected)
    np.testing.assert_array_equal(mask, before)


@settings(max_examples=200, deadline=None)
@given(mask=MASKS, clicks=CLICKS, part=st.sampled_from([0.0, 0.05, 0.1, 0.2, 1.0]))
def test_small_holes_without_a_negative_click_close(mask, clicks, part):
    before = mask.copy()
    points = {click.pixel for click in clicks.negative}
    rows, columns = mask.shape
    filled = [
        hole
        for hole in flood(~mask, FOUR)
        if len(hole) <= part * mask.sum()
        and not hole & points
        and all(0 < row < rows - 1 and 0 < column < columns - 1 for row, column in hole)
    ]
    expected = mask | as_mask(mask.shape, filled)
    np.testing.assert_array_equal(fill_small_holes(mask, clicks, part), expected)
    np.testing.assert_array_equal(mask, before)


def test_a_mask_that_misses_every_click_is_kept():
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:5, 2:5] = mask[10:15, 10:15] = True
    clicks = Clicks([Click(18, 1), Click(3, 3, positive=False)])
    np.testing.assert_array_equal(drop_unclicked(mask, clicks), mask)


def test_small_is_relative_to_the_mask():
    mask = np.zeros((120, 120), dtype=bool)
    mask[10:110, 10:110] = True
    mask[20:33, 20:34] = False  # 1.9 % of what is left
    mask[60:74, 60:75] = False  # 2.2 %
    filled = fill_small_holes(mask, Clicks())
    assert filled[20:33, 20:34].all()
    assert not filled[60:74, 60:75].any()


@pytest.mark.parametrize("value", [False, True])
def test_nothing_and_everything_stay(value):
    mask = np.full((6, 7), value)
    clicks = Clicks([Click(1, 1), Click(2, 2, positive=False)])
    np.testing.assert_array_equal(drop_unclicked(mask, clicks), mask)
    np.testing.assert_array_equal(fill_small_holes(mask, clicks), mask)
