"""The session: any history can be taken back bit for bit, and finished work stays."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.predict import Normalisation, Prediction
from napari_fctsfn.predict import Settings as PredictorSettings
from napari_fctsfn.session import (
    ImageIdentity,
    Journal,
    Patch,
    Plane,
    Refinement,
    Replayer,
    Session,
    SessionError,
    box_clicks,
    clip_box,
    open_session,
    rebuild,
    scribble_clicks,
)
from napari_fctsfn.session.masks import Mask

SHAPE = (3, 24, 20)
RANGE = Normalisation(0.0, 1.0)
IDENTITY = ImageIdentity.of("image", np.zeros(SHAPE))
Z0, Z1, XZ = Plane((0, None, None)), Plane((1, None, None)), Plane((None, 7, None))


JOURNALS: list[Journal] = []


@pytest.fixture(autouse=True)
def _close_journals() -> Iterator[None]:
    yield
    while JOURNALS:
        JOURNALS.pop().close()


class DiskPredictor:
    """A stand-in with the predictor's contract: a pure function of clicks and previous mask."""

    sha256 = "disk"

    def __init__(self) -> None:
        self.calls: list[Clicks] = []
        self.shape = (0, 0)

    def set_image(self, image: Any, normalisation: Any = None, key: Any = None) -> None:
        self.shape = image.shape

    def predict(
        self, clicks: Clicks, previous: Any = None, settings: Any = None, keep: bool = False
    ) -> Prediction:
        self.calls.append(clicks)
        mask = np.zeros(self.shape, dtype=bool)
        if previous is not None:
            mask |= previous.full_mask() if isinstance(previous, Prediction) else previous
        rows, columns = np.indices(self.shape)
        for number, click in enumerate(clicks):
            radius = 2 + (len(clicks) - number) % 3
            near = (rows - click.row) ** 2 + (columns - click.column) ** 2 <= radius**2
            mask[near] = click.positive
        return Prediction(mask, mask.astype(np.float32), (0, 0, *self.shape), self.shape)

    settings = PredictorSettings()

    def finish(
        self, prediction: Prediction, clicks: Clicks, settings: PredictorSettings, kept: Any = None
    ) -> Prediction:
        """The threshold takes a border of columns away."""
        mask = prediction.mask.copy()
        mask[:, : round(10 * settings.threshold)] = False
        return replace(prediction, mask=mask)


class Bench:
    """A session with its labels and a predictor, as the dock holds them."""

    def __init__(self, labels: np.ndarray | None = None, folder: Path | None = None) -> None:
        self.labels = np.zeros(SHAPE, np.uint16) if labels is None else labels
        self.image = np.zeros(SHAPE)
        ticks = count(1_700_000_000)
        self.session = Session(
            SHAPE, RANGE, int(self.labels.max()), clock=lambda: float(next(ticks))
        )
        self.predictor = DiskPredictor()
        self.replayer = Replayer(self.predictor)
        if folder is not None:
            self.journal = Journal.create(folder, self.session, IDENTITY, self.labels)
            JOURNALS.append(self.journal)

    def reopen(self) -> None:
        """Forget everything and go on with what the folder holds."""
        self.journal.close()
        opened = open_session(self.journal.folder, IDENTITY)
        self.session, self.labels, self.journal = opened.session, opened.labels, opened.journal
        self.replayer, self.warning = Replayer(self.predictor), opened.warning
        JOURNALS.append(self.journal)

    def work(self) -> None:
        """Predict all that waits."""
        while (replay := self.session.job(lambda plane: self.labels[plane.key])) is not None:
            image = self.image[replay.plane.key]
            prediction = self.replayer.predict(replay, image, RANGE, replay.plane)
            mask = None if prediction is None else prediction.full_mask()
            view = self.labels[replay.plane.key]
            self.write(self.session.resolve(replay, mask, view, "disk"))

    def write(self, patch: Patch | None) -> None:
        if patch is not None:
            patch.apply(self.labels[patch.plane.key])

    def click(self, plane: Plane, row: float, column: float, positive: bool = True) -> None:
        clicks = self.session.clicks(self.session.current, plane)
        self.session.edit_clicks(plane, clicks.append(Click(row, column, positive)))
        self.work()

    def undo(self) -> bool:
        return self._step(self.session.undo())

    def redo(self) -> bool:
        return self._step(self.session.redo())

    def _step(self, step: Any) -> bool:
        if step is None:
            return False
        for patch in step.patches:
            self.write(patch)
        return True

    def labels_of(self, plane: Plane) -> np.ndarray:
        return self.labels[plane.key]

    def state(self) -> tuple[Any, ...]:
        return state_of(self.session, self.labels)


