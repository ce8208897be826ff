"""Decidability index: equation 2 and its settings against direct loops."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.simulate import PROTOCOLS, next_click
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import ObjectReference, ObjectResult, decidability_index, summarise
from napari_fctsfn.evaluate.decidability import (
    CHOICES,
    click_responses,
    measured,
    object_decidability,
)
from napari_fctsfn.predict import Prediction, Settings

SHAPE = (40, 50)
TRUTH = np.zeros(SHAPE, bool)
TRUTH[10:30, 8:30] = True

values = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30)


@given(values, values)
def test_the_index_is_equation_2_with_variances(p: list[float], n: list[float]) -> None:
    found = decidability_index(np.array(p, np.float32), np.array(n, np.float32))
    if len(set(p)) == len(set(n)) == 1:
        assert found is None
        return
    means = [math.fsum(part) / len(part) for part in (p, n)]
    variances = [
        math.fsum((value - mean) ** 2 for value in part) / len(part)
        for part, mean in zip((p, n), means, strict=True)
    ]
    root = math.sqrt(sum(variances) / 2)
    if root < 1e-12:  # in floating point a matter of taste
        return
    assert found == pytest.approx(abs(means[0] - means[1]) / root, rel=1e-6, abs=1e-9)


def test_a_known_index() -> None:
    # Means 0.8 and 0.2, variances 0.01 and 0.03: 0.6 / sqrt(0.02).
    p = np.array([0.7, 0.9])
    n = 0.2 + np.array([-1, 1]) * math.sqrt(0.03)
    assert decidability_index(p, n) == pytest.approx(0.6 / math.sqrt(0.02))


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3])
def test_without_variance_there_is_no_index(value: float) -> None:
    same = np.full(1001, value, np.float32)
    assert decidability_index(same, same / 2) is None
    assert decidability_index(same, same[:0]) is None
    assert decidability_index(same, np.append(same, np.float32(0.9))) is not None


clicks = st.lists(
    st.builds(Click, st.floats(0, 19), st.floats(0, 24), st.booleans()), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(clicks, st.sampled_from(CHOICES), st.integers(0, 99), st.booleans())
def test_responses_are_those_of_a_loop_over_all_pixels(
    made: list[Click], choice: Any, seed: int, with_ignored: bool
) -> None:
    shape = (20, 25)
    rng = np.random.default_rng(seed)
    probability = rng.random(shape).astype(np.float32)
    truth, ignore = rng.random(shape) < 0.3, rng.random(shape) < 0.1
    positive, negative = [], []
    for row, column in np.ndindex(shape):
        if with_ignored and ignore[row, column]:
            continue
        near = {
            sign: any(
                (row - click.pixel[0]) ** 2 + (column - click.pixel[1]) ** 2 <= 100
                for click in made
                if click.positive == sign
            )
            for sign in (True, False)
        }
        if truth[row, column] if choice == "single_positive" else near[True]:
            positive.append(probability[row, column])
        none = all(click.positive for click in made)
        if not truth[row, column] if none else near[False]:
            negative.append(probability[row, column])
    found = click_responses(
        probability, Clicks(made), truth, choice, ignore if with_ignored else None
    )
    assert [part.tolist() for part in found] == [positive, negative]


@dataclass
class Scripted:
    """A predictor whose masks are given and whose probability depends on the clicks alone."""

    mask: Any
    box: tuple[int, int, int, int] = (0, 0, *SHAPE)
    settings: Settings = field(default_factory=Settings)
    sha256: str = "0" * 64
    calls: list[tuple[Clicks, Any, Settings]] = field(default_factory=list)

    def set_image(self, image: Any, *, key: Any = None) -> None:
        raise AssertionError

    def probability(self, made: Clicks) -> np.ndarray:
        rng = np.random.default_rng(abs(hash(made.pixels().tobytes())) % 2**32)
        return rng.random(SHAPE).astype(np.float32)

    def predict(self, made: Clicks, previous: Any = None, settings: Any = None) -> Prediction:
        self.calls.append((made, previous, settings))
        box = slice(self.box[0], self.box[2]), slice(self.box[1], self.box[3])
        mask, probability = self.mask(made), self.probability(made)
        return Prediction(mask[box], probability[box], self.box, SHAPE)


def nothing(made: Clicks) -> np.ndarray:
    return np.zeros(SHAPE, bool)


def perfect(made: Clicks) -> np.ndarray:
    return TRUTH.copy()


def everything(made: Clicks) -> np.ndarray:
    return np.ones(SHAPE, bool)


def sequences(predictor: Scripted, run: Settings) -> list[Clicks]:
    """The longest sequence of clicks of every setting."""
    made = [call[0] for call in predictor.calls if call[2] == run]
    return [
        one
        for one, following in zip(made, [*made[1:], None], strict=True)
        if following is None or len(following) == 1
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mask", [nothing, perfect, everything])
def test_the_users_click_where_their_setting_says(mask: Any, protocol: Any) -> None:
    predictor, run = Scripted(mask), Settings(graph_cut=True)
    user = partial(next_click, protocol=protocol)
    found = object_decidability(predictor, TRUTH, user, run)
    assert list(found) == [f"{choice}_{n}" for choice in CHOICES for n in measured(choice)]
    free, positive, single = sequences(predictor, run)
    assert len(positive) == len(single) == 10
    assert all(click.positive and TRUTH[click.pixel] for click in positive)
    if mask is perfect:
        assert len(set(map(tuple, positive.pixels()))) == 10
    assert single[0].positive
    assert not any(click.positive or TRUTH[click.pixel] for click in single[1:])
    assert free[0] == positive[0] == single[0]
    assert len(free) == (1 if mask is perfect else 10)
    if mask is everything:
        assert not any(click.positive for click in free[1:])


def test_the_probability_is_the_networks_own_and_the_masks_are_those_of_the_run() -> None:
    predictor, run = Scripted(nothing), Settings(graph_cut=True, flip=True)
    found = object_decidability(predictor, TRUTH, partial(next_click, protocol="fctsfn"), run)
    raw = [call for call in predictor.calls if call[2] != run]
    assert [len(call[0]) for call in raw] == [1, 5, 10, 1, 5, 10, 5, 10]
    for made, previous, used in raw:
        assert (used.zoom, used.consistent, used.flip, used.graph_cut) == (False,) * 4
        assert (previous is None) == (len(made) == 1)
    made = raw[1][0]
    expected = click_responses(predictor.probability(made), made, TRUTH, "free_choice")
    assert found["free_choice_5"] == decidability_index(*expected)
    assert found["free_choice_1"] == found["all_positive_1"]


def test_pixels_the_network_has_not_seen_have_no_response() -> None:
    box = (5, 3, 36, 40)
    predictor, run = Scripted(nothing, box), Settings()
    user = partial(next_click, protocol="fctsfn")
    found = object_decidability(predictor, TRUTH, user, run)
    made = predictor.calls[0][0]
    outside = np.ones(SHAPE, bool)
    outside[box[0] : box[2], box[1] : box[3]] = False
    responses = click_responses(predictor.probability(made), made, TRUTH, "free_choice", outside)
    assert found["free_choice_1"] == decidability_index(*responses)


def test_a_method_without_probability_is_refused() -> None:
    class Plain(Scripted):
        def predict(self, made: Clicks, previous: Any = None, settings: Any = None) -> Any:
            return type("Mask", (), {"full_mask": lambda _self: TRUTH})()

    with pytest.raises(InputError, match="needs a probability"):
        object_decidability(Plain(nothing), TRUTH, partial(next_click), Settings())


def test_the_summary_has_mean_and_median_and_counts_what_is_left_out() -> None:
    names = [f"{choice}_{count}" for choice in CHOICES for count in measured(choice)]
    results = [
        ObjectResult(
            ObjectReference(stem, 1),
            9,
            (0.5,),
            0.1,
            1,
            dict.fromkeys(names, 1.0) | {"free_choice_5": value, "single_positive_10": None},
        )
        for stem, value in zip("abcde", [1.0, None, 2.0, 90.0, None], strict=True)
    ]
    found = summarise(results, 1)["decidability"]
    assert found.keys() == set(CHOICES)
    assert found["single_positive"].keys() == {"5", "10"}
    five = found["free_choice"]["5"]
    assert (five["mean"], five["median"], five["left_out"]) == (31.0, 2.0, 2)
    assert five["interval"][0] < 31 < five["interval"][1]
    assert found["single_positive"]["10"] == {
        **dict.fromkeys(["mean", "median", "interval"]),
        "left_out": 5,
    }
    assert "decidability" not in summarise(
        [ObjectResult(ObjectReference("a", 1), 1, (1.0,), 0, 1)], 1
    )
