"""The session: any history can be taken back bit for bit, and finished work stays."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict import Normalisation, Prediction
from napari_fctsfn.session import (
    Patch,
    Plane,
    Replayer,
    Session,
    SessionError,
    from_document,
    rebuild,
    to_document,
)
from napari_fctsfn.session.masks import Mask

SHAPE = (3, 24, 20)
RANGE = Normalisation(0.0, 1.0)
Z0, Z1, XZ = Plane((0, None, None)), Plane((1, None, None)), Plane((None, 7, None))


class DiskPredictor:
    """A stand-in with the predictor's contract: a pure function of clicks and previous mask."""

    sha256 = "disk"

    def __init__(self) -> None:
        self.calls: list[Clicks] = []
        self.shape = (0, 0)

    def set_image(self, image: Any, normalisation: Any = None, key: Any = None) -> None:
        self.shape = image.shape

    def predict(self, clicks: Clicks, previous: Any = None, keep: bool = False) -> Prediction:
        self.calls.append(clicks)
        mask = np.zeros(self.shape, dtype=bool)
        if previous is not None:
            mask |= previous.full_mask() if isinstance(previous, Prediction) else previous
        rows, columns = np.indices(self.shape)
        for number, click in enumerate(clicks):
            radius = 2 + (len(clicks) - number) % 3
            near = (rows - click.row) ** 2 + (columns - click.column) ** 2 <= radius**2
            mask[near] = click.positive
        return Prediction(mask, mask.astype(np.float32), (0, 0, *self.shape), self.shape)


class Bench:
    """A session with its labels and a predictor, as the dock holds them."""

    def __init__(self, labels: np.ndarray | None = None) -> None:
        self.labels = np.zeros(SHAPE, np.uint16) if labels is None else labels
        self.image = np.zeros(SHAPE)
        self.session = Session(SHAPE, RANGE, int(self.labels.max()))
        self.predictor = DiskPredictor()
        self.replayer = Replayer(self.predictor)

    def work(self) -> None:
        """Predict all that waits."""
        while (replay := self.session.job(lambda plane: self.labels[plane.key])) is not None:
            image = self.image[replay.plane.key]
            prediction = self.replayer.predict(replay, image, RANGE, replay.plane)
            mask = None if prediction is None else prediction.full_mask()
            view = self.labels[replay.plane.key]
            self.write(self.session.resolve(replay, mask, view, "disk"))

    def write(self, patch: Patch | None) -> None:
        if patch is not None:
            patch.apply(self.labels[patch.plane.key])

    def click(self, plane: Plane, row: float, column: float, positive: bool = True) -> None:
        clicks = self.session.clicks(self.session.current, plane)
        self.session.edit_clicks(plane, clicks.append(Click(row, column, positive)))
        self.work()

    def undo(self) -> bool:
        return self._step(self.session.undo())

    def redo(self) -> bool:
        return self._step(self.session.redo())

    def _step(self, step: Any) -> bool:
        if step is None:
            return False
        self.write(step.patch)
        return True

    def state(self) -> tuple[Any, ...]:
        document = to_document(self.session)
        return self.labels.tobytes(), document["objects"], document["current"]


def replaced(clicks: Clicks, index: int, click: Click) -> Clicks:
    return Clicks((*clicks[:index], click, *clicks[index + 1 :]))


_clicks = st.tuples(
    st.integers(0, 2),
    st.integers(0, SHAPE[1] - 1),
    st.integers(0, SHAPE[2] - 1),
    st.booleans(),
)
_actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _clicks),
        st.tuples(st.just("move"), _clicks),
        st.tuples(st.just("delete"), _clicks),
        st.tuples(st.just("brush"), _clicks),
        st.tuples(st.just("next"), _clicks),
    ),
    max_size=14,
)


def perform(bench: Bench, action: str, where: tuple[int, int, int, bool]) -> None:
    """One action of an annotator; one that is impossible does nothing."""
    z, row, column, positive = where
    session, plane = bench.session, Plane((z, None, None))
    if z == 2:  # seldom, a slice of another orientation
        plane, row = Plane((None, row, None)), row % SHAPE[0]
    bench.session.observe(plane, bench.labels[plane.key])
    clicks = session.clicks(session.current, plane)
    index = (row + column) % len(clicks) if len(clicks) else 0
    if action == "add":
        session.edit_clicks(plane, clicks.append(Click(row, column, positive)))
    elif action == "move" and len(clicks):
        click = Click(row, column, clicks[index].positive)
        session.edit_clicks(plane, replaced(clicks, index, click))
    elif action == "delete" and len(clicks):
        session.edit_clicks(plane, Clicks((*clicks[:index], *clicks[index + 1 :])))
    elif action == "brush":
        view = bench.labels[plane.key]
        view[row : row + 3, column : column + 3] = session.current if positive else 0
        session.observe(plane, view)
    elif action == "next":
        with suppress(SessionError):
            session.next_object()
    bench.work()


