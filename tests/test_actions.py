"""Everything the Annotate dock can do: one function behind button, key and command."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
import tifffile
from in_window import click, grey, notified
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points
from napari.layers._source import layer_source
from napari.utils.key_bindings import coerce_keybinding
from napari.viewer import Viewer
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_fctsfn import formats
from napari_fctsfn._directories import data_directory
from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin import commands
from napari_fctsfn.plugin.exporting import with_ending
from napari_fctsfn.plugin.keydialog import KeyDialog
from napari_fctsfn.plugin.keys import ACTIONS, choose_keys, chosen_keys, native
from napari_fctsfn.session.refinement import LOWEST


def call(name: str, *arguments: Any) -> Any:
    """What the palette, a menu or another plugin does."""
    manager = npe2.PluginManager.instance()
    manager.discover()
    return manager.commands.execute(f"napari-fctsfn.{name}", arguments)


@pytest.fixture
def annotated(open_dock: Any) -> Any:
    """Three objects on a picture."""
    viewer, dock = open_dock(grey(60, 90))
    for column in (12, 42, 72):
        click(dock, 20, column)
        dock.annotator.next_object()
    assert dock.wait_idle()
    return viewer, dock


def test_every_action_is_a_command_in_a_menu_and_on_the_dock(annotated: Any) -> None:
    _, dock = annotated
    assert set(dock.annotator.actions) == set(ACTIONS)
    manager = npe2.PluginManager.instance()
    manager.discover()
    contributions = manager.get_manifest("napari-fctsfn").contributions
    titles = {c.id: c.title for c in contributions.commands}
    listed = {item.command for item in contributions.menus["napari-fctsfn/annotate"]}
    assert listed == {f"napari-fctsfn.{name}" for name in ACTIONS}
    for name, action in ACTIONS.items():
        assert titles[f"napari-fctsfn.{name}"] == action.title
        assert callable(getattr(commands, name))


def test_commands_do_what_buttons_do(annotated: Any) -> None:
    viewer, dock = annotated
    session, labels = dock.annotator.session, dock.annotator.site.labels
    before = labels.data.copy()
    dock.objects.choose([1, 3])
    call("merge", viewer)
    assert sorted(session.objects) == [1, 2]
    call("undo", viewer)
    assert (labels.data == before).all()
    dock.objects.choose([2])
    call("protect", viewer)
    assert session.note(2).protected
    call("delete_all", viewer)
    assert set(np.unique(labels.data)) == {0, 2}
    call("undo", viewer)
    assert (labels.data == before).all()
    call("redo", viewer)
    dock.objects.choose([2])
    call("protect", viewer)
    call("renumber", viewer)
    assert set(np.unique(labels.data)) == {0, 1}
    for name, tool in (("box", "box"), ("scribble", "scribble"), ("click", "click")):
        call(name, viewer)
        assert dock.annotator.tool == tool
    call("switch_polarity", viewer)
    assert dock.annotator.polarity is False


def test_masks_grow_and_shrink_by_steps_of_the_threshold(annotated: Any) -> None:
    viewer, dock = annotated
    session, labels = dock.annotator.session, dock.annotator.site.labels
    click(dock, 40, 40)
    assert dock.wait_idle()
    before = labels.data.copy()
    call("shrink_mask", viewer)
    assert dock.wait_idle()
    assert session.refinement.threshold == dock.refine.threshold.value() == 0.55
    # a high threshold leaves a row; the finished objects stay as they are
    assert (labels.data == 4).sum() == 5
    assert (labels.data[before != 4] == before[before != 4]).all()
    call("grow_mask", viewer)
    assert dock.wait_idle()
    assert session.refinement.threshold == 0.5
    assert (labels.data == before).all()
    dock.shrink_button.click()
    assert session.refinement.threshold == 0.55
    dock.grow_button.click()
    assert session.refinement.threshold == 0.5
    for _ in range(4):
        call("undo", viewer)
    assert dock.wait_idle()
    assert session.refinement.threshold == 0.5
    for _ in range(9):
        call("grow_mask", viewer)
    assert session.refinement.threshold == LOWEST
    assert "at its end" not in dock.hint.text()
    call("grow_mask", viewer)
    assert session.refinement.threshold == LOWEST
    assert "The threshold is at its end, 0.05" in dock.hint.text()


def test_an_object_that_is_taken_up_again_is_made_as_it_was(annotated: Any) -> None:
    viewer, dock = annotated
    session, labels = dock.annotator.session, dock.annotator.site.labels
    call("shrink_mask", viewer)
    assert "threshold 0.55" in dock.status.text()
    click(dock, 40, 40)
    call("next_object", viewer)
    call("grow_mask", viewer)
    click(dock, 40, 70)
    assert dock.wait_idle()
    before = labels.data.copy()
    assert [(before == n).sum() for n in (4, 5)] == [5, 25]
    dock.annotator.take_up(4)
    assert session.refinement.threshold == dock.refine.threshold.value() == 0.55
    click(dock, 40, 44)
    assert dock.wait_idle()
    assert (labels.data == 4).sum() == 9
    # a new object is made like the newest
    call("next_object", viewer)
    assert (session.current, session.refinement.threshold) == (6, 0.5)
    for expected in (0.55, 0.55, 0.5):  # next object, click, taking up
        call("undo", viewer)
        assert session.refinement.threshold == expected
    assert session.current == 5
    assert (labels.data == before).all()
    call("redo", viewer)
    assert (session.current, session.refinement.threshold) == (4, 0.55)


def test_a_command_says_what_is_missing(make_napari_viewer_proxy: Any) -> None:
    with pytest.raises(InputError, match="there is no viewer"):
        call("undo")
    with pytest.raises(InputError, match="the Annotate dock is not open"):
        call("undo", ViewerModel())
    viewer = make_napari_viewer_proxy()
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    with pytest.raises(InputError, match="press Start in the Annotate dock first"):
        call("next_object", viewer)
    dock.release()
    with pytest.raises(InputError, match="not open"):
        call("next_object", viewer)


def test_default_keys_do_not_clash_with_those_of_napari() -> None:
    """But for undo and redo, which do the same, and the path tool of Shapes, which ours lacks."""
    own = {coerce_keybinding(a.key) for a in ACTIONS.values() if a.key}
    same = {coerce_keybinding(ACTIONS[name].key) for name in ("undo", "redo")}
    for kind in (Viewer, Points, Labels, Image):
        theirs = {coerce_keybinding(str(key)) for key in kind.class_keymap}
        assert not own & theirs - same, kind


def test_keys_of_choice_work_at_once_and_later(annotated: Any, qtbot: Any) -> None:
    viewer, dock = annotated
    dialog = KeyDialog(dock)
    qtbot.addWidget(dialog)
    dialog.fields["next_object"].setKeySequence(QKeySequence("Ctrl+Shift+M"))
    dialog.fields["undo"].clear()
    dialog.accept()
    assert json.loads((data_directory() / "keys.json").read_text()) == {
        "next_object": "Control-Shift-M",
        "undo": "",
    }
    assert native("undo") == "“Undo”"
    keys = dock.annotator.keys
    keys.again()
    bound = {str(key) for key in viewer.keymap}
    assert str(coerce_keybinding("Control-Shift-M")) in bound
    assert str(coerce_keybinding("N")) not in bound
    assert str(coerce_keybinding("Control-Z")) not in {
        str(key) for key in dock.annotator.site.labels.keymap
    }


def test_keys_stay_as_they_are_when_the_dialog_is_saved(qtbot: Any) -> None:
    names = ["PageDown", "Control-PageUp", "Delete", "Escape", "Insert", "Enter", "Shift-F5", "-"]
    keys = dict(zip(ACTIONS, names[:-1], strict=False))
    choose_keys(keys)
    before = chosen_keys()
    assert all(native(name)[0] != "“" for name in keys)
    dialog = KeyDialog()
    qtbot.addWidget(dialog)
    dialog.accept()
    assert chosen_keys() == before


def test_keys_come_back_after_all_were_cleared(annotated: Any) -> None:
    viewer, dock = annotated
    before = {str(key) for key in viewer.keymap}
    choose_keys(dict.fromkeys(ACTIONS, ""))
    dock.annotator.keys.again()
    choose_keys({name: action.key for name, action in ACTIONS.items()})
    dock.annotator.keys.again()
    assert {str(key) for key in viewer.keymap} == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"next_object": "T"}, "T is the key of 'Switch between object and background' and 'Next"),
        ({"next_object": "Nonsense-Q"}, "is no key"),
        ({"fly": "F"}, "'fly' is no action"),
    ],
)
def test_keys_that_cannot_be_are_refused(keys: dict[str, str], message: str, qtbot: Any) -> None:
    with pytest.raises(InputError, match=message):
        choose_keys(keys)
    assert chosen_keys() == {name: action.key for name, action in ACTIONS.items()}


def test_the_dialog_says_why_keys_cannot_be_and_restores_the_usual_ones(qtbot: Any) -> None:
    choose_keys({"next_object": "M"})
    dialog = KeyDialog()
    qtbot.addWidget(dialog)
    dialog.fields["next_object"].setKeySequence(QKeySequence("T"))
    dialog.accept()
    assert dialog.reason.text().startswith("Not saved: T is the key of")
    assert chosen_keys()["next_object"] == "M"


@pytest.mark.parametrize("text", ["", "[]", '{"undo": "T"}', '{"undo": 3}', "\x00"])
def test_a_damaged_file_of_keys_counts_for_nothing(text: str) -> None:
    data_directory().mkdir(parents=True, exist_ok=True)
    (data_directory() / "keys.json").write_text(text)
    assert chosen_keys() == {name: action.key for name, action in ACTIONS.items()}


def test_the_documentation_lists_every_action_and_its_key() -> None:
    page = (Path(__file__).parents[1] / "docs" / "keys.md").read_text(encoding="utf-8")
    for name, action in ACTIONS.items():
        assert f"| {action.title} | {action.key} | `{name}` |" in page


@pytest.mark.parametrize(
    ("kind", "name"),
    [("ome_tiff", "a.ome.tif"), ("ome_zarr", "a.ome.zarr"), ("coco", "a.json"), ("csv", "a.csv")],
)
def test_objects_are_exported_with_names(
    annotated: Any, tmp_path: Path, kind: str, name: str
) -> None:
    if kind == "ome_zarr":
        pytest.importorskip("zarr")
    _, dock = annotated
    dock.annotator.describe([1], name="first", category="nucleus")
    path = tmp_path / name
    dock.export_button.export(kind, path)
    assert dock.wait_idle()
    labels = dock.annotator.site.labels.data
    if kind == "ome_tiff":
        assert (tifffile.imread(path) == labels).all()
    elif kind == "ome_zarr":
        import zarr

        assert (zarr.open_group(path, mode="r")["0"][...] == labels).all()
    elif kind == "coco":
        document = json.loads(path.read_text())
        assert document["images"][0]["file_name"] == dock.annotator.site.image.name
        found = document["annotations"]
        assert [(a["object"], a["name"]) for a in found] == [(1, "first"), (2, ""), (3, "")]
    else:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        assert [row["class"] for row in rows] == ["nucleus", "", ""]
        assert [float(row["area"]) for row in rows] == [(labels == n).sum() for n in (1, 2, 3)]
        assert "intensity_mean" in rows[0]


@pytest.mark.parametrize(
    ("typed", "ending", "path"),
    [
        ("a", ".ome.tif", "a.ome.tif"),
        ("a.tif", ".ome.tif", "a.ome.tif"),
        ("a.b.tiff", ".ome.tif", "a.b.ome.tif"),
        ("a.ome.tif", ".ome.tif", "a.ome.tif"),
        ("v1.2", ".csv", "v1.2.csv"),
        ("a.zarr", ".ome.zarr", "a.ome.zarr"),
    ],
)
def test_a_name_gets_its_ending(typed: str, ending: str, path: str) -> None:
    assert with_ending(typed, ending) == Path(path)


def test_an_export_that_fails_is_told_and_the_session_goes_on(
    annotated: Any, tmp_path: Path, capsys: Any
) -> None:
    _, dock = annotated
    dock.export_button.export("csv", tmp_path / "no" / "a.csv")
    assert dock.wait_idle()
    said = f"“a.csv” is not written to {tmp_path / 'no'}: No such file or directory."
    assert said in capsys.readouterr().out
    assert dock.hint.text() == said
    assert dock.export_button.isEnabled()


@pytest.fixture
def answers(monkeypatch: Any) -> Any:
    """Types a path into the file dialog, and answers every question."""

    def give(typed: Path, yes: bool) -> list[str]:
        def question(_parent: Any, _title: str, text: str) -> Any:
            asked.append(text)
            return button.Yes if yes else button.No

        asked: list[str] = []
        button = QMessageBox.StandardButton
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(typed), ""))
        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    return give


def test_an_export_is_proposed_beside_the_image(
    open_dock: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    proposed = []

    def ask(_parent: Any, _title: str, usual: str, _pattern: str) -> tuple[str, str]:
        proposed.append(usual)
        return "", ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    viewer, dock = open_dock(grey(40, 50))
    dock.export_button.ask("coco")
    tifffile.imwrite(tmp_path / "cells.tif", grey(40, 50))
    (image,) = viewer.open(str(tmp_path / "cells.tif"), plugin="napari")
    dock.image.choose(image)
    dock.labels.choose(None)
    assert dock.start()
    dock.export_button.ask("coco")
    assert proposed == ["image_labels.json", str(tmp_path / "cells_labels.json")]


@pytest.mark.parametrize("yes", [False, True])
@pytest.mark.parametrize(("kind", "ending"), [("ome_tiff", ".ome.tif"), ("ome_zarr", ".ome.zarr")])
def test_an_export_that_the_dialog_did_not_ask_about_is_not_replaced_unasked(
    annotated: Any, answers: Any, tmp_path: Path, kind: str, ending: str, yes: bool
) -> None:
    if kind == "ome_zarr":
        pytest.importorskip("zarr")
    _, dock = annotated
    asked = answers(tmp_path / "cells", yes)
    dock.export_button.ask(kind)
    assert dock.wait_idle()
    path = tmp_path / f"cells{ending}"
    before = path.stat()
    assert not asked
    dock.export_button.ask(kind)
    assert dock.wait_idle()
    assert asked == [f"“cells{ending}” is already in {tmp_path}. Replace it?"]
    assert (path.stat().st_ino != before.st_ino) == yes


def test_a_file_is_asked_about_once(annotated: Any, answers: Any, tmp_path: Path) -> None:
    _, dock = annotated
    path = tmp_path / "cells.csv"
    path.write_text("old")
    asked = answers(path, True)
    dock.export_button.ask("csv")
    assert dock.wait_idle()
    assert not asked
    assert path.read_text() != "old"


@pytest.mark.parametrize("inside", ["", "0"])
def test_an_export_never_replaces_the_image(
    open_dock: Any, answers: Any, tmp_path: Path, inside: str
) -> None:
    pytest.importorskip("zarr")
    path = tmp_path / "cells.ome.zarr"
    # as if this program had written it
    formats.write_ome_zarr(path, np.ones((40, 50), np.uint8))
    before = sorted(tmp_path.rglob("*"))
    with layer_source(path=str(path / inside)):
        _, dock = open_dock(grey(40, 50))
    asked = answers(tmp_path / "cells", True)
    with notified("it is the image itself; choose another name"):
        dock.export_button.ask("ome_zarr")
    assert dock.wait_idle()
    assert not asked
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_never_replaces_the_zarr_of_another_program(
    annotated: Any, answers: Any, tmp_path: Path
) -> None:
    pytest.importorskip("zarr")
    _, dock = annotated
    (tmp_path / "cells.ome.zarr" / "0").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    asked = answers(tmp_path / "cells.zarr", True)
    with notified("not written by this program: choose another name"):
        dock.export_button.ask("ome_zarr")
        assert dock.wait_idle()
    assert not asked
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_get_their_own_colours_back_when_a_session_ends(annotated: Any) -> None:
    _, dock = annotated
    annotator = dock.annotator
    labels, image = annotator.site.labels, annotator.site.image
    own = [tuple(labels.get_color(n)) for n in (1, 2)]
    annotator.describe([1], color="#ff0000")
    annotator.describe([2], hidden=True)
    assert annotator.start(image, labels)
    assert tuple(labels.get_color(1)) == (1, 0, 0, 1)
    assert labels.get_color(2)[3] == 0
    annotator.describe([1], color="")
    annotator.describe([2], hidden=False)
    assert [tuple(labels.get_color(n)) for n in (1, 2)] == own
    annotator.describe([2], hidden=True)
    annotator.stop()
    assert [tuple(labels.get_color(n)) for n in (1, 2)] == own


def test_large_labels_have_their_own_colours_beside_hidden_ones(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    data = np.zeros((40, 50), np.int32)
    data[0, :3] = 1, 70_000, 200_000
    dock.labels.choose(viewer.add_labels(data))
    assert dock.start()
    labels = dock.annotator.site.labels
    own = [tuple(labels.get_color(n)) for n in (2, 70_000, 200_000, 200_001)]
    click(dock, 20, 20)
    labels.selected_label = 1
    dock.annotator.take_up_picked()
    dock.annotator.describe([1], hidden=True)
    assert labels.get_color(1)[3] == 0
    assert [tuple(labels.get_color(n)) for n in (70_000, 200_000, 200_001)] == own[1:]
    assert len(labels.colormap.color_dict) < 1000
    dock.annotator.renumber()
    assert dock.annotator.session.objects.keys() == {1, 2}
    assert labels.get_color(1)[3] == 0
    assert tuple(labels.get_color(2)) == own[0]
