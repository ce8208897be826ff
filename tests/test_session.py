"""The session: objects, their clicks and masks, and what waits for a mask."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_bench import RANGE, SHAPE, XZ, Z0, Z1, Bench, replaced
from scipy.ndimage import binary_dilation

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.session import (
    Plane,
    Refinement,
    Session,
    SessionError,
    rebuild,
)
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.refinement import USUAL


def test_a_mask_of_another_tool_becomes_an_object_that_clicks_correct() -> None:
    bench = Bench()
    bench.labels[0, 2:9, 2:9] = 7
    bench.labels[1, 2:5, 2:5] = 7
    bench.session = Session(SHAPE, RANGE, highest=7)
    start = bench.state()
    masks = {plane: bench.labels[plane.key] == 7 for plane in (Z0, Z1)}
    assert bench.session.adopt(7, masks, bench.labels_of) == ()
    assert bench.session.current == 7
    adopted = bench.state()
    bench.click(Z0, 20, 15)
    assert (bench.labels[0, 2:9, 2:9] == 7).all()
    assert bench.labels[0, 20, 15] == 7
    assert bench.session.objects[7][Z0].given is not None
    bench.session.edit_clicks(Z0, Clicks())
    bench.work()
    assert (bench.labels == np.frombuffer(adopted[0], np.uint16).reshape(SHAPE)).all()
    assert bench.session.next_object() == 8
    for _ in range(3):
        bench.undo()
    assert bench.state() == adopted
    bench.undo()
    assert bench.state() == start


def test_an_adopted_mask_leaves_other_objects_their_pixels() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    own = bench.labels == 1
    mask = np.zeros(SHAPE[1:], dtype=bool)
    mask[:10, :10] = True
    for patch in bench.session.adopt(12, {Z0: mask}, bench.labels_of):
        bench.write(patch)
    assert (bench.labels[own] == 1).all()
    assert ((bench.labels[0] == 12) == (mask & ~own[0])).all()
    assert bench.session.next_object() == 13
    with pytest.raises(SessionError, match="object 1 is one of this session"):
        bench.session.adopt(1, {Z0: mask}, bench.labels_of)
    with pytest.raises(SessionError, match="all pixels of that mask belong"):
        bench.session.adopt(20, {Z0: mask}, bench.labels_of)


@pytest.mark.parametrize("keep", [False, True])
def test_what_another_object_cuts_off_a_mask_needs_a_click(keep: bool) -> None:
    bench = Bench()
    line = np.zeros(SHAPE[1:], dtype=bool)
    line[:, 12] = True
    for patch in bench.session.adopt(12, {Z0: line}, bench.labels_of):
        bench.write(patch)
    bench.session.next_object()
    bench.session.refine(Z0, replace(Refinement(), drop_unclicked=not keep))
    bench.work()
    bench.click(Z0, 5, 11)
    mine = bench.labels[0] == bench.session.current
    assert mine[5, 10]
    assert mine[5, 13] == keep
    bench.click(Z0, 5, 14)
    mine = bench.labels[0] == bench.session.current
    assert mine[5, 11]
    assert mine[5, 14]
    rebuilt = np.zeros_like(bench.labels)
    rebuild(bench.session.objects, lambda p: bench.image[p.key], RANGE, bench.predictor, rebuilt)
    assert (rebuilt == bench.labels).all()


def test_a_click_on_a_finished_object_takes_nothing_beside_it() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.labels.copy()
    bench.session.next_object()
    bench.click(Z0, 5, 7)
    current = bench.session.current
    assert (bench.labels == before).all()
    assert len(bench.session.clicks(current, Z0)) == 1
    with pytest.raises(SessionError, match=f"object {current} has no pixels: undo its clicks"):
        bench.session.next_object()
    bench.click(Z0, 5, 9)
    assert (bench.labels[0] == current).any()
    assert (bench.labels[0] == 1).sum() == (before == 1).sum()
    rebuilt = np.zeros_like(bench.labels)
    rebuild(bench.session.objects, lambda p: bench.image[p.key], RANGE, bench.predictor, rebuilt)
    assert (rebuilt == bench.labels).all()


def test_what_was_found_becomes_objects_in_one_step() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.state()
    masks = np.zeros((3, *SHAPE[1:]), dtype=bool)
    masks[0, 4:7, 4:14], masks[1, 12:15, 2:6], masks[2, 16:19, 10:12] = True, True, True
    meanwhile = before_labels(before) == 1
    found = [(Click(5, 12), masks[0]), (Click(13, 3), masks[1]), (Click(17, 11), masks[2])]
    # of what was annotated since it was found nothing is left, or a rind that nobody means
    found[1:1] = [(Click(5, 5), meanwhile), (Click(5, 6), binary_dilation(meanwhile))]
    for patch in bench.session.accept(Z0, found, bench.labels_of, "disk", 4.0, USUAL):
        bench.write(patch)
    assert sorted(bench.session.objects) == [1, 2, 3, 4]
    for label, mask in enumerate(masks, 2):
        assert ((bench.labels[0] == label) == (mask & (before_labels(before) != 1))).all()
        annotation = bench.session.objects[label][Z0]
        assert (len(annotation.clicks), annotation.extent, annotation.model) == (1, 4.0, "disk")
    assert bench.session.current == 1
    assert bench.session.next_object() == 5
    assert bench.undo()
    assert bench.undo()
    assert bench.state() == before
    assert bench.session.accept(Z0, [], bench.labels_of, "disk", 4.0, USUAL) == ()
    assert bench.session.history.can_redo  # nothing found is no step


def before_labels(state: tuple[Any, ...]) -> np.ndarray:
    """The first slice of a state's labels."""
    return np.frombuffer(state[0], np.uint16).reshape(SHAPE)[0]


