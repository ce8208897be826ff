"""The simulated user, against both protocols written out pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.simulate import PROTOCOLS, next_click
from napari_fctsfn.errors import InputError


@st.composite
def situations(draw):
    """Mask, object, pixels to ignore (or None) and clicks, some of them outside."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    mask, truth = draw(arrays(bool, shape)), draw(arrays(bool, shape))
    ignore = draw(st.none() | arrays(bool, shape))
    place = st.tuples(*(st.floats(-1.5, n + 0.5) for n in shape), st.booleans())
    clicks = draw(st.lists(place, max_size=12))
    return mask, truth, ignore, Clicks(Click(*click) for click in clicks)


def errors(mask, truth, ignore):
    """Missed and extra pixels."""
    counted = np.ones_like(truth) if ignore is None else ~ignore
    return truth & ~mask & counted, ~truth & mask & counted


def depths(region):
    """Squared distance of each pixel of `region` to the nearest one outside it."""
    height, width = region.shape
    outside = [
        (row, column)
        for row in range(-1, height + 1)
        for column in range(-1, width + 1)
        if not (0 <= row < height and 0 <= column < width and region[row, column])
    ]
    return {
        (row, column): min((row - r) ** 2 + (column - c) ** 2 for r, c in outside)
        for row, column in map(tuple, np.argwhere(region).tolist())
    }