def state_of(session: Session, labels: np.ndarray) -> tuple[Any, ...]:
    """All that an annotator sees of a session."""
    return (
        labels.tobytes(),
        session.objects,
        session.notes,
        session.current,
        session.refinement,
    )


def replaced(clicks: Clicks, index: int, click: Click) -> Clicks:
    return Clicks((*clicks[:index], click, *clicks[index + 1 :]))


OPERATIONS = ("select", "describe", "delete", "merge", "renumber", "propagate", "adopt", "accept")

_clicks = st.tuples(
    st.integers(0, 2),
    st.integers(0, SHAPE[1] - 1),
    st.integers(0, SHAPE[2] - 1),
    st.booleans(),
)


def _lists(kinds: tuple[str, ...]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.tuples(st.sampled_from(kinds), _clicks), max_size=14)


CLICKING = ("add", "add", "move", "unclick", "brush", "next", "box", "scribble", "refine")
_clicking = _lists(CLICKING)
_actions = _lists((*CLICKING, *OPERATIONS))


def perform(bench: Bench, action: str, where: tuple[int, int, int, bool]) -> None:
    """One action of an annotator; one that is impossible does nothing."""
    z, row, column, positive = where
    plane = Plane((z, None, None))
    if z == 2:  # seldom, a slice of another orientation
        plane, row = Plane((None, row, None)), row % SHAPE[0]
    bench.session.observe(plane, bench.labels[plane.key])
    with suppress(SessionError):
        if action in OPERATIONS:
            operate(bench, action, plane, row, column)
        elif action in ("undo", "redo"):
            bench.undo() if action == "undo" else bench.redo()
        else:
            edit(bench, action, plane, row, column, positive)
    bench.work()


def edit(bench: Bench, action: str, plane: Plane, row: int, column: int, positive: bool) -> None:
    """One action that changes clicks, labels or the object at work."""
    session = bench.session
    clicks = session.clicks(session.current, plane)
    index = (row + column) % len(clicks) if len(clicks) else 0
    if action == "add":
        session.edit_clicks(plane, clicks.append(Click(row, column, positive)))
    elif action == "move" and len(clicks):
        click = Click(row, column, clicks[index].positive)
        session.edit_clicks(plane, replaced(clicks, index, click))
    elif action == "unclick" and len(clicks):
        session.edit_clicks(plane, Clicks((*clicks[:index], *clicks[index + 1 :])))
    elif action == "brush":
        view = bench.labels[plane.key]
        view[row : row + 3, column : column + 3] = session.current if positive else 0
        session.observe(plane, view)
    elif action == "next":
        session.next_object()
    elif action == "box":
        size = plane.shape(SHAPE)
        box = clip_box(np.array([[row - 3.0, column - 4.0], [row + 4.0, column + 3.0]]), size)
        session.add_prompt(plane, box_clicks(box, size), box)
    elif action == "scribble":
        session.add_prompt(plane, scribble_clicks([(row, 0.0), (row, column)], positive))
    elif action == "refine":
        session.refine(plane, Refinement(round(0.1 + row / 30, 3), column / 20, positive))


