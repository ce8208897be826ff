"""The graph cut: the least energy there is, clicks obeyed, work along the outline only."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict.graphcut import open_region, refine


def near(mask, band):
    """Pixels within `band` rows and columns of one of the mask, one by one."""
    found = np.zeros_like(mask)
    for row, column in np.ndindex(mask.shape):
        top, left = max(row - band, 0), max(column - band, 0)
        found[row, column] = mask[top : row + band + 1, left : column + band + 1].any()
    return found


def pairs_of(shape):
    """All pairs of 8-neighbours, and their distances."""
    for row, column in np.ndindex(shape):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            other = (row + down, column + right)
            if other[0] < shape[0] and 0 <= other[1] < shape[1]:
                yield (row, column), other, np.hypot(down, right)


def energies(labelings, probability, image, open_pixels, seeds, strength):
    """Energy of every labeling, shape (n, rows, columns), term by term; seeds are not in it."""
    touching = [
        (p, q, ((image[p].astype(float) - image[q]) ** 2).sum(), distance)
        for p, q, distance in pairs_of(probability.shape)
        if open_pixels[p] or open_pixels[q]
    ]
    mean = np.mean([square for _, _, square, _ in touching]) if touching else 0
    total = np.zeros(len(labelings))
    for p, q, square, distance in touching:
        weight = (np.exp(-square / (2 * mean)) if mean else 1.0) / distance
        total += weight * (labelings[:, *p] != labelings[:, *q])
    certain = np.clip(probability.astype(float), 1e-4, 1 - 1e-4)
    for p in np.ndindex(probability.shape):
        if open_pixels[p] and p not in seeds:
            total += strength * np.where(
                labelings[:, *p], -np.log(certain[p]), -np.log(1 - certain[p])
            )
    return total


STRENGTHS = st.sampled_from([0.05, 0.3, 1.0, 4.0])


@st.composite
def noise(draw):
    """Outlines and clicks anywhere: nearly all pixels are open."""
    shape = draw(st.sampled_from([(1, 1), (1, 7), (8, 1), (2, 5), (3, 3), (3, 4), (4, 3), (2, 6)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    certain = draw(st.sampled_from([0.0, 0.3, 1.0]))
    probability = rng.random(shape)
    probability = np.where(rng.random(shape) < certain, probability.round(), probability)
    levels = draw(st.sampled_from([1, 2, 100]))
    image = rng.integers(levels, size=(*shape, 3)) / levels
    points = rng.integers(0, shape, (draw(st.integers(0, 3)), 2))
    clicks = [Click(int(row), int(column), bool(rng.integers(2))) for row, column in points]
    arrays = probability.astype(np.float32), image.astype(np.float32)
    return *arrays, Clicks(clicks), draw(STRENGTHS), draw(st.sampled_from([0, 1, 2, 20]))


@st.composite
def steps(draw):
    """A straight outline that all clicks agree with: fixed pixels on both sides of a band."""
    band, shape = draw(
        st.sampled_from([(1, (5, 5)), (1, (6, 4)), (1, (1, 9)), (2, (7, 3)), (2, (8, 2))])
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = np.repeat(np.arange(shape[0])[:, None] >= shape[0] // 2, shape[1], axis=1)
    if shape[0] == 1:
        mask = np.arange(shape[1])[None] >= shape[1] // 2
    mask ^= rng.random() < 0.5
    probability = np.where(mask, 0.51, 0.0) + 0.49 * rng.random(shape)
    image = rng.random((*shape, 3))
    points = rng.integers(0, shape, (draw(st.integers(0, 2)), 2))
    clicks = [Click(int(row), int(column), bool(mask[row, column])) for row, column in points]
    turns = draw(st.integers(0, 3))
    turned = [np.rot90(array, turns).astype(np.float32) for array in (probability, image)]
    for _ in range(turns):
        clicks = [Click(shape[1] - 1 - click.column, click.row, click.positive) for click in clicks]
        shape = shape[::-1]
    return *turned, Clicks(clicks), draw(STRENGTHS), band


@settings(max_examples=250, deadline=None)
@given(problem=noise() | steps())
def test_no_labeling_has_less_energy(problem):
    probability, image, clicks, strength, band = problem
    start = probability > 0.5
    seeds = {click.pixel: click.positive for click in clicks}
    if any(start[pixel] != label for pixel, label in seeds.items()):
        open_pixels = np.ones_like(start)  # the surroundings of a click cover these small grids
    else:
        open_pixels = near(start, band) & near(~start, band) & (band > 0)

    mask = refine(probability, image, clicks, strength, band)

    np.testing.assert_array_equal(mask[~open_pixels], start[~open_pixels])
    assert all(mask[pixel] == label for pixel, label in seeds.items())
    free = [p for p in np.ndindex(start.shape) if open_pixels[p] and p not in seeds]
    choices = np.array(list(itertools.product([False, True], repeat=len(free))), dtype=bool)
    labelings = np.repeat(start[None], len(choices), axis=0)
    for pixel, label in seeds.items():
        labelings[:, *pixel] = label
    for number, pixel in enumerate(free):
        labelings[:, *pixel] = choices[:, number]
    arguments = (probability, image, open_pixels, seeds, strength)
    least = energies(labelings, *arguments).min()
    assert energies(mask[None], *arguments)[0] <= least + 1e-4


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))), band=st.integers(0, 15)
)
def test_the_band_lies_on_both_sides_of_the_outline(mask, band):
    expected = near(mask, band) & near(~mask, band)
    np.testing.assert_array_equal(open_region(mask, {}, band), expected)


def disk(shape, centre, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def soft(mask, inside=0.9, outside=0.1):
    return np.where(mask, inside, outside).astype(np.float32)


def picture(mask, noise=0.0):
    grey = mask * 0.6 + 0.2 + noise * np.random.default_rng(0).normal(size=mask.shape)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def test_a_band_that_covers_all_equals_the_full_solution():
    rng = np.random.default_rng(1)
    probability = rng.random((40, 50)).astype(np.float32)
    image = rng.random((40, 50, 3)).astype(np.float32)
    full = refine(probability, image, Clicks(), 0.4, 1000)
    np.testing.assert_array_equal(refine(probability, image, Clicks(), 0.4, 50), full)
    # The outlines of noise are everywhere, so that a narrow band covers all as well.
    assert open_region(probability > 0.5, {}, 6).all()
    np.testing.assert_array_equal(refine(probability, image, Clicks(), 0.4), full)


def test_the_outline_snaps_to_the_edge_of_the_image():
    truth = disk((90, 100), (45, 50), 25)
    guess = disk((90, 100), (45, 53), 25)
    signed = np.where(guess, 0.65, 0.35).astype(np.float32)
    mask = refine(signed, picture(truth, 0.02), Clicks([Click(45, 50)]), 0.3)
    wrong_before, wrong_after = (guess ^ truth).sum(), (mask ^ truth).sum()
    assert wrong_after < wrong_before / 4


def test_a_wrong_component_goes_as_a_whole():
    shape = (200, 200)
    right, wrong = disk(shape, (60, 60), 30), disk(shape, (140, 140), 30)
    probability = soft(right, outside=0.4) + np.float32(0.11) * wrong
    image = picture(right | wrong)
    clicks = Clicks([Click(60, 60), Click(140, 120, positive=False)])
    # So weak that the seed outweighs what speaks for the whole disk.
    mask = refine(probability, image, clicks, 0.04)
    np.testing.assert_array_equal(mask, right)
    np.testing.assert_array_equal(
        refine(probability, image, clicks[:1], 0.04), right | wrong, "nothing contradicts it"
    )


def test_a_missed_hole_is_taken_as_a_whole():
    shape = (160, 160)
    whole, hole = disk(shape, (80, 80), 60), disk(shape, (80, 80), 30)
    probability = soft(whole, inside=0.6) - np.float32(0.11) * hole
    clicks = Clicks([Click(30, 80), Click(80, 80)])
    mask = refine(probability, picture(whole), clicks, 0.04)
    np.testing.assert_array_equal(mask, whole)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_no_outline_no_change(value):
    probability = np.full((30, 40), value, dtype=np.float32)
    image = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        refine(probability, image, Clicks(), 1.0), np.full((30, 40), value > 0.5)
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_click_against_certainty_is_obeyed(value):
    probability = np.full((30, 40), value, dtype=np.float32)
    image = np.zeros((30, 40, 3), dtype=np.float32)
    clicks = Clicks([Click(10, 10, value < 0.5), Click(2, 5, value > 0.5)])
    mask = refine(probability, image, clicks, 1.0)
    assert mask[10, 10] == (value < 0.5)
    assert mask[2, 5] == (value > 0.5)


def test_a_constant_image_smooths():
    probability = soft(disk((60, 60), (30, 30), 15), 0.6, 0.4)
    probability[30, 40] = 0.45
    mask = refine(probability, np.full((60, 60, 3), 0.5, dtype=np.float32), Clicks(), 2.0)
    assert mask[30, 40]


def test_of_two_clicks_on_a_pixel_the_last_one_counts():
    probability = soft(disk((40, 40), (20, 20), 10))
    image = picture(probability > 0.5)
    yes, no = Click(20, 20), Click(20.2, 19.8, positive=False)
    assert refine(probability, image, Clicks([no, yes]), 1.0)[20, 20]
    assert not refine(probability, image, Clicks([yes, no]), 1.0)[20, 20]


def test_clicks_outside_the_window_are_left_out():
    probability = soft(disk((40, 40), (20, 20), 10))
    image = picture(probability > 0.5)
    outside = Clicks([Click(-5, 3), Click(40, 2, positive=False), Click(7, 1e6)])
    np.testing.assert_array_equal(
        refine(probability, image, outside, 1.0), refine(probability, image, Clicks(), 1.0)
    )


def test_grey_shown_as_rgb_gives_the_same_as_a_copy():
    truth = disk((80, 80), (40, 40), 20)
    grey = picture(truth, 0.1)[..., 0]
    view = np.broadcast_to(grey[..., None], (80, 80, 3))
    probability = soft(disk((80, 80), (40, 43), 20), 0.6, 0.4)
    np.testing.assert_array_equal(
        refine(probability, view, Clicks(), 0.3), refine(probability, view.copy(), Clicks(), 0.3)
    )


def test_the_arguments_are_not_changed():
    probability = soft(disk((40, 40), (20, 20), 10))
    image = picture(probability > 0.5, 0.1)
    copies = probability.copy(), image.copy()
    refine(probability, image, Clicks([Click(2, 2)]), 1.0)
    np.testing.assert_array_equal(probability, copies[0])
    np.testing.assert_array_equal(image, copies[1])


def test_the_open_region_follows_the_outline_not_the_image():
    mask = disk((1200, 1200), (600, 600), 200)
    assert open_region(mask, {}, 6).sum() < 2 * np.pi * 200 * 13 * 1.5
    # A click in a huge background may change its surroundings, not all of it.
    opened = open_region(mask, {(100, 100): True}, 0)
    assert opened[100, 100]
    assert opened.sum() == 129**2


@pytest.mark.parametrize("positive", [False, True])
def test_a_corner_joins_wrong_objects_but_not_wrong_background(positive):
    wrong = np.zeros((60, 60), dtype=bool)
    wrong[:30, :30] = wrong[30:, 30:] = True
    opened = open_region(wrong ^ positive, {(5, 5): positive}, 0)
    assert opened[:30, :30].all()
    assert opened[50:, 50:].all() == (not positive)


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 5\) does not fit an image of shape \(4, 6, 3\)"):
        refine(np.zeros((4, 5), np.float32), np.zeros((4, 6, 3), np.float32), Clicks(), 1.0)


def test_without_pymaxflow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "maxflow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install PyMaxflow.*switch graph_cut off"):
        refine(np.zeros((4, 5), np.float32), np.zeros((4, 5, 3), np.float32), Clicks(), 1.0)
