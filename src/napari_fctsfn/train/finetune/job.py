"""A fine-tuning in a process of its own: a folder with what it needs and what it gives.

The parent writes `job.json` and the pictures, starts ``python -m napari_fctsfn.train.finetune
FOLDER``, and reads one line of JSON for each progress from its output. A line ``pause``, ``resume``
or ``cancel`` to its input steers it. The process writes the model it learned and `result.json` into
the folder and never touches the registry: whatever ends it, models and sessions stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from pydantic import BaseModel, ConfigDict

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import ModelEntry, load_model, register_model, save_model
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.train.finetune.clock import Progress
from napari_fctsfn.train.finetune.learner import Parts
from napari_fctsfn.train.finetune.measure import Example, Measured
from napari_fctsfn.train.finetune.outcome import by_force
from napari_fctsfn.train.finetune.pictures import Picture
from napari_fctsfn.train.finetune.tune import FineTuneSettings, fine_tune

_JOB, _RESULT, _MODEL, _EXAMPLES = "job.json", "result.json", "model.safetensors", "examples.npz"

_PARTS = ("image", "truth", "before", "after")
"""Arrays of an example."""

_NICENESS = 10


class _Picture(BaseModel):
    name: str
    objects: tuple[int, ...]
    normalisation: tuple[float, float] | None
    source: str
    licence: str
    stack: str


class Job(BaseModel):
    """What is to be learned."""

    model_config = ConfigDict(extra="forbid")

    base: str
    minutes: float
    seed: int
    parts: Parts | None
    device: str
    threads: int | None
    pictures: list[_Picture]


class Result(BaseModel):
    """What was learned."""

    model_config = ConfigDict(extra="forbid")

    base: str
    improved: bool
    cancelled: bool
    before: dict[str, float] | None
    after: dict[str, float] | None
    generic_before: dict[str, float]
    generic_after: dict[str, float]
    notes: list[str]
    examples: list[tuple[str, int, int]]

    def measured(self, name: Literal["before", "after", "generic_before", "generic_after"]) -> Any:
        """A measurement; None if there is none."""
        values = getattr(self, name)
        return None if values is None else Measured(**values)


def write_job(
    folder: Path,
    base: Path,
    pictures: Sequence[Picture],
    settings: FineTuneSettings,
    threads: int | None = None,
) -> None:
    """Write what a process needs.

    Parameters
    ----------
    folder : Path
        Must exist; of one job only.
    base : Path
        Model file to start from.
    pictures : sequence of Picture
    settings : FineTuneSettings
    threads : int, optional
        Of torch; its own choice if not given.
    """
    described = []
    for number, picture in enumerate(pictures):
        arrays: dict[str, Any] = {"image": picture.image, "labels": picture.labels}
        if picture.ignore is not None:
            arrays["ignore"] = picture.ignore
        np.savez(folder / f"{number}.npz", **arrays)
        shown = picture.normalisation
        described.append(
            _Picture(
                name=picture.name,
                objects=picture.objects,
                normalisation=None if shown is None else (shown.low, shown.high),
                source=picture.source,
                licence=picture.licence,
                stack=picture.stack,
            )
        )
    job = Job(
        base=str(base),
        minutes=settings.minutes,
        seed=settings.seed,
        parts=settings.parts,
        device=settings.device,
        threads=threads,
        pictures=described,
    )
    with replace_file(folder / _JOB) as temporary:
        temporary.write_text(job.model_dump_json(), encoding="utf-8")


def read_result(folder: Path) -> tuple[Result, list[Example]]:
    """What the process gave.

    Raises
    ------
    OSError
        If it gave nothing.
    """
    result = Result.model_validate_json((folder / _RESULT).read_bytes())
    examples = []
    with np.load(folder / _EXAMPLES, allow_pickle=False) as arrays:
        for number, (name, row, column) in enumerate(result.examples):
            parts = {part: arrays[f"{part}{number}"] for part in _PARTS}
            examples.append(Example(name, row=row, column=column, **parts))
    return result, examples


def take_model(folder: Path, name: str, *, replace: bool = False) -> ModelEntry:
    """Register the model that the process gave.

    Raises
    ------
    ModelError
        If the name is not valid or taken.
    OSError
        If it cannot be written.
    """
    model = load_model(folder / _MODEL)
    card = model.card
    if not card.training.get("improved"):
        card = by_force(card)
    return register_model(name, model.network, card, replace=replace)


def work(folder: Path, control: TextIO, report: TextIO) -> None:
    """Do the job of a folder; the process ends afterwards.

    Parameters
    ----------
    folder : Path
    control : text stream
        ``pause``, ``resume`` and ``cancel``, one a line. At its end nobody waits for the result
        any more: the folder is removed and the process ends at once.
    report : text stream
        Gets one line of JSON for each progress, or ``{"error": ...}``.
    """
    import torch

    job = Job.model_validate_json((folder / _JOB).read_bytes())
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    steering = _Steering(control, lambda: _abandon(folder))
    pictures = [_read_picture(folder, number, part) for number, part in enumerate(job.pictures)]
    settings = FineTuneSettings(job.minutes, job.parts, job.seed, device=job.device)

    def tell(progress: Progress) -> None:
        print(json.dumps(asdict(progress)), file=report, flush=True)

    tuned = fine_tune(load_model(Path(job.base)), pictures, settings, tell, steering.proceed)
    save_model(folder / _MODEL, tuned.network, tuned.card("finetuned"))
    arrays: dict[str, Any] = {
        f"{part}{number}": getattr(example, part)
        for number, example in enumerate(tuned.examples)
        for part in _PARTS
    }
    np.savez(folder / _EXAMPLES, **arrays)
    result = Result(
        base=tuned.parent.card.name,
        improved=tuned.improved,
        cancelled=tuned.cancelled,
        before=None if tuned.before is None else asdict(tuned.before),
        after=None if tuned.after is None else asdict(tuned.after),
        generic_before=asdict(tuned.generic_before),
        generic_after=asdict(tuned.generic_after),
        notes=list(tuned.notes),
        examples=[(e.name, e.row, e.column) for e in tuned.examples],
    )
    with replace_file(folder / _RESULT) as temporary:
        temporary.write_text(result.model_dump_json(), encoding="utf-8")


def _read_picture(folder: Path, number: int, about: _Picture) -> Picture:
    with np.load(folder / f"{number}.npz", allow_pickle=False) as arrays:
        return Picture(
            about.name,
            arrays["image"],
            arrays["labels"],
            about.objects,
            None if about.normalisation is None else Normalisation(*about.normalisation),
            arrays.get("ignore"),
            about.source,
            about.licence,
            about.stack,
        )


def _abandon(folder: Path) -> None:
    """End without a trace: whoever started this process is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