def operate(bench: Bench, action: str, plane: Plane, row: int, column: int) -> None:
    """One action that needs no prediction, on objects that row and column choose."""
    session, patches = bench.session, ()
    known = sorted(session.objects) or [1]
    chosen = known[row % len(known)]
    if action == "select":
        session.select(chosen)
    elif action == "describe":
        note = session.note(chosen)
        changes = ({"name": f"cell {column}"}, {"protected": not note.protected}, {"color": "#00f"})
        session.describe({chosen: replace(note, **changes[column % 3])})
    elif action == "delete":
        patches = session.delete(known if column % 5 == 0 else [chosen], bench.labels_of)
    elif action == "merge":
        patches = session.merge(chosen, known[: 1 + column % 3], bench.labels_of)
    elif action == "renumber":
        patches = session.renumber(bench.labels_of)
    elif action == "accept":
        found = found_bars(plane, column % 3, row % 4, column % 9)
        patches = session.accept(plane, found, bench.labels_of, "disk", 3.0)
    else:
        patches = given_bars(session, action, bench, plane, row, column)
    for patch in patches:
        bench.write(patch)


def found_bars(plane: Plane, count: int, row: int, column: int) -> list[tuple[Click, np.ndarray]]:
    """Bars of three rows that do not touch, with a click in each."""
    found = []
    shape = plane.shape(SHAPE)
    for top in range(row, min(row + 4 * count, shape[0]), 4):
        mask = np.zeros(shape, dtype=bool)
        mask[top : top + 3, column:] = True
        found.append((Click(top, column), mask))
    return found


def given_bars(
    session: Session, action: str, bench: Bench, plane: Plane, row: int, column: int
) -> tuple[Patch, ...]:
    """Masks in two slices, propagated or adopted."""
    masks = {}
    for place in (plane, Z0):
        masks[place] = np.zeros(place.shape(SHAPE), dtype=bool)
        masks[place][: 1 + row % 3, column % 8 :] = True
    if action == "adopt":
        return session.adopt(session.highest + 1 + column % 3, masks, bench.labels_of)
    return session.propagate(session.current, masks, bench.labels_of, "disk")


def random_actions(seed: int, number: int) -> list[tuple[str, tuple[int, int, int, bool]]]:
    """Actions of an annotator who clicks more than anything else."""
    rng = np.random.default_rng(seed)
    kinds = ["add"] * 8 + ["next"] * 3 + ["undo", "redo", *CLICKING[2:], *OPERATIONS]
    return [
        (
            str(rng.choice(kinds)),
            (
                int(rng.integers(3)),
                int(rng.integers(24)),
                int(rng.integers(20)),
                rng.random() < 0.7,
            ),
        )
        for _ in range(number)
    ]


@settings(max_examples=60, deadline=None)
@given(_actions, st.data())
def test_any_history_is_taken_back_and_done_again_bit_for_bit(actions: Any, data: Any) -> None:
    bench = Bench()
    states = {0: bench.state()}
    for action, where in actions:
        perform(bench, action, where)
        states[len(list(bench.session.history))] = bench.state()
    end = len(list(bench.session.history))
    calls = len(bench.predictor.calls)
    target = data.draw(st.sampled_from(sorted(states)))
    for _ in range(end - target):
        assert bench.undo()
    assert bench.state() == states[target]
    while bench.redo():
        pass
    assert bench.state() == states[end]
    while bench.undo():
        pass
    assert bench.state() == states[0]
    assert len(bench.predictor.calls) == calls, "undo and redo must not predict"


@settings(max_examples=60, deadline=None)
@given(_clicking)
def test_pixels_of_other_objects_are_never_touched(actions: Any) -> None:
    bench = Bench()
    bench.labels[0, 2:9, 2:9] = 5
    bench.session = Session(SHAPE, RANGE, highest=5)
    for action, where in actions:
        before, label = bench.labels.copy(), bench.session.current
        if action != "brush":
            perform(bench, action, where)
            others = (before != 0) & (before != label)
            assert (bench.labels[others] == before[others]).all()
            assert set(np.unique(bench.labels[before == 0])) <= {0, label}


@settings(max_examples=40, deadline=None)
@given(_clicking)
def test_masks_are_the_replay_of_the_clicks(actions: Any) -> None:
    bench = Bench()
    for action, where in actions:
        if action != "brush" and where[0] != 2:
            perform(bench, action, where)
    again = np.zeros(SHAPE, np.uint16)
    rebuild(
        bench.session.objects, lambda plane: bench.image[plane.key], RANGE, DiskPredictor(), again
    )
    assert (again == bench.labels).all()


