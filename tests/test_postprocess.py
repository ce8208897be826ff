"""Clicks are obeyed, components without one go, small holes close: against walks by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.postprocess import (
    attached,
    beside_others,
    change_near,
    component,
    drop_unclicked,
    fill_small_holes,
    obeyed,
)


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


@settings(max_examples=200, deadline=None)
@given(problem=PROBLEMS, seed=st.integers(0, 2**32))
def test_a_drawn_mask_changes_at_the_click_only(problem, seed):
    before, clicks = problem
    after = np.random.default_rng(seed).random(before.shape) < 0.5
    for click in clicks:
        row, column = click.pixel
        if not (0 <= row < before.shape[0] and 0 <= column < before.shape[1]):
            continue
        merged = change_near(before, after, click)
        changed = merged != before
        assert not (changed & (before == after)).any()
        assert merged[row, column] == after[row, column]
        if changed.any():
            (part,) = [p for p in flood(before != after, EIGHT) if (row, column) in p]
            assert part >= {tuple(map(int, pixel)) for pixel in np.argwhere(changed)}


def test_what_is_attached_to_a_click_leaves_out_rims():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 5:29] = True
    ring = np.hypot(*np.ogrid[-20:20, -40:20])
    mask |= (ring >= 12) & (ring < 13.5)
    assert component(mask, Click(20, 10))[20, 53]
    found = attached(mask, Click(20, 10))
    assert found[10:30, 5:29].all()
    assert not found[:, 32:].any()
    assert not (found & ~mask).any()
    assert not attached(mask, Click(0, 0)).any()
    line = np.zeros_like(mask)
    line[3, 4:50] = True
    np.testing.assert_array_equal(attached(line, Click(3, 9)), line)


def test_a_rim_does_not_carry_a_change_around_the_object():
    before = np.zeros((60, 60), dtype=bool)
    before[20:40, 20:40] = True
    before[26:34, 40:50] = True  # drawn by hand
    after = np.zeros_like(before)
    after[19:41, 19:40] = True  # a pixel more all around, what was drawn is gone
    after[26:34, 8:20] = True  # what the click asks for
    merged = change_near(before, after, Click(30, 10))
    assert merged[26:34, 8:20].all()
    assert merged[26:34, 40:50].all()
    assert change_near(before, after, Click(5, 5)) is before


@settings(max_examples=200, deadline=None)
@given(problem=PROBLEMS, threshold=st.sampled_from([0.2, 0.49, 0.5, 0.8]), reach=st.floats(0.5, 9))
def test_clicks_are_obeyed_and_little_else_changes(problem, threshold, reach):
    mask, clicks = problem
    rng = np.random.default_rng(mask.size)
    probability = np.where(mask, rng.uniform(0.5, 1, mask.shape), rng.uniform(0, 0.5, mask.shape))
    probability = probability.astype(np.float32)
    before = probability.copy()
    found = obeyed(probability, clicks, threshold, reach)
    assert np.array_equal(probability, before)
    assert found.dtype == np.float32
    kinds = {click.pixel: click.positive for click in clicks if click.inside(mask.shape)}
    assert all((found[place] > threshold) == kind for place, kind in kinds.items())
    wrong = {place: kind for place, kind in kinds.items() if (before[place] > threshold) != kind}
    if not wrong:
        assert found is probability
        return
    both = len(set(wrong.values())) == 2
    for place in np.ndindex(mask.shape):
        distance = {each: np.hypot(*np.subtract(each, place)) for each in kinds}
        moved = log_odds(found[place]) - log_odds(before[place])
        if all(distance[each] > reach for each in kinds):
            # far from all clicks the outline moves a little, to where the clicks are
            assert abs(moved) <= (0.0 if both else 0.2501)
            assert both or moved * (1 if next(iter(wrong.values())) else -1) >= -1e-3
        if not both and abs(moved) > 0.2501:
            # no more than that without a click of that kind, and none of the other kind is nearer
            mine = [distance[each] for each in kinds if kinds[each] == (moved > 0)]
            other = [distance[each] for each in kinds if kinds[each] != (moved > 0)]
            assert min(mine) <= min([reach, *other])


def log_odds(p):
    p = np.clip(np.float64(p), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def test_where_the_network_is_unsure_an_obeyed_click_reaches_farther():
    click = Clicks([Click(10, 10)])
    changed = [
        int((obeyed(np.full((21, 21), p, np.float32), click, 0.5, 8.0) > 0.5).sum())
        for p in (0.0, 0.2, 0.4, 0.45)
    ]
    assert changed == sorted(changed)
    assert 5 <= changed[0] < changed[-1] <= np.pi * 8**2
    bounded = obeyed(np.full((21, 21), 0.45, np.float32), click, 0.5, 1.0)
    assert (bounded > 0.5).sum() == 1
