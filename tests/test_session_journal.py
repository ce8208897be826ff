"""The journal of a session: what was done survives a kill, damage and a full disk."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_bench import IDENTITY, JOURNALS, SHAPE, Z0, Z1, Bench, perform, random_actions, state_of

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.session import (
    ImageIdentity,
    Journal,
    Plane,
    Session,
    SessionError,
    open_session,
)


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


def test_a_session_goes_on_while_its_folder_cannot_be_written(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path / "s")
    bench.click(Z0, 5, 5)
    with Path("/dev/full").open("wb", buffering=0) as full:
        file, bench.journal._file = bench.journal._file, full
        bench.click(Z0, 9, 9)
        assert "No space left" in bench.journal.error
        bench.click(Z0, 15, 9)
        bench.journal._file = file
    bench.click(Z0, 20, 9)
    assert bench.journal.error == ""
    opened = reopened(tmp_path / "s", tmp_path / "copy")
    assert state_of(opened.session, opened.labels) == bench.state()


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