class _Steering:
    """Reads what the parent says, in a thread of its own."""

    def __init__(self, control: TextIO, abandon: Callable[[], None]) -> None:
        self._control, self._abandon = control, abandon
        self._going = threading.Event()
        self._going.set()
        self._cancelled = False
        threading.Thread(target=self._listen, daemon=True).start()

    def proceed(self) -> bool:
        """Waits while there is a pause; False after ``cancel``."""
        self._going.wait()
        return not self._cancelled

    def _listen(self) -> None:
        for line in self._control:
            word = line.strip()
            if word == "pause":
                self._going.clear()
            elif word == "resume":
                self._going.set()
            elif word == "cancel":
                self._cancelled = True
                self._going.set()
        self._abandon()


def lower_priority() -> None:
    """Let everything else go first."""
    if sys.platform == "win32":
        import ctypes

        below_normal = 0x4000
        process = ctypes.windll.kernel32.GetCurrentProcess()
        ctypes.windll.kernel32.SetPriorityClass(process, below_normal)
    else:
        os.nice(_NICENESS)


def main() -> int:
    """``python -m napari_fctsfn.train.finetune FOLDER``."""
    lower_priority()
    try:
        work(Path(sys.argv[1]), sys.stdin, sys.stdout)
    except InputError as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201
        return 2
    except (OSError, MemoryError, RuntimeError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)  # noqa: T201
        return 1
    return 0
