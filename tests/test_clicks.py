"""Clicks and their interaction maps, against equation 1 written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks, distance_map, interaction_maps
from napari_fctsfn.errors import InputError
from napari_fctsfn.network import interaction_maps as torch_maps

coordinate = st.floats(-1e6, 1e6)
click = st.builds(Click, coordinate, coordinate, st.booleans())
several = st.lists(click, max_size=8).map(Clicks)
factor = st.floats(1 / 64, 64)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def near(shape):
    """Clicks in a picture of `shape` and a little outside of it."""
    rows, columns = (st.floats(-4, n + 3) for n in shape)
    one = st.builds(Click, rows, columns, st.booleans())
    return st.lists(one, max_size=60).map(Clicks)


pictures = shapes.flatmap(lambda shape: st.tuples(st.just(shape), near(shape)))


def equation_1(clicks, shape):
    """min over the clicks of a kind that lie in the map of the distance, and at most 255."""
    maps = np.full((2, *shape), 255.0)
    for kind, row, column in np.ndindex(2, *shape):
        for one in clicks:
            r, c = math.floor(one.row + 0.5), math.floor(one.column + 0.5)
            if one.positive == (kind == 0) and 0 <= r < shape[0] and 0 <= c < shape[1]:
                distance = math.hypot(row - r, column - c)
                maps[kind, row, column] = min(maps[kind, row, column], distance)
    return maps


def of_torch(clicks, shape, padding=0):
    """The maps of the torch twin, of the clicks that lie in the map."""
    clicks = [c for c in clicks if c.inside(shape)]
    pixels = np.concatenate([Clicks(clicks).pixels(), np.zeros((padding, 2), int)])
    valid = torch.arange(len(pixels)) < len(clicks)
    positive = torch.tensor([c.positive for c in clicks] + [True] * padding, dtype=torch.bool)
    return torch_maps(torch.from_numpy(pixels)[None], positive[None], valid[None], shape)[0]


@given(pictures)
def test_maps_are_equation_1(picture):
    shape, clicks = picture
    maps = interaction_maps(clicks, shape)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, equation_1(clicks, shape), rtol=1e-6)


@given(pictures, st.integers(0, 3))
def test_the_torch_twin_gives_the_same_maps(picture, padding):
    shape, clicks = picture
    twin = of_torch(clicks, shape, padding).numpy()
    np.testing.assert_allclose(twin, interaction_maps(clicks, shape), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 23, 24, 25, 26, 200])
def test_few_and_many_clicks_are_truncated_alike(count):
    shape = (301, 407)
    rng = np.random.default_rng(count)
    pixels = rng.integers((0, 0), (40, 60), (count, 2))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distances = [np.hypot(rows - row, columns - column) for row, column in pixels]
    expected = np.minimum(np.min(distances, axis=0), 255)
    assert (expected == 255).any()
    np.testing.assert_allclose(distance_map(pixels, shape), expected, rtol=1e-6)
    clicks = Clicks(Click(*map(int, pixel), positive=False) for pixel in pixels)
    negative = of_torch(clicks, shape)[1].numpy()
    np.testing.assert_allclose(negative, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 5, 40])
def test_without_a_click_of_a_kind_its_map_is_255(count):
    clicks = Clicks([Click(2, 3, positive=False)] * count)
    positive, negative = interaction_maps(clicks, (6, 7))
    assert (positive == 255).all()
    assert (negative == 255).all() == (count == 0)


def test_clicks_outside_do_not_count():
    outside = Clicks(Click(row, column) for row in (-1, 6) for column in (-1, 7))
    assert not any(c.inside((6, 7)) for c in outside)
    assert (interaction_maps(outside, (6, 7)) == 255).all()
    many = Clicks([*outside] * 10)
    assert (interaction_maps(many, (6, 7)) == 255).all()


def test_a_batch_is_its_members():
    shape = (5, 6)
    first, second = Clicks([Click(1, 2), Click(4, 4, positive=False)]), Clicks([Click(3, 3)])
    pixels = torch.tensor([[[1, 2], [4, 4]], [[3, 3], [0, 0]]])
    positive = torch.tensor([[True, False], [True, True]])
    valid = torch.tensor([[True, True], [True, False]])
    batch = torch_maps(pixels, positive, valid, shape)
    torch.testing.assert_close(batch[0], of_torch(first, shape))
    torch.testing.assert_close(batch[1], of_torch(second, shape))


@pytest.mark.parametrize(
    ("place", "pixel"), [(0, 0), (0.49, 0), (0.5, 1), (-0.5, 0), (-0.51, -1), (7.5, 8), (2.5, 3)]
)
def test_a_click_belongs_to_the_pixel_around_it(place, pixel):
    assert Click(place, place).pixel == (pixel, pixel)
    assert Click(place, 0).inside((8, 1)) == (0 <= pixel < 8)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_coordinates_are_finite(bad):
    for place in ((bad, 0), (0, bad)):
        with pytest.raises(ValueError, match="must be finite numbers"):
            Click(*place)


@given(several)
def test_clicks_are_an_immutable_sequence_in_order(clicks):
    assert Clicks(list(clicks)) == clicks
    assert hash(Clicks(list(clicks))) == hash(clicks)
    longer = clicks.append(Click(1, 2, positive=False))
    assert longer[:-1] == clicks
    assert isinstance(longer[:-1], Clicks)
    assert longer != clicks
    assert [c for c in clicks if c.positive] == list(clicks.positive)
    assert [c for c in clicks if not c.positive] == list(clicks.negative)
    assert [c.pixel for c in clicks] == [tuple(pixel) for pixel in clicks.pixels()]
    assert clicks.pixels().shape == (len(clicks), 2)
    assert clicks != list(clicks)


@given(several, st.tuples(factor, factor), st.tuples(coordinate, coordinate))
def test_scaling_there_and_back_changes_nothing(clicks, factors, origin):
    there = clicks.scaled(factors, origin)
    assert [c.positive for c in there] == [c.positive for c in clicks]
    # Pixel edge `origin` of the old grid is edge 0 of the new one, hence the way back.
    back = there.scaled((1 / factors[0], 1 / factors[1]))
    for old, new in zip(clicks, back, strict=True):
        assert new.row + origin[0] == pytest.approx(old.row, abs=1e-6, rel=1e-9)
        assert new.column + origin[1] == pytest.approx(old.column, abs=1e-6, rel=1e-9)


@given(several)
def test_scaling_by_one_moves_the_origin_only(clicks):
    for old, new in zip(clicks, clicks.scaled((1, 1), (10, 20)), strict=True):
        assert new.row == pytest.approx(old.row - 10, abs=1e-9, rel=1e-12)
        assert new.column == pytest.approx(old.column - 20, abs=1e-9, rel=1e-12)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 16))
def test_scaled_clicks_stay_in_their_pixel(row, column, fine):
    """The centre of a pixel goes to the centre of the block it becomes, and back."""
    (new,) = Clicks([Click(row, column)]).scaled((fine, fine))
    assert (new.row, new.column) == (row * fine + (fine - 1) / 2, column * fine + (fine - 1) / 2)
    for part in range(fine):
        (coarse,) = Clicks([Click(row * fine + part, column * fine)]).scaled((1 / fine, 1 / fine))
        assert coarse.pixel == (row, column)


def test_a_click_outside_is_named_with_the_valid_range():
    clicks = Clicks([Click(0, 0), Click(4.5, 1.5, positive=False)])
    clicks.check_inside((6, 3))
    message = "row 4.5, column 1.5 is outside .* 5 rows and 3 columns; rows go from 0 to 4"
    with pytest.raises(InputError, match=message):
        clicks.check_inside((5, 3))
