"""Paired differences between results of the same objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.evaluate import (
    Difference,
    ObjectReference,
    clustered_interval,
    paired_difference,
)
from napari_fctsfn.evaluate.results import ResultsError

References = dict[ObjectReference, float]

pairs = st.dictionaries(
    st.builds(ObjectReference, st.sampled_from("abcde"), st.integers(1, 4)),
    st.tuples(st.floats(0, 20), st.floats(0, 20)),
    min_size=2,
).filter(lambda made: len({key.stem for key in made}) > 1)


def split(made: dict[ObjectReference, tuple[float, float]]) -> tuple[References, References]:
    return {key: pair[0] for key, pair in made.items()}, {
        key: pair[1] for key, pair in made.items()
    }


@settings(max_examples=40, deadline=None)
@given(pairs, st.integers(0, 3))
def test_the_draws_are_means_over_whole_pictures(
    made: dict[ObjectReference, tuple[float, float]], seed: int
) -> None:
    ours, theirs = split(made)
    found = paired_difference(ours, dict(reversed(theirs.items())), seed, draws=20)
    gains = {key: a - b for key, (a, b) in made.items()}
    assert found.mean == pytest.approx(math.fsum(gains.values()) / len(gains), abs=1e-9)
    pictures = sorted({key.stem for key in made})
    rng = np.random.default_rng(seed)
    for draw in found.draws:
        chosen = [pictures[index] for index in rng.integers(len(pictures), size=len(pictures))]
        values = [gain for stem in chosen for key, gain in gains.items() if key.stem == stem]
        assert draw == pytest.approx(math.fsum(values) / len(values), abs=1e-9)


@given(pairs)
def test_pairing_takes_the_difficulty_of_an_object_out(
    made: dict[ObjectReference, tuple[float, float]],
) -> None:
    ours, _ = split(made)
    same = paired_difference(ours, ours, draws=50)
    assert (same.mean, same.interval) == (0, (0, 0))
    shifted = paired_difference({key: value + 2 for key, value in ours.items()}, ours, draws=50)
    assert shifted.mean == pytest.approx(2)
    assert shifted.interval == pytest.approx((2, 2))


def test_the_interval_is_that_of_the_differences_and_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    keys = [ObjectReference(f"{picture:02}", value) for picture in range(25) for value in range(4)]
    covered, narrower = 0, 0
    for _ in range(100):
        difficulty = rng.normal(0, 5, 100)
        gain = 0.3 + np.repeat(rng.normal(0, 1, 25), 4) + rng.normal(0, 1, 100)
        ours = dict(zip(keys, difficulty + gain, strict=True))
        theirs = dict(zip(keys, difficulty, strict=True))
        low, high = paired_difference(ours, theirs, draws=300).interval
        covered += low <= 0.3 <= high
        stems = [key.stem for key in keys]
        exact = clustered_interval([ours[key] - theirs[key] for key in keys], stems, draws=300)
        assert (low, high) == pytest.approx(exact)
        alone = clustered_interval(list(ours.values()), stems, draws=300)
        narrower += high - low < alone[1] - alone[0]
    assert 87 <= covered <= 99
    assert narrower == 100


def test_one_picture_has_no_interval_nor_has_a_mean_with_it_in() -> None:
    ours = {ObjectReference("a", value): float(value) for value in range(3)}
    alone = paired_difference(ours, dict.fromkeys(ours, 0.0))
    assert (alone.mean, alone.interval) == (1.0, None)
    two = {ObjectReference(stem, 1): 1.0 for stem in "ab"}
    both = paired_difference(two, dict.fromkeys(two, 0.0))
    assert both.interval == (1.0, 1.0)
    assert Difference.averaged([alone, both]).interval is None


def test_several_sets_weigh_alike() -> None:
    first = Difference(1.0, np.array([0.0, 2.0]))
    second = Difference(3.0, np.array([2.0, 6.0]))
    both = Difference.averaged([first, second])
    assert both.mean == 2
    assert both.draws.tolist() == [1, 4]


@pytest.mark.parametrize("theirs", [{}, {("a", 1): 1.0}, {("a", 1): 1.0, ("b", 3): 1.0}])
def test_other_objects_are_refused(theirs: dict[tuple[str, int], float]) -> None:
    ours = {ObjectReference("a", 1): 1.0, ObjectReference("b", 2): 1.0}
    other = {ObjectReference(*key): value for key, value in theirs.items()}
    with pytest.raises(ResultsError, match="results of the same objects are needed"):
        paired_difference(ours, other)
    with pytest.raises(ResultsError, match="there is no object to compare"):
        paired_difference({}, {})
