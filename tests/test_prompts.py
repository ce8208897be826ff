"""What a click can be given along with: masks of other tools, boxes, scribbles, settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from in_window import click, grey, notified, press
from qtpy.QtWidgets import QApplication


def test_a_mask_of_the_layer_at_work_is_taken_up_under_the_cursor(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(3, 40, 50), start=False)
    data = np.zeros((3, 40, 50), np.uint16)
    data[0:2, 5:15, 5:15] = 4
    dock.labels.choose(viewer.add_labels(data.copy()))
    assert dock.start()
    annotator, labels = dock.annotator, dock.annotator.site.labels
    viewer.dims.set_point(0, 0)
    assert annotator.session.current == 5
    viewer.cursor.position = (0, 7, 7)
    press(viewer, "u")
    assert annotator.session.current == 4
    assert [row.area for row in dock.objects.model.rows] == [200]
    assert "the rest of it stays" in dock.hint.text()
    click(dock, 0, 30, 30)
    assert labels.data[0, 7, 7] == labels.data[0, 30, 30] == 4
    viewer.cursor.position = (0, 35, 45)
    with notified("nothing to take up"):
        press(viewer, "u")
    annotator.undo()
    annotator.undo()
    assert (labels.data == data).all()
    assert annotator.session.current == 5
    assert not dock.objects.model.rows


def test_the_object_under_the_cursor_is_taken_up_with_its_clicks(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.annotator.next_object()
    click(dock, 30, 30)
    viewer.cursor.position = (10, 12)
    press(viewer, "u")
    assert dock.annotator.session.current == 1
    assert dock.annotator.site.prompts.positive.data.tolist() == [[10, 12]]


def test_a_picked_mask_of_another_layer_becomes_an_object_beside_the_others(
    open_dock: Any,
) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    before = dock.annotator.site.labels.data.copy()
    other = viewer.add_labels(np.zeros((40, 50), np.int64))
    other.data[8:30, 10:30] = 1
    viewer.layers.selection.active = other
    other.selected_label = 1
    dock.objects.choose([])
    dock.objects.actions_of["Take up"][0]()
    labels = dock.annotator.site.labels
    assert dock.annotator.session.current == 2
    assert (labels.data[before == 1] == 1).all()
    assert ((labels.data == 2) == ((other.data == 1) & (before == 0))).all()
    assert dock.annotator.polarity is True
    viewer.layers.selection.active = other
    dock.objects.choose([])
    with notified("all pixels of that mask belong"):
        dock.objects.actions_of["Take up"][0]()
    other.selected_label = 9
    viewer.layers.selection.active = other
    with notified("has no pixel of label 9"):
        dock.objects.actions_of["Take up"][0]()
    dock.annotator.undo()
    assert (labels.data == before).all()


def test_a_mask_of_another_shape_is_not_taken_up(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    viewer.layers.selection.active = viewer.add_labels(np.ones((4, 5), np.uint8))
    with notified("has shape (4, 5)"):
        dock.annotator.take_up_picked()


def test_masks_of_lazy_and_multiscale_labels_are_taken_up(open_dock: Any) -> None:
    da = pytest.importorskip("dask.array")
    viewer, dock = open_dock(grey(4, 40, 50))
    data = np.zeros((4, 40, 50), np.uint8)
    data[1:3, 5:9, 5:9] = 3
    for layer in (
        viewer.add_labels(da.from_array(data, chunks=(1, 40, 50))),
        viewer.add_labels([data, data[:, ::2, ::2]], multiscale=True),
    ):
        layer.selected_label = 3
        viewer.layers.selection.active = layer
        dock.annotator.take_up_picked()
        labels = dock.annotator.site.labels.data
        assert ((labels == dock.annotator.session.current) == (data == 3)).all()
        dock.annotator.undo()
        assert not labels.any()


def shape_drawn(dock: Any, data: Any, kind: str) -> None:
    dock.annotator.shaping.layer.add(np.array(data, dtype=float), shape_type=kind)
    assert dock.wait_idle()


def test_a_slider_makes_the_mask_again_without_the_network_in_one_step(
    open_dock: Any, predictor: Any
) -> None:
    _, dock = open_dock(grey(40, 50))
    annotator, refine = dock.annotator, dock.refine
    click(dock, 10, 12)
    click(dock, 12, 30)
    whole, predicted = annotator.site.labels.data.copy(), predictor.predicted
    refine.threshold.setSliderDown(True)
    for value in (0.55, 0.6, 0.7):
        refine.threshold.setValue(value)
        QApplication.processEvents()
    assert (annotator.site.labels.data == whole).all(), "only an outline while it is held"
    refine.threshold.setSliderDown(False)
    assert dock.wait_idle()
    assert (annotator.site.labels.data[[10, 12]] == whole[[10, 12]]).all()
    assert not annotator.site.labels.data[9].any()
    assert annotator.session.refinement.threshold == 0.7
    annotator.undo()
    assert dock.wait_idle()
    assert (annotator.site.labels.data == whole).all()
    assert refine.threshold.value() == 0.5
    annotator.redo()
    assert refine.threshold.value() == 0.7
    assert predictor.predicted == predicted
    click(dock, 20, 20)
    assert not annotator.site.labels.data[19].any(), "later clicks are refined too"
    refine.reset_button.click()
    assert dock.wait_idle()
    assert annotator.site.labels.data[19].any()
    assert not refine.reset_button.isEnabled()


def test_a_finished_object_keeps_its_mask_when_a_slider_moves(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    before = dock.annotator.site.labels.data.copy()
    dock.annotator.next_object()
    dock.refine.threshold.setValue(0.8)
    dock.refine.fill_holes.setChecked(False)
    assert dock.wait_idle()
    assert (dock.annotator.site.labels.data == before).all()
    click(dock, 30, 30)
    assert np.flatnonzero((dock.annotator.site.labels.data == 2).any(axis=1)).tolist() == [30]


def test_refined_masks_and_their_sliders_come_back_with_a_session(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.refine.threshold.setValue(0.8)
    dock.refine.edges.setValue(0.25)
    assert dock.wait_idle()
    labels = dock.annotator.site.labels.data.copy()
    layer = dock.annotator.site.labels
    dock.annotator.stop()
    viewer.layers.remove(layer)
    dock._on_image()
    assert dock.reopen()
    assert dock.wait_idle()
    assert (dock.annotator.site.labels.data == labels).all()
    assert dock.refine.threshold.value() == 0.8
    assert dock.annotator.session.refinement.edges == 0.25
    dock.annotator.undo()
    assert dock.annotator.site.labels.data.sum() == 25


def test_a_box_is_one_step_with_its_clicks(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(3, 40, 50))
    viewer.dims.set_point(0, 1)
    annotator = dock.annotator
    dock.tools.buttons["box"].click()
    assert annotator.tool == "box"
    assert dock.tools.buttons["box"].isChecked()
    corners = [[1, 5, 10], [1, 5, 30], [1, 25, 30], [1, 25, 10]]
    shape_drawn(dock, corners, "rectangle")
    plane = annotator.source.plane()
    annotation = annotator.session.objects[1][plane]
    assert annotation.box == (5, 10, 25, 30)
    assert len(annotation.clicks) == 5
    assert annotator.site.prompts.positive.data.tolist() == [[1, 15, 20]]
    assert len(annotator.site.prompts.negative.data) == 4
    assert annotator.shaping.layer.nshapes == 0
    assert annotator.site.labels.data[1, 15, 20] == 1
    annotator.undo()
    assert not annotator.session.objects
    assert not annotator.site.labels.data.any()
    annotator.redo()
    dock.tools.buttons["click"].click()
    assert annotator.polarity is True
    click(dock, 1, 30, 40)
    assert annotator.site.labels.data[1, 15, 20] == annotator.site.labels.data[1, 30, 40] == 1
    steps = len(list(annotator.session.history))
    with notified("holds no pixel of the image"):
        shape_drawn(dock, np.add(corners, [0, 100, 0]), "rectangle")
    assert "holds no pixel of the image" in dock.hint.text()
    middle = np.mean(corners, axis=0)
    of_a_click = 3.5 * annotator.shaping.layer.scale_factor
    with notified("a click draws no box"):
        shape_drawn(dock, middle + (corners - middle) * of_a_click / 20, "rectangle")
    assert len(list(annotator.session.history)) == steps


def test_the_next_object_begins_with_a_box_where_boxes_are_drawn(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    annotator = dock.annotator
    for number, left in enumerate((5, 30), start=1):
        if number > 1:
            dock.next_button.click()
        else:
            dock.tools.buttons["box"].click()
        assert dock.tools.buttons["box"].isChecked()
        assert dock.hint.text() == f"Drag a box around object {number}."
        shape_drawn(dock, [[5, left], [5, left + 12], [25, left + 12], [25, left]], "rectangle")
        assert annotator.site.labels.data[15, left + 6] == number
        assert dock.hint.text().startswith("Correct the mask by clicks")
        assert "goes on to the next object" in dock.hint.text()
    dock.tools.buttons["scribble"].click()
    dock.next_button.click()
    assert annotator.tool == "click"
    assert annotator.polarity is True


def test_scribbles_are_clicks_of_the_kind_that_is_chosen(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    annotator = dock.annotator
    dock.tools.buttons["scribble"].click()
    assert "next object" not in dock.hint.text()
    shape_drawn(dock, [[10, 10], [10, 40]], "path")
    assert dock.hint.text().startswith("Drag along the object")
    assert "goes on to the next object" in dock.hint.text()
    plane = annotator.source.plane()
    assert len(annotator.session.clicks(1, plane)) == 5
    assert annotator.site.labels.data[10, [10, 25, 40]].tolist() == [1, 1, 1]
    press(viewer, "t")
    assert annotator.tool == "scribble"
    assert annotator.polarity is False
    assert dock.negative_button.isChecked()
    shape_drawn(dock, [[10, 38], [10, 42]], "path")
    clicks = annotator.session.clicks(1, plane)
    assert not clicks[-1].positive
    assert annotator.site.labels.data[10, 40] == 0
    annotator.undo()
    annotator.undo()
    assert not annotator.session.objects


class Mouse:
    """A mouse event as napari hands it to its layers."""

    def __init__(self, kind: str, *position: float, displayed: tuple[int, int] = (0, 1)) -> None:
        self.type, self.position = kind, position
        self.view_direction, self.dims_displayed = None, list(displayed)


def test_a_dragged_click_shows_its_mask_and_only_its_end_is_a_step(
    open_dock: Any, predictor: Any
) -> None:
    _, dock = open_dock(grey(40, 50))
    annotator = dock.annotator
    layer, labels = annotator.site.prompts.positive, annotator.site.labels
    click(dock, 10, 12)
    steps, before = len(list(annotator.session.history)), labels.data.copy()
    layer.mode = "select"
    drag = annotator.pointing._on_drag(layer, event := Mouse("mouse_press", 10, 12))
    next(drag)
    event.type = "mouse_move"
    predictor.gate.clear()
    asked = predictor.predicted
    for row in range(11, 31):
        layer.data[0] = [row, 12]  # in place, without an event, as napari does while it drags
        next(drag)
    predictor.gate.set()
    assert dock.wait_idle()
    assert predictor.predicted - asked <= 2, "the newest place is looked at, not each on the way"
    outline = next(each for each in viewer_layers(dock) if "would be" in each.name)
    assert outline.visible
    assert outline.data_to_world((0, 0))[0] < 28 < outline.data_to_world(outline.data.shape)[0]
    assert (labels.data == before).all()
    assert len(list(annotator.session.history)) == steps
    event.type = "mouse_release"
    next(drag, None)
    layer.data = layer.data.copy()
    assert dock.wait_idle()
    assert not outline.visible
    assert labels.data[30, 12] == 1
    assert len(list(annotator.session.history)) == steps + 1
    annotator.undo()
    assert (labels.data == before).all()


def viewer_layers(dock: Any) -> Any:
    return dock.annotator.viewer.layers


def test_pointing_at_a_click_shows_the_mask_without_it(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(2, 40, 50), scale=(3, 2, 2))
    annotator = dock.annotator
    layer = annotator.site.prompts.positive
    click(dock, 0, 10, 12)
    click(dock, 0, 30, 30)
    active = viewer.layers.selection.active

    def move(*position: float) -> None:
        event = Mouse("mouse_move", *position, displayed=(1, 2))
        annotator.pointing._on_move(layer, event)
        assert dock.wait_idle()

    move(0, 60, 60)
    assert annotator.looking.reason == "", "a click just made is not pointed at"
    move(0, 2, 2)
    move(0, 60, 60)
    assert annotator.looking.reason == "without"
    outline = next(each for each in viewer.layers if "would be" in each.name)
    assert outline.visible
    assert outline.data.sum() == 25
    centre = [(n - 1) / 2 for n in outline.data.shape]
    np.testing.assert_allclose(outline.data_to_world(centre), (0, 20, 24))
    assert viewer.layers.selection.active == active
    assert "without" in dock.hint.text()
    assert annotator.site.labels.data[0, 30, 30] == 1
    move(0, 2, 2)
    assert not outline.visible


def test_the_probability_lies_over_the_image_and_follows_the_object(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(2, 40, 50), scale=(1, 2, 2), translate=(0, 5, 5))
    annotator = dock.annotator
    click(dock, 0, 10, 12)
    dock.refine.probability.setChecked(True)
    assert dock.wait_idle()
    layer = next(each for each in viewer.layers if "probability" in each.name)
    assert layer.visible
    assert layer.data.shape == (1, 40, 50)
    assert layer.data.sum() == 25
    # it is an image too, but none to be annotated
    assert dock.status.text().startswith("Object 1")
    viewer.layers.selection.active = layer
    assert dock.wait_idle()
    assert dock.image.layer == annotator.site.image
    annotator.choose_polarity(True)
    np.testing.assert_allclose(layer.data_to_world((0, 10, 12)), (0, 25, 29))
    click(dock, 0, 30, 30)
    assert layer.data.sum() == 50
    viewer.dims.set_point(0, 1)
    assert dock.wait_idle()
    assert not layer.visible
    viewer.dims.set_point(0, 0)
    annotator.undo()
    assert dock.wait_idle()
    assert layer.data.sum() == 25
    dock.refine.probability.setChecked(False)
    assert not layer.visible
    viewer.layers.remove(layer)
    dock.refine.probability.setChecked(True)
    assert dock.wait_idle()
    assert layer in viewer.layers
    annotator.stop()
    assert [type(each).__name__ for each in viewer.layers] == ["Image", "Labels"]


def test_the_predicted_iou_is_said_where_it_can_be_believed(open_dock: Any, predictor: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    for rank, column, said in ((None, 12, False), (0.39, 14, False), (0.41, 16, True)):
        metrics = {} if rank is None else {"quality_rank": rank}
        predictor.card = predictor.card.model_copy(update={"metrics": metrics})
        click(dock, 10, column)
        assert ("overlap (IoU) about 0.88" in dock.status.text()) is said
    dock.next_button.click()
    click(dock, 30, 30)
    assert "IoU" in dock.status.text()
    click(dock, 10, 12, positive=False)
    assert "IoU" in dock.status.text(), "a finished neighbour may well be background"
    click(dock, 10, 12)
    assert "IoU" not in dock.status.text()
