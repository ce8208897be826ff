"""Objects followed through stacks: what is clicked, what is accepted, what is never overwritten."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, label
from typer.testing import CliRunner

from napari_fctsfn.cli import app
from napari_fctsfn.errors import InputError
from napari_fctsfn.predict import Normalisation, Prediction, Settings
from napari_fctsfn.predict.images import write_tiff
from napari_fctsfn.stack import (
    Look,
    Rule,
    Stack,
    Step,
    annotated,
    blend,
    count,
    guide_clicks,
    propagate,
    report,
    worst_first,
)
from napari_fctsfn.stack.trust import Trust, weigh, wrong_masks

RANGE = Normalisation(0.0, 1.0)


class BrightPredictor:
    """A stand-in with the predictor's contract: bright components with a positive click."""

    settings = Settings()

    def __init__(self) -> None:
        self.image = np.zeros((0, 0))
        self.predicted = 0

    def set_image(self, image: Any, normalisation: Any = None, key: Any = None) -> None:
        self.image = np.asarray(image)

    def adapt(self, examples: Any, truth: Any, settings: Any = None) -> Any:
        return "adjusted"

    def finish(self, prediction: Any, clicks: Any, settings: Any) -> Prediction:
        return replace(prediction, mask=prediction.probability > settings.threshold)

    def predict(
        self, clicks: Any, previous: Any = None, settings: Any = None, adjustment: Any = None
    ) -> Prediction:
        self.predicted += 1
        parts, _ = label(self.image > 0.5)
        chosen = {int(parts[click.pixel]) for click in clicks.positive} - {0}
        mask = np.isin(parts, list(chosen))
        probability = mask * np.float32(0.9 * self.image.max())
        return Prediction(mask, probability, (0, 0, *mask.shape), mask.shape)


def disc(shape: tuple[int, int], row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def tube(length: int = 10, drift: float = 1.5, radius: float = 7) -> np.ndarray:
    """A disc that moves along its stack; slight texture lets it be matched."""
    noise = np.random.default_rng(0).random((length, 60, 80)) * 0.2
    for z, plane in enumerate(noise):
        plane[disc(plane.shape, 20 + drift * z, 30 + drift * z, radius)] += 0.7
    return noise


def follow_all(
    volume: np.ndarray,
    labels: np.ndarray,
    slices: list[int],
    direction: Any = "both",
    objects: list[int] | None = None,
    **rule: Any,
) -> dict[int, Any]:
    stack = Stack(BrightPredictor(), volume.__getitem__, RANGE, lambda index: index)
    known = annotated(labels, slices, objects)
    runs = propagate(stack, labels, known, direction, Rule(**rule))
    return {outcome.label: outcome for outcome, _ in runs}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 14), st.booleans())
def test_guides_lie_inside_outside_and_in_the_others(seed: int, radius: int, single: bool) -> None:
    rng = np.random.default_rng(seed)
    mask = disc((90, 110), *rng.uniform((0, 0), (90, 110)), radius)
    mask |= disc((90, 110), *rng.uniform((0, 0), (90, 110)), radius)
    others = rng.integers(0, 4, (9, 11)).repeat(10, 0).repeat(10, 1) * ~mask
    clicks = guide_clicks(mask, others, single)
    positive, negative = clicks.positive.pixels(), clicks.negative.pixels()
    assert mask[tuple(positive.T)].all()
    assert not mask[tuple(negative.T)].any()
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    assert depth[tuple(positive[0])] == depth.max()
    if single:
        assert len(clicks) == 1
        return
    assert (depth[tuple(positive.T)] > depth.max() / 5).all()
    assert len(positive) <= 5
    ring = negative[others[tuple(negative.T)] == 0]
    away = distance_transform_edt(~mask)[tuple(ring.T)]
    reach = min(20.0, max(3.0, depth.max()))
    assert ((away >= reach) & (away < reach + 1)).all()
    inside = others[tuple(negative.T)]
    assert len(negative) <= 14
    assert set(inside) <= {0, 1, 2, 3}


def test_an_empty_mask_has_no_guides() -> None:
    with pytest.raises(ValueError, match="no object"):
        guide_clicks(np.zeros((5, 5), bool))


@pytest.mark.parametrize("start", [0, 4, 9])
def test_a_drifting_disc_is_followed_to_both_ends(start: int) -> None:
    volume = tube()
    labels = np.zeros(volume.shape, np.uint16)
    labels[start] = 7 * (volume[start] > 0.5)
    outcome = follow_all(volume, labels, [start])[7]
    assert sorted([*outcome.accepted, start]) == list(range(10))
    assert not outcome.stopped_at
    assert ((labels == 7) == (volume > 0.5)).all()


