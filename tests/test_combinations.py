"""Where several things meet: a stroke and an answer, a renumbering and a propagation, two views."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from in_window import click, grey, notified
from qtpy.QtWidgets import QApplication

from napari_fctsfn.plugin.layers import camera_of
from napari_fctsfn.session import Plane, ledger, masks, read_session
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.patch import Patch

STACK = grey(20, 30, 40)


def same_in_the_journal(site: Any, label: int) -> int:
    """How many pixels of a label layer and journal have, which must be the same."""
    _, kept = read_session(site.journal.folder)
    assert np.array_equal(kept == label, site.labels.data == label)
    return int((kept == label).sum())


def brush(viewer: Any, site: Any, size: int = 5, through: bool = False) -> Any:
    labels = site.labels
    viewer.layers.selection.active = labels
    labels.n_edit_dimensions = 3 if through else 2
    labels.brush_size, labels.selected_label, labels.mode = size, 7, "paint"
    return labels


def answer(qtbot: Any, predictor: Any, site: Any) -> None:
    predictor.gate.set()
    qtbot.waitUntil(lambda: not site.session.busy)
    QApplication.processEvents()


def test_a_stroke_counts_after_an_answer_that_came_while_another_section_was_shown(
    open_dock: Any, predictor: Any
) -> None:
    viewer, dock = open_dock(STACK)
    site = dock.annotator.site
    viewer.dims.set_point(0, 5)
    click(dock, 5, 10, 10)
    predictor.gate.clear()
    site.prompts.positive.add([5, 20, 20])
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 20)
    predictor.gate.set()
    assert dock.wait_idle()
    brush(viewer, site, 3).paint((15, 20, 30), 7)
    assert dock.wait_idle()
    assert same_in_the_journal(site, 7) == 9
    assert 7 in site.session.objects
    assert same_in_the_journal(site, 1) > 0
    # and what the answer wrote into the section is no stroke of anybody
    assert [step.action.kind for step in site.session.history if hasattr(step.action, "kind")] == [
        "brush"
    ]


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("whole", [ledger.WHOLE, 100])
def test_a_stroke_under_way_when_an_answer_comes_is_kept(
    open_dock: Any, predictor: Any, qtbot: Any, monkeypatch: Any, through: bool, whole: int
) -> None:
    monkeypatch.setattr(ledger, "WHOLE", whole)
    viewer, dock = open_dock(STACK)
    site = dock.annotator.site
    viewer.dims.set_point(0, 5)
    predictor.gate.clear()
    site.prompts.positive.add([5, 20, 20])
    labels = brush(viewer, site, through=through)
    with labels.block_history():
        labels.paint((5, 8, 8), 7)
        answer(qtbot, predictor, site)
        labels.paint((5, 8, 14), 7)
    assert dock.wait_idle()
    assert same_in_the_journal(site, 7) > (100 if through else 40)


@pytest.mark.parametrize("back", [False, True])
def test_a_stroke_under_way_when_the_slider_moves_is_kept(open_dock: Any, back: bool) -> None:
    viewer, dock = open_dock(STACK)
    site = dock.annotator.site
    viewer.dims.set_point(0, 5)
    assert dock.wait_idle()
    labels = brush(viewer, site)
    with labels.block_history():
        labels.paint((5, 8, 8), 7)
        viewer.dims.set_point(0, 6)
        QApplication.processEvents()
        labels.paint((6, 8, 14), 7)
        if back:
            viewer.dims.set_point(0, 5)
            QApplication.processEvents()
    assert dock.wait_idle()
    assert same_in_the_journal(site, 7) == 42


def test_strokes_made_while_a_layer_is_missing_are_kept(open_dock: Any) -> None:
    viewer, dock = open_dock(STACK)
    site = dock.annotator.site
    viewer.dims.set_point(0, 5)
    click(dock, 5, 20, 20)
    with notified("nothing is lost"):
        viewer.layers.remove(site.prompts.negative)
        assert dock.wait_idle()
    for z, column in ((5, 8), (6, 14)):
        viewer.dims.set_point(0, z)
        assert dock.wait_idle()
        brush(viewer, site).paint((z, 8, column), 7)
        assert dock.wait_idle()
    assert dock.resume()
    assert dock.wait_idle()
    assert same_in_the_journal(site, 7) == 42


def test_undoing_a_renumbering_ends_the_propagation_of_what_it_renumbered(
    open_dock: Any, qtbot: Any
) -> None:
    viewer, dock = open_dock(grey(12, 40, 60))
    annotator = dock.annotator
    site, session = annotator.site, annotator.session
    viewer.dims.set_point(0, 5)
    for place in ((8, 8), (8, 30), (30, 50)):
        click(dock, 5, *place)
        annotator.next_object()
    annotator.take_up(3)
    annotator.delete([1])
    annotator.renumber()
    assert dock.wait_idle()
    assert session.current == 2
    annotator.propagate("up")
    qtbot.waitUntil(lambda: annotator.propagation.following.done >= 2)
    annotator.undo()
    assert annotator.propagation.following is None
    assert "what it found is not kept" in dock.hint.text()
    assert dock.wait_idle()
    assert sorted(session.objects) == [2, 3]
    assert not site.labels.data[6:].any()
    for label, place in ((2, (8, 30)), (3, (30, 50))):
        assert np.argwhere(site.labels.data[5] == label).mean(0).tolist() == list(place)


def test_undoing_the_click_of_what_is_propagated_ends_it(open_dock: Any, qtbot: Any) -> None:
    viewer, dock = open_dock(grey(12, 40, 60))
    annotator = dock.annotator
    viewer.dims.set_point(0, 5)
    click(dock, 5, 8, 8)
    annotator.propagate("up")
    qtbot.waitUntil(lambda: annotator.propagation.following.done >= 2)
    annotator.undo()
    assert "Object 1 is gone" in dock.hint.text()
    click(dock, 5, 30, 50)
    assert dock.wait_idle()
    labels = annotator.site.labels.data
    assert (labels[5] == 1).sum() == 25
    assert not labels[6:].any()


def test_a_propagation_keeps_what_was_clicked_in_sections(open_dock: Any) -> None:
    viewer, dock = open_dock(np.zeros((20, 40, 40), np.uint8))
    site = dock.annotator.site
    viewer.dims.set_point(0, 5)
    click(dock, 5, 10, 10)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 25)
    click(dock, 8, 25, 25)
    section = site.labels.data[:, 25].copy()
    viewer.dims.order = (0, 1, 2)
    viewer.dims.set_point(0, 5)
    dock.annotator.propagate("up")
    assert dock.wait_idle()
    assert (section == 1).sum() == 25
    assert np.array_equal(site.labels.data[:, 25], section)
    assert (site.labels.data[12] == 1).sum() == 25
    assert same_in_the_journal(site, 1) > 0


def test_labels_that_no_object_can_have_are_background(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(60, 80), start=False)
    layer = viewer.add_labels(np.zeros((60, 80), np.int64))
    dock.labels.choose(layer)
    assert dock.start()
    site = dock.annotator.site
    click(dock, 10, 10)
    for row, label in ((40, -1), (50, 2**31)):
        layer.data_setitem((np.full(3, row), np.arange(3)), label)
        assert dock.wait_idle()
    click(dock, 20, 20)
    assert site.session.highest == 1
    assert len(list(site.session.history)) == 2
    assert same_in_the_journal(site, 1) == 50
    dock.annotator.next_object()
    dock.annotator.undo()
    dock.annotator.undo()
    assert same_in_the_journal(site, 1) == 25
    assert (layer.data[40, :3] == -1).all()


def test_a_stroke_on_a_protected_object_cannot_be_redone_after_reopening(open_dock: Any) -> None:
    _, dock = open_dock(grey(60, 80))
    annotator = dock.annotator
    click(dock, 10, 10)
    annotator.describe([1], protected=True)
    before = annotator.site.labels.data.copy()
    with notified("the stroke was taken back"):
        annotator.site.labels.paint((10, 13), 0)
        assert dock.wait_idle()
    image, folder = annotator.site.image, annotator.site.journal.folder
    annotator.stop()
    assert annotator.reopen(image, folder)
    annotator.redo()
    assert dock.wait_idle()
    assert np.array_equal(annotator.site.labels.data, before)
    assert annotator.session.note(1).protected


def test_masks_are_equal_whichever_zlib_packed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = np.random.default_rng(0).random((40, 50)) < 0.5
    compress: Callable[..., bytes] = zlib.compress
    one = Mask.of(inside, (60, 70), (3, 4))
    with monkeypatch.context() as patched:
        patched.setattr(masks.zlib, "compress", lambda data, _level: compress(data, 9))
        other = Mask.of(inside, (60, 70), (3, 4))
        inside[5, 5] ^= True
        different = Mask.of(inside, (60, 70), (3, 4))
    assert one.bits != other.bits
    assert one == other
    assert hash(one) == hash(other)
    assert one != different
    assert one != Mask.of(~inside, (60, 71), (3, 4))


def test_a_patch_is_written_into_the_line_that_a_section_shares_with_its_slice() -> None:
    rng = np.random.default_rng(3)
    before, after = (rng.integers(0, 4, (5, 6, 7)) for _ in range(2))
    plane, section = Plane((2, None, None)), Plane((None, 4, None))
    patch = Patch.between(plane, before[plane.key], after[plane.key])
    expected = before.copy()
    expected[plane.key] = after[plane.key]
    seen = before[section.key].copy()
    patch.apply_across(section, seen)
    assert np.array_equal(seen, expected[section.key])
    assert plane.crossing(section) == (4, slice(None))
    assert Plane((2, None, None, 1)).crossing(Plane((None, 5, None, 2))) is None
    assert Plane((2, None, None, 1)).crossing(Plane((None, 5, None, 1))) == (5, slice(None))


def test_a_mask_of_a_label_too_large_for_the_labels_gets_a_free_one(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(60, 80), start=False)
    layer = viewer.add_labels(np.zeros((60, 80), np.uint8))
    dock.labels.choose(layer)
    assert dock.start()
    other = np.zeros((60, 80), np.int32)
    other[20:30, 20:30] = 300
    found = viewer.add_labels(other)
    found.selected_label = 300
    viewer.layers.selection.active = found
    dock.annotator.take_up_picked()
    assert dock.wait_idle()
    (label,) = dock.annotator.session.objects
    assert (layer.data == label).sum() == 100


def test_show_centres_an_object_also_where_rows_and_columns_are_exchanged(open_dock: Any) -> None:
    viewer, dock = open_dock(np.zeros((5, 60, 400), np.uint8))
    viewer.dims.order = (0, 2, 1)
    click(dock, viewer.dims.point[0], 10, 350)
    dock.annotator.jump(1)
    assert camera_of(viewer).center[-2:] == pytest.approx((350, 10))


def test_half_a_character_in_a_name_is_kept_as_a_question_mark(open_dock: Any) -> None:
    _, dock = open_dock(grey(60, 80))
    click(dock, 10, 10)
    dock.annotator.describe([1], name="a\ud83d")
    assert dock.annotator.session.note(1).name == "a?"
    session, _ = read_session(dock.annotator.site.journal.folder)
    assert session.note(1).name == "a?"


def test_renumbering_what_is_numbered_is_no_step(open_dock: Any) -> None:
    _, dock = open_dock(grey(60, 80))
    click(dock, 10, 10)
    dock.annotator.renumber()
    assert len(list(dock.annotator.session.history)) == 1
    dock.annotator.undo()
    assert not dock.annotator.session.objects


def test_what_naparis_own_undo_did_is_kept_when_the_slider_moves(open_dock: Any) -> None:
    viewer, dock = open_dock(STACK)
    site = dock.annotator.site
    viewer.dims.set_point(0, 5)
    assert dock.wait_idle()
    labels = brush(viewer, site)
    labels.paint((5, 8, 8), 7)
    assert dock.wait_idle()
    labels.undo()
    viewer.dims.set_point(0, 6)
    assert dock.wait_idle()
    assert same_in_the_journal(site, 7) == 0


def test_a_damaged_journal_that_was_set_aside_stays_when_the_session_is_closed(
    open_dock: Any,
) -> None:
    _, dock = open_dock(grey(60, 80))
    annotator = dock.annotator
    click(dock, 10, 10)
    image, folder = annotator.site.image, annotator.site.journal.folder
    annotator.stop()
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"x" + journal.read_bytes())
    with notified("could not be read"):
        assert annotator.reopen(image, folder)
    annotator.stop()
    assert (folder / "journal.jsonl.cut").exists()
