"""An object followed through a stack from the dock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from in_window import cells, click, grey, notified
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_fctsfn.plugin.following import Following


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        QApplication.processEvents()


def slices_of(dock: Any, label: int = 1) -> list[int]:
    """The slices in which the labels and the session have an object, which are the same."""
    shown = np.flatnonzero((dock.annotator.site.labels.data == label).any(axis=(1, 2))).tolist()
    planes = dock.annotator.session.objects.get(label, {}).items()
    assert shown == sorted(plane.index[0] for plane, known in planes if not known.mask.empty)
    return shown


def start_up(open_dock: Any, length: int = 30, done: int = 4) -> tuple[Any, Any]:
    """Propagate up from the first slice, and come back on the way."""
    viewer, dock = open_dock(grey(length, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    dock.annotator.propagate("up")
    until(lambda: dock.annotator.propagation.following.done >= done)
    return viewer, dock


def test_a_protected_object_is_not_followed(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(grey(5, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    dock.annotator.describe([1], protected=True)
    before = predictor.predicted
    with notified("object 1 is protected: unprotect it to change it"):
        dock.annotator.propagate("up")
    assert dock.wait_idle()
    assert predictor.predicted == before


def test_what_was_found_stays_when_the_object_is_protected_meanwhile(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.describe([1], protected=True)
    assert dock.wait_idle()
    assert 30 > len(slices_of(dock)) >= 5
    assert dock.annotator.session.note(1).protected
    dock.annotator.describe([1], protected=False)
    dock.annotator.propagate("up")
    assert dock.wait_idle()
    assert len(slices_of(dock)) == 30


def test_another_image_does_not_disturb_a_propagation_that_ends(
    open_dock: Any, predictor: Any
) -> None:
    viewer, dock = open_dock(grey(40, 40), grey(6, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    predictor.gate.clear()
    dock.annotator.propagate("up")
    dock.image.choose(viewer.layers[0])
    before = len(notification_manager.records)
    assert dock.start()
    predictor.gate.set()
    assert dock.wait_idle()
    assert len(notification_manager.records) == before


def test_an_object_is_followed_through_the_stack_and_that_is_one_step(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(7, 40, 50))
    viewer.dims.set_point(0, 3)
    click(dock, 3, 20, 25)
    before = dock.annotator.site.labels.data.copy()
    dock.annotator.propagate("both")
    assert dock.progress.isVisibleTo(dock)
    assert dock.wait_idle()
    labels = dock.annotator.site.labels
    assert (labels.data.any(axis=(1, 2))).all()
    assert set(np.unique(labels.data)) == {0, 1}
    assert "6 slices found" in dock.hint.text()
    assert "Doubtful slice shows where to look first" in dock.hint.text()
    assert cells(dock)[0][3] == 7
    dock.annotator.undo()
    assert (labels.data == before).all()
    dock.annotator.redo()
    assert labels.data.any(axis=(1, 2)).all()


def test_a_propagation_is_cancelled_and_keeps_what_it_found(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(grey(30, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    dock.annotator.propagate("up")
    while dock.annotator.propagation.following.done < 4:
        QApplication.processEvents()
    dock.cancel_button.click()
    assert dock.wait_idle()
    slices = dock.annotator.site.labels.data.any(axis=(1, 2)).sum()
    assert 5 <= slices < 30
    assert "cancelled" in dock.hint.text()
    dock.annotator.undo()
    assert dock.annotator.site.labels.data.any(axis=(1, 2)).sum() == 1


def test_a_second_propagation_goes_out_from_what_was_corrected(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(8, 60, 70))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    dock.annotator.propagate("up")
    assert dock.wait_idle()
    labels = dock.annotator.site.labels
    first = labels.data.copy()
    assert first.any(axis=(1, 2)).all()
    viewer.dims.set_point(0, 2)
    labels.selected_label = 1
    labels.data_setitem((np.array([2]), np.array([50]), np.array([60])), 1)
    assert dock.wait_idle()
    viewer.dims.set_point(0, 5)
    rows, columns = np.nonzero(first[5])
    click(dock, 5, int(rows.max()) + 2, int(columns.max()) + 2)
    corrected = labels.data.copy()
    dock.annotator.propagate("up")
    assert dock.wait_idle()
    found = labels.data
    for z in (0, 2, 5):
        assert (found[z] == corrected[z]).all()
    assert found[2, 50, 60] == 1
    for z in (6, 7):
        assert (found[z] != first[z]).any()
        assert (found[z] & found[5]).sum() > (first[z] & found[5]).sum()
    dock.annotator.undo()
    assert (labels.data == corrected).all()


def test_a_propagation_stops_where_it_is_unsure_and_goes_there(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(7, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    dock.annotator.next_object()
    viewer.dims.set_point(0, 4)
    for row in range(12, 30, 4):
        for column in range(15, 35, 4):
            click(dock, 4, row, column)
    dock.annotator.take_up(1)
    assert dock.wait_idle()
    dock.annotator.propagate("up")
    assert dock.wait_idle()
    assert viewer.dims.current_step[0] == 4
    assert "unsure here" in dock.hint.text()
    labels = dock.annotator.site.labels.data
    assert (labels == 1).any(axis=(1, 2)).tolist() == [True] * 4 + [False] * 3


def test_the_doubtful_slices_are_gone_through_the_farthest_from_clicks_first(
    open_dock: Any,
) -> None:
    viewer, dock = open_dock(grey(7, 40, 50))
    viewer.dims.set_point(0, 2)
    with notified("has no masks in a stack yet"):
        dock.doubt_button.click()
    click(dock, 2, 20, 25)
    dock.annotator.propagate("both")
    assert dock.wait_idle()
    # from end to end of what is left, then the middle of the widest gap
    for slice_, away in ((6, "4 slices"), (0, "2 slices"), (4, "2 slices"), (1, "1 slice")):
        dock.doubt_button.click()
        assert viewer.dims.current_step[0] == slice_
        assert f"slice {slice_} is {away} from any that you clicked in" in dock.hint.text()
    click(dock, 1, 20, 25)
    for slice_ in (3, 5):
        dock.doubt_button.click()
        assert viewer.dims.current_step[0] == slice_
    dock.doubt_button.click()
    assert "looked at every slice" in dock.hint.text()


def test_what_is_propagated_anew_is_to_be_looked_at_anew(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(7, 40, 50))
    viewer.dims.set_point(0, 2)
    click(dock, 2, 20, 25)
    for direction, shown in (("both", [6, 0]), ("up", [6, 4])):
        dock.annotator.propagate(direction)
        assert dock.wait_idle()
        visited = []
        for _ in shown:
            dock.doubt_button.click()
            visited.append(viewer.dims.current_step[0])
        assert visited == shown
        for _ in range(2):
            dock.annotator.undo()
        viewer.dims.set_point(0, 2)
        click(dock, 2, 20, 25)


def test_a_propagation_needs_a_mask_and_somewhere_to_go(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(3, 40, 50))
    viewer.dims.set_point(0, 0)
    with notified("object 1 has no mask yet"):
        dock.annotator.propagate("both")
    click(dock, 0, 20, 25)
    with notified("no slice to go to down"):
        dock.annotator.propagate("down")
    assert dock.wait_idle()


def test_a_propagation_cancelled_while_a_click_waits_is_written_after_the_click(
    open_dock: Any,
) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.site.prompts.positive.add([0, 30, 35])
    assert dock.annotator.session.busy
    dock.cancel_button.click()
    assert "comes after the click that waits" in dock.hint.text()
    assert not dock.progress.isVisibleTo(dock)
    assert slices_of(dock) == [0]
    with notified("a click still waits"):
        dock.annotator.propagate("up")
    assert dock.wait_idle()
    found = slices_of(dock)
    assert 5 <= len(found) < 30
    assert f"{len(found) - 1} slices found, cancelled. Undo takes them back" in dock.hint.text()
    labels = dock.annotator.site.labels.data
    assert labels[0, 30, 35] == 1
    whole = labels.copy()
    dock.annotator.undo()
    assert slices_of(dock) == [0]
    assert labels[0, 30, 35] == 1
    dock.annotator.undo()
    assert labels[0, 20, 25] == 1
    assert labels[0, 30, 35] == 0
    dock.annotator.redo()
    dock.annotator.redo()
    assert dock.wait_idle()
    assert (labels == whole).all()


def test_a_click_that_is_taken_back_no_longer_holds_a_propagation_up(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.site.prompts.positive.add([0, 30, 35])
    dock.cancel_button.click()
    dock.annotator.undo()
    assert dock.wait_idle()
    assert len(slices_of(dock)) >= 5
    assert dock.annotator.site.labels.data[0, 30, 35] == 0
    assert "slices found, cancelled" in dock.hint.text()
    dock.annotator.undo()
    assert slices_of(dock) == [0]


def test_another_object_gone_on_with_does_not_hold_a_propagation_up(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.next_object()
    dock.cancel_button.click()
    assert "slices found, cancelled" in dock.hint.text()
    assert len(slices_of(dock)) >= 5


@pytest.mark.parametrize("fails", [False, True])
def test_a_propagation_that_ends_while_a_click_waits_is_written_after_it(
    open_dock: Any, monkeypatch: Any, fails: bool
) -> None:
    at_end, go_on = threading.Event(), threading.Event()
    original = Following.next

    def look(following: Following, predictor: Any) -> Any:
        if (step := original(following, predictor)) is None:
            at_end.set()
            assert go_on.wait(20)
            if fails:
                raise ValueError("the disk is gone")
        return step

    monkeypatch.setattr(Following, "next", look)
    viewer, dock = open_dock(grey(6, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 20, 25)
    dock.annotator.propagate("up")
    until(at_end.is_set)
    # in a slice that was found: this mask stays as it was clicked
    viewer.dims.set_point(0, 3)
    dock.annotator.site.prompts.positive.add([3, 10, 10])
    go_on.set()
    assert dock.wait_idle()
    assert slices_of(dock) == list(range(6))
    labels = dock.annotator.site.labels.data
    assert labels[3, 10, 10] == 1
    assert labels[3, 20, 25] == 0
    assert "4 slices found" in dock.hint.text()
    assert ("ended at an error" in dock.hint.text()) == fails


@pytest.mark.parametrize("closed", [False, True])
def test_a_session_that_ends_meanwhile_keeps_what_a_cancelled_propagation_found(
    open_dock: Any, closed: bool
) -> None:
    viewer, dock = start_up(open_dock)
    labels = dock.annotator.site.labels
    dock.annotator.site.prompts.positive.add([0, 30, 35])
    dock.cancel_button.click()
    if closed:
        viewer.window.remove_dock_widget(dock)
        assert dock.annotator.closed
        _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    else:
        dock.annotator.stop()
    assert dock.wait_idle()
    assert labels.data.any(axis=(1, 2)).sum() >= 5
    assert labels.data[0, 30, 35] == 0
    dock.labels.choose(labels)
    assert dock.start()
    assert dock.wait_idle()
    assert len(slices_of(dock)) >= 5
    dock.release()


def test_a_session_that_ends_keeps_what_a_propagation_has_found_so_far(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    labels = dock.annotator.site.labels
    dock.annotator.stop()
    assert dock.wait_idle()
    assert 5 <= labels.data.any(axis=(1, 2)).sum() < 30
    dock.labels.choose(labels)
    assert dock.start()
    assert len(slices_of(dock)) >= 5


def test_deleting_the_object_ends_its_propagation(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.delete([1])
    assert dock.wait_idle()
    assert not dock.annotator.site.labels.data.any()
    assert not dock.annotator.session.objects
    dock.annotator.undo()
    assert len(slices_of(dock)) >= 5
    dock.annotator.undo()
    assert slices_of(dock) == [0]


def test_renumbering_leaves_an_object_what_was_found_of_it(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(30, 40, 50))
    viewer.dims.set_point(0, 0)
    click(dock, 0, 5, 5)
    dock.annotator.next_object()
    click(dock, 0, 20, 25)
    dock.annotator.delete([1])
    dock.annotator.propagate("up")
    until(lambda: dock.annotator.propagation.following.done >= 4)
    dock.annotator.renumber()
    assert dock.wait_idle()
    assert len(slices_of(dock)) >= 5
    assert set(np.unique(dock.annotator.site.labels.data)) == {0, 1}


def test_nothing_is_found_of_an_object_that_was_taken_back(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.undo()
    dock.cancel_button.click()
    assert "is gone" in dock.hint.text()
    assert dock.wait_idle()
    assert not dock.annotator.site.labels.data.any()


def test_layers_removed_meanwhile_do_not_lose_what_was_found(open_dock: Any) -> None:
    viewer, dock = start_up(open_dock)
    with notified("was removed"):
        viewer.layers.remove(dock.annotator.site.labels)
        dock.cancel_button.click()
    assert dock.wait_idle()
    assert dock.resume()
    assert dock.wait_idle()
    assert len(slices_of(dock)) >= 5
    assert "slices found, cancelled" in dock.hint.text()


def test_another_model_chosen_meanwhile_does_not_lose_what_was_found(open_dock: Any) -> None:
    _, dock = start_up(open_dock)
    dock.annotator.assistant.use("broken", "cpu")
    dock.cancel_button.click()
    assert len(slices_of(dock)) >= 5
    (found,) = {known.model for known in dock.annotator.session.objects[1].values()}
    assert found == "square"
    with notified("the file is damaged"):
        assert dock.wait_idle()


def known_at_both_ends(open_dock: Any, length: int = 12) -> tuple[Any, Any]:
    viewer, dock = open_dock(grey(length, 40, 50))
    for z in (0, length - 1):
        viewer.dims.set_point(0, z)
        click(dock, z, 20, 25)
    return viewer, dock


def test_between_two_slices_progress_goes_on_and_clicks_do_not_wait(
    open_dock: Any, predictor: Any
) -> None:
    _, dock = known_at_both_ends(open_dock)
    seen: list[tuple[int, float, int]] = []
    clicked = []

    def look() -> None:
        following = dock.annotator.propagation.following
        if following is not None:
            assert following.total == dock.progress.maximum() == 10
            seen.append((following.done, following.seconds_left, predictor.predicted))
            if following.done == 3 and not clicked:
                clicked.append(True)
                dock.annotator.site.prompts.positive.add([11, 30, 35])
                assert dock.annotator.session.busy
            if following.done == 7 and len(clicked) == 1:
                clicked.append(dock.annotator.session.busy)

    dock.annotator.changed.connect(look)
    dock.annotator.propagate("between")
    assert dock.wait_idle()
    assert clicked == [True, False]
    # either known slice takes four to learn from, a look at most two, a click one
    assert max(np.diff([predicted for *_, predicted in seen])) <= 6
    done = [each for each, *_ in seen]
    assert sorted(set(done)) == list(range(11))
    assert done == sorted(done)
    assert seen[0][1] == float("inf")
    assert seen[-1][1] == 0
    assert slices_of(dock) == list(range(12))
    assert "10 slices found." in dock.hint.text()


def test_between_two_slices_it_is_cancelled_at_once(open_dock: Any, predictor: Any) -> None:
    _, dock = known_at_both_ends(open_dock, 60)
    before = dock.annotator.site.labels.data.copy()
    dock.annotator.propagate("between")
    until(lambda: dock.annotator.propagation.following.done >= 2)
    dock.cancel_button.click()
    predicted = predictor.predicted
    assert dock.wait_idle()
    assert predictor.predicted <= predicted + 2
    assert dock.hint.text() == "Object 1: 0 slices found, cancelled."
    dock.annotator.undo()
    assert slices_of(dock) == [0]
    dock.annotator.redo()
    assert (dock.annotator.site.labels.data == before).all()
