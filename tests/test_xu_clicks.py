"""Synthetic clicks after Xu et al.: how many, how far apart, where, and how often which kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt
from scipy.stats import chisquare

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.xu import around, in_others, inside, spread, xu_clicks

SHAPE = (90, 110)
SEEDS = st.integers(0, 2**32 - 1)
DRAWS = 400
rectangles = st.tuples(
    st.integers(0, 60), st.integers(0, 80), st.integers(1, 70), st.integers(1, 70)
)
"""First row and column, rows and columns; large ones reach beyond the picture."""
LIKELY = 1e-4
"""A right distribution fails a test at one seed of ten thousand; the seeds are fixed."""


def disc(row=45, column=50, radius=24, shape=SHAPE):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def rectangle(row, column, height, width):
    mask = np.zeros(SHAPE, bool)
    mask[row : row + height, column : column + width] = True
    return mask


def places(clicks):
    return Clicks(clicks).pixels()


def apart(clicks):
    """Smallest distance between two clicks."""
    pixels = places(clicks)
    distances = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
    return distances[~np.eye(len(pixels), dtype=bool)].min(initial=np.inf)


def depth(region):
    """Distance to the nearest pixel that is not in `region`, by looking at each on its border."""
    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


def even(counts):
    """Whether counts may be those of an even draw."""
    return chisquare(counts).pvalue > LIKELY


@settings(max_examples=40, deadline=None)
@given(rectangles, SEEDS)
def test_positive_clicks_lie_deep_in_the_object_and_apart(box, seed):
    truth = rectangle(*box)
    clicks = inside(truth, np.random.default_rng(seed))
    assert 1 <= len(clicks) <= 5
    assert all(click.positive for click in clicks)
    deep = depth(truth)
    least = 5 if deep.max() >= 5 else 1
    assert all(deep[click.pixel] >= least for click in clicks)
    assert apart(clicks) >= 10


@settings(max_examples=40, deadline=None)
@given(rectangles, SEEDS)
def test_negative_clicks_around_lie_in_the_band_and_apart(box, seed):
    truth = rectangle(*box)
    clicks = around(truth, np.random.default_rng(seed))
    away = distance_transform_edt(~truth)
    assert len(clicks) <= 10
    assert not any(click.positive for click in clicks)
    least = 5 if ((away >= 5) & (away < 40)).any() else 1
    assert all(least <= away[click.pixel] < 40 for click in clicks)
    assert apart(clicks) >= 10


@settings(max_examples=30, deadline=None)
@given(rectangles, rectangles, SEEDS)
def test_negative_clicks_in_others_are_drawn_as_positive_ones_are(first, second, seed):
    others = [rectangle(*first), rectangle(*second) & ~rectangle(*first)]
    clicks = in_others(others, np.random.default_rng(seed))
    assert not any(click.positive for click in clicks)
    for other in others:
        mine = [click for click in clicks if other[click.pixel]]
        assert len(mine) <= 5
        deep = depth(other)
        assert all(deep[click.pixel] >= (5 if deep.max() >= 5 else 1) for click in mine)
        assert apart(mine) >= 10
    assert len(clicks) <= 10
    assert all(any(other[click.pixel] for other in others) for click in clicks)


@settings(max_examples=20, deadline=None)
@given(rectangles, SEEDS)
def test_each_click_of_the_third_strategy_is_farthest_from_those_before(box, seed):
    truth = rectangle(*box)
    clicks = spread(truth, np.random.default_rng(seed))
    away = distance_transform_edt(~truth)
    band = (away >= 5) & (away < 40)
    if not band.any():
        band = (away > 0) & (away < 40)
    pixels = np.argwhere(band)
    assert len(clicks) == min(10, len(pixels))
    assert not any(click.positive for click in clicks)
    chosen = places(clicks)
    for number in range(1, len(chosen)):
        before = chosen[:number]
        nearest = np.linalg.norm(pixels[:, None] - before[None], axis=2).min(axis=1)
        mine = np.linalg.norm(chosen[number] - before, axis=1).min()
        assert band[tuple(chosen[number])]
        assert mine == pytest.approx(nearest.max())


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (12, 14)).filter(np.any), arrays(bool, (12, 14)), SEEDS)
def test_clicks_of_any_object_lie_on_their_side(truth, ignored, seed):
    others = [~truth]
    clicks = xu_clicks(truth, others, np.random.default_rng(seed), ignored & ~truth)
    assert clicks[0].positive
    assert all(truth[click.pixel] == click.positive for click in clicks)
    assert clicks == xu_clicks(truth, others, np.random.default_rng(seed), ignored & ~truth)


def test_numbers_of_clicks_are_even():
    truth, rng = disc(), np.random.default_rng(1)
    positive = [len(inside(truth, rng)) for _ in range(DRAWS)]
    negative = [len(around(truth, rng)) for _ in range(DRAWS)]
    other = [len(in_others([truth], rng)) for _ in range(DRAWS)]
    assert even(np.bincount(positive, minlength=6)[1:])
    assert even(np.bincount(other, minlength=6))
    assert even(np.bincount(negative, minlength=11))


def test_the_three_strategies_are_drawn_evenly():
    truth, other = disc(), disc(20, 100, 9)
    away = distance_transform_edt(~truth)
    rng = np.random.default_rng(2)
    counts = {"around": 0, "others": 0, "spread": 0, "none": 0}
    for _ in range(DRAWS):
        negative = xu_clicks(truth, [other], rng).negative
        if not len(negative):
            counts["none"] += 1
        elif all(other[click.pixel] for click in negative):
            counts["others"] += 1
        elif len(negative) == 10 and apart(negative) > 13:
            counts["spread"] += 1
        else:
            counts["around"] += 1
        assert all(other[c.pixel] or 5 <= away[c.pixel] < 40 for c in negative)
    # No click at all: one of eleven times in the first strategy, one of six in the second.
    expected = np.array([10 / 33, 5 / 18, 1 / 3, 1 / 33 + 1 / 18]) * DRAWS
    assert chisquare(list(counts.values()), expected).pvalue > LIKELY


def test_the_first_positive_click_is_even_over_the_object():
    truth = rectangle(10, 10, 50, 50)
    rng = np.random.default_rng(3)
    first = np.array([inside(truth, rng)[0].pixel for _ in range(DRAWS)])
    quarters = (first[:, 0] >= 35) * 2 + (first[:, 1] >= 35)
    assert even(np.bincount(quarters, minlength=4))
    assert first.min() <= 16
    assert first.max() >= 53


@pytest.mark.parametrize("strategy", ["around", "others", "spread"])
def test_the_first_negative_click_is_even_over_its_region(strategy):
    truth, other = disc(), rectangle(10, 80, 40, 30)
    rng = np.random.default_rng(7)
    away = distance_transform_edt(~truth)
    if strategy == "others":
        region = depth(other) >= 5
        found = [in_others([other], rng) for _ in range(DRAWS)]
    else:
        region = (away >= 5) & (away < 40)
        draw = around if strategy == "around" else spread
        found = [draw(truth, rng) for _ in range(DRAWS)]
    # Six parts with as many pixels each, in reading order.
    part = np.full(SHAPE, -1)
    part[region] = np.arange(np.count_nonzero(region)) * 6 // np.count_nonzero(region)
    firsts = [part[clicks[0].pixel] for clicks in found if clicks]
    assert min(firsts) == 0
    assert even(np.bincount(firsts, minlength=6))


def test_positive_clicks_of_a_small_object_are_as_many_as_there_is_room_for():
    truth = rectangle(4, 4, 12, 12)
    rng = np.random.default_rng(4)
    counts = {len(inside(truth, rng)) for _ in range(50)}
    assert counts == {1}
    long = rectangle(4, 4, 3, 80)
    assert max(len(inside(long, rng)) for _ in range(50)) == 5


def test_no_negative_click_falls_on_what_is_ignored():
    truth = disc()
    ignored = np.zeros(SHAPE, bool)
    ignored[:, 55:] = True
    rng = np.random.default_rng(5)
    clicks = [c for _ in range(30) for f in (around, spread) for c in f(truth, rng, ignored)]
    assert len(clicks) > 300
    assert all(click.column < 55 for click in clicks)


def test_an_object_that_fills_the_picture_has_no_negative_clicks():
    truth, rng = np.ones((30, 30), bool), np.random.default_rng(6)
    assert around(truth, rng) == spread(truth, rng) == in_others([], rng) == []


def test_an_empty_object_is_refused():
    with pytest.raises(ValueError, match="empty"):
        xu_clicks(np.zeros((4, 4), bool), [], np.random.default_rng(0))
