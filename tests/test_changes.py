"""A click is obeyed and changes little else: against walks by hand."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_masks import EIGHT, PROBLEMS, flood
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.changes import (
    attached,
    change_near,
    component,
    obeyed,
    onward,
    steadied,
)
from napari_fctsfn.predict.prediction import Prediction

BOXES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)),
    min_size=2,
    max_size=2,
)
"""Two of first row, first column, rows and columns."""


def two_looks(boxes, seed):
    """A probability with its box, and a prediction made before in the other box."""
    rng = np.random.default_rng(seed)
    box, other = ((r, c, r + h, c + w) for r, c, h, w in boxes)
    new, old = (
        rng.choice([0.1, 0.4, 0.6, 0.9], (b[2] - b[0], b[3] - b[1])).astype(np.float32)
        for b in (box, other)
    )
    return new, box, Prediction(old > 0.5, old, other, (20, 20))


def earlier(seen, box, row, column):
    """The probability before at a pixel of the box; None beyond the window of that time."""
    row, column = row + box[0] - seen.bbox[0], column + box[1] - seen.bbox[1]
    inside = 0 <= row < seen.probability.shape[0] and 0 <= column < seen.probability.shape[1]
    return seen.probability[row, column] if inside else None


@settings(max_examples=30, deadline=None)
@given(
    boxes=BOXES,
    share=st.floats(0, 0.9),
    click=st.tuples(st.integers(-2, 10), st.integers(-2, 10)),
    seed=st.integers(0, 9),
)
def test_a_probability_is_drawn_to_the_one_before_but_at_the_click(boxes, share, click, seed):
    """Against a walk over the pixels one by one."""
    new, box, seen = two_looks(boxes, seed)
    found = steadied(new, box, seen, Click(*click), share)

    def changes(row, column):
        if not (0 <= row < new.shape[0] and 0 <= column < new.shape[1]):
            return False
        its = earlier(seen, box, row, column)
        return its is not None and (its > 0.5) != (new[row, column] > 0.5)

    reached, waiting = set(), [click]
    while waiting:
        place = waiting.pop()
        if place not in reached and changes(*place):
            reached.add(place)
            waiting += [(place[0] + r, place[1] + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
    for place in np.ndindex(new.shape):
        its = earlier(seen, box, *place)
        expected = new[place]
        if its is not None and place not in reached:
            expected = (1 - share) * new[place] + share * its
        assert found[place] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(boxes=BOXES, positive=st.booleans(), seed=st.integers(0, 9))
def test_a_click_adds_or_takes_away_never_both(boxes, positive, seed):
    """Against a walk over the pixels one by one; beyond the window before, nothing was object."""
    new, box, seen = two_looks(boxes, seed)
    found = onward(new, box, seen, Click(0, 0, positive))
    for place in np.ndindex(new.shape):
        its = earlier(seen, box, *place) or 0.0
        assert found[place] == (max(new[place], its) if positive else min(new[place], its))


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
    for beyond in (Click(-1, 10), Click(400, 10), Click(10, -400), Click(10, 400)):
        assert change_near(before, after, beyond) is before


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