@pytest.mark.parametrize(
    ("direction", "wanted"),
    [
        ("up", {3, 4, 6, 7, 8, 9}),
        ("down", {0, 1, 3, 4}),
        ("between", {3, 4}),
        ("both", {0, 1, 3, 4, 6, 7, 8, 9}),
    ],
)
def test_directions(direction: str, wanted: set[int]) -> None:
    volume = tube()
    labels = np.zeros(volume.shape, np.uint16)
    for z in (2, 5):
        labels[z] = volume[z] > 0.5
    outcome = follow_all(volume, labels, [2, 5], direction)[1]
    assert set(outcome.accepted) == wanted
    assert count({1: [2, 5]}, 10, direction) == len(wanted)
    assert outcome.worst in wanted


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda plane: plane * 0, "nothing found"),
        (lambda plane: np.maximum(plane, disc(plane.shape, 27, 37, 22)), "area times|overlap"),
        (lambda plane: np.roll(plane, 25, axis=1), "nothing found|overlap"),
    ],
)
def test_it_stops_where_the_object_changes_and_says_why(change: Any, reason: str) -> None:
    volume = tube()
    volume[5] = change(volume[5])
    labels = np.zeros(volume.shape, np.uint16)
    labels[0] = volume[0] > 0.5
    outcome = follow_all(volume, labels, [0])[1]
    assert outcome.accepted == [1, 2, 3, 4]
    assert outcome.stopped_at == [5]
    assert re.match(reason, outcome.reasons[0])
    assert not labels[5:].any()


def test_it_stops_where_the_model_is_unsure() -> None:
    volume = tube()
    volume[4:] *= 0.75
    labels = np.zeros(volume.shape, np.uint16)
    labels[0] = volume[0] > 0.5
    outcome = follow_all(volume, labels, [0], certainty=0.95)[1]
    assert outcome.stopped_at == [4]
    assert outcome.reasons == ["mean probability 0.75"]


def test_other_objects_and_annotated_slices_are_never_overwritten() -> None:
    volume = tube()
    labels = np.zeros(volume.shape, np.uint16)
    labels[:, 25:45, 36:40] = 3
    labels[2][(volume[2] > 0.5) & (labels[2] == 0)] = 1
    labels[8][(volume[8] > 0.5) & (labels[8] == 0)] = 1
    before = labels.copy()
    outcomes = follow_all(volume, labels, [2, 8], objects=[1])
    assert (labels[before == 3] == 3).all()
    for z in (2, 8):
        assert (labels[z] == before[z]).all()
    assert outcomes[1].accepted


def test_where_only_one_end_reaches_its_masks_are_taken() -> None:
    volume = tube(drift=0)
    volume[4] = 0
    labels = np.zeros(volume.shape, np.uint16)
    for z in (0, 9):
        labels[z] = volume[z] > 0.5
    outcome = follow_all(volume, labels, [0, 9], "between")[1]
    assert outcome.stopped_at == [4]
    assert outcome.accepted == [1, 2, 3, 5, 6, 7, 8]


def fading(lost: slice) -> np.ndarray:
    """A moving disc that fades and is lost in some slices."""
    volume = tube() * np.linspace(1, 0.8, 10)[:, None, None]
    volume[lost] = 0
    return volume


@pytest.mark.parametrize("lost", [slice(0), slice(4, 5), slice(3, 7), slice(1, 9)])
def test_between_two_slices_both_ways_are_gone_first_and_then_blended(lost: slice) -> None:
    volume = fading(lost)
    one, two = volume[0] > 0.5, volume[9] > 0.5

    def stack() -> Stack:
        return Stack(BrightPredictor(), volume.__getitem__, RANGE, lambda index: index)

    up, down = (
        {step.index: step for step in stack().follow(mask, start, inner)}
        for mask, start, inner in ((one, 0, range(1, 9)), (two, 9, range(1, 9)[::-1]))
    )
    given = list(stack().between((0, one), (9, two)))
    looks, steps = given[:-8], given[-8:]
    assert looks == [Look(index) for index in (*up, *down)]
    assert [step.index for step in steps] == list(range(1, 9))
    for step in steps:
        first, last = (way.get(step.index) for way in (up, down))
        found = [each for each in (first, last) if each is not None and each.mask is not None]
        if len(found) == 2:
            share = step.index / 9
            assert (step.mask == blend(first.mask, last.mask, share)).all()
            assert step.score == (1 - share) * first.score + share * last.score
        elif found or first or last:
            assert same(step, *found or [last or first])
        else:
            assert same(step, Step(step.index, None, 0.0, "the object was lost on either side"))


