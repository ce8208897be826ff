"""The table of objects in the dock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from in_window import cells, click, grey, notified
from napari.utils.colormaps.standardize_color import transform_color
from qtpy.QtCore import Qt
from qtpy.QtGui import QIcon
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QInputDialog
from skimage.color import rgb2lab

from napari_fctsfn.plugin import AnnotateDock
from napari_fctsfn.plugin.layers import camera_of, object_colors
from napari_fctsfn.plugin.prompts import NEGATIVE_COLOR, POSITIVE_COLOR


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


def test_the_picture_moves_to_what_is_taken_up_only_where_it_is_out_of_view(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    three_objects(dock)
    camera = camera_of(viewer)
    # objects have rows 6 to 10, 16 to 20 and 26 to 30, columns 10 to 14
    for (row, column), label, moved in (
        ((20, 12), 2, False),
        ((20, 20), 2, False),
        ((20, 60), 2, True),
        ((46, 12), 1, True),
    ):
        camera.zoom, camera.center = 30, (0, row, column)
        viewer.screenshot(flash=False)
        dock.annotator.take_up(label)
        assert dock.wait_idle()
        middle = (10.0 * label - 2, 12.0) if moved else (row, column)
        assert camera.center[-2:] == pytest.approx(middle)
    camera.center = (0, 20, 12)
    viewer.screenshot(flash=False)
    dock.objects.choose([1])
    dock.objects.actions_of["Show"][0]()
    assert camera.center[-2:] == pytest.approx((8, 12))


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
    assert dock.annotator.session.current == 2
    table.choose([1])
    actions["Delete"][0]()
    assert not labels.data.any()
    for _ in range(4):
        dock.annotator.undo()
    assert (labels.data == before).all()


def test_undo_and_redo_say_what_the_picture_does_not_show(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    three_objects(dock)
    annotator, actions = dock.annotator, dock.objects.actions_of
    annotator.take_up(1)
    annotator.undo()
    assert dock.hint.text() == "Undone: going on to object 1; object 3 is the current one."
    annotator.redo()
    assert dock.hint.text() == "Done again: going on to object 1; object 1 is the current one."
    dock.objects.choose([2, 3])
    for action, said in (
        ("Merge", "the merging of objects 2 and 3"),
        ("Protect", "a name, class or mark of objects 2 and 3"),
        ("Delete", "the deletion of objects 2 and 3"),
    ):
        dock.objects.choose([2, 3])
        actions[action][0]()
        annotator.undo()
        assert dock.hint.text() == f"Undone: {said}."
    annotator.site.labels.data[30:34, 40:44] = 2
    annotator.site.labels.refresh()
    annotator.undo()
    assert dock.hint.text() == "Undone: a stroke on object 2."
    # the click is gone from the picture; what to do next is worth more
    annotator.take_up(3)
    click(dock, 20, 40)
    annotator.undo()
    assert "Undone" not in dock.hint.text()


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
    dock.objects.actions_of["Delete"][0]()
    assert [row[0] for row in cells(dock)] == [1]
    dock.annotator.next_object()
    assert dock.objects.chosen == []
    dock.objects.actions_of["Delete"][0]()
    assert [row[0] for row in cells(dock)] == [1]


def test_a_protected_object_is_closed_to_clicks_and_brush(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 8, 12)
    dock.objects.choose([1])
    dock.objects.actions_of["Protect"][0]()
    model = dock.objects.model
    assert model.data(model.index(0, 0), Qt.FontRole).italic()
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
    dock.annotator.next_object()
    dock.annotator.site.prompts.positive.add([20, 20])
    with notified("the stroke was taken back"):
        labels.paint((8, 12), 0)
        assert dock.wait_idle()
    assert ((labels.data == 1) == (before == 1)).all()
    assert len(dock.annotator.session.objects[2]) == 1
    dock.objects.actions_of["Protect"][0]()
    labels.paint((8, 12), 0)
    assert labels.data[8, 12] == 0


def test_what_is_painted_after_next_object_is_an_object_of_its_own(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    click(dock, 8, 12)
    dock.annotator.next_object()
    labels = dock.annotator.site.labels
    assert labels.selected_label == 2
    labels.brush_size = 5
    labels.paint((30, 30), 2)
    assert dock.wait_idle()
    assert [row[0] for row in cells(dock)] == [1, 2]
    dock.annotator.next_object()
    assert dock.annotator.session.current == 3
    click(dock, 30, 40)
    assert set(np.unique(labels.data)) == {0, 1, 2, 3}
    # with napari's own key for a new label
    labels.selected_label = 9
    labels.paint((5, 40), 9)
    assert dock.wait_idle()
    assert [row[0] for row in cells(dock)] == [1, 2, 3, 9]


def test_the_brush_of_new_labels_fits_the_picture(open_dock: Any) -> None:
    for shape, brush in (((52, 60), 2), ((8, 900), 1), ((600, 400), 10), ((30, 200, 220), 10)):
        _, dock = open_dock(grey(*shape))
        assert dock.annotator.site.labels.brush_size == brush


def test_the_delete_key_deletes_what_is_chosen_in_the_table(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    for place in ((8, 12), (30, 30)):
        click(dock, *place)
        dock.annotator.next_object()
    dock.objects.choose([2])
    QTest.keyClick(dock.objects.view, Qt.Key.Key_Delete)
    assert [row[0] for row in cells(dock)] == [1]
    dock.annotator.undo()
    assert [row[0] for row in cells(dock)] == [1, 2]


# Machado, Oliveira & Fernandes (TVCG 2009), severity 1: protanopia, deuteranopia, tritanopia
DICHROMATS = [
    [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
]


def apart(shown: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIELAB distances of colours from each other, as somebody sees them."""
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ vision.T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(encoded[None])[0]
    return np.linalg.norm(lab[:, None] - lab, axis=-1) + 1000 * np.eye(len(lab))