def reopened(folder: Path, copy: Path) -> Any:
    """What a session is when it is opened again, in another process as it were."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("lock"))
    opened = open_session(copy, IDENTITY)
    opened.journal.close()
    return opened


PROMPTING = ("add", "move", "unclick", "box", "scribble", "refine", "next", "select")


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_500_actions_never_touch_finished_objects_and_are_undone_bit_for_bit(seed: int) -> None:
    with TemporaryDirectory() as folder:
        bench = Bench(folder=Path(folder) / "session")
        # what the labels were after so many steps, told by nothing but the labels themselves
        seen = {0: bench.labels.tobytes()}
        for number, (action, where) in enumerate(random_actions(seed, 500)):
            before, label = bench.labels.copy(), bench.session.current
            steps = len(list(bench.session.history))
            perform(bench, action, where)
            now = len(list(bench.session.history))
            changed = before != bench.labels
            if action in PROMPTING:
                assert set(before[changed]) | set(bench.labels[changed]) <= {0, label}
            if action in ("undo", "redo"):
                assert bench.labels.tobytes() == seen[now]
            elif now != steps:
                seen = {step: data for step, data in seen.items() if step <= steps}
                seen[now] = bench.labels.tobytes()
            if number % 100 == 99:
                state = bench.state()
                bench.reopen()
                assert (bench.warning, bench.state()) == ("", state)
        while bench.undo():
            assert bench.labels.tobytes() == seen[len(list(bench.session.history))]
        assert not bench.labels.any()
        bench.journal.close()


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


def test_a_mask_of_another_tool_becomes_an_object_that_clicks_correct() -> None:
    bench = Bench()
    bench.labels[0, 2:9, 2:9] = 7
    bench.labels[1, 2:5, 2:5] = 7
    bench.session = Session(SHAPE, RANGE, highest=7)
    start = bench.state()
    masks = {plane: bench.labels[plane.key] == 7 for plane in (Z0, Z1)}
    assert bench.session.adopt(7, masks, bench.labels_of) == ()
    assert bench.session.current == 7
    adopted = bench.state()
    bench.click(Z0, 20, 15)
    assert (bench.labels[0, 2:9, 2:9] == 7).all()
    assert bench.labels[0, 20, 15] == 7
    assert bench.session.objects[7][Z0].given is not None
    bench.session.edit_clicks(Z0, Clicks())
    bench.work()
    assert (bench.labels == np.frombuffer(adopted[0], np.uint16).reshape(SHAPE)).all()
    assert bench.session.next_object() == 8
    for _ in range(3):
        bench.undo()
    assert bench.state() == adopted
    bench.undo()
    assert bench.state() == start


def test_an_adopted_mask_leaves_other_objects_their_pixels() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    own = bench.labels == 1
    mask = np.zeros(SHAPE[1:], dtype=bool)
    mask[:10, :10] = True
    for patch in bench.session.adopt(12, {Z0: mask}, bench.labels_of):
        bench.write(patch)
    assert (bench.labels[own] == 1).all()
    assert ((bench.labels[0] == 12) == (mask & ~own[0])).all()
    assert bench.session.next_object() == 13
    with pytest.raises(SessionError, match="object 1 is one of this session"):
        bench.session.adopt(1, {Z0: mask}, bench.labels_of)
    with pytest.raises(SessionError, match="all pixels of that mask belong"):
        bench.session.adopt(20, {Z0: mask}, bench.labels_of)


@pytest.mark.parametrize("keep", [False, True])
def test_what_another_object_cuts_off_a_mask_needs_a_click(keep: bool) -> None:
    bench = Bench()
    line = np.zeros(SHAPE[1:], dtype=bool)
    line[:, 12] = True
    for patch in bench.session.adopt(12, {Z0: line}, bench.labels_of):
        bench.write(patch)
    bench.session.next_object()
    bench.session.refine(Z0, replace(Refinement(), drop_unclicked=not keep))
    bench.work()
    bench.click(Z0, 5, 11)
    mine = bench.labels[0] == bench.session.current
    assert mine[5, 10]
    assert mine[5, 13] == keep
    bench.click(Z0, 5, 14)
    mine = bench.labels[0] == bench.session.current
    assert mine[5, 11]
    assert mine[5, 14]
    rebuilt = np.zeros_like(bench.labels)
    rebuild(bench.session.objects, lambda p: bench.image[p.key], RANGE, bench.predictor, rebuilt)
    assert (rebuilt == bench.labels).all()


def test_a_click_on_a_finished_object_takes_nothing_beside_it() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.labels.copy()
    bench.session.next_object()
    bench.click(Z0, 5, 7)
    current = bench.session.current
    assert (bench.labels == before).all()
    assert len(bench.session.clicks(current, Z0)) == 1
    bench.click(Z0, 5, 9)
    assert (bench.labels[0] == current).any()
    assert (bench.labels[0] == 1).sum() == (before == 1).sum()
    rebuilt = np.zeros_like(bench.labels)
    rebuild(bench.session.objects, lambda p: bench.image[p.key], RANGE, bench.predictor, rebuilt)
    assert (rebuilt == bench.labels).all()


def test_what_was_found_becomes_objects_in_one_step() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.state()
    masks = np.zeros((3, *SHAPE[1:]), dtype=bool)
    masks[0, 4:7, 4:9], masks[1, 12:15, 2:6], masks[2, 16:19, 10:12] = True, True, True
    found = [(Click(5, 8), masks[0]), (Click(13, 3), masks[1]), (Click(17, 11), masks[2])]
    for patch in bench.session.accept(Z0, found, bench.labels_of, "disk", 4.0):
        bench.write(patch)
    assert sorted(bench.session.objects) == [1, 2, 3, 4]
    for label, mask in enumerate(masks, 2):
        assert ((bench.labels[0] == label) == (mask & (before_labels(before) != 1))).all()
        annotation = bench.session.objects[label][Z0]
        assert (len(annotation.clicks), annotation.extent, annotation.model) == (1, 4.0, "disk")
    assert bench.session.current == 1
    assert bench.session.next_object() == 5
    assert bench.undo()
    assert bench.undo()
    assert bench.state() == before
    assert bench.session.accept(Z0, [], bench.labels_of, "disk", 4.0) == ()
    assert bench.session.history.can_redo  # nothing found is no step


def before_labels(state: tuple[Any, ...]) -> np.ndarray:
    """The first slice of a state's labels."""
    return np.frombuffer(state[0], np.uint16).reshape(SHAPE)[0]