def test_a_protected_object_is_closed_to_everything() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    session = bench.session
    session.describe({1: replace(session.note(1), protected=True)})
    before = bench.state()
    for change in (
        lambda: session.edit_clicks(Z0, Clicks()),
        lambda: session.delete([1], bench.labels_of),
        lambda: session.merge(2, [1], bench.labels_of),
        lambda: session.merge(1, [2], bench.labels_of),
        lambda: session.propagate(1, {Z1: np.ones((24, 20), bool)}, bench.labels_of, "m"),
    ):
        with pytest.raises(SessionError, match="object 1 is protected"):
            change()
    assert bench.state() == before


def test_a_finished_object_is_taken_up_again_with_its_clicks() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.session.next_object()
    bench.click(Z0, 15, 15)
    bench.session.select(1)
    bench.click(Z0, 5, 9)
    assert len(bench.session.clicks(1, Z0)) == 2
    assert bench.session.next_object() == 3


def test_merged_objects_have_all_pixels_and_clicks_of_both() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.session.next_object()
    bench.click(Z0, 15, 15)
    bench.click(Z1, 9, 9)
    pixels = bench.labels > 0
    for patch in bench.session.merge(1, [2], bench.labels_of):
        bench.write(patch)
    assert (bench.labels[pixels] == 1).all()
    assert not bench.labels[~pixels].any()
    assert [len(bench.session.clicks(1, plane)) for plane in (Z0, Z1)] == [2, 1]
    assert list(bench.session.objects) == [1]


def test_renumbering_leaves_no_gap_and_spares_what_is_not_ours() -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2] = 2
    bench = Bench(labels)
    for number in range(4):
        bench.click(Z0, 3 + 6 * number, 9)
        bench.session.next_object()
    for patch in bench.session.delete([4], bench.labels_of):
        bench.write(patch)
    shapes = [bench.labels == label for label in (3, 5, 6)]
    for patch in bench.session.renumber(bench.labels_of, taken=[2]):
        bench.write(patch)
    assert sorted(bench.session.objects) == [1, 3, 4]
    for label, shape in zip((1, 3, 4), shapes, strict=True):
        assert ((bench.labels == label) == shape).all()
    assert (bench.labels[2] == 2).all()


def test_renumbering_gives_the_object_that_is_begun_a_number_of_its_own() -> None:
    bench = Bench()
    for number in range(3):
        bench.click(Z0, 3 + 6 * number, 9)
        bench.session.next_object()
    bench.session.select(2)
    for patch in bench.session.delete([2], bench.labels_of):
        bench.write(patch)
    for patch in bench.session.renumber(bench.labels_of):
        bench.write(patch)
    assert sorted(bench.session.objects) == [1, 2]
    before = bench.labels == 2
    assert bench.session.current == 3
    bench.click(Z0, 9, 9)
    assert ((bench.labels == 2) == before).all()
    assert sorted(bench.session.objects) == [1, 2, 3]


def test_operations_wait_for_clicks_that_wait_for_masks() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5)]))
    with pytest.raises(SessionError, match="waits for its mask"):
        bench.session.delete([1], bench.labels_of)


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


