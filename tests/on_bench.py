"""A session on the bench: with labels and a predictor, and actions of an annotator."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

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
    scribble_clicks,
)
from napari_fctsfn.session.refinement import USUAL

SHAPE = (3, 24, 20)
RANGE = Normalisation(0.0, 1.0)
IDENTITY = ImageIdentity.of("image", np.zeros(SHAPE))
Z0, Z1, XZ = Plane((0, None, None)), Plane((1, None, None)), Plane((None, 7, None))
JOURNALS: list[Journal] = []


@contextmanager
def no_file_larger(size: int) -> Iterator[None]:
    """As on a full disk, a file takes what fits, and then nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
CLICKING = ("add", "add", "move", "unclick", "brush", "next", "box", "scribble", "refine")


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
        patches = session.accept(plane, found, bench.labels_of, "disk", 3.0, USUAL)
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