@settings(max_examples=60, deadline=None)
@given(_actions, st.data())
def test_any_history_is_taken_back_and_done_again_bit_for_bit(actions: Any, data: Any) -> None:
    bench = Bench()
    states = {0: bench.state()}
    for action, where in actions:
        perform(bench, action, where)
        states[len(list(bench.session.history))] = bench.state()
    end = len(list(bench.session.history))
    calls = len(bench.predictor.calls)
    target = data.draw(st.sampled_from(sorted(states)))
    for _ in range(end - target):
        assert bench.undo()
    assert bench.state() == states[target]
    while bench.redo():
        pass
    assert bench.state() == states[end]
    while bench.undo():
        pass
    assert bench.state() == states[0]
    assert len(bench.predictor.calls) == calls, "undo and redo must not predict"


@settings(max_examples=60, deadline=None)
@given(_actions)
def test_pixels_of_other_objects_are_never_touched(actions: Any) -> None:
    bench = Bench()
    bench.labels[0, 2:9, 2:9] = 5
    bench.session = Session(SHAPE, RANGE, highest=5)
    for action, where in actions:
        before, label = bench.labels.copy(), bench.session.current
        if action != "brush":
            perform(bench, action, where)
            others = (before != 0) & (before != label)
            assert (bench.labels[others] == before[others]).all()
            assert set(np.unique(bench.labels[before == 0])) <= {0, label}


@settings(max_examples=40, deadline=None)
@given(_actions)
def test_masks_are_the_replay_of_the_clicks(actions: Any) -> None:
    bench = Bench()
    for action, where in actions:
        if action != "brush" and where[0] != 2:
            perform(bench, action, where)
    reopened = from_document(to_document(bench.session), SHAPE)
    again = np.zeros(SHAPE, np.uint16)
    rebuild(reopened.objects, lambda plane: bench.image[plane.key], RANGE, DiskPredictor(), again)
    assert (again == bench.labels).all()


def test_appending_predicts_once_and_moving_replays_from_the_click() -> None:
    bench = Bench()
    for number in range(5):
        bench.click(Z0, 4 + 2 * number, 6)
    assert [len(clicks) for clicks in bench.predictor.calls] == [1, 2, 3, 4, 5]
    bench.predictor.calls.clear()
    clicks = bench.session.clicks(1, Z0)
    bench.session.edit_clicks(Z0, replaced(clicks, 3, Click(20, 15)))
    bench.work()
    assert [len(clicks) for clicks in bench.predictor.calls] == [4, 5]


def test_several_clicks_at_once_are_undone_one_by_one() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(3, 3), Click(8, 8), Click(14, 3)]))
    bench.work()
    bench.undo()
    assert len(bench.session.clicks(1, Z0)) == 2


def test_undo_while_a_click_waits_takes_that_click_back() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.labels.copy()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5), Click(15, 15)]))
    replay = bench.session.job(lambda plane: bench.labels[plane.key])
    bench.undo()
    assert replay is not None
    late = bench.session.resolve(replay, np.ones(SHAPE[1:], bool), bench.labels[0], "late")
    assert late is None
    assert (bench.labels == before).all()
    bench.redo()
    bench.work()
    assert len(bench.session.clicks(1, Z0)) == 2
    assert (bench.labels != before).any()


def test_an_object_left_while_its_click_waits_still_gets_its_mask() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5)]))
    assert bench.session.next_object() == 2
    bench.session.edit_clicks(Z0, Clicks([Click(15, 15)]))
    bench.work()
    assert set(np.unique(bench.labels)) == {0, 1, 2}
    assert bench.session.current == 2


def test_brushed_pixels_are_the_mask_the_next_click_starts_from() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1
    assert bench.session.observe(Z0, bench.labels[0])
    brushed = bench.labels.copy()
    bench.click(Z0, 5, 8)
    assert (bench.labels[0, 18:22, 12:16] == 1).all()
    bench.undo()
    assert (bench.labels == brushed).all()
    bench.undo()
    assert (bench.labels[0, 18:22, 12:16] == 0).all()


def test_a_click_made_before_a_brush_stroke_can_still_be_moved() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1
    bench.session.observe(Z0, bench.labels[0])
    before = bench.labels.copy()
    bench.session.edit_clicks(Z0, Clicks([Click(8, 14)]))
    bench.work()
    assert (bench.labels != before).any()
    assert (bench.labels[0, 18:22, 12:16] == 1).all()


def test_edits_that_nobody_saw_are_not_lost_either() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.click(Z1, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1  # while another slice is shown
    bench.click(Z0, 5, 8)
    assert (bench.labels[0, 18:22, 12:16] == 1).all()


def test_pixels_written_by_somebody_else_survive_an_undo() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    step = bench.session.undo()
    bench.labels[0, 5, 5] = 9
    assert step is not None
    bench.write(step.patch)
    assert bench.labels[0, 5, 5] == 9
    assert bench.labels.sum() == 9


def test_deleting_all_clicks_gives_back_what_was_there() -> None:
    bench = Bench()
    bench.labels[0, 3:6, 3:6] = 1
    start = bench.labels.copy()
    bench.click(Z0, 12, 12)
    bench.session.edit_clicks(Z0, Clicks())
    bench.work()
    assert (bench.labels == start).all()


def test_the_next_label_is_above_all_in_use() -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2, 0, 0] = 7
    bench = Bench(labels)
    assert bench.session.current == 8
    bench.click(Z0, 5, 5)
    bench.labels[0, 20, 18] = 30
    bench.session.observe(Z0, bench.labels[0])
    assert bench.session.next_object() == 31
    bench.session.undo()
    assert bench.session.current == 8
    assert bench.session.next_object() == 31