def test_a_protected_object_is_closed_to_everything() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    session = bench.session
    session.describe({1: replace(session.note(1), protected=True)})
    before = bench.state()
    for change in (
        lambda: session.edit_clicks(Z0, Clicks()),
        lambda: session.delete([1], bench.labels_of),
        lambda: session.merge(2, [1], bench.labels_of),
        lambda: session.merge(1, [2], bench.labels_of),
        lambda: session.propagate(1, {Z1: np.ones((24, 20), bool)}, bench.labels_of, "m"),
    ):
        with pytest.raises(SessionError, match="object 1 is protected"):
            change()
    assert bench.state() == before


def test_a_finished_object_is_taken_up_again_with_its_clicks() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.session.next_object()
    bench.click(Z0, 15, 15)
    bench.session.select(1)
    bench.click(Z0, 5, 9)
    assert len(bench.session.clicks(1, Z0)) == 2
    assert bench.session.next_object() == 3


def test_merged_objects_have_all_pixels_and_clicks_of_both() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.session.next_object()
    bench.click(Z0, 15, 15)
    bench.click(Z1, 9, 9)
    pixels = bench.labels > 0
    for patch in bench.session.merge(1, [2], bench.labels_of):
        bench.write(patch)
    assert (bench.labels[pixels] == 1).all()
    assert not bench.labels[~pixels].any()
    assert [len(bench.session.clicks(1, plane)) for plane in (Z0, Z1)] == [2, 1]
    assert list(bench.session.objects) == [1]


