"""Components without a click go, small holes close: against walks by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from drawn_masks import EIGHT, FOUR, PROBLEMS, as_mask, flood
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.postprocess import beside_others, drop_unclicked, fill_small_holes


@settings(max_examples=200, deadline=None)
@given(problem=PROBLEMS)
def test_components_without_a_positive_click_go(problem):
    mask, clicks = problem
    before = mask.copy()
    points = {click.pixel for click in clicks.positive}
    components = flood(mask, EIGHT)
    clicked = [component for component in components if component & points]
    expected = as_mask(mask.shape, clicked or components)
    np.testing.assert_array_equal(drop_unclicked(mask, clicks), expected)
    np.testing.assert_array_equal(mask, before)


@settings(max_examples=200, deadline=None)
@given(problem=PROBLEMS, seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.4, 0.9, 1.0]))
def test_beside_others_only_clicked_components_are_left(problem, seed, share):
    mask, clicks = problem
    free = np.random.default_rng(seed).random(mask.shape) < share
    inside = [c.pixel for c in clicks.positive if c.inside(mask.shape)]
    if (mask & free).sum() == mask.sum():
        expected = mask
    elif (
        inside and not any(free[pixel] for pixel in inside) and (mask & free).sum() < mask.sum() / 2
    ):
        expected = np.zeros_like(mask)
    else:
        left = flood(without_rind(mask & free, mask & ~free, inside), EIGHT)
        clicked = [component for component in left if component & set(inside)]
        expected = as_mask(mask.shape, clicked or left)
    np.testing.assert_array_equal(beside_others(mask, free, clicks), expected)


def without_rind(left, cut, points):
    """Pixel by pixel: what lies in no block of 3 x 3 and beside none, two from what was cut off."""

    def near(pixel, other, distance):
        return max(abs(pixel[0] - other[0]), abs(pixel[1] - other[1])) <= distance

    rows, columns = left.shape
    corners = itertools.product(range(rows - 2), range(columns - 2))
    blocks = [(r, c) for r, c in corners if left[r : r + 3, c : c + 3].all()]
    if not blocks or not points:
        return left
    thin = [p for p in zip(*left.nonzero(), strict=True) if not in_a_block(p, blocks)]
    rind = [p for p in thin if any(near(p, each, 2) for each in zip(*cut.nonzero(), strict=True))]
    pieces = flood(as_mask(left.shape, [rind]), EIGHT)
    return left & ~as_mask(left.shape, [piece for piece in pieces if not piece & set(points)])


def in_a_block(pixel, blocks):
    return any(-1 <= pixel[0] - r <= 3 and -1 <= pixel[1] - c <= 3 for r, c in blocks)


def test_no_rind_is_kept_around_an_object_that_was_cut_tighter():
    rows, columns = np.mgrid[:60, :80]
    first = (rows - 30) ** 2 + (columns - 25) ** 2 < 14**2
    round_it = (rows - 30) ** 2 + (columns - 25) ** 2 < 16**2
    second = (rows - 30) ** 2 + (columns - 52) ** 2 < 14**2
    clicks = Clicks([Click(30, 52)])
    kept = beside_others(second | round_it, ~first, clicks)
    assert (kept & ~second).sum() <= 10
    assert not (second & ~first & ~kept).any()
    meant = beside_others(second | round_it, ~first, clicks.append(Click(30, 10)))
    assert (meant & ~second).sum() > 90


@settings(max_examples=200, deadline=None)
@given(problem=PROBLEMS, part=st.sampled_from([0.0, 0.05, 0.1, 0.2, 1.0]))
def test_small_holes_without_a_negative_click_close(problem, part):
    mask, clicks = problem
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


def test_a_hole_stays_for_a_negative_click_alone():
    mask = np.ones((40, 40), dtype=bool)
    mask[10, 10] = mask[20, 20] = False
    clicks = Clicks([Click(10, 10, positive=False), Click(20, 20)])
    filled = fill_small_holes(mask, clicks)
    assert not filled[10, 10]
    assert filled[20, 20]


def test_a_hole_of_just_the_largest_area_closes():
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    assert fill_small_holes(ring, Clicks(), 1 / 8).all()
    assert not fill_small_holes(ring, Clicks(), 0.124)[1, 1]


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
