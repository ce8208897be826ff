"""Sessions in the dock: kept, reopened after a crash, left aside where they are damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from in_window import click, grey, notified
from napari.utils.notifications import notification_manager
from npe2 import PluginManager
from on_bench import no_file_larger

from napari_fctsfn.plugin import AnnotateDock
from napari_fctsfn.session import ledger, open_session
from napari_fctsfn.session.masks import Mask


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


@pytest.mark.parametrize("whole", [1 << 24, 0])
def test_what_was_painted_between_sessions_is_a_step(
    open_dock: Any, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(ledger, "WHOLE", whole)
    _, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.annotator.next_object()
    click(dock, 30, 30)
    labels = dock.annotator.site.labels
    before = labels.data.copy()
    dock.annotator.stop()
    labels.data[9:12, 20:40] = 1
    dock.labels.choose(labels)
    assert dock.start()
    painted = dock.annotator.session.objects[1]
    assert next(iter(painted.values())).mask == Mask.of(labels.data == 1, (40, 50))
    dock.annotator.undo()
    assert (labels.data == before).all()


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
    assert again.reopening.last_button.isVisibleTo(again)
    assert "Reopen last session goes on" in again.hint.text()
    again.reopening.last_button.click()
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


def test_all_sessions_of_an_image_can_be_gone_on_with_beside_another_image(
    open_dock: Any, tmp_path: Path
) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, grey(40, 50) + ord(name[0]) % 2)

    def opened(name: str) -> Any:
        (image,) = viewer.open(str(tmp_path / name), plugin="napari")
        dock.image.choose(image)
        return image

    first = opened("a.tif")
    for places in ([(10, 12), (30, 30)], [(20, 20)]):
        dock.labels.choose(None)
        assert dock.start()
        for place in places:
            click(dock, *place)
            dock.annotator.next_object()
    viewer.layers.clear()
    opened("b.tif")
    assert not dock.reopening.isVisibleTo(dock)
    assert dock.start()
    click(dock, 10, 12)
    other = dock.annotator.site.labels
    again = opened("a.tif")
    assert again is not first
    assert dock.reopening.isVisibleTo(dock)
    assert "Reopen last session goes over to “a”" in dock.hint.text()
    dock.reopening.earlier_button.menu().aboutToShow.emit()
    latest, earlier = dock.reopening.earlier_button.menu().actions()
    assert ", 2 steps (" in latest.text()
    assert ", 4 steps (" in earlier.text()
    earlier.trigger()
    assert dock.wait_idle()
    assert sorted(dock.annotator.session.objects) == [1, 2]
    assert dock.annotator.site.image is again
    assert other in viewer.layers
    # what is open in this viewer is not offered again
    dock.image.choose(other_image := viewer.layers["b"])
    assert dock.labels.layer is other
    dock.labels.choose(None)
    assert not dock.reopening.isVisibleTo(dock)
    assert other_image in viewer.layers


def test_nothing_but_a_sessions_header_is_claimed_of_naparis_readers(tmp_path: Path) -> None:
    for name in ("cells.tif", "cells.png", "other.json", "session.json"):
        (tmp_path / name).write_bytes(b"")
    manager = PluginManager.instance()
    manager.discover()
    claimed = [
        path.name
        for path in (tmp_path, *sorted(tmp_path.iterdir()))
        for reader in manager.iter_compatible_readers([str(path)])
        if reader.plugin_name == "napari-fctsfn"
    ]
    assert claimed == ["session.json"]


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
    assert not dock.next_file_button.isVisibleTo(dock)
    with notified("was not opened from a file"):
        assert not dock.next_image()
    for number in range(4):
        tifffile.imwrite(tmp_path / f"cells{number}.tif", grey(40, 50) + number)
    (tmp_path / "notes.txt").write_text("no image")
    tifffile.imwrite(tmp_path / "cells0_labels.ome.tif", grey(40, 50))  # as Export names them
    (image,) = viewer.open(str(tmp_path / "cells2.tif"), plugin="napari")
    dock.image.choose(image)
    assert dock.start()
    click(dock, 10, 12)
    (image,) = viewer.open(str(tmp_path / "cells0.tif"), plugin="napari")
    dock.image.choose(image)
    dock.labels.choose(None)
    assert dock.next_file_button.isVisibleTo(dock)
    dock.next_file_button.click()
    assert dock.wait_idle()
    assert dock.annotator.site.image.source.path == str(tmp_path / "cells1.tif")
    assert not image.visible
    # the session of a file of another name and the same shape is not offered
    assert not dock.reopening.last_button.isVisibleTo(dock)
    click(dock, 20, 20)
    dock.export_button.export("coco", tmp_path / "cells1.json")
    assert dock.wait_idle()
    document = json.loads((tmp_path / "cells1.json").read_text())
    assert [each["file_name"] for each in document["images"]] == ["cells1.tif"]
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


def test_start_again_where_nothing_was_done_says_nothing(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    before = len(notification_manager.records)
    assert dock.start()
    assert dock.wait_idle()
    assert len(notification_manager.records) == before


@pytest.mark.parametrize("again", [True, False], ids=["started again", "while it runs"])
def test_labels_of_a_larger_type_take_the_session_on(open_dock: Any, again: bool) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    labels = viewer.add_labels(np.zeros((40, 50), np.uint8))
    labels.data[0, 0] = 254
    dock.labels.choose(labels)
    assert dock.start()
    click(dock, 10, 12)
    with notified("label 255 is used and the labels hold none above 255"):
        dock.annotator.next_object()
    labels.data = labels.data.astype(np.uint16)
    if again:
        assert dock.start()
    dock.annotator.next_object()
    click(dock, 30, 30)
    assert labels.data[30, 30] == 256
    labels.selected_label, labels.brush_size = 300, 5
    with labels.block_history():
        labels.paint((20, 40), 300)
    assert dock.wait_idle()
    folder = dock.annotator.site.journal.folder
    dock.release()
    opened = open_session(folder)
    opened.journal.close()
    assert (opened.labels == labels.data).all()
    assert sorted(opened.session.objects) == [255, 256, 300]
    assert opened.session.capacity == 65535


def test_labels_that_lie_elsewhere_are_put_where_the_image_is(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False, scale=(0.5, 0.25), translate=(3, 4))
    labels = viewer.add_labels(np.zeros((40, 50), np.uint16))
    dock.labels.choose(labels)
    assert dock.start()
    assert np.allclose(labels.scale, (0.5, 0.25))
    assert np.allclose(labels.translate, (3, 4))


def test_labels_that_cannot_be_annotated_are_refused(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    fixed = np.zeros((40, 50), np.uint8)
    fixed.flags.writeable = False
    for data, message in (
        (fixed, "read-only and cannot be written"),
        (np.full((40, 50), -1, np.int16), "has the label -1: labels of objects are 1 and more"),
    ):
        layer = viewer.add_labels(data)
        layer.data = data
        dock.labels.choose(layer)
        with notified(message):
            assert not dock.start()


def test_a_full_disk_is_said_and_does_not_stop_the_work(open_dock: Any) -> None:
    _, dock = open_dock(grey(40, 50))
    journal = dock.annotator.site.journal
    path = journal.folder / "journal.jsonl"
    with no_file_larger(path.stat().st_size):
        click(dock, 10, 12)
        assert "File too large" in dock.hint.text()
    click(dock, 12, 12)
    assert "too large" not in dock.hint.text()
    assert dock.annotator.site.labels.data[10, 12] == 1
    # what waits when the session ends is tried once more
    with no_file_larger(path.stat().st_size):
        click(dock, 20, 20)
        assert "File too large" in dock.hint.text()
    labels = dock.annotator.site.labels.data
    dock.annotator.stop()
    opened = open_session(journal.folder)
    opened.journal.close()
    assert (opened.labels == labels).all()


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
    (opened,) = viewer.open(folder / "session.json", plugin="napari-fctsfn")
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