def test_renumbering_leaves_no_gap_and_spares_what_is_not_ours() -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2] = 2
    bench = Bench(labels)
    for number in range(4):
        bench.click(Z0, 3 + 6 * number, 9)
        bench.session.next_object()
    for patch in bench.session.delete([4], bench.labels_of):
        bench.write(patch)
    shapes = [bench.labels == label for label in (3, 5, 6)]
    for patch in bench.session.renumber(bench.labels_of, taken=[2]):
        bench.write(patch)
    assert sorted(bench.session.objects) == [1, 3, 4]
    for label, shape in zip((1, 3, 4), shapes, strict=True):
        assert ((bench.labels == label) == shape).all()
    assert (bench.labels[2] == 2).all()


def test_operations_wait_for_clicks_that_wait_for_masks() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5)]))
    with pytest.raises(SessionError, match="waits for its mask"):
        bench.session.delete([1], bench.labels_of)


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


def test_appending_predicts_once_and_moving_replays_from_the_click() -> None:
    bench = Bench()
    for number in range(5):
        bench.click(Z0, 4 + 2 * number, 6)
    assert [len(clicks) for clicks in bench.predictor.calls] == [1, 2, 3, 4, 5]
    bench.predictor.calls.clear()
    clicks = bench.session.clicks(1, Z0)
    bench.session.edit_clicks(Z0, replaced(clicks, 3, Click(20, 15)))
    bench.work()
    assert [len(clicks) for clicks in bench.predictor.calls] == [4, 5]


def test_several_clicks_at_once_are_undone_one_by_one() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(3, 3), Click(8, 8), Click(14, 3)]))
    bench.work()
    bench.undo()
    assert len(bench.session.clicks(1, Z0)) == 2


def test_undo_while_a_click_waits_takes_that_click_back() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    before = bench.labels.copy()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5), Click(15, 15)]))
    replay = bench.session.job(lambda plane: bench.labels[plane.key])
    bench.undo()
    assert replay is not None
    late = bench.session.resolve(replay, np.ones(SHAPE[1:], bool), bench.labels[0], "late")
    assert late is None
    assert (bench.labels == before).all()
    bench.redo()
    bench.work()
    assert len(bench.session.clicks(1, Z0)) == 2
    assert (bench.labels != before).any()


def test_an_object_left_while_its_click_waits_still_gets_its_mask() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5)]))
    assert bench.session.next_object() == 2
    bench.session.edit_clicks(Z0, Clicks([Click(15, 15)]))
    bench.work()
    assert set(np.unique(bench.labels)) == {0, 1, 2}
    assert bench.session.current == 2


def test_brushed_pixels_are_the_mask_the_next_click_starts_from() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1
    assert bench.session.observe(Z0, bench.labels[0])
    brushed = bench.labels.copy()
    bench.click(Z0, 5, 8)
    assert (bench.labels[0, 18:22, 12:16] == 1).all()
    bench.undo()
    assert (bench.labels == brushed).all()
    bench.undo()
    assert (bench.labels[0, 18:22, 12:16] == 0).all()


def test_a_click_made_before_a_brush_stroke_can_still_be_moved() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1
    bench.session.observe(Z0, bench.labels[0])
    before = bench.labels.copy()
    bench.session.edit_clicks(Z0, Clicks([Click(8, 14)]))
    bench.work()
    assert (bench.labels != before).any()
    assert (bench.labels[0, 18:22, 12:16] == 1).all()


def test_edits_that_nobody_saw_are_not_lost_either() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    bench.click(Z1, 5, 5)
    bench.labels[0, 18:22, 12:16] = 1  # while another slice is shown
    bench.click(Z0, 5, 8)
    assert (bench.labels[0, 18:22, 12:16] == 1).all()


def test_pixels_written_by_somebody_else_survive_an_undo() -> None:
    bench = Bench()
    bench.click(Z0, 5, 5)
    step = bench.session.undo()
    bench.labels[0, 5, 5] = 9
    assert step is not None
    bench.write(step.patches[0])
    assert bench.labels[0, 5, 5] == 9
    assert bench.labels.sum() == 9