@pytest.mark.parametrize("operation", ["delete", "renumber", "propagate", "click"])
def test_strokes_are_seen_after_a_step_that_concerns_other_slices(operation: str) -> None:
    bench = Bench()
    session = bench.session
    for column in (5, 14):
        bench.click(Z0, 5, column)
        bench.click(Z1, 5, column)
        session.next_object()
    session.observe(Z0, bench.labels[0])
    patches: tuple[Any, ...] = ()
    if operation == "delete":
        patches = session.delete([1], bench.labels_of)
    elif operation == "renumber":
        session.delete([1], bench.labels_of)
        patches = session.renumber(bench.labels_of)
    elif operation == "propagate":
        mask = np.zeros(SHAPE[1:], bool)
        mask[10:14, 10:14] = True
        patches = session.propagate(2, {Z1: mask}, bench.labels_of, "m")
    else:
        bench.click(Z1, 15, 15)
    for patch in patches:
        bench.write(patch)
    before = bench.labels.copy()
    bench.labels[0, 18:22, 12:16] = 2
    assert session.observe(Z0, bench.labels[0]) == {2}
    bench.undo()
    assert (bench.labels == before).all()


def test_a_slice_that_was_only_painted_belongs_to_the_object() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.session.observe(Z1, bench.labels[1])
    start = bench.state()
    bench.labels[1, 2:6, 2:6] = 1
    bench.session.observe(Z1, bench.labels[1])
    annotation = bench.session.objects[1][Z1]
    assert annotation.given == annotation.mask == Mask.of(bench.labels[1] == 1, SHAPE[1:])
    assert not annotation.followed  # a propagation leaves it alone
    painted = bench.state()
    for patch in bench.session.delete([1], bench.labels_of):
        bench.write(patch)
    assert not bench.labels.any()
    bench.undo()
    assert bench.state() == painted
    bench.undo()
    assert bench.state() == start


def test_what_is_painted_with_a_free_label_is_an_object() -> None:
    bench = Bench()
    bench.labels[0, 15:18, 15:18] = 1  # drawn by somebody before
    bench.session = session = Session(SHAPE, RANGE, highest=1)
    session.observe(Z0, bench.labels[0])
    assert session.current == 2
    bench.labels[0, 2:6, 2:6] = 2
    bench.labels[0, 2:6, 10:14] = 7
    bench.labels[0, 15, 15] = 0
    session.observe(Z0, bench.labels[0])
    assert sorted(session.objects) == [2, 7]
    assert session.objects[2][Z0].given == Mask.of(bench.labels[0] == 2, SHAPE[1:])
    painted = bench.labels.copy()
    assert session.next_object() == 8
    bench.click(Z0, 12, 4)
    assert ((bench.labels == 8) == (bench.labels != painted)).all()
    bench.undo()
    bench.undo()
    bench.undo()
    assert sorted(session.objects) == []
    assert sorted(np.unique(bench.labels)) == [0, 1]


def test_an_answer_that_comes_late_is_not_held_against_another_slice() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.click(Z1, 15, 15)
    session = bench.session
    session.edit_clicks(Z0, Clicks([Click(5, 5), Click(5, 9)]))
    late = session.job(bench.labels_of)
    session.undo()
    session.edit_clicks(Z1, Clicks([Click(15, 15), Click(15, 9)]))
    session.observe(Z1, bench.labels[1])
    done = len(list(session.history))
    assert session.resolve(late, np.ones(SHAPE[1:], bool), bench.labels[0], "disk") is None
    assert len(list(session.history)) == done
    bench.work()
    assert len(session.clicks(1, Z1)) == 2


def test_a_stroke_is_taken_back_while_a_click_waits() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.labels.copy()
    session = bench.session
    clicks = Clicks([Click(5, 5), Click(15, 15)])
    session.edit_clicks(Z0, clicks)
    bench.labels[0, 4:6, 4:6] = 0
    session.observe(Z0, bench.labels[0])
    step = session.take_back()
    for patch in step.patches:
        bench.write(patch)
    assert (bench.labels == before).all()
    assert not session.history.can_redo
    bench.work()
    assert session.clicks(1, Z0) == clicks
    assert Session(SHAPE, RANGE).take_back() is None


def test_pixels_written_by_somebody_else_survive_an_undo() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    step = bench.session.undo()
    bench.labels[0, 5, 5] = 9
    assert step is not None
    bench.write(step.patches[0])
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
    with pytest.raises(SessionError, match="label 255 is used and the labels hold none above 255"):
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


def test_what_was_seen_at_another_contrast_is_not_remembered() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(10, 10)]))
    replay = bench.session.job(lambda plane: bench.labels[plane.key])
    for seen in (RANGE, replace(RANGE, high=2.0), RANGE, replace(RANGE, high=2.0)):
        bench.replayer.predict(replay, bench.image[Z0.key], seen, "slice")
    assert len(bench.predictor.calls) == 2


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