def test_no_next_object_before_the_first_click() -> None:
    with pytest.raises(SessionError, match="click on object 1 before"):
        Bench().session.next_object()


def test_labels_run_out_with_a_clear_sentence() -> None:
    session = Session(SHAPE, RANGE, highest=254, capacity=255)
    session.edit_clicks(Z0, Clicks([Click(1, 1)]))
    with pytest.raises(SessionError, match="up to 255"):
        session.next_object()


@pytest.mark.parametrize(
    ("plane", "click", "message"),
    [(Z0, Click(24, 0), "outside"), (Plane((3, None, None)), Click(0, 0), "not one of an image")],
)
def test_clicks_outside_are_refused(plane: Plane, click: Click, message: str) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match=message):
        bench.session.edit_clicks(plane, Clicks([click]))
    assert not bench.session.busy


def test_the_oldest_steps_go_when_memory_is_full() -> None:
    bench = Bench()
    bench.session.history.max_bytes = 4000
    for number in range(20):
        bench.click(Z0, number, 5)
    history = list(bench.session.history)
    assert 1 <= len(history) < 20
    assert sum(command.nbytes for command in history) <= 4000
    assert bench.undo()


def test_what_is_forgotten_is_predicted_again_to_the_same_mask() -> None:
    bench = Bench()
    bench.replayer.max_bytes = 1
    for number in range(4):
        bench.click(Z0, 4 + 4 * number, 6, number != 2)
    remembered = Bench()
    for number in range(4):
        remembered.click(Z0, 4 + 4 * number, 6, number != 2)
    assert (bench.labels == remembered.labels).all()


def test_slices_of_other_orientations() -> None:
    bench = Bench()
    bench.click(XZ, 1, 9)
    assert bench.labels[:, 7].any()
    assert not np.delete(bench.labels, 7, axis=1).any()
    assert XZ.shape(SHAPE) == (3, 20)
    assert Plane.through((1.0, 7.2, 9.0), (0, 2)) == XZ


def test_a_slice_is_rounded_as_napari_does() -> None:
    assert Plane.through((2.5, 0.0, 0.0), (1, 2)).index[0] == 2
    assert Plane.through((3.5, 0.0, 0.0), (1, 2)).index[0] == 4


@pytest.mark.parametrize("index", [(0, 0, None), (None, None, None), (-1, None, None)])
def test_what_is_no_slice_is_refused(index: Any) -> None:
    with pytest.raises(ValueError, match="exactly two axes"):
        Plane(index)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9))
def test_masks_survive_packing(seed: int, rows: int, columns: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.2
    packed = Mask.of(mask, (rows, columns))
    assert (packed.full() == mask).all()
    assert packed.empty == (not mask.any())
    assert packed == Mask.of(mask.copy(), (rows, columns))


def test_a_document_is_json_and_round_trips() -> None:
    import json

    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1
    bench.click(Z0, 5, 8, False)
    bench.session.next_object()
    bench.click(Z1, 9, 9)
    document = json.loads(json.dumps(to_document(bench.session)))
    reopened = from_document(document, SHAPE)
    assert reopened.objects == bench.session.objects
    assert reopened.current == 2
    assert reopened.normalisation == RANGE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"shape": [1, 2]}, "shape"),
        ({"objects": [{"label": 0, "slices": []}]}, "label"),
        ({"extra": 1}, "extra"),
    ],
)
def test_damaged_documents_are_refused(change: dict[str, Any], message: str) -> None:
    document = to_document(Bench().session) | change
    with pytest.raises(SessionError, match=message):
        from_document(document, SHAPE)


@pytest.mark.parametrize(
    "change",
    [
        {"index": [9, None, None]},
        {"index": [0, 0, None]},
        {"clicks": [(99.0, 0.0, True)]},
        {"mask": {"box": (0, 0, 3, 3), "bits": "AAAA"}},
        {"mask": {"box": (0, 0, 3000, 3000), "bits": ""}},
        {"mask": {"box": (0, 0, 3, 3), "bits": "?"}},
    ],
)
def test_damaged_annotations_are_refused(change: dict[str, Any]) -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    document = to_document(bench.session)
    document["objects"][0]["slices"][0].update(change)
    with pytest.raises(SessionError, match="damaged"):
        from_document(document, SHAPE)


def test_a_step_that_cannot_be_predicted_is_dropped() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5)]))
    bench.session.drop()
    assert not bench.session.busy
    assert len(bench.session.clicks(1, Z0)) == 0


def test_indices_take_little_memory() -> None:
    rows = columns = np.arange(10)
    arrays = Plane((4, None, None)).indices(rows, columns)
    assert [array.dtype for array in arrays] == [np.uint8] * 3
    assert SimpleNamespace(z=arrays[0]).z.tolist() == [4] * 10
