"""The Annotate dock in the real napari window, with a stand-in for the network."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_window import CONTROL, SHIFT, click, grey, notified, press
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_fctsfn.clicks import Click, ClickRecord, read_clicks
from napari_fctsfn.models import ModelError, chosen_model
from napari_fctsfn.plugin import AnnotateDock, tasks
from napari_fctsfn.plugin.keys import chosen_keys
from napari_fctsfn.plugin.layers import camera_of


def test_a_click_makes_a_mask_and_undo_takes_it_back(open_dock: Any, predictor: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    labels = dock.annotator.site.labels
    click(dock, 10, 12)
    one = labels.data.copy()
    assert one[10, 12] == 1
    assert one.sum() == 25
    click(dock, 10, 14, positive=False)
    two = labels.data.copy()
    assert 0 < two.sum() < 25
    predicted = predictor.predicted
    dock.annotator.undo()
    assert (labels.data == one).all()
    assert len(dock.annotator.site.prompts.negative.data) == 0
    dock.annotator.undo()
    assert not labels.data.any()
    dock.annotator.redo()
    dock.annotator.redo()
    assert dock.wait_idle()
    assert (labels.data == two).all()
    assert dock.annotator.site.prompts.negative.data.tolist() == [[10, 14]]
    assert predictor.predicted == predicted


def test_moved_and_deleted_points_replay_the_rest(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    labels, points = dock.annotator.site.labels, dock.annotator.site.prompts.positive
    click(dock, 10, 12)
    click(dock, 30, 30)
    points.data = np.array([[20.0, 12.0], [30.0, 30.0]])
    assert dock.wait_idle()
    assert labels.data[20, 12] == 1
    assert labels.data[10, 12] == 0
    points.selected_data = {0}
    points.remove_selected()
    assert dock.wait_idle()
    assert np.argwhere(labels.data).min(axis=0).tolist() == [28, 28]
    dock.annotator.undo()
    assert labels.data[20, 12] == 1
    assert points.data.tolist() == [[20, 12], [30, 30]]


def test_clicks_of_both_kinds_keep_the_order_in_which_they_were_made(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    for column, positive in [(5, True), (9, False), (13, True), (17, False)]:
        click(dock, 10, column, positive=positive)
    session = dock.annotator.session
    plane = dock.annotator.source.plane()
    assert [(c.column, c.positive) for c in session.clicks(1, plane)] == [
        (5, True),
        (9, False),
        (13, True),
        (17, False),
    ]
    features = dock.annotator.site.prompts.negative.features
    assert list(features["polarity"]) == ["negative"] * 2
    assert list(features["order"]) == [1, 3]


def test_next_object_takes_a_free_label_and_spares_finished_ones(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    annotator = dock.annotator
    with notified("click on object 1 before"):
        annotator.next_object()
    click(dock, 10, 12)
    annotator.next_object()
    assert len(annotator.site.prompts.positive.data) == 0
    assert annotator.site.labels.selected_label == 2
    first = annotator.site.labels.data.copy()
    click(dock, 12, 14)
    assert (annotator.site.labels.data[first == 1] == 1).all()
    assert (annotator.site.labels.data == 2).any()
    annotator.undo()
    annotator.undo()
    assert annotator.session.current == 1
    assert annotator.site.prompts.positive.data.tolist() == [[10, 12]]
    assert (annotator.site.labels.data == first).all()


def test_an_existing_labels_layer_goes_on_above_its_labels(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    data = np.zeros((40, 50), np.int32)
    data[:5, :5] = 41
    layer = viewer.add_labels(data)
    dock.labels.choose(layer)
    assert dock.start()
    click(dock, 4, 6)
    assert set(np.unique(layer.data)) == {0, 41, 42}
    assert (layer.data == 41).sum() == 25


def test_labels_of_another_shape_are_refused(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    dock.labels.choose(viewer.add_labels(np.zeros((40, 51), np.uint8)))
    with notified("has shape (40, 51)"):
        assert not dock.start()


def test_keys_reach_the_history_whatever_layer_is_active(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    site = dock.annotator.site
    layers = (site.labels, *site.prompts.layers, site.image)
    for layer in layers:
        viewer.layers.selection.active = layer
        click(dock, 10, 12)
        viewer.layers.selection.active = layer
        press(viewer, Qt.Key.Key_Z, CONTROL)
        assert not site.labels.data.any(), layer
        press(viewer, Qt.Key.Key_Z, CONTROL | SHIFT)
        assert site.labels.data.any(), layer
        press(viewer, Qt.Key.Key_Z, CONTROL)
    click(dock, 10, 12)
    press(viewer, Qt.Key.Key_N)
    assert dock.annotator.session.current == 2
    assert dock.positive_button.isChecked()
    press(viewer, Qt.Key.Key_T)
    assert viewer.layers.selection.active == site.prompts.negative
    assert dock.negative_button.isChecked()
    press(viewer, Qt.Key.Key_T)
    assert viewer.layers.selection.active == site.prompts.positive


def test_keys_are_taken_off_again(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    labels = dock.annotator.site.labels
    bound, count = set(viewer.keymap), sum(bool(key) for key in chosen_keys().values())
    assert len(labels.keymap) == count
    dock.release()
    assert not labels.keymap
    assert len(viewer.keymap) == len(bound) - count


def test_brush_strokes_become_part_of_the_object_and_of_the_history(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    labels = dock.annotator.site.labels
    click(dock, 10, 12)
    before = labels.data.copy()
    labels.paint((30, 30), labels.selected_label)
    painted = labels.data.copy()
    assert painted[30, 30] == 1
    click(dock, 10, 20)
    assert labels.data[30, 30] == 1
    dock.annotator.undo()
    assert (labels.data == painted).all()
    dock.annotator.undo()
    assert (labels.data == before).all()


def test_an_undo_of_naparis_own_is_noticed(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    labels = dock.annotator.site.labels
    click(dock, 10, 12)
    labels.undo()
    assert not labels.data.any()
    click(dock, 30, 30)
    dock.annotator.undo()
    assert not labels.data.any()
    dock.annotator.undo()
    assert labels.data.sum() == 25


def test_only_changed_pixels_enter_naparis_history(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    labels = dock.annotator.site.labels
    changes = []
    labels.events.paint.connect(lambda event: changes.append(event.value))
    click(dock, 10, 12)
    click(dock, 10, 13)
    sizes = [sum(len(atom[1]) for atom in item) for item in changes]
    assert sizes == [25, 5]


def test_a_click_outside_the_image_is_taken_away(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    before = dock.annotator.site.labels.data.copy()
    with notified("outside the image of 40 rows and 50 columns"):
        click(dock, 10, 77)
    assert dock.annotator.site.prompts.positive.data.tolist() == [[10, 12]]
    assert (dock.annotator.site.labels.data == before).all()


def test_a_click_in_the_3d_view_is_taken_away(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(6, 40, 50))
    viewer.dims.ndisplay = 3
    assert dock.wait_idle()
    assert "2-D" in dock.hint.text()
    with notified("clicking needs the 2-D view"):
        click(dock, 3, 10, 12)
    assert len(dock.annotator.site.prompts.positive.data) == 0
    viewer.dims.ndisplay = 2
    click(dock, 3, 10, 12)
    assert dock.annotator.site.labels.data[3].any()


def test_an_error_while_predicting_is_told_and_takes_the_click_back(
    open_dock: Any, predictor: Any
) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    before = dock.annotator.site.labels.data.copy()
    predictor.error = RuntimeError("out of coffee")
    with notified("out of coffee"):
        click(dock, 30, 30)
    predictor.error = None
    assert dock.annotator.site.prompts.positive.data.tolist() == [[10, 12]]
    assert (dock.annotator.site.labels.data == before).all()
    click(dock, 30, 30)
    assert dock.annotator.site.labels.data[30, 30] == 1


def test_clicks_made_while_the_worker_runs_are_not_lost(open_dock: Any, predictor: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    points = dock.annotator.site.prompts.positive
    predictor.gate.clear()
    for column in (5, 15, 25):
        points.add([10, column])
        QApplication.processEvents()
    dock.annotator.next_object()
    points.add([30, 30])
    dock.annotator.undo()
    predictor.gate.set()
    assert dock.wait_idle()
    labels = dock.annotator.site.labels.data
    assert labels.sum() == 75
    assert dock.annotator.session.current == 2
    dock.annotator.undo()
    dock.annotator.undo()
    assert labels.sum() == 50


@pytest.mark.parametrize("name", ["labels", "image", "positive", "negative"])
def test_a_removed_layer_stops_the_work_and_comes_back(open_dock: Any, name: str) -> None:
    viewer, dock = open_dock(grey(40, 50))
    annotator = dock.annotator
    click(dock, 10, 12)
    before = annotator.site.labels.data.copy()
    layer = getattr(annotator.site.prompts, name, None) or getattr(annotator.site, name)
    with notified("was removed: nothing is lost"):
        viewer.layers.remove(layer)
        assert dock.wait_idle()
    annotator.undo()
    assert (annotator.site.labels.data == before).all()
    assert dock.resume_button.isVisibleTo(dock)
    dock.resume_button.click()
    assert not dock.resume_button.isVisibleTo(dock)
    assert annotator.polarity is True
    assert viewer.layers.selection.active.mode == "add"
    order = [annotator.site.image, annotator.site.labels, *annotator.site.prompts.layers]
    assert list(viewer.layers) == order
    click(dock, 30, 30)
    assert annotator.site.labels.data.sum() == 50


def test_all_layers_removed_come_back(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    layers = list(viewer.layers)
    with notified("were removed: nothing is lost"):
        viewer.layers.clear()
        assert dock.wait_idle()
    assert dock.resume_button.isEnabled()
    dock.resume_button.click()
    assert list(viewer.layers) == layers
    assert dock.image.layer is layers[0]
    click(dock, 30, 30)
    assert layers[1].data.sum() == 50


def test_a_new_object_begins_with_a_click_on_it(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.annotator.choose_polarity(False)
    dock.next_button.click()
    assert dock.annotator.polarity is True
    dock.annotator.choose_polarity(False)
    click(dock, 30, 30, positive=False)
    assert "click on the object itself, too (T switches" in dock.hint.text()
    with notified("click on object 2 before going on"):
        dock.next_button.click()
    dock.annotator.choose_polarity(True)
    click(dock, 10, 12)
    assert "on object 1, which is finished" in dock.hint.text()


def test_a_box_is_named_where_background_clicks_may_not_help(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    click(dock, 20, 30, positive=False)
    click(dock, 25, 30, positive=False)
    click(dock, 28, 30, positive=False)
    assert "Box" not in dock.hint.text()
    click(dock, 30, 30, positive=False)
    assert "draw a Box around the object" in dock.hint.text()
    click(dock, 10, 14)
    assert "Box" not in dock.hint.text()


def test_a_points_layer_saved_by_napari_is_a_click_file(open_dock: Any, tmp_path: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    click(dock, 11, 15, positive=False)
    for number, layer in enumerate(dock.annotator.site.prompts.layers):
        (saved,) = layer.save(str(tmp_path / f"{number}.csv"))
        assert read_clicks(Path(saved)) == [
            ClickRecord(Click(10 + number, 12 + 3 * number, number == 0), (), 1)
        ]


def test_the_buttons_say_which_layer_gets_the_click(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    site = dock.annotator.site
    viewer.layers.selection.active = site.labels
    assert not dock.positive_button.isChecked()
    assert not dock.negative_button.isChecked()
    assert "press Object or Background" in dock.hint.text()
    viewer.layers.selection.active = site.prompts.negative
    assert site.prompts.negative.mode == "add"
    assert dock.negative_button.isChecked()
    dock.negative_button.click()
    assert dock.negative_button.isChecked()
    dock.positive_button.click()
    assert dock.positive_button.isChecked()
    assert not dock.negative_button.isChecked()


def test_another_image_opened_in_a_session_is_not_yet_annotated(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    ours = dock.annotator.site.image
    other = viewer.add_image(grey(20, 30), name="other")
    assert dock.wait_idle()
    assert dock.image.layer == other
    assert "press Start to go over to “other”" in dock.hint.text()
    assert dock.start_button.isVisibleTo(dock)
    for go_on in (dock.positive_button.click, lambda: dock.annotator.use_tool("box")):
        go_on()
        assert dock.wait_idle()
        assert dock.image.layer == ours
        assert not other.visible
        assert f"Hidden, since it lay over “{ours.name}”: “other”" in dock.hint.text()
        assert dock.status.text().startswith("Object 1")
        other.visible = True
        assert dock.annotator.polarity is True
        dock.annotator.changed.emit()
        assert dock.status.text().startswith(f"“{ours.name}” · Object 1")
        viewer.layers.selection.active = other
        assert dock.wait_idle()
        assert dock.image.layer == other
    # picked in the dock's list, it is selected too, and so let go of by the next click
    dock.positive_button.click()
    assert dock.wait_idle()
    dock.image.choose(other)
    dock.image.activated.emit(dock.image.currentIndex())
    assert viewer.layers.selection.active == other
    dock.image.choose(ours)
    dock.image.activated.emit(dock.image.currentIndex())
    assert dock.annotator.polarity is True
    assert viewer.layers.selection.active == dock.annotator.site.prompts.positive
    other.visible = False
    dock.positive_button.click()
    assert dock.wait_idle()
    assert dock.status.text().startswith("Object 1")
    viewer.layers.selection.active = other
    assert dock.wait_idle()
    labels = dock.annotator.site.labels
    before = labels.data.copy()
    assert before.any()
    assert dock.start()
    assert dock.annotator.site.image == other
    assert not dock.start_button.isVisibleTo(dock)
    dock.labels.setCurrentIndex(0)  # a new layer
    assert dock.start_button.isVisibleTo(dock)
    dock.labels.choose(dock.annotator.site.labels)
    assert not dock.start_button.isVisibleTo(dock)
    assert labels in viewer.layers
    assert (labels.data == before).all()


def test_renamed_and_reordered_layers_change_nothing(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), grey(40, 50))
    annotator = dock.annotator
    chosen = dock.image.layer
    chosen.name = "something else"
    annotator.site.labels.name = "masks"
    annotator.site.prompts.positive.name = "yes"
    viewer.layers.move(0, -1)
    viewer.layers.reverse()
    assert dock.image.layer == chosen
    assert dock.image.currentText() == "something else"
    click(dock, 10, 12)
    assert annotator.site.labels.data.sum() == 25


def test_replaced_labels_data_stop_the_work(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    annotator = dock.annotator
    click(dock, 10, 12)
    data = annotator.site.labels.data
    with notified("now has shape (4, 4)"):
        annotator.site.labels.data = np.zeros((4, 4), np.uint16)
        assert dock.wait_idle()
    annotator.undo()
    annotator.site.labels.data = data
    assert dock.wait_idle()
    assert not annotator.problem
    annotator.undo()
    assert not data.any()


def test_a_replaced_image_is_read_anew(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    viewer.layers[0].data = np.zeros((40, 50), np.uint8)
    click(dock, 30, 30)
    assert not predictor.slices[-1].any()


def test_a_model_that_cannot_be_loaded_is_told_and_another_chosen(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50), start=False)
    with notified("the file is damaged"):
        dock.model.setCurrentText("broken")
        assert dock.wait_idle()
    assert "cannot be used" in dock.status.text()
    assert not dock.start_button.isEnabled()
    dock.model.setCurrentText("default")
    assert dock.wait_idle()
    assert dock.status.text() == "Ready (cpu)"
    assert dock.start()


def test_the_model_that_the_user_picks_is_remembered(
    open_dock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dock = open_dock(grey(40, 50), start=False)
    assert chosen_model() == "default"
    chosen: list[str] = []
    monkeypatch.setattr("napari_fctsfn.models.choose_model", chosen.append)
    dock.model.setCurrentIndex(0)  # shown by the program: no choice of the user
    assert chosen == []
    dock.model.textActivated.emit("default")
    assert chosen == ["default"]

    def refuse(name: str) -> None:
        raise ModelError(f"{name} is damaged")

    monkeypatch.setattr("napari_fctsfn.models.choose_model", refuse)
    with notified("“default” is not remembered: default is damaged"):
        dock.model.textActivated.emit("default")
    assert dock.wait_idle()


def test_the_dock_says_what_to_do(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(start=False)
    assert "Open an image first" in dock.hint.text()
    assert not dock.start_button.isEnabled()
    assert "research use only" in dock.licence.text()
    viewer.add_image(grey(40, 50))
    assert dock.wait_idle()
    assert predictor.warmed == 1
    assert "press Start" in dock.hint.text()
    dock.start_button.click()
    assert "Click on the thing" in dock.hint.text()
    click(dock, 10, 12)
    assert dock.status.text().startswith("Object 1 · 1 click · ")
    assert "ms\xa0on\xa0cpu" in dock.status.text()
    for button, key in [
        (dock.next_button, "N"),
        (dock.undo_button, "Z"),
        (dock.grow_button, "(G)"),
        (dock.shrink_button, "Shift+G"),
    ]:
        assert key in button.toolTip()


def test_the_model_is_loaded_in_the_background(
    make_napari_viewer_proxy: Any, predictor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, load = threading.Event(), tasks.load_replayer
    monkeypatch.setattr(tasks, "load_replayer", lambda *a: (gate.wait(20), load(*a))[1])
    viewer = make_napari_viewer_proxy()
    viewer.add_image(grey(40, 50))
    dock = AnnotateDock(viewer)
    QApplication.processEvents()
    assert dock.status.text().startswith("Loading model")
    with notified("not loaded"):
        assert not dock.start()
    gate.set()
    assert dock.wait_idle()
    assert dock.start()
    dock.close()
    assert not dock.annotator.busy


def test_a_dock_closed_while_the_worker_runs(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    labels = dock.annotator.site.labels
    before = labels.data.copy()
    predictor.gate.clear()
    dock.annotator.site.prompts.positive.add([30, 30])
    QApplication.processEvents()
    viewer.window.remove_dock_widget(dock)
    predictor.gate.set()
    for _ in range(20):
        QApplication.processEvents()
    assert dock.annotator.session is None
    assert list(viewer.layers) == [viewer.layers[0], labels]
    assert (labels.data == before).all()
    viewer.dims.ndisplay = 2
    viewer.add_image(grey(3, 3))


def test_the_dock_leaves_torch_to_the_background() -> None:
    code = "import sys, napari_fctsfn.plugin.dock; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_of_the_dock_fits_into_a_window_of_700_rows(
    make_napari_viewer_proxy: Any, predictor: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1100, 700)
    viewer.add_image(grey(40, 50))
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    assert dock.wait_idle(20_000)
    assert dock.start()
    last = dock.export_button
    qtbot.waitUntil(lambda: dock.rect().contains(last.mapTo(dock, last.rect().bottomRight())))
    dock.release()


@pytest.mark.parametrize("zoomed", [False, True])
def test_a_fitted_view_is_fitted_to_what_the_dock_leaves_of_the_window(
    make_napari_viewer_proxy: Any, predictor: Any, qtbot: Any, zoomed: bool
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(grey(300, 900))
    QApplication.processEvents()
    viewer.reset_view()
    camera = camera_of(viewer)
    if zoomed:
        camera.zoom *= 3
    before = camera.zoom, camera.center
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    assert dock.wait_idle(20_000)
    if zoomed:
        assert (camera.zoom, camera.center) == before
    else:
        qtbot.waitUntil(lambda: camera.zoom < before[0])
        fitted = camera.zoom
        viewer.reset_view()
        assert camera.zoom == pytest.approx(fitted)
    dock.release()
