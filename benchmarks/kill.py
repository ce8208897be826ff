"""A session is killed at random moments, opened again and gone on with: nothing may be lost.

    python benchmarks/kill.py [--kills 200] [--seed 0]

A process annotates two slices of the bundled nuclei by a script (clicks, next object, undo, redo,
names, deletions) with the bundled model, and says after each step that it is done. It is killed
with SIGKILL after a random time, many times over, each time going on from what its folder holds.
After each kill objects, clicks, notes and labels must be those of an uninterrupted run after the
last step that was said to be done, or after the one in flight. Exit status 1 if they ever are not.
Needs an operating system that forks.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

import napari_fctsfn
from napari_fctsfn.clicks import Click
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.session import (
    ImageIdentity,
    Journal,
    Patch,
    Plane,
    Replayer,
    Session,
    SessionError,
    open_session,
)

_FORK = multiprocessing.get_context("fork")
_PLANES = (Plane((0, None, None)), Plane((1, None, None)))
_BIRTH = 1.0
"""Seconds until a kill before the first step, at most."""

_STEP = 0.15
"""Seconds until a kill after a step, at most."""

_STEPS = 8
"""Steps before a kill, at most."""


@dataclass
class Report:
    """What was found.

    Attributes
    ----------
    kills, steps : int
        Kills so far and steps that were done in all lives together.
    in_flight : int
        Kills after which the step in flight was already in the journal.
    lost : list of str
        What an uninterrupted run has and the reopened session has not.
    """

    kills: int
    steps: int
    in_flight: int
    lost: list[str]


def picture() -> np.ndarray:
    """Two slices of 256 x 256 pixels."""
    nuclei = iio.imread(Path(napari_fctsfn.__file__).parent / "data" / "nuclei.png")
    return np.stack([nuclei[:256, :256], nuclei[-256:, -256:]])


def state(session: Session, labels: np.ndarray) -> str:
    """Stands for all that an annotator sees."""
    objects = {label: sorted(map(str, planes.items())) for label, planes in session.objects.items()}
    seen = repr((sorted(objects.items()), sorted(session.notes.items()), session.current))
    return hashlib.sha256(seen.encode() + labels.tobytes()).hexdigest()


def act(session: Session, labels: np.ndarray, rng: np.random.Generator) -> None:
    """One thing that an annotator might want; it depends on the session and `rng` alone."""
    kind = rng.choice(["click"] * 9 + ["next"] * 3 + ["undo", "undo", "redo", "name", "delete"])
    plane, known = _PLANES[rng.integers(2)], sorted(session.objects)
    patches: tuple[Patch, ...] = ()
    if kind == "click":
        row, column = (float(x) for x in rng.uniform(0, 255, 2))
        clicks = session.clicks(session.current, plane)
        positive = not len(clicks) or bool(rng.random() < 0.6)
        session.edit_clicks(plane, clicks.append(Click(row, column, positive)))
    elif kind == "next":
        session.next_object()
    elif kind in ("undo", "redo"):
        done = session.undo() if kind == "undo" else session.redo()
        patches = () if done is None else done.patches
    elif known:
        label = int(rng.choice(known))
        if kind == "name":
            name = f"cell {rng.integers(1000)}"
            session.describe({label: replace(session.note(label), name=name)})
        else:
            patches = session.delete([label], lambda place: labels[place.key])
    for patch in patches:
        patch.apply(labels[patch.plane.key])


def predict(session: Session, replayer: Replayer, image: np.ndarray, labels: np.ndarray) -> None:
    """Predict all that waits."""
    while (replay := session.job(lambda place: labels[place.key])) is not None:
        view = labels[replay.plane.key]
        prediction = replayer.predict(
            replay, image[replay.plane.key], session.normalisation, replay.plane
        )
        mask = None if prediction is None else prediction.full_mask()
        patch = session.resolve(replay, mask, view, replayer.predictor.sha256)
        if patch is not None:
            patch.apply(view)


def annotate(
    folder: Path, predictor: Predictor, seed: int, said: Connection, first: int = 0
) -> None:
    """Do the steps from `first` on, in the folder's session, and say the state after each.

    It goes on until it is killed, or until the pipe is full and nobody listens.
    """
    torch.set_num_threads(1)
    image = picture()
    identity = ImageIdentity.of("nuclei", image)
    if folder.exists():
        opened = open_session(folder, identity)
        session, labels = opened.session, opened.labels
    else:
        session = Session(image.shape, Normalisation.from_array(image))
        labels = np.zeros(image.shape, np.uint16)
        Journal.create(folder, session, identity, labels)
    replayer = Replayer(predictor)
    for number in itertools.count(first):
        with suppress(SessionError):
            act(session, labels, np.random.default_rng([seed, number]))
        predict(session, replayer, image, labels)
        said.send(state(session, labels))


def run(kills: int, seed: int, folder: Path) -> Report:
    """Kill a session so many times; the folder must be empty."""
    predictor = Predictor.from_pretrained("default", "cpu")
    rng = np.random.default_rng(seed)
    expected = [
        state(
            Session(picture().shape, Normalisation(0.0, 1.0)), np.zeros(picture().shape, np.uint16)
        )
    ]
    ahead, whole_sender = _FORK.Pipe(duplex=False)
    whole = _FORK.Process(
        target=annotate, args=(folder / "whole", predictor, seed, whole_sender), daemon=True
    )
    whole.start()
    report, done = Report(0, 0, 0, []), 0
    session = folder / "session"
    while report.kills < kills:
        receiver, sender = _FORK.Pipe(duplex=False)
        life = _FORK.Process(target=annotate, args=(session, predictor, seed, sender, done))
        life.start()
        sender.close()
        wanted = int(rng.integers(_STEPS))
        for _ in range(wanted):
            receiver.recv()
            done += 1
        time.sleep(rng.uniform(0, _STEP if wanted else _BIRTH))
        assert life.pid is not None
        os.kill(life.pid, signal.SIGKILL)
        life.join()
        while True:
            try:
                receiver.recv()
            except EOFError:
                break
            done += 1
        report.kills += 1
        while len(expected) < done + 2:
            expected.append(ahead.recv())
        found = expected[0]
        if (session / "session.json").exists():
            opened = open_session(session)
            opened.journal.close()
            found = state(opened.session, opened.labels)
        elif session.exists():
            # killed before there was anything to keep
            session.rename(folder / f"unborn-{report.kills}")
        if found == expected[done + 1] != expected[done]:
            done += 1
            report.in_flight += 1
        elif found != expected[done]:
            report.lost.append(f"kill {report.kills}: not the state after step {done}")
            break
    whole.kill()
    report.steps = done
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(options.kills, options.seed, Path(folder))
    print(
        f"{report.kills} kills, {report.steps} steps, {report.in_flight} times the step in flight "
        f"was saved, lost: {report.lost or 'nothing'}"
    )
    sys.exit(bool(report.lost))


if __name__ == "__main__":
    main()