def same(one: Step, two: Step) -> bool:
    masks = one.mask is two.mask is None or (one.mask == two.mask).all()
    return masks and (one.index, one.score, one.reason) == (two.index, two.score, two.reason)


def test_between_two_slices_no_step_takes_longer_than_elsewhere() -> None:
    volume, predictor = tube(), BrightPredictor()
    stack = Stack(predictor, volume.__getitem__, RANGE, lambda index: index)
    steps = stack.between((0, volume[0] > 0.5), (9, volume[9] > 0.5))
    taken = [0, *(predictor.predicted for _ in steps)]
    # either known slice takes four to learn from, each slice on the way at most two
    assert max(np.diff(taken)) <= 6
    assert taken[-1] >= 16


def test_looks_are_no_outcomes() -> None:
    volume = tube()
    labels = np.zeros(volume.shape, np.uint16)
    for z in (2, 7):
        labels[z] = volume[z] > 0.5
    stack = Stack(BrightPredictor(), volume.__getitem__, RANGE, lambda index: index)
    runs = list(propagate(stack, labels, annotated(labels, [2, 7])))
    assert [step.index for _, step in runs] == [1, 0, 3, 4, 5, 6, 8, 9]


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.integers(3, 12), st.integers(3, 12))
def test_a_blend_of_discs_is_a_disc_between(share: float, one: int, two: int) -> None:
    masks = [disc((40, 40), 20, 20, radius) for radius in (one, two)]
    area = blend(*masks, share).sum()
    low, high = sorted(mask.sum() for mask in masks)
    assert low <= area <= high
    radius = (1 - share) * one + share * two
    assert abs(np.sqrt(area / np.pi) - radius) < 1.2
    assert (blend(*masks, 0.0) == masks[0]).all()
    assert (blend(*masks, 1.0) == masks[1]).all()


@pytest.mark.parametrize(
    ("slices", "objects", "message"),
    [
        ([12], None, "there is no slice 12: the stack has 10"),
        ([1], None, "no object is annotated in the slices 1"),
        ([0], [4], "object 4 is in none of the slices 0"),
    ],
)
def test_what_is_not_there_is_said(slices: Any, objects: Any, message: str) -> None:
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[0, 3:6, 3:6] = 1
    with pytest.raises(InputError, match=message):
        annotated(labels, slices, objects)


def test_a_report_counts_and_names() -> None:
    volume = tube()
    volume[7] = 0
    labels = np.zeros(volume.shape, np.uint16)
    labels[3] = volume[3] > 0.5
    outcomes = follow_all(volume, labels, [3])
    summary = report(outcomes.values(), 2.0)
    assert summary["accepted"] == 6
    assert summary["stopped_at"] == [7]
    assert summary["slices_per_second"] == 3.5
    assert json.loads(json.dumps(summary))["objects"][0]["accepted"] == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize("axis", [0, 2])
def test_the_command_line_follows_with_the_bundled_model(tmp_path: Any, axis: int) -> None:
    volume = (tube(6, 1.0, 9) * 20000).astype(np.uint16)
    truth = volume > 10000
    labels = np.zeros(volume.shape, np.uint8)
    labels[2] = 5 * truth[2]
    labels[4] = 5 * truth[5]
    labels[0, 50:, :9] = 9
    stack, known = (np.moveaxis(array, 0, axis) for array in (volume, labels))
    write_tiff(tmp_path / "stack.tif", stack)
    write_tiff(tmp_path / "labels.tif", known)
    arguments = ["propagate", str(tmp_path / "stack.tif"), "--labels", str(tmp_path / "labels.tif")]
    arguments += ["--slices", "2", "--axis", str(axis), "--output", str(tmp_path / "out.tif")]
    arguments += ["--object", "5", "--report", str(tmp_path / "report.json"), "--model", "default"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = np.moveaxis(tifffile.imread(tmp_path / "out.tif"), axis, 0)
    assert (found[2] == labels[2]).all()
    assert (found[labels == 9] == 9).all()
    summary = json.loads((tmp_path / "report.json").read_text())
    assert summary["accepted"] >= 4
    overlap = [(f & t).sum() / (f | t).sum() for f, t in zip(found == 5, truth, strict=True)]
    assert np.mean([overlap[z] for z in summary["objects"][0]["accepted"]]) > 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--slices": "two"}, "--slices two names no slices"),
        ({"--slices": "9"}, "there is no slice 9"),
        ({"--axis": "3"}, "--axis 3: give 0, 1 or 2"),
        ({"--direction": "sideways"}, "--direction sideways is unknown"),
        ({"--labels": "flat.tif"}, "give labels of the stack's shape"),
        ({"--output": "stack.tif"}, "is the stack itself"),
        ({"--output": "out.png"}, "give a name ending in .tif"),
        ({"--report": "./out.tif"}, "--output and --report are the same file out.tif"),
        ({"--object": "8"}, "object 8 is in none of the slices"),
    ],
)
def test_bad_input_is_said_in_a_line(
    tmp_path: Any, monkeypatch: Any, change: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiff(Path("stack.tif"), np.zeros((4, 30, 30), np.uint8))
    labels = np.zeros((4, 30, 30), np.uint8)
    labels[0, 4:9, 4:9] = 1
    write_tiff(Path("labels.tif"), labels)
    write_tiff(Path("flat.tif"), labels[0])
    options = {"--labels": "labels.tif", "--slices": "0", "--output": "out.tif"} | change
    arguments = [text for pair in options.items() for text in pair]
    done = CliRunner().invoke(app, ["propagate", "stack.tif", *arguments])
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())


