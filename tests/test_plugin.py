"""The Annotate dock in the real napari window, with a stand-in for the network."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from napari.utils.notifications import notification_manager
from npe2 import PluginManager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_fctsfn.clicks import Click, ClickRecord, read_clicks
from napari_fctsfn.models import ModelError, chosen_model
from napari_fctsfn.plugin import AnnotateDock, tasks
from napari_fctsfn.plugin.keys import chosen_keys
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.session import open_session

pytestmark = pytest.mark.filterwarnings(
    # napari 0.9 and its dependencies, on their own behalf
    "ignore::DeprecationWarning:napari.*",
    "ignore::DeprecationWarning:vispy.*",
)


@contextmanager
def notified(text: str) -> Iterator[None]:
    """Exactly one notification is shown, and it says this."""
    before = len(notification_manager.records)
    yield
    messages = [str(record.message) for record in list(notification_manager.records)[before:]]
    assert len(messages) == 1, messages
    assert text in messages[0]


def click(dock: AnnotateDock, *point: float, positive: bool = True) -> None:
    prompts = dock.annotator.site.prompts
    (prompts.positive if positive else prompts.negative).add(list(point))
    assert dock.wait_idle()


def press(viewer: Any, key: Qt.Key, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
    """Press a key over the canvas, as a user does."""
    from qtpy.QtTest import QTest

    canvas = next(
        w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop"
    )
    QTest.keyClick(canvas, key, modifiers)
    QApplication.processEvents()


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)


CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


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


def test_each_slice_has_its_own_clicks(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(6, 40, 50))
    labels = dock.annotator.site.labels
    viewer.dims.set_point(0, 2)
    click(dock, 2, 10, 12)
    viewer.dims.set_point(0, 4)
    click(dock, 4, 30, 30)
    assert np.flatnonzero(labels.data.any(axis=(1, 2))).tolist() == [2, 4]
    planes = dock.annotator.session.planes(1)
    assert [plane.index for plane in planes] == [(2, None, None), (4, None, None)]
    dock.annotator.undo()
    dock.annotator.undo()
    assert viewer.dims.current_step[0] == 2
    assert not labels.data.any()


def test_other_orientations_of_a_stack(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(20, 40, 50))
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 7)
    click(dock, 9, 7, 12)
    labels = dock.annotator.site.labels.data
    assert labels[:, 7].sum() == 25
    assert labels.sum() == 25


def test_the_slice_shown_is_the_slice_predicted(open_dock: Any, predictor: Any) -> None:
    stack = grey(6, 40, 50)
    viewer, dock = open_dock(stack)
    viewer.dims.set_point(0, 3)
    click(dock, 3, 10, 12)
    assert (predictor.slices[-1] == stack[3]).all()


def test_new_layers_lie_where_the_image_lies(open_dock: Any) -> None:
    place = {
        "scale": (3.0, 0.5, 0.25),
        "translate": (1.0, 2.0, 3.0),
        "rotate": np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]),
        "shear": (0.0, 0.0, 0.1),
        "affine": np.diag([1.0, 2.0, 2.0, 1.0]),
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    viewer, dock = open_dock(grey(6, 40, 50), **place)
    image, site = viewer.layers[0], dock.annotator.site
    for layer in (site.labels, *site.prompts.layers):
        for point in ([0, 0, 0], [3, 11, 7]):
            assert np.allclose(layer.data_to_world(point), image.data_to_world(point))
        assert layer.axis_labels == image.axis_labels
        assert layer.units == image.units
    image.scale = (1.0, 1.0, 1.0)
    assert np.allclose(site.labels.scale, 1)


def test_a_world_position_of_a_scaled_image_becomes_its_pixel(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(6, 40, 50), scale=(3.0, 0.5, 0.25), translate=(1, 2, 3))
    viewer.dims.set_point(0, 1 + 3 * 4)
    points = dock.annotator.site.prompts.positive
    click(dock, *points.world_to_data((1 + 3 * 4, 2 + 0.5 * 20, 3 + 0.25 * 30)))
    labels = dock.annotator.site.labels.data
    assert labels[4, 20, 30] == 1
    assert labels.sum() == 25


@pytest.mark.parametrize(
    ("data", "kwargs"),
    [
        (grey(40, 50, 3), {"rgb": True}),
        (grey(4, 40, 50, 4), {"rgb": True}),
        ([grey(40, 50), grey(20, 25)], {"multiscale": True}),
        (grey(40, 50) > 100, {}),
        (np.full((40, 50), 7.0), {}),
        (np.full((40, 50), np.nan, np.float32), {}),
    ],
    ids=["rgb", "rgba stack", "multiscale", "bool", "constant", "nan"],
)
def test_kinds_of_images(open_dock: Any, predictor: Any, data: Any, kwargs: Any) -> None:
    viewer, dock = open_dock(start=False)
    layer = viewer.add_image(data, **kwargs)
    assert dock.wait_idle()
    assert dock.start()
    click(dock, *[1] * (layer.ndim - 2), 10, 12)
    labels = dock.annotator.site.labels.data
    assert labels.sum() > 0
    assert predictor.image.shape[:2] == (40, 50)


def test_lazy_stacks_are_read_slice_by_slice(open_dock: Any) -> None:
    da = pytest.importorskip("dask.array")
    read = []

    def block(block_info: Any = None) -> np.ndarray:
        read.append(block_info[None]["chunk-location"][0])
        return grey(1, 40, 50)

    stack = da.map_blocks(block, chunks=((1,) * 8, (40,), (50,)), dtype=np.uint8)
    viewer, dock = open_dock(stack, contrast_limits=(0, 255))
    shown = viewer.dims.current_step[0]
    viewer.dims.set_point(0, 5)
    click(dock, 5, 10, 12)
    assert 5 in read
    # the first slice and the last tell which image it is; neighbours are read ahead
    assert set(read) <= {0, 7, shown - 1, shown, shown + 1, 4, 5, 6}


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
    assert "press T and click on the object" in dock.hint.text()
    with notified("click on object 2 before going on"):
        dock.next_button.click()
    dock.annotator.choose_polarity(True)
    click(dock, 10, 12)
    assert "on object 1, which is finished" in dock.hint.text()


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


def test_another_image_chosen_in_a_session_is_not_yet_annotated(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    other = viewer.add_image(grey(20, 30), name="other")
    assert dock.wait_idle()
    dock.image.choose(other)
    assert "press Start again to go over to “other”" in dock.hint.text()
    assert dock.start()
    assert dock.annotator.site.image == other


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
    assert "ms on cpu" in dock.status.text()
    for button, key in [(dock.next_button, "N"), (dock.undo_button, "Z")]:
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


def test_a_closed_session_is_reopened_with_its_clicks(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.annotator.next_object()
    click(dock, 30, 30)
    click(dock, 30, 33)
    labels = dock.annotator.site.labels
    before = labels.data.copy()
    dock.release()
    again = AnnotateDock(viewer)
    assert again.wait_idle()
    again.labels.choose(labels)
    again.image.choose(viewer.layers[0])
    assert again.start()
    assert again.annotator.session.current == 2
    assert again.annotator.site.prompts.positive.data.tolist() == [[30, 30], [30, 33]]
    click(again, 5, 40)
    click(again, 20, 40)
    again.annotator.site.prompts.positive.selected_data = {2, 3}
    again.annotator.site.prompts.positive.remove_selected()
    assert again.wait_idle()
    assert (labels.data == before).all()
    again.close()


def test_a_damaged_stored_session_is_left_aside(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    layer = viewer.add_labels(
        np.ones((40, 50), np.uint8), metadata={"napari-fctsfn session": "nowhere"}
    )
    dock.labels.choose(layer)
    with notified("left aside: nowhere is no session"):
        assert dock.start()
    assert dock.annotator.session.current == 2


def test_what_a_crash_left_behind_is_reopened(open_dock: Any, isolated_home: Path) -> None:
    image = grey(40, 50)
    viewer, dock = open_dock(image)
    click(dock, 10, 12)
    dock.annotator.next_object()
    click(dock, 30, 30)
    dock.annotator.undo()
    labels = dock.annotator.site.labels.data.copy()
    # what the disk holds when the process is killed now
    (folder,) = (isolated_home / "sessions").iterdir()
    shutil.copytree(folder, folder.with_name("99990101-000000 killed"))
    dock.release()
    viewer.layers.clear()
    viewer.add_image(image, name="the same under another name")
    again = AnnotateDock(viewer)
    assert again.wait_idle()
    assert again.reopen_button.isVisibleTo(again)
    assert "Reopen last session goes on" in again.hint.text()
    again.reopen_button.click()
    assert again.wait_idle()
    site = again.annotator.site
    assert (site.labels.data == labels).all()
    assert site.session.current == 2
    again.annotator.redo()
    assert again.wait_idle()
    assert site.labels.data[30, 30] == 2
    for _ in range(3):
        again.annotator.undo()
    assert not site.labels.data.any()
    assert again.annotator.session.current == 1
    again.close()


def test_the_session_of_another_image_is_not_reopened(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.release()
    viewer.layers.clear()
    viewer.add_image(grey(40, 50) + 1, name="other")
    again = AnnotateDock(viewer)
    assert again.wait_idle()
    with notified("and not of “other”"):
        assert not again.reopen()
    again.close()


def test_the_next_image_is_the_next_file_that_is_not_annotated(
    open_dock: Any, tmp_path: Path
) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    with notified("was not opened from a file"):
        assert not dock.next_image()
    for number in range(4):
        tifffile.imwrite(tmp_path / f"cells{number}.tif", grey(40, 50) + number)
    (tmp_path / "notes.txt").write_text("no image")
    (image,) = viewer.open(str(tmp_path / "cells2.tif"), plugin="napari")
    dock.image.choose(image)
    assert dock.start()
    click(dock, 10, 12)
    (image,) = viewer.open(str(tmp_path / "cells0.tif"), plugin="napari")
    dock.image.choose(image)
    dock.labels.choose(None)
    dock.act("next_image")
    assert dock.wait_idle()
    assert dock.annotator.site.image.source.path == str(tmp_path / "cells1.tif")
    assert not image.visible
    # the session of a file of another name and the same shape is not offered
    assert not dock.reopen_button.isVisibleTo(dock)
    click(dock, 20, 20)
    assert dock.next_image()  # not the second, which has a session
    assert dock.wait_idle()
    assert dock.annotator.site.image.source.path == str(tmp_path / "cells3.tif")
    with notified("has no image after cells3.tif"):
        assert not dock.next_image()
    assert dock.annotator.site.image.source.path == str(tmp_path / "cells3.tif")


def test_nothing_stays_of_a_session_in_which_nothing_was_done(
    open_dock: Any, isolated_home: Path
) -> None:
    _, dock = open_dock(grey(40, 50))
    assert len(list((isolated_home / "sessions").iterdir())) == 1
    dock.release()
    assert not list((isolated_home / "sessions").iterdir())


def test_a_full_disk_is_said_and_does_not_stop_the_work(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    journal = dock.annotator.site.journal
    file = journal._file
    with Path("/dev/full").open("wb", buffering=0) as full:
        journal._file = full
        click(dock, 10, 12)
        assert "No space left" in dock.hint.text()
        journal._file = file
    click(dock, 12, 12)
    assert "No space" not in dock.hint.text()
    assert dock.annotator.site.labels.data[10, 12] == 1


def test_labels_changed_while_the_dock_was_closed_become_part_of_the_session(
    open_dock: Any,
) -> None:
    viewer, dock = open_dock(grey(3, 40, 50))
    click(dock, 0, 10, 12)
    labels = dock.annotator.site.labels
    dock.release()
    labels.data[2, 5:9, 5:9] = 7
    again = AnnotateDock(viewer)
    assert again.wait_idle()
    again.labels.choose(labels)
    assert again.start()
    folder = again.annotator.site.journal.folder
    again.close()
    opened = open_session(folder)
    opened.journal.close()
    assert (opened.labels == labels.data).all()


def test_two_viewers_hold_two_sessions(open_dock: Any) -> None:
    _, one = open_dock(grey(40, 50))
    _, two = open_dock(grey(40, 50))
    click(one, 10, 12)
    assert not two.annotator.site.labels.data.any()
    assert two.annotator.session.current == 1


def test_the_dock_leaves_torch_to_the_background() -> None:
    code = "import sys, napari_fctsfn.plugin.dock; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_samples_and_manifest(make_napari_viewer_proxy: Any) -> None:
    from npe2 import PluginManifest

    from napari_fctsfn.plugin import samples

    manifest = PluginManifest.from_distribution("napari-fctsfn")
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    viewer = make_napari_viewer_proxy()
    for function in (samples.nuclei, samples.chloroplasts):
        for data, options, kind in function():
            assert kind == "image"
            assert isinstance(viewer.add_image(data, **options), Image)


def cells(dock: AnnotateDock) -> list[list[Any]]:
    """What the table of objects shows."""
    model = dock.objects.model
    return [
        [model.data(model.index(row, column), 0) for column in range(model.columnCount() - 1)]
        for row in range(model.rowCount())
    ]


def three_objects(dock: AnnotateDock) -> np.ndarray:
    for number, row in enumerate((8, 18, 28)):
        if number:
            dock.annotator.next_object()
        click(dock, row, 12)
    return dock.annotator.site.labels.data.copy()


def test_the_table_shows_the_objects_and_takes_names(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    three_objects(dock)
    model = dock.objects.model
    assert cells(dock) == [[n, "", "", 1, 25, 1] for n in (1, 2, 3)]
    assert model.setData(model.index(1, 1), " left one ")
    assert model.setData(model.index(1, 2), "nucleus")
    assert model.setData(model.index(1, 6), Qt.CheckState.Checked.value, Qt.CheckStateRole)
    assert not model.setData(model.index(1, 4), 7)
    assert cells(dock)[1] == [2, "left one", "nucleus", 1, 25, 1]
    assert dock.annotator.session.note(2).reviewed
    for _ in range(3):
        dock.annotator.undo()
    assert not dock.annotator.session.notes


def test_a_finished_object_is_taken_up_again(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(4, 40, 50))
    for z in (0, 2, 3):
        viewer.dims.set_point(0, z)
        click(dock, z, 8 + 5 * z, 12)
        dock.annotator.next_object()
    dock.objects.choose([2])
    dock.objects.actions_of["Take up"][0]()
    assert dock.wait_idle()
    assert viewer.dims.current_step[0] == 2
    assert dock.annotator.site.prompts.positive.data.tolist() == [[2, 18, 12]]
    click(dock, 2, 30, 30)
    assert dock.annotator.site.labels.data[2, 30, 30] == 2
    dock.annotator.next_object()
    assert dock.annotator.session.current == 4


def test_objects_are_merged_deleted_and_renumbered_and_all_of_it_undone(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    before, labels = three_objects(dock), dock.annotator.site.labels
    table, actions = dock.objects, dock.objects.actions_of
    table.choose([2, 3])
    actions["Merge"][0]()
    assert [row[:1] + row[3:] for row in cells(dock)] == [[1, 1, 25, 1], [2, 1, 50, 2]]
    assert sorted(np.unique(labels.data)) == [0, 1, 2]
    table.choose([1])
    actions["Delete"][0]()
    actions["Renumber"][0]()
    assert sorted(np.unique(labels.data)) == [0, 1]
    assert dock.annotator.session.current == 3
    table.choose([1])
    actions["Delete"][0]()
    assert not labels.data.any()
    for _ in range(4):
        dock.annotator.undo()
    assert (labels.data == before).all()


def test_the_table_tells_its_view_of_changed_rows_only(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    three_objects(dock)
    model, told = dock.objects.model, []
    model.dataChanged.connect(lambda first, last: told.append((first.row(), last.row())))
    model.modelReset.connect(lambda: told.append("reset"))
    click(dock, 30, 40)
    assert set(told) == {(2, 2)}
    assert cells(dock)[2][4:6] == [50, 2]
    told.clear()
    # the row in bold is that of the object that is worked on
    dock.annotator.take_up(1)
    assert dock.wait_idle()
    assert set(told) == {(0, 0), (2, 2)}
    bold = [
        (font := model.data(model.index(row, 0), Qt.FontRole)) is not None and font.bold()
        for row in range(3)
    ]
    assert bold == [True, False, False]
    dock.annotator.delete([2])
    assert "reset" in told
    assert [row[0] for row in cells(dock)] == [1, 3]


def test_nothing_chosen_in_the_table_is_said_and_changes_nothing(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    before = three_objects(dock)
    for name in ("Show", "Merge", "Delete", "Reviewed", "Protect", "Hide", "Colour…"):
        dock.objects.choose([2] if name == "Merge" else [])
        dock.objects.actions_of[name][0]()
        assert "in the table first" in dock.hint.text()
        dock.annotator.tell("")
    assert (dock.annotator.site.labels.data == before).all()
    assert not dock.annotator.session.notes


def test_the_object_worked_on_is_chosen_in_the_table(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    three_objects(dock)
    assert dock.objects.chosen == [3]
    dock.objects.choose([2])
    camera = getattr(viewer, "scene", viewer).camera
    camera.center = place = (5.0, 6.0)
    viewer.cursor.position = (8.0, 12.0)
    dock.annotator.choose_polarity(False)
    dock.annotator.take_up_pointed()
    assert dock.wait_idle()
    assert dock.annotator.polarity is True
    assert dock.objects.chosen == [1]
    assert tuple(camera.center[-2:]) == place
    dock.annotator.choose_polarity(False)
    dock.annotator.take_up(1)
    assert dock.annotator.polarity is True
    dock.objects.choose([2, 3])
    click(dock, 10, 14)
    assert dock.objects.chosen == [2, 3]
    dock.annotator.next_object()
    dock.objects.actions_of["Delete"][0]()
    assert [row[0] for row in cells(dock)] == [1]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [(None, "percentiles"), ((0, 255), "percentiles"), ((30, 200), (30, 200))],
)
def test_the_network_sees_percentiles_until_somebody_sets_contrast(
    open_dock: Any, limits: Any, expected: Any
) -> None:
    image = np.random.default_rng(0).integers(20, 90, (40, 50)).astype(np.uint8)
    image[3, 4] = 240  # a hot pixel, that would make all others dark
    _, dock = open_dock(image, **({} if limits is None else {"contrast_limits": limits}))
    found = dock.annotator.session.normalisation
    usual = Normalisation.from_array(image)
    assert (found.low, found.high) == (
        (usual.low, usual.high) if expected == "percentiles" else expected
    )
    assert usual.high < 95


def test_a_lazy_image_is_seen_as_it_is_displayed(open_dock: Any) -> None:
    import dask.array as da

    data = np.random.default_rng(0).integers(20, 90, (3, 40, 50)).astype(np.uint16)
    _, dock = open_dock(da.from_array(data, (1, 40, 50)), contrast_limits=(0, 400))
    found = dock.annotator.session.normalisation
    assert (found.low, found.high) == (0, 400)


def test_samples_open_as_the_command_line_sees_them() -> None:
    from napari_fctsfn.plugin import samples

    for open_sample in (samples.nuclei, samples.chloroplasts, samples.chloroplast_stack):
        ((data, options, _),) = open_sample()
        seen = Normalisation.from_array(data)
        assert options["contrast_limits"] == (seen.low, seen.high)


def test_a_protected_object_is_closed_to_clicks_and_brush(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 8, 12)
    dock.objects.choose([1])
    dock.objects.actions_of["Protect"][0]()
    labels = dock.annotator.site.labels
    before = labels.data.copy()
    with notified("object 1 is protected"):
        click(dock, 20, 20)
    assert len(dock.annotator.site.prompts.positive.data) == 1
    labels.selected_label, labels.brush_size = 0, 3
    with notified("the stroke was taken back"):
        labels.paint((8, 12), 0)
        assert dock.wait_idle()
    assert (labels.data == before).all()
    dock.objects.actions_of["Protect"][0]()
    labels.paint((8, 12), 0)
    assert labels.data[8, 12] == 0


def test_objects_get_colours_and_are_hidden(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    three_objects(dock)
    labels = dock.annotator.site.labels
    own = [tuple(labels.get_color(n)) for n in (1, 2, 3)]
    dock.annotator.describe([1], color="#ff0000")
    dock.annotator.describe([2], hidden=True)
    assert tuple(labels.get_color(1)) == (1, 0, 0, 1)
    assert labels.get_color(2) is None or labels.get_color(2)[3] == 0
    assert tuple(labels.get_color(3)) == own[2]
    dock.annotator.undo()
    dock.annotator.undo()
    assert [tuple(labels.get_color(n)) for n in (1, 2, 3)] == own


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


def test_a_session_is_opened_and_labels_are_saved_by_naparis_file_menu(
    open_dock: Any, tmp_path: Path
) -> None:
    viewer, dock = open_dock(grey(3, 40, 50))
    viewer.dims.set_point(0, 1)
    click(dock, 1, 10, 12)
    labels = dock.annotator.site.labels
    folder = Path(labels.metadata["napari-fctsfn session"])
    before = labels.data.copy()
    image = viewer.layers[0]
    dock.annotator.stop()
    viewer.layers.remove(labels)
    (opened,) = viewer.open(folder, plugin="napari-fctsfn")
    assert (opened.data == before).all()
    dock.labels.choose(opened)
    assert dock.start()
    assert [row.clicks for row in dock.objects.model.rows] == [1]
    opened.scale = (2, 0.5, 0.5)
    for name in ("a.ome.tif", "a.ome.zarr", "a.json", "a.zip"):
        saved = opened.save(str(tmp_path / name), plugin="napari-fctsfn")
        assert saved == [str(tmp_path / name)]
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert (file.asarray() == before).all()
        assert 'PhysicalSizeZ="2.0"' in file.ome_metadata
    assert image in viewer.layers


def test_every_sample_opens_as_the_picture_it_says(make_napari_viewer_proxy: Any) -> None:
    viewer = make_napari_viewer_proxy()
    shapes = {
        "nuclei": (256, 256),
        "chloroplasts": (512, 512),
        "chloroplast_stack": (10, 256, 256),
        "stained_nuclei": (256, 320, 3),
        "cat": (300, 451, 3),
    }
    for key, shape in shapes.items():
        (layer,) = viewer.open_sample("napari-fctsfn", key)
        assert layer.data.shape == shape
        assert layer.rgb == (len(shape) == 3 and shape[-1] == 3)
        assert layer.data.std() > 10
    manifest = PluginManager.instance().get_manifest("napari-fctsfn")
    assert {sample.key for sample in manifest.contributions.sample_data} == set(shapes)