def test_deleting_all_clicks_gives_back_what_was_there() -> None:
    bench = Bench()
    bench.labels[0, 3:6, 3:6] = 1
    start = bench.labels.copy()
    bench.click(Z0, 12, 12)
    bench.session.edit_clicks(Z0, Clicks())
    bench.work()
    assert (bench.labels == start).all()


def test_the_next_label_is_above_all_in_use() -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2, 0, 0] = 7
    bench = Bench(labels)
    assert bench.session.current == 8
    bench.click(Z0, 5, 5)
    bench.labels[0, 20, 18] = 30
    bench.session.observe(Z0, bench.labels[0])
    assert bench.session.next_object() == 31
    bench.session.undo()
    assert bench.session.current == 8
    assert bench.session.next_object() == 31


def test_no_next_object_before_the_first_click() -> None:
    with pytest.raises(SessionError, match="click on object 1 before"):
        Bench().session.next_object()


def test_labels_run_out_with_a_clear_sentence() -> None:
    session = Session(SHAPE, RANGE, highest=254, capacity=255)
    session.edit_clicks(Z0, Clicks([Click(1, 1)]))
    with pytest.raises(SessionError, match="up to 255"):
        session.next_object()


@pytest.mark.parametrize(
    ("plane", "click", "message"),
    [(Z0, Click(24, 0), "outside"), (Plane((3, None, None)), Click(0, 0), "not one of an image")],
)
def test_clicks_outside_are_refused(plane: Plane, click: Click, message: str) -> None:
    bench = Bench()
    with pytest.raises(ValueError, match=message):
        bench.session.edit_clicks(plane, Clicks([click]))
    assert not bench.session.busy


def test_the_oldest_steps_go_when_memory_is_full() -> None:
    bench = Bench()
    bench.session.history.max_bytes = 4000
    for number in range(20):
        bench.click(Z0, number, 5)
    history = list(bench.session.history)
    assert 1 <= len(history) < 20
    assert sum(command.nbytes for command in history) <= 4000
    assert bench.undo()


def test_what_is_forgotten_is_predicted_again_to_the_same_mask() -> None:
    bench = Bench()
    bench.replayer.max_bytes = 1
    for number in range(4):
        bench.click(Z0, 4 + 4 * number, 6, number != 2)
    remembered = Bench()
    for number in range(4):
        remembered.click(Z0, 4 + 4 * number, 6, number != 2)
    assert (bench.labels == remembered.labels).all()


def test_slices_of_other_orientations() -> None:
    bench = Bench()
    bench.click(XZ, 1, 9)
    assert bench.labels[:, 7].any()
    assert not np.delete(bench.labels, 7, axis=1).any()
    assert XZ.shape(SHAPE) == (3, 20)
    assert Plane.through((1.0, 7.2, 9.0), (0, 2)) == XZ


def test_a_slice_is_rounded_as_napari_does() -> None:
    assert Plane.through((2.5, 0.0, 0.0), (1, 2)).index[0] == 2
    assert Plane.through((3.5, 0.0, 0.0), (1, 2)).index[0] == 4


@pytest.mark.parametrize("index", [(0, 0, None), (None, None, None), (-1, None, None)])
def test_what_is_no_slice_is_refused(index: Any) -> None:
    with pytest.raises(ValueError, match="exactly two axes"):
        Plane(index)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9))
def test_masks_survive_packing(seed: int, rows: int, columns: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.2
    packed = Mask.of(mask, (rows, columns))
    assert (packed.full() == mask).all()
    assert packed.empty == (not mask.any())
    assert packed == Mask.of(mask.copy(), (rows, columns))


def test_a_step_that_cannot_be_predicted_is_dropped() -> None:
    bench = Bench()
    bench.session.edit_clicks(Z0, Clicks([Click(5, 5)]))
    bench.session.drop()
    assert not bench.session.busy
    assert len(bench.session.clicks(1, Z0)) == 0


def test_indices_take_little_memory() -> None:
    rows = columns = np.arange(10)
    arrays = Plane((4, None, None)).indices(rows, columns)
    assert [array.dtype for array in arrays] == [np.uint8] * 3
    assert SimpleNamespace(z=arrays[0]).z.tolist() == [4] * 10


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
