"""Where is looked at a first click, and which of several looks is believed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_fctsfn.predict.looks import Look, most_believed
from napari_fctsfn.predict.windows import Box, Window, sides

WHOLE, NEAR = (0, 0, 60, 60), (20, 20, 44, 44)
SMALL, LARGE = (28, 28, 36, 36), (24, 10, 40, 50)


def look(window: Box, thing: Box | None, sure: float = 0.9) -> Look:
    """A look that takes a rectangle for the object, as far as its window shows it."""
    probability = np.full((60, 60), 0.1, np.float32)
    if thing is not None:
        probability[thing[0] : thing[2], thing[1] : thing[3]] = sure
    part = probability[window[0] : window[2], window[1] : window[3]]
    return Look(Window.over(window, 320), part, math.nan)


def test_the_look_is_believed_that_another_agrees_with():
    alone, *agreeing = look(WHOLE, LARGE), look(NEAR, SMALL), look((16, 16, 48, 48), SMALL)
    assert most_believed([alone, *agreeing], 0.5, 0) in agreeing


@pytest.mark.parametrize("surer", [0, 1])
def test_of_two_looks_the_surer_one_is_believed(surer):
    two = [look(WHOLE, SMALL, 0.99 if surer == 0 else 0.7)]
    two.append(look(NEAR, (28, 28, 36, 37), 0.99 if surer == 1 else 0.7))
    assert most_believed(two, 0.5, 0) is two[surer]


def test_a_mask_that_its_window_cuts_off_is_believed_less():
    cut, whole = look(NEAR, LARGE), look(WHOLE, LARGE)
    assert most_believed([cut, whole], 0.5, 0) is whole
    assert most_believed([whole, cut], 0.5, 0) is whole


def test_the_size_of_objects_like_this_one_decides_where_nothing_else_does():
    two = [look(WHOLE, SMALL), look(WHOLE, LARGE)]
    assert most_believed(two, 0.5, 8) is two[0]
    assert most_believed(two, 0.5, 40) is two[1]


def test_a_look_that_sees_nothing_is_never_believed_before_one_that_does():
    nothing, something = look(WHOLE, None), look(NEAR, NEAR, 0.51)
    for looks in ([nothing, something], [something, nothing], [nothing, nothing, something]):
        assert most_believed(looks, 0.5, 0) is something
    assert most_believed([nothing], 0.5, 0) is nothing


@given(st.integers(1, 2048), st.integers(1, 2048))
def test_glances_are_evenly_apart_and_none_leaves_a_gap(rows, columns):
    found = sides(Window.over((0, 0, rows, columns), 320))
    every = [*found, max(rows, columns)]
    steps = np.divide(every[1:], every[:-1])
    assert found[0] == 64
    assert len(found) in (2, 3)
    np.testing.assert_allclose(steps, steps[0])
    assert steps[0] <= 5 + 1e-9
