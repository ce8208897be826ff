"""An object followed through a stack from the dock."""

from __future__ import annotations

from typing import Any

import numpy as np
from in_window import cells, click, grey, notified
from qtpy.QtWidgets import QApplication


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
    visited = []
    for _ in range(3):
        dock.doubt_button.click()
        visited.append(viewer.dims.current_step[0])
    assert visited == [6, 5, 0]
    assert "slice 0" in dock.hint.text()
    click(dock, 6, 20, 25)
    for _ in range(3):
        dock.doubt_button.click()
    assert viewer.dims.current_step[0] == 3
    dock.doubt_button.click()
    assert "looked at every slice" in dock.hint.text()


def test_a_propagation_needs_a_mask_and_somewhere_to_go(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(3, 40, 50))
    viewer.dims.set_point(0, 0)
    with notified("object 1 has no mask yet"):
        dock.annotator.propagate("both")
    click(dock, 0, 20, 25)
    with notified("no slice to go to down"):
        dock.annotator.propagate("down")
    assert dock.wait_idle()
