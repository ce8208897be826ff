"""One image of a job, from file to files. This is what a worker does."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn import __version__
from napari_fctsfn.batch.chunks import (
    assembled,
    chunks_of,
    piece_path,
    segment_chunk,
    write_piece,
)
from napari_fctsfn.batch.job import (
    FromFiles,
    FromMasks,
    FromPropagation,
    FromSeeds,
    FromSession,
    FromTable,
    Job,
    JobError,
    Range,
    parse_job,
)
from napari_fctsfn.batch.outputs import names, write_all
from napari_fctsfn.batch.pictures import Picture, digest, read_picture, stem_of
from napari_fctsfn.batch.sources import (
    beside,
    click_file,
    from_file,
    from_masks,
    from_seeds,
    from_table,
    labels_like,
    rows_of,
    session_folder,
)
from napari_fctsfn.batch.work import (
    Segmented,
    Work,
    planes_of,
    replay,
    usual_normalisation,
)
from napari_fctsfn.clicks import Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import resolve_model
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.predict.engine import one_thread


@dataclass(frozen=True)
class Task:
    """An image of a job.

    Parameters
    ----------
    job : str
        The job as JSON, resolved: model hash and intensity range are in it.
    base : str
        The folder that its paths are relative to.
    image : str
        Path of the image.
    part : int, optional
        Number of the only chunk that is to be done.
    key : str
        `task_key`, where it is known; of a large image it takes a while.
    normalisation : Normalisation, optional
        The intensity range, where it is known.
    """

    job: str
    base: str
    image: str
    part: int | None = None
    key: str = ""
    normalisation: Normalisation | None = None

    @property
    def path(self) -> Path:
        """The image."""
        return Path(self.image)

    def parsed(self) -> Job:
        """The job."""
        return parse_job(json.loads(self.job))

    def folder(self) -> Path:
        """Where the outputs go."""
        return Path(self.base) / self.parsed().outputs.folder


@dataclass(frozen=True)
class Entry:
    """A line of the manifest: what came of an image.

    Parameters
    ----------
    image : str
        Its path.
    key : str
        SHA-256 of all that its outputs depend on.
    files : dict of str to str
        SHA-256 of each file that was written, by its name.
    objects : int
    certainty : float or None
        Least mean certainty of its objects, 0..1; None where there is none.
    low, high : float
        The intensity range.
    seconds : float
    error : str
        Why it failed; empty if it did not.
    model : str
        SHA-256 of the model.
    settings : str
        Those of the predictor, as JSON.
    """

    image: str
    key: str
    files: dict[str, str]
    objects: int = 0
    certainty: float | None = None
    low: float = 0.0
    high: float = 1.0
    seconds: float = 0.0
    error: str = ""
    model: str = ""
    settings: str = ""

    def line(self) -> str:
        """As it stands in the manifest."""
        # names of files need not be UTF-8
        return json.dumps(asdict(self))


def task_key(task: Task) -> str:
    """SHA-256 of all that the outputs of an image depend on, or what is missing.

    Raises
    ------
    InputError
        If a file is missing.
    """
    job = task.parsed()
    found = hashlib.sha256()
    outputs = job.outputs.model_dump(exclude={"folder"})
    for part in (
        __version__,
        job.inputs.model_dump_json(exclude={"images"}),
        job.clicks.model_dump_json(exclude={"path", "folder"}),
        job.model.sha256 or "",
        job.model_dump_json(include={"normalisation", "settings"}),
        json.dumps(outputs),
    ):
        found.update(part.encode() + b"\0")
    base = Path(task.base)
    if isinstance(job.clicks, FromTable):
        found.update(repr(rows_of(job.clicks, base, task.path)).encode())
    for path in [task.path, *_click_files(job, base, task.path)]:
        try:
            found.update(digest(path).encode())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return found.hexdigest()


def files_of(task: Task) -> list[Path]:
    """The image, and the files that say where the clicks on it are.

    Raises
    ------
    InputError
        If it has none.
    """
    job, base = task.parsed(), Path(task.base)
    table = [base / job.clicks.path] if isinstance(job.clicks, FromTable) else []
    return [task.path, *table, *_click_files(job, base, task.path)]


def lacking(task: Task) -> str:
    """What an image cannot be done without and is not there; empty if nothing is known to lack."""
    try:
        needed = files_of(task)
    except InputError as error:
        return str(error)
    return next((f"{path} is not there" for path in needed if not path.exists()), "")


def run_task(task: Task) -> Entry:
    """Segment an image and write what the job wants; an error is part of the entry.

    Every process computes with one thread and keeps one model, so that the same image gives the
    same bytes wherever it is done.
    """
    import time

    began = time.perf_counter()
    try:
        with one_thread():
            entry = _run(task)
    except InputError as error:
        return Entry(task.image, "", {}, error=" ".join(str(error).split()))
    except MemoryError:
        return Entry(task.image, "", {}, error="it does not fit into memory: use smaller images")
    except OSError as error:
        text = f"{error.strerror or error}: {error.filename or task.folder()}"
        return Entry(task.image, "", {}, error=text)
    except Exception as error:  # noqa: BLE001  one image must not stop the others
        text = f"unexpected {type(error).__name__}: {error}"
        return Entry(task.image, "", {}, error=" ".join(text.split()))
    return replace(entry, seconds=round(time.perf_counter() - began, 3))


def _run(task: Task) -> Entry:
    job, base = task.parsed(), Path(task.base)
    key = task.key or task_key(task)
    picture = read_input(task.path, job)
    pixels = picture.pixels
    normalisation = task.normalisation or _normalisation(job, pixels)
    predictor = load_predictor(job.model.name, job.model.sha256, job.model.device)
    predictor.settings = job.settings.settings()
    folder = task.folder()
    folder.mkdir(parents=True, exist_ok=True)
    stem = stem_of(task.path)
    write = functools.partial(write_all, folder, job.outputs, stem, picture, normalisation)
    origin = origin_of(job)
    if job.inputs.chunk is None:
        work, found = segment(job, base, task.path, pixels, normalisation, predictor)
        files = write(work, found, origin)
    else:
        do = functools.partial(
            segment_chunk,
            job,
            base,
            task.path,
            pixels,
            normalisation=normalisation,
            predictor=predictor,
        )
        if task.part is not None:
            chunk = chunks_of(pixels, job.inputs.chunk, job.inputs.halo)[task.part]
            write_piece(piece_path(folder, task.path, task.part, key), do(chunk))
            return Entry(task.image, key, {})
        with assembled(job, folder, task.path, picture, key, do) as (work, found):
            files = write(work, found, origin)
    means = [float(np.mean(list(planes.values()))) for planes in found.certainty.values() if planes]
    used = found.normalisation or normalisation
    return Entry(
        task.image,
        key,
        files,
        len(found.certainty),
        round(min(means), 4) if means else None,
        used.low,
        used.high,
        model=origin["model_sha256"],
        settings=origin["settings"],
    )


def origin_of(job: Job) -> dict[str, str]:
    """Program, model and settings, as they are written into what a job makes."""
    return {
        "program": f"napari-fctsfn {__version__}",
        "model": Path(job.model.name).stem,
        "model_sha256": job.model.sha256 or "",
        "settings": job.settings.model_dump_json(),
    }


def _normalisation(job: Job, pixels: NDArray[Any]) -> Normalisation:
    if isinstance(job.normalisation, Range):
        return Normalisation(job.normalisation.low, job.normalisation.high)
    return usual_normalisation(pixels)


def read_input(path: Path, job: Job) -> Picture:
    """An image of a job.

    Raises
    ------
    InputError
        If it cannot be read, or the axes that the job names do not fit.
    """
    return read_picture(path, job.inputs.axes, job.inputs.channel, job.inputs.chunk is not None)


def segment(
    job: Job,
    base: Path,
    image: Path,
    pixels: NDArray[Any],
    normalisation: Normalisation,
    predictor: Predictor,
) -> tuple[Work, Segmented]:
    """The clicks on an image, and what came of them.

    Parameters
    ----------
    job : Job
    base : Path
        The folder that its paths are relative to.
    image : Path
    pixels : array
        From `arranged`.
    normalisation : Normalisation
    predictor : Predictor

    Raises
    ------
    InputError
        If there are no clicks, or they do not fit.
    """
    source, settings = job.clicks, predictor.settings
    given = None
    match source:
        case FromFiles():
            work = from_file(click_file(source, base, image), pixels)
        case FromTable():
            work = from_table(source, base, image, pixels)
        case FromSeeds():
            work = from_seeds(source, pixels, normalisation)
            if not settings.extent:
                settings = replace(settings, extent=2 * source.radius)
        case FromMasks():
            work, given = from_masks(source, beside(source.path, base, image), pixels)
        case FromPropagation():
            return _propagated(source, base, image, pixels, normalisation, predictor)
        case FromSession():
            return _session(source, base, image, pixels, predictor)
    found = replay(
        predictor,
        pixels,
        work,
        normalisation,
        settings,
        given,
        keep_probability=job.outputs.probability,
    )
    return work, found


def _propagated(
    source: FromPropagation,
    base: Path,
    image: Path,
    pixels: NDArray[Any],
    normalisation: Normalisation,
    predictor: Predictor,
) -> tuple[Work, Segmented]:
    from napari_fctsfn.stack import Stack, annotated, propagate

    labels = labels_like(beside(source.path, base, image), pixels).copy()
    if labels.ndim != 3:
        raise InputError(f"{image.name} has shape {pixels.shape}: propagation needs one stack")
    known = annotated(labels, source.slices)
    for label, slices in known.items():
        for index in range(len(labels)):
            if index not in slices:
                labels[index][labels[index] == label] = 0
    image_key = object()
    stack = Stack(predictor, pixels.__getitem__, normalisation, lambda index: (image_key, index))
    certainty: dict[int, dict[tuple[int, ...], float]] = {label: {} for label in known}
    for outcome, step in propagate(stack, labels, known, source.direction):
        certainty[outcome.label][step.index,] = step.score
    return {}, Segmented(labels, None, certainty)


def _session(
    source: FromSession, base: Path, image: Path, pixels: NDArray[Any], predictor: Predictor
) -> tuple[Work, Segmented]:
    from napari_fctsfn.predict import SliceView
    from napari_fctsfn.predict.images import is_rgb
    from napari_fctsfn.session import ImageIdentity, read_session, rebuild

    folder = session_folder(source, base, image)
    identity = ImageIdentity.of(image.name, pixels, is_rgb(pixels))
    session, _ = read_session(folder, identity)  # it may be open in napari
    channels = session.channels
    labels = np.zeros(session.shape, np.min_scalar_type(max(session.objects, default=1)))
    rebuild(
        session.objects,
        lambda plane: SliceView(pixels, plane.key, channels),
        session.normalisation,
        predictor,
        labels,
    )
    if channels is not None:  # all of them have the same objects
        labels = np.repeat(labels, pixels.shape[channels.axis], axis=channels.axis)
    work: Work = {}
    leading = len(planes_of(pixels)[0])
    for label, planes in sorted(session.objects.items()):
        for plane, annotation in planes.items():
            if len(annotation.clicks) and plane.axes == (leading, leading + 1):
                index = tuple(i for i in plane.index if i is not None)
                work.setdefault(label, {})[index] = Clicks(annotation.clicks)
    certainty: dict[int, dict[tuple[int, ...], float]] = {label: {} for label in session.objects}
    return work, Segmented(labels, None, certainty, session.normalisation)


def _click_files(job: Job, base: Path, image: Path) -> list[Path]:
    """The files that say where the clicks on an image are."""
    source = job.clicks
    match source:
        case FromFiles():
            return [click_file(source, base, image)]
        case FromMasks() | FromPropagation():
            return [beside(source.path, base, image)]
        case FromSession():
            files = [p for p in session_folder(source, base, image).iterdir() if p.is_file()]
            return sorted(path for path in files if path.suffix in (".json", ".jsonl", ".npz"))
        case FromSeeds() | FromTable():
            return []


@functools.lru_cache(maxsize=1)
def load_predictor(name: str, sha256: str | None = None, device: str = "cpu") -> Predictor:
    """The model, loaded once in a process.

    Raises
    ------
    JobError
        If the model of this name has another SHA-256.
    """
    predictor = Predictor.from_pretrained(resolve_model(name), device)
    if sha256 is not None and predictor.sha256 != sha256:
        raise JobError(
            f"the model {name} here has SHA-256 {predictor.sha256[:12]}..., the job names "
            f"{sha256[:12]}...: give the model it names, or take sha256 out of the job"
        )
    return predictor


def parts_of(task: Task) -> list[Task]:
    """The chunks of an image that are yet to be done; none if it is done whole."""
    job = task.parsed()
    if job.inputs.chunk is None:
        return []
    try:
        pixels = read_input(task.path, job).pixels
        chunks = chunks_of(pixels, job.inputs.chunk, job.inputs.halo)
        known = replace(task, key=task_key(task), normalisation=_normalisation(job, pixels))
    except InputError:
        return []  # it is told when the image's turn comes
    folder = task.folder()
    return [
        replace(known, part=chunk.number)
        for chunk in chunks
        if not piece_path(folder, task.path, chunk.number, known.key).exists()
    ]


def output_names(task: Task) -> list[str]:
    """The files that an image's outputs are written to."""
    return list(names(task.parsed().outputs, stem_of(task.path)).values())
