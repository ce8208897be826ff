"""The journal of a session: what was done survives a kill, damage and a full disk."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_bench import (
    IDENTITY,
    JOURNALS,
    SHAPE,
    Z0,
    Z1,
    Bench,
    no_file_larger,
    perform,
    random_actions,
    state_of,
)

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.session import (
    ImageIdentity,
    Journal,
    Plane,
    Session,
    SessionError,
    open_session,
    read_header,
)
from napari_fctsfn.session import journal as journal_module


@pytest.fixture(autouse=True)
def _close_journals() -> Iterator[None]:
    yield
    while JOURNALS:
        JOURNALS.pop().close()


def reopened(folder: Path, copy: Path) -> Any:
    """What a session is when it is opened again, in another process as it were."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("lock"))
    opened = open_session(copy, IDENTITY)
    opened.journal.close()
    return opened


@pytest.mark.parametrize("seed", [0, 1])
def test_500_actions_survive_undo_redo_and_reopening_at_any_point(
    seed: int, tmp_path: Path
) -> None:
    first = np.zeros(SHAPE, np.uint16)
    first[1, 3:9, 3:9] = 4 * seed
    bench, again = Bench(first.copy(), tmp_path / "one"), Bench(first.copy(), tmp_path / "two")
    start = bench.state()
    for number, (action, where) in enumerate(random_actions(seed, 500)):
        perform(bench, action, where)
        perform(again, action, where)
        if number % 25 == 0:
            again.reopen()
            assert again.warning == ""
        assert again.state() == bench.state()
    while bench.redo():
        assert again.redo()
    end = bench.state()
    steps = len(list(bench.session.history))
    assert steps > 200
    for one in (bench, again):
        for _ in range(steps):
            assert one.undo()
        assert not one.undo()
        assert one.state() == start
        one.reopen()
        while one.redo():
            pass
        assert one.state() == end


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), data=st.data())
def test_a_journal_cut_anywhere_opens_as_after_its_last_whole_line(
    seed: int, data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut") / "session"
    bench = Bench(folder=folder)
    journal, states = folder / "journal.jsonl", {0: bench.state()}
    for action, where in random_actions(seed, 12):
        perform(bench, action, where)
        states[journal.stat().st_size] = bench.state()
    bench.journal.close()
    size = data.draw(st.integers(0, journal.stat().st_size))
    with journal.open("rb+") as file:
        file.truncate(size)
    lines = [0]
    for line in journal.read_bytes().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    with_end = max(end for end in lines if end in states and end <= size)
    opened = open_session(folder)
    if with_end == max(end for end in lines if end <= size):
        assert state_of(opened.session, opened.labels) == states[with_end]
    assert opened.warning == ""
    again = Bench(opened.labels)
    again.session = opened.session
    again.session.select(99)
    again.click(Z1, 5, 5)
    opened.journal.close()
    last = reopened(folder, folder.with_name("copy"))
    assert state_of(last.session, last.labels) == again.state()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 7))
def test_a_damaged_journal_opens_up_to_the_damage(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("damage") / "session"
    bench, sizes = Bench(folder=folder), [0]
    journal, states = folder / "journal.jsonl", [bench.state()]
    for number in range(5):
        bench.click(Z0, 3 + 4 * number, 9)
        sizes.append(journal.stat().st_size)
        states.append(bench.state())
    bench.journal.close()
    content = bytearray(journal.read_bytes())
    place %= len(content)
    content[place] ^= 1 << bit
    journal.write_bytes(content)
    opened = open_session(folder)
    opened.journal.close()
    sound = max(k for k, size in enumerate(sizes) if size <= place)
    assert state_of(opened.session, opened.labels) == states[sound]
    assert "could not be read" in opened.warning or place == len(content) - 1
    assert reopened(folder, folder.with_name("copy")).warning == ""


def test_a_session_of_another_image_is_refused_with_both_named(tmp_path: Path) -> None:
    Bench(folder=tmp_path / "s").journal.close()
    other = ImageIdentity.of("other", np.ones(SHAPE))
    with pytest.raises(SessionError, match=r"“image” \(3x24x20.*“other” \(3x24x20"):
        open_session(tmp_path / "s", other)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 70), min_size=2, max_size=4), st.integers(0, 2**31))