def components(region):
    """Sets of pixels that touch each other by a side or a corner, in reading order."""
    left = list(map(tuple, np.argwhere(region).tolist()))
    found = []
    while left:
        component, edge = set(), [left[0]]
        while edge:
            row, column = edge.pop()
            component.add((row, column))
            around = [(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
            edge += [p for p in around if p in left and p not in component and p not in edge]
        found.append(component)
        left = [p for p in left if p not in component]
    return found


def deepest(depth):
    """The first in reading order of the pixels that lie deepest, and its depth."""
    best = min(depth, key=lambda pixel: (-depth[pixel], pixel))
    return depth[best], best


def ritm(mask, truth, ignore, clicks):
    clicked = {click.pixel for click in clicks}
    best = []
    for region in errors(mask, truth, ignore):
        depth = {p: d for p, d in depths(region).items() if p not in clicked}
        best.append(deepest(depth) if depth else (0, None))
    (missed, on_missed), (extra, on_extra) = best
    if missed == extra == 0:
        return None
    return Click(*on_missed, True) if missed > extra else Click(*on_extra, False)


def fctsfn(mask, truth, ignore, clicks):
    found = []
    for region in errors(mask, truth, ignore):
        parts = components(region)
        # max gives the first of several.
        found.append(max(parts, key=len) if parts else set())
    missed, extra = found
    part = missed if len(missed) > len(extra) else extra
    if not part:
        return None
    region = np.zeros_like(truth)
    for pixel in part:
        region[pixel] = True
    return Click(*deepest(depths(region))[1], part is missed)


REFERENCES = {"ritm": ritm, "fctsfn": fctsfn}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(situation=situations())
@settings(max_examples=300)
def test_the_next_click_is_that_of_the_reference(protocol, situation):
    mask, truth, ignore, clicks = situation
    before = mask.copy(), truth.copy()
    click = next_click(mask, truth, clicks, protocol, ignore)
    assert click == REFERENCES[protocol](mask, truth, ignore, clicks)
    assert (mask == before[0]).all()
    assert (truth == before[1]).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(situation=situations(), jitter=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_a_jittered_click_is_on_the_same_error_and_nearly_as_deep(
    protocol, situation, jitter, seed
):
    mask, truth, ignore, clicks = situation
    exact = next_click(mask, truth, clicks, protocol, ignore)
    rng = np.random.default_rng(seed)
    click = next_click(mask, truth, clicks, protocol, ignore, jitter=jitter, rng=rng)
    assert (click is None) == (exact is None)
    if click is None or click == exact:
        return
    assert click.pixel not in {other.pixel for other in clicks}
    region = errors(mask, truth, ignore)[0 if exact.positive else 1]
    (part,) = [part for part in components(region) if exact.pixel in part]
    assert click.pixel in part
    depth = depths(region)
    assert depth[click.pixel] >= (1 - jitter) ** 2 * depth[exact.pixel] - 1e-9


def test_a_jitter_needs_chance():
    truth = np.ones((3, 3), dtype=bool)
    with pytest.raises(InputError, match=r"jitter of 0\.5 needs a random generator"):
        next_click(~truth, truth, Clicks(), jitter=0.5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(situation=situations())
def test_the_click_is_on_an_error_that_counts(protocol, situation):
    mask, truth, ignore, clicks = situation
    click = next_click(mask, truth, clicks, protocol, ignore)
    if click is not None:
        assert mask[click.pixel] != truth[click.pixel]
        assert click.positive == truth[click.pixel]
        assert ignore is None or not ignore[click.pixel]


@given(situation=situations())
def test_ritm_clicks_every_pixel_once_and_then_stops(situation):
    mask, truth, ignore, clicks = situation
    missed, extra = errors(mask, truth, ignore)
    for _ in range(mask.size + 1):
        click = next_click(mask, truth, clicks, "ritm", ignore)
        if click is None:
            break
        assert click.pixel not in {before.pixel for before in clicks}
        clicks = clicks.append(click)
    assert click is None
    wrong = set(map(tuple, np.argwhere(missed | extra).tolist()))
    assert wrong <= {click.pixel for click in clicks}


def test_in_ritm_the_errors_grow_shallower():
    truth = np.zeros((40, 40), bool)
    truth[5:30, 8:20] = True
    mask, clicks, depth = np.zeros_like(truth), Clicks(), depths(truth)
    for _ in range(8):
        clicks = clicks.append(next_click(mask, truth, clicks))
    assert all(depth[a.pixel] >= depth[b.pixel] for a, b in pairwise(clicks))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_too_much_wins_over_too_little_of_the_same_size(protocol):
    truth, mask = np.zeros((9, 20), bool), np.zeros((9, 20), bool)
    truth[2:7, 2:7] = True
    mask[2:7, 12:17] = True
    assert next_click(mask, truth, Clicks(), protocol) == Click(4, 14, positive=False)
    assert next_click(mask[:, 1:], truth[:, :-1], Clicks(), protocol).positive is False


def test_the_protocols_differ_in_what_they_take_for_the_worst_error():
    """A long thin miss is the largest component; a square one goes deepest."""
    truth, mask = np.zeros((12, 60), bool), np.zeros((12, 60), bool)
    truth[1, :] = True
    mask[4:9, 3:8] = True
    assert next_click(mask, truth, Clicks(), "ritm") == Click(6, 5, positive=False)
    assert next_click(mask, truth, Clicks(), "fctsfn") == Click(1, 0)


def test_corners_connect_a_component():
    truth = np.zeros((10, 12), bool)
    truth[[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]] = True
    truth[8, 8:12] = True
    assert next_click(np.zeros_like(truth), truth, Clicks(), "fctsfn") == Click(1, 1)


def test_a_window_border_is_a_boundary():
    truth = np.ones((7, 7), bool)
    for protocol in PROTOCOLS:
        assert next_click(~truth, truth, Clicks(), protocol) == Click(3, 3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_left_to_click(protocol):
    truth = np.eye(4, dtype=bool)
    assert next_click(truth, truth, Clicks(), protocol) is None
    ignore = np.ones_like(truth)
    assert next_click(~truth, truth, Clicks(), protocol, ignore) is None


def test_what_does_not_fit_together_is_refused():
    truth = np.zeros((4, 5), bool)
    with pytest.raises(InputError, match="unknown protocol 'other'; known are ritm, fctsfn"):
        next_click(truth, truth, Clicks(), "other")
    with pytest.raises(InputError, match=r"differ in shape: .*\(4, 5\).*\(5, 4\)"):
        next_click(truth, truth.T, Clicks())
    with pytest.raises(InputError, match="differ in shape"):
        next_click(truth, truth, Clicks(), ignore=truth[1:])