@pytest.mark.parametrize("vision", [np.eye(3), *map(np.array, DICHROMATS)])
def test_every_kind_of_colour_vision_tells_objects_apart(vision: np.ndarray) -> None:
    objects = np.asarray(object_colors().colors)[1:, :3]
    clicks = [transform_color(color)[0][:3] for color in (POSITIVE_COLOR, NEGATIVE_COLOR)]
    difference = apart(np.concatenate([objects, clicks]), vision)
    assert len(objects) == 14
    # of objects from each other and from clicks, and more of those that follow each other
    assert difference.min() > 16
    assert difference[range(14), [*range(1, 14), 0]].min() > 30


def test_the_first_objects_are_told_apart_over_something_bright_too(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    objects = np.asarray(object_colors().colors)[1:9, :3]
    opacity = dock.annotator.site.labels.opacity
    for below in (0.1, 0.5, 0.95):
        assert apart(opacity * objects + (1 - opacity) * below, np.eye(3)).min() > 30


def test_proposals_have_the_colours_that_they_will_have_as_objects() -> None:
    as_objects = object_colors().map(np.arange(40, 60))
    assert np.array_equal(object_colors(40).map(np.arange(1, 21)), as_objects)


def test_many_objects_get_a_class_at_once(open_dock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, dock = open_dock(grey(40, 50))
    three_objects(dock)
    dock.annotator.describe([2], category="cell")
    asked = []

    def answer(_parent: Any, _title: str, text: str, known: list[str], place: int) -> Any:
        asked.append((text, known, place))
        return " nucleus ", len(asked) != 2

    monkeypatch.setattr(QInputDialog, "getItem", answer)
    choose = dock.objects.actions_of["Class…"][0]
    for labels in ([1, 3], [2], [2]):
        dock.objects.choose(labels)
        choose()
    assert asked == [
        ("Class of 2 objects:", ["cell"], -1),
        ("Class of 1 object:", ["cell", "nucleus"], 0),  # cancelled
        ("Class of 1 object:", ["cell", "nucleus"], 0),
    ]
    assert [row[2] for row in cells(dock)] == ["nucleus"] * 3
    dock.annotator.undo()
    assert [row[2] for row in cells(dock)] == ["nucleus", "cell", "nucleus"]
    dock.annotator.undo()
    assert [row[2] for row in cells(dock)] == ["", "cell", ""]


def test_objects_get_colours_and_are_hidden(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    three_objects(dock)
    labels = dock.annotator.site.labels
    own = [tuple(labels.get_color(n)) for n in (1, 2, 3)]
    dock.annotator.describe([1], color="#ff0000")
    dock.annotator.describe([2], hidden=True)
    assert tuple(labels.get_color(1)) == (1, 0, 0, 1)
    model = dock.objects.model
    icon = model.data(model.index(0, 0), Qt.ItemDataRole.DecorationRole)
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):  # also where the row is chosen
        assert icon.pixmap(16, mode).toImage().pixelColor(8, 8).name() == "#ff0000"
    assert labels.get_color(2) is None or labels.get_color(2)[3] == 0
    assert tuple(labels.get_color(3)) == own[2]
    dock.annotator.undo()
    dock.annotator.undo()
    assert [tuple(labels.get_color(n)) for n in (1, 2, 3)] == own
