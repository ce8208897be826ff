"""What a click can be given along with: masks of other tools, boxes, scribbles, settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

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


def click(dock: Any, *point: float, positive: bool = True) -> None:
    prompts = dock.annotator.site.prompts
    (prompts.positive if positive else prompts.negative).add(list(point))
    assert dock.wait_idle()


def press(viewer: Any, key: str) -> None:
    """Press a key over the canvas, as a user does."""
    from qtpy.QtTest import QTest

    canvas = next(
        w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop"
    )
    QTest.keyClick(canvas, key)
    QApplication.processEvents()


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)


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