@given(
    found=st.sets(st.integers(0, 30), max_size=12), known=st.sets(st.integers(0, 30), max_size=4)
)
def test_the_slices_farthest_from_any_known_are_looked_at_first(found, known):
    queue = worst_first(found, known)
    inside = found | known
    assert set(queue) == set(range(min(inside), max(inside) + 1)) - known if inside else not queue
    if known:
        away = [min(abs(z - k) for k in known) for z in queue]
        assert away == sorted(away, reverse=True)


@given(length=st.integers(2, 60), clicked=st.integers(0, 59))
def test_a_few_slices_looked_at_leave_none_far_from_all_of_them(length, clicked):
    known = {clicked % length}
    for _ in range(8):
        known |= set(worst_first(range(length), known)[:1])
    # two ends, then gaps are halved: six more of at most 59 slices leave gaps of 16 at most
    assert all(min(abs(z - k) for k in known) <= 8 for z in range(length))


def seen(probability: np.ndarray) -> Prediction:
    mask = probability > 0.5
    return Prediction(mask, probability.astype(np.float32), (0, 0, *mask.shape), mask.shape)


@given(st.integers(0, 10_000), st.integers(8, 25))
@settings(max_examples=20, deadline=None)
def test_wrong_masks_are_near_the_known_one_and_repeatable(seed: int, radius: int) -> None:
    mask = disc((90, 100), 45, 50, radius)
    masks = list(wrong_masks(mask, seed))
    again = list(wrong_masks(mask, seed))
    assert len(masks) == 4
    assert all((a == b).all() for a, b in zip(masks, again, strict=True))
    for wrong in masks:
        common = (wrong & mask).sum() / (wrong | mask).sum()
        assert common > 0.3
    assert any((wrong != mask).any() for wrong in masks)


def test_wrong_masks_are_smaller_and_larger_in_turn() -> None:
    mask = disc((90, 100), 45, 50, 17)
    sizes = np.array([[wrong.sum() for wrong in wrong_masks(mask, seed)] for seed in range(20)])
    smaller, larger = sizes[:, [0, 2]].mean(), sizes[:, [1, 3]].mean()
    assert smaller < mask.sum() < larger


def test_a_network_that_knows_is_believed_and_one_that_guesses_is_not() -> None:
    mask = disc((90, 100), 45, 50, 20)
    wrong = list(wrong_masks(mask, 0))
    noise = np.random.default_rng(0).random(mask.shape)
    knows = weigh(mask, [(seen(np.where(mask, 0.9, 0.1)), each) for each in wrong])
    guesses = weigh(mask, [(seen(noise), each) for each in wrong])
    other = disc(mask.shape, 48, 54, 19)
    assert (
        knows.apply(np.where(mask, 0.9, 0.1).astype(np.float32), other) > 0.5
    ).sum() == mask.sum()
    followed = guesses.apply(noise.astype(np.float32), other) > 0.5
    assert (followed & other).sum() / (followed | other).sum() > 0.8
    assert knows.network > 10 * guesses.network


def test_where_nothing_can_be_learnt_the_network_alone_counts() -> None:
    full = np.ones((20, 20), bool)
    assert weigh(full, []) == Trust()
    assert weigh(full, [(seen(np.full((20, 20), 0.7)), full)]) == Trust()
    probability = np.full((20, 20), 0.7, np.float32)
    assert Trust().apply(probability, full) is probability
