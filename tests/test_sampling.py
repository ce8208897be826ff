"""Clicks for training: where they fall, of which kind they are, and that a seed fixes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.sampling import click_in, error_click, hole_click, initial_clicks

masks = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))
pairs = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
seeds = st.integers(0, 2**32 - 1)
steps = st.integers(1, 5)


def disc(shape=(64, 80), centre=(30, 40), radius=12):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def depth(region):
    """Distance to the nearest pixel outside `region`, by looking at each."""
    rows, columns = np.nonzero(~np.pad(region, 1))
    where = np.argwhere(np.pad(region, 1))
    result = np.zeros(np.add(region.shape, 2))
    for row, column in where:
        result[row, column] = np.hypot(rows - row, columns - column).min()
    return result[1:-1, 1:-1]


@given(masks, seeds, steps, st.booleans())
def test_a_click_falls_in_the_region_however_small_it_is(region, seed, step, positive):
    click = click_in(region, positive, np.random.default_rng(seed), step)
    if not region.any():
        assert click is None
        return
    assert region[click.pixel]
    assert click.positive is positive
    assert click.pixel == (click.row, click.column)


def test_clicks_fall_more_often_deep_inside_than_an_even_draw_would():
    region, rng = disc(), np.random.default_rng(0)
    depths = depth(region)
    drawn = [depths[click_in(region, True, rng).pixel] for _ in range(300)]
    assert np.mean(drawn) > 1.3 * depths[region].mean()
    assert min(drawn) < 0.2 * depths.max()
    assert max(drawn) > 0.8 * depths.max()


@given(masks.filter(np.any), seeds, steps)
def test_initial_clicks_fall_on_the_right_side(truth, seed, step):
    clicks = initial_clicks(truth, np.random.default_rng(seed), step)
    assert clicks[0].positive
    assert all(truth[click.pixel] == click.positive for click in clicks)
    assert 1 <= len(clicks.positive) <= 4
    assert len(clicks.negative) <= 4


@given(pairs.filter(lambda pair: pair[0].any()), seeds, steps)
def test_no_background_click_falls_where_nothing_is_known(pair, seed, step):
    truth, unknown = pair
    clicks = initial_clicks(truth, np.random.default_rng(seed), step, unknown)
    assert not any(unknown[click.pixel] for click in clicks.negative)
    assert clicks.positive == initial_clicks(truth, np.random.default_rng(seed), step).positive


def test_initial_clicks_are_mostly_one_and_negative_ones_lie_in_a_band():
    truth = np.zeros((200, 200), bool)
    truth[:20, :20] = True
    away = distance_transform_edt(~truth)
    rng = np.random.default_rng(1)
    sessions = [initial_clicks(truth, rng) for _ in range(300)]
    assert 0.6 < np.mean([len(clicks) == 1 for clicks in sessions]) < 0.85
    negative = [away[click.pixel] for clicks in sessions for click in clicks.negative]
    assert len(negative) > 50
    assert 2 < min(negative) < max(negative) < 40
    assert max(len(clicks.positive) for clicks in sessions) == 4


def test_there_is_nothing_to_click_on_in_an_empty_object():
    with pytest.raises(ValueError, match="empty: there is nothing to click on"):
        initial_clicks(np.zeros((4, 5), bool), np.random.default_rng(0))


@given(pairs, seeds)
def test_the_next_click_is_in_the_deeper_kind_of_error(pair, seed):
    mask, truth = pair
    click = error_click(mask, truth, np.random.default_rng(seed))
    missed, extra = depth(truth & ~mask).max(), depth(mask & ~truth).max()
    if click is None:
        assert (mask == truth).all()
        return
    assert mask[click.pixel] != truth[click.pixel]
    assert click.positive == truth[click.pixel]
    assert click.positive == (missed > extra)


@given(pairs, seeds, steps)
def test_the_next_click_is_an_error_at_every_step(pair, seed, step):
    mask, truth = pair
    click = error_click(mask, truth, np.random.default_rng(seed), step)
    if click is None:
        assert (mask == truth)[::step, ::step].all()
    else:
        assert mask[click.pixel] != truth[click.pixel]
        assert click.positive == truth[click.pixel]


@pytest.mark.parametrize("step", [1, 3])
def test_a_seed_fixes_the_clicks(step):
    truth, mask = disc(), disc(radius=7)

    def session(seed):
        rng = np.random.default_rng(seed)
        return [
            (initial_clicks(truth, rng, step), error_click(mask, truth, rng, step))
            for _ in range(20)
        ]

    assert session(5) == session(5)
    assert session(5) != session(6)


@given(seeds, st.integers(5, 20), st.integers(5, 20), st.booleans())
def test_there_is_object_all_around_a_hole_and_none_of_its_clicks_in_it(seed, height, width, any_):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    truth = ((rows - 24) / height) ** 2 + ((columns - 22) / width) ** 2 <= 1
    mask = rng.random(truth.shape) < 0.9
    placed = [Click(*map(int, place)) for place in rng.permutation(np.argwhere(truth))[: 2 * any_]]
    found = hole_click(mask, truth, Clicks([*placed, Click(0, 0, False)]), rng)
    assume(found is not None)
    click, reach = found
    assert mask[click.pixel]
    assert not click.positive
    hole = np.hypot(rows - click.row, columns - click.column) <= reach
    assert truth[hole].all()
    # one more pixel all around is object, too
    assert truth[np.hypot(rows - click.row, columns - click.column) <= reach + 1].all()
    assert not any(hole[each.pixel] for each in placed)


def test_where_there_is_no_room_there_is_no_hole():
    rng = np.random.default_rng(0)
    thin = np.zeros((40, 40), dtype=bool)
    thin[10:20, 2:38] = True
    assert hole_click(thin, thin, Clicks(), rng) is None
    object_ = disc()
    assert hole_click(~object_, object_, Clicks(), rng) is None, "nothing was found of it"
    assert hole_click(object_, object_, Clicks(), rng) is not None