def test_an_image_is_known_again_and_told_from_others(shape: list[int], seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
    identity = ImageIdentity.of("a", data)
    assert identity.same(ImageIdentity.of("b", data.copy()))
    assert identity.same(ImageIdentity.of("a", np.asfortranarray(data)))
    corner = data.copy()
    corner[(-1,) * len(shape)] += 1
    assert not identity.same(ImageIdentity.of("a", corner))
    assert not identity.same(ImageIdentity.of("a", data.astype(np.uint16)))
    assert not identity.same(ImageIdentity.of("a", data[..., None], channels=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(40, 70), min_size=2, max_size=4), st.integers(0, 2**31))
def test_images_on_black_ground_are_told_apart_by_the_middle(shape: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    middle = tuple(size // 2 for size in shape[:-2])
    # between the blocks that are looked at
    place = (*middle, shape[-2] // 2 - 1, int(rng.integers(shape[-1])))
    other[place] = 200
    assert not ImageIdentity.of("a", one).same(ImageIdentity.of("a", other))


def test_a_session_of_before_is_known_by_its_blocks(tmp_path: Path) -> None:
    Bench(folder=tmp_path / "s").journal.close()
    path = tmp_path / "s" / "session.json"
    header = json.loads(path.read_text())
    assert header["image"].pop("centre")
    path.write_text(json.dumps(header))
    open_session(tmp_path / "s", IDENTITY).journal.close()


def test_an_image_whose_name_is_no_text_can_be_annotated(tmp_path: Path) -> None:
    name = os.fsdecode(b"Pr\xe4parat.tif")
    image = ImageIdentity.of(name, np.zeros(SHAPE), source=f"/data/{name}")
    assert (image.name, image.source) == ("Pr?parat.tif", "")
    session = Session(SHAPE, Normalisation(0.0, 1.0), 0)
    Journal.create(tmp_path / "s", session, image, np.zeros(SHAPE, np.uint8)).close()
    assert read_header(tmp_path / "s").image == image


def test_a_session_is_open_once(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path / "s")
    with pytest.raises(SessionError, match="open already"):
        open_session(tmp_path / "s")
    bench.journal.close()
    open_session(tmp_path / "s").journal.close()


def test_a_folder_that_is_no_session_or_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no session"):
        open_session(tmp_path)
    Bench(folder=tmp_path / "s").journal.close()
    path = tmp_path / "s" / "session.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | {"schema_version": 99, "program": "9.9"}))
    with pytest.raises(SessionError, match=r"written by napari-fctsfn 9\.9, which is newer"):
        open_session(tmp_path / "s")
    path.write_text("{")
    with pytest.raises(SessionError, match="is damaged"):
        open_session(tmp_path / "s")


@pytest.mark.parametrize("room", [0, 30, 400])
def test_a_session_goes_on_while_its_folder_cannot_be_written(tmp_path: Path, room: int) -> None:
    bench = Bench(folder=tmp_path / "s")
    bench.click(Z0, 5, 5)
    with no_file_larger((tmp_path / "s" / "journal.jsonl").stat().st_size + room):
        bench.click(Z0, 9, 9)
        bench.click(Z0, 15, 9)
        assert "File too large" in bench.journal.error
    bench.click(Z0, 20, 9)
    assert bench.journal.error == ""
    opened = reopened(tmp_path / "s", tmp_path / "copy")
    assert opened.warning == ""
    assert state_of(opened.session, opened.labels) == bench.state()


def test_a_journal_that_is_removed_or_replaced_is_missed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    path = folder / "journal.jsonl"
    bench = Bench(folder=folder)
    bench.click(Z0, 5, 5)
    whole = path.read_bytes()
    path.unlink()
    bench.click(Z0, 9, 9)
    assert "No such file" in bench.journal.error
    path.write_bytes(whole[:-1])
    bench.click(Z0, 12, 9)
    assert "exchanged for a shorter one" in bench.journal.error
    # as a program that synchronises folders does
    path.write_bytes(whole)
    bench.click(Z0, 15, 9)
    assert bench.journal.error == ""
    copy = folder / "copy"
    shutil.copy(path, copy)
    copy.replace(path)
    bench.click(Z0, 20, 9)
    assert bench.journal.error == ""
    opened = reopened(folder, tmp_path / "copy")
    assert state_of(opened.session, opened.labels) == bench.state()
    shutil.rmtree(folder)
    bench.journal.close()
    assert "No such file" in bench.journal.error


def test_what_a_window_writes_while_another_opens_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(folder=tmp_path / "s")
    bench.click(Z0, 5, 5)
    read = journal_module._read

    def meanwhile(*arguments: Any) -> Any:
        found = read(*arguments)
        if JOURNALS:
            bench.click(Z0, 9, 9)
            JOURNALS.pop().close()
        return found

    monkeypatch.setattr(journal_module, "_read", meanwhile)
    with pytest.raises(SessionError, match="open already"):
        open_session(tmp_path / "s")
    monkeypatch.undo()
    bench.click(Z0, 12, 9)
    bench.journal.close()
    opened = reopened(tmp_path / "s", tmp_path / "copy")
    assert state_of(opened.session, opened.labels) == bench.state()


def test_a_second_damage_leaves_what_was_set_aside_at_the_first(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path / "s")
    for column in (3, 6, 9, 12):
        bench.click(Z0, column, 9)
    bench.journal.close()
    path = tmp_path / "s" / "journal.jsonl"
    for name in ("journal.jsonl.cut", "journal.jsonl.cut2"):
        content = bytearray(path.read_bytes())
        lines = content.splitlines(keepends=True)
        lines[-1][0] ^= 1
        path.write_bytes(b"".join(lines))
        opened = open_session(tmp_path / "s")
        opened.journal.close()
        assert f"kept in {name}." in opened.warning
        assert (tmp_path / "s" / name).read_bytes() == lines[-1]
    assert (tmp_path / "s" / "journal.jsonl.cut").stat().st_size > 0


def test_a_damage_is_not_cut_off_where_it_cannot_be_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(folder=tmp_path / "s")
    bench.click(Z0, 5, 5)
    bench.journal.close()
    path = tmp_path / "s" / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    before = path.read_bytes()
    # root may write anywhere, so the disk is full instead
    with no_file_larger(0), pytest.raises(SessionError, match="copy the folder to where"):
        open_session(tmp_path / "s")
    assert path.read_bytes() == before
    open_session(tmp_path / "s").journal.close()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7), st.booleans())
def test_damaged_first_labels_are_said(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("first") / "s"
    Bench(np.full(SHAPE, 3, np.uint16), folder).journal.close()
    path = folder / "labels.npz"
    content = bytearray(path.read_bytes())
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    path.write_bytes(content)
    try:
        opened = open_session(folder)
    except SessionError as error:
        assert "labels.npz" in str(error)  # noqa: PT017
    else:
        opened.journal.close()
        assert (opened.labels == 3).all()


@pytest.mark.parametrize(("key", "value"), [("dtype", "float32"), ("dtype", "foo"), ("shape", [])])
def test_a_header_of_impossible_labels_is_said(tmp_path: Path, key: str, value: Any) -> None:
    Bench(folder=tmp_path / "s").journal.close()
    path = tmp_path / "s" / "session.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(SessionError, match=f"is damaged at {key}"):
        open_session(tmp_path / "s")


def test_a_line_that_does_not_fit_the_image_is_refused(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path / "s")
    bench.click(Z0, 5, 5)
    bench.journal.close()
    path = tmp_path / "s" / "journal.jsonl"
    sound = path.read_bytes()[9:-1]
    for old, new, message in (
        (b'"index":[0,null,null]', b'"index":[9,null,null]', "not one of an image"),
        (b'"index":[0,null,null]', b'"index":[0,0,null]', "exactly two axes"),
        (b'"clicks":[[5.0,5.0,true]]', b'"clicks":[[99.0,5.0,true]]', "outside"),
        (b'"label":1', b'"label":0', "label"),
        (b'"box":[', b'"box":[1', "box"),
        (b'"do":"clicks"', b'"do":"dance"', "dance"),
        (b'"bits":"', b'"bits":"?', ""),
    ):
        assert old in sound
        line = sound.replace(old, new)
        path.write_bytes(b"%08x %s\n" % (zlib.crc32(line), line))
        opened = reopened(tmp_path / "s", tmp_path / f"copy {old!r} {new!r}".replace("/", ""))
        assert message in opened.warning
        assert not opened.labels.any()
        assert not opened.session.objects


def test_new_objects_are_told_how_large_those_before_are_and_the_journal_keeps_it(tmp_path):
    image = np.zeros((60, 80), np.uint8)
    session = Session(image.shape, Normalisation(0, 1))
    labels, plane = np.zeros(image.shape, np.uint16), Plane((None, None))
    told = []
    with Journal.create(tmp_path / "s", session, ImageIdentity.of("a", image), labels):
        for number, side in enumerate((4, 10, 6, 8)):
            session.edit_clicks(plane, Clicks([Click(5, 15 * number + 2)]))
            replay = session.job(lambda _: labels)
            told.append(replay.extent)
            mask = np.zeros(image.shape, bool)
            mask[:3, 15 * number : 15 * number + side] = True
            session.resolve(replay, mask, labels, "m").apply(labels)
            if number < 3:
                session.next_object()
    assert told == [0, 0, 0, 6]
    opened = open_session(tmp_path / "s")
    opened.journal.close()
    kept = [planes[plane].extent for _, planes in sorted(opened.session.objects.items())]
    assert kept == told
    # a further click follows on the same beginning
    opened.session.edit_clicks(plane, Clicks([Click(5, 47), Click(1, 60, False)]))
    assert opened.session.job(lambda _: opened.labels).extent == 6
