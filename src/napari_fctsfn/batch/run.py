"""A job from its images to its summary: planned, run anywhere, continued where it was stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from napari_fctsfn._files import remove_parts, replace_file
from napari_fctsfn.batch.job import (
    FromTable,
    Job,
    JobError,
    Range,
    anchored,
    is_model_path,
    read_job,
    write_job,
)
from napari_fctsfn.batch.page import page
from napari_fctsfn.batch.pictures import digest, is_picture, stem_of
from napari_fctsfn.batch.sources import strangers
from napari_fctsfn.batch.task import (
    Entry,
    Task,
    files_of,
    output_names,
    parts_of,
    read_input,
    run_task,
    task_key,
)
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import load_model, resolve_model
from napari_fctsfn.predict.images import is_rgb
from napari_fctsfn.predict.normalisation import (
    HIGH_PERCENTILE,
    LOW_PERCENTILE,
    Normalisation,
    sample,
)

JOB, MANIFEST, SUMMARY, PAGE = "job.yaml", "manifest.jsonl", "summary.json", "index.html"

_PATIENCE = "10s"
"""For the answer of a Dask scheduler."""

_SAMPLE = 1 << 16
"""Values of each image that count for the range of all."""

Stop = Callable[[], bool]

_Do = Callable[[Sequence[Task], Stop], Iterator[Entry]]


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Parameters
    ----------
    job : Job
        Resolved: with model hash and, where it is of all images, the intensity range.
    base : Path
        The folder that its paths are relative to.
    tasks : tuple of Task
        All images, in the order of their paths.
    kept : dict of str to Entry
        Images that were done before and need not be done again, by path.
    warning : str
        What is probably not meant so, as sentences; empty if there is nothing.
    """

    job: Job
    base: Path
    tasks: tuple[Task, ...]
    kept: dict[str, Entry]
    warning: str = ""

    @property
    def folder(self) -> Path:
        """Where the outputs go."""
        return self.base / self.job.outputs.folder

    @property
    def pending(self) -> list[Task]:
        """What is yet to be done."""
        return [task for task in self.tasks if task.image not in self.kept]


@dataclass(frozen=True)
class Summary:
    """What came of a job.

    Parameters
    ----------
    done, skipped, failed : int
        Images done now, done before, and those that could not be done.
    seconds : float
    failures : dict of str to str
        Why, by path of the image.
    """

    done: int
    skipped: int
    failed: int
    seconds: float
    failures: dict[str, str]


def plan(job: Job, base: Path, overwrite: bool = False) -> Plan:
    """Look at what there is to do; nothing is written.

    Parameters
    ----------
    job : Job
    base : Path
        The folder that its paths are relative to.
    overwrite : bool
        Whether files of the outputs' names that are not of this job may be replaced.

    Raises
    ------
    InputError
        If there is no image, two have the same stem, the model is not the one named, a points table
        cannot be read or lacks a column, or an output would replace what the job reads, a job file
        of somebody's own, or what is not of this job.
    """
    base = base.resolve()
    images, inside = find_images(job, base)
    warnings = [strangers(job.clicks, base, images)] if isinstance(job.clicks, FromTable) else []
    model = load_model(resolve_model(_model_path(job.model.name, base)))
    if job.model.sha256 not in (None, model.sha256):
        raise JobError(
            f"the model {job.model.name} here has SHA-256 {model.sha256[:12]}..., the job names "
            f"{str(job.model.sha256)[:12]}...: give the model it names, or take sha256 out of it"
        )
    chosen = job.model.model_copy(
        update={"name": _model_path(job.model.name, base), "sha256": model.sha256}
    )
    given = job
    job = job.model_copy(update={"model": chosen})
    if job.normalisation == "job":
        job = job.model_copy(update={"normalisation": common_range(job, images)})
    text = job.model_dump_json(by_alias=True)
    tasks = tuple(Task(text, str(base), str(image)) for image in images)
    folder = base / job.outputs.folder
    if folder.exists() and not folder.is_dir():
        raise JobError(f"outputs.folder {folder} is a file: name a folder")
    _check_reads(tasks, folder)
    if (folder / JOB).exists() and not _is_resolved(folder / JOB):
        raise JobError(
            f"{folder / JOB} is in the way of the job as it is run: rename it, or choose another "
            f"folder"
        )
    warnings.append(_left_out(tasks, inside, folder.resolve()))
    before = read_manifest(folder)
    kept = {task.image: e for task in tasks if (e := _kept(task, before, folder)) is not None}
    found = Plan(job, base, tasks, kept, ". ".join(filter(None, warnings)))
    if not overwrite and not _own(folder, given, base):
        others = sorted(set(before).difference(task.image for task in tasks))
        if others:
            raise JobError(
                f"{folder} holds the results of another job, such as of {others[0]}: choose "
                f"another folder, or say --overwrite"
            )
        for task in found.pending:
            for name in output_names(task):
                if (folder / name).exists():
                    raise JobError(
                        f"{folder / name} is there already and not of this job: choose another "
                        f"folder, or say --overwrite"
                    )
    return found


def find_images(job: Job, base: Path) -> tuple[list[Path], set[Path]]:
    """The images that a job's patterns name.

    Returns
    -------
    (list of Path, set of Path)
        In the order of their paths; and, resolved, those that are left out since they lie in the
        output folder.

    Raises
    ------
    JobError
        If a pattern names none, or only such as are in the output folder, or two images have the
        same stem.
    """
    found: dict[Path, None] = {}
    inside: set[Path] = set()
    outputs = (base / job.outputs.folder).resolve()
    for pattern in job.inputs.images:
        path = Path(pattern)
        root, rest = (
            (Path(path.anchor), path.relative_to(path.anchor))
            if path.anchor
            else (
                base,
                path,
            )
        )
        named = base / pattern  # its name may hold brackets
        below = [named] if is_picture(named) else root.glob(str(rest))
        every = sorted(m for m in (Path(os.path.normpath(m)) for m in below) if is_picture(m))
        if not path.name.startswith("."):  # macOS puts ._a.tif beside a.tif
            every = [m for m in every if not m.name.startswith(".")]
        whole = {m for m in every if m.is_dir()}
        every = [m for m in every if whole.isdisjoint(m.parents)]  # not the parts of a Zarr
        matches = [m for m in every if not _is_within(m.resolve(), outputs, deep=outputs != base)]
        inside |= {m.resolve() for m in set(every).difference(matches)}
        if every and not matches:
            raise JobError(f"outputs.folder {outputs} holds the images: name another folder")
        if not matches:
            raise JobError(f"inputs.images {pattern!r} names no file in {root}")
        found |= dict.fromkeys(matches)
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(stem_of(path), path)
        if other != path:
            raise JobError(
                f"{other} and {path} have the same stem, so their outputs would have the same "
                f"names: rename one, or make two jobs"
            )
    return sorted(found), inside


def _left_out(tasks: Sequence[Task], inside: set[Path], folder: Path) -> str:
    """What is to be said of images in the output folder that are no outputs of the job."""
    own = {folder / name for task in tasks for name in output_names(task)}
    own |= {folder / name for name in (JOB, MANIFEST, SUMMARY, PAGE)}
    if not (left := inside - own):
        return ""
    return (
        f"{folder} holds {len(left)} of the images that inputs.images names, such as "
        f"{min(left).name!r}: they are left out"
    )


def _is_within(path: Path, folder: Path, *, deep: bool) -> bool:
    """Whether a path is a folder or in it; where not `deep`, not in folders in it."""
    return folder in (path, *(path.parents if deep else (path.parent,)))


def _check_reads(tasks: Sequence[Task], folder: Path) -> None:
    """Refuse outputs that would replace what any of the images is made from."""
    written = {(folder / name).resolve() for task in tasks for name in output_names(task)}
    for task in tasks:
        try:
            read = [path.resolve() for path in files_of(task)]
        except InputError:
            continue  # it is told when the image's turn comes
        for path in read:
            if not written.isdisjoint((path, *path.parents)):
                raise JobError(
                    f"{path} is read by the job and would be overwritten: choose another folder"
                )


def common_range(job: Job, images: Sequence[Path]) -> Range:
    """Percentiles of all images together; of each at most 65,536 values count.

    Images that cannot be read do not count: they are reported when their turn comes. That of RGB
    is the range of its type.

    Raises
    ------
    JobError
        If there is none: no image can be read, some are RGB and others not or of another type.
    """
    values = []
    first: dict[Normalisation | None, Path] = {}  # image of each range of RGB, None being grey
    for path in images:
        try:
            pixels = read_input(path, job).pixels
            limits = Normalisation.for_rgb(pixels.dtype) if is_rgb(pixels) else None
            if limits is None:
                some = sample(pixels)
                some = some[:: max(some.size // _SAMPLE, 1)].astype(np.float64)
                values.append(some[np.isfinite(some)])
        except InputError:
            continue
        first.setdefault(limits, path)
    if len(first) > 1:
        one, other, *_ = first.values()
        raise JobError(
            f"normalisation is job, and {one} and {other} have no range in common, being RGB and "
            f"grey or RGB of two types: make two jobs, or say image"
        )
    limits = next(iter(first), None)
    if limits is not None:
        return Range(low=limits.low, high=limits.high)
    if not values or not sum(map(len, values)):
        raise JobError("no image can be read, so there is no common intensity range")
    every = np.concatenate(values)
    low, high = np.percentile(every, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if not low < high:  # nearly all of them have one value, as with few things on a flat ground
        low, high = every.min(), every.max()
    return Range(low=float(low), high=float(high))


def execute(
    planned: Plan,
    workers: int = 1,
    scheduler: str | None = None,
    stop: Stop | None = None,
    advance: Callable[[float], object] = lambda _: None,
) -> Iterator[Entry]:
    """Do what is pending, in this process, in several, or on a Dask cluster.

    Parameters
    ----------
    planned : Plan
    workers : int
        Processes on this machine.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers do it instead; they must see the same files.
    stop : callable, optional
        Asked between images, and between chunks of images; True ends it.
    advance : callable
        Told how many images more are done, of images in chunks also parts of one.

    Yields
    ------
    Entry
        As images are done; each is in the manifest by then.

    Raises
    ------
    JobError
        If the output folder cannot be written, or the scheduler cannot be reached.
    """
    folder = planned.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder, [n for task in planned.pending for n in output_names(task)])
        write_job(folder / JOB, anchored(planned.job, planned.base, folder))
        _write_manifest(folder, planned.kept.values())
    except OSError as error:
        raise JobError(f"{folder} cannot be written: {error.strerror}") from None
    end: AbstractContextManager[Any] = nullcontext()
    if scheduler is not None:
        end = _client(scheduler)
        do: _Do = partial(_from_cluster, end)
    elif workers > 1:
        end = pool = _Workers(workers)
        do = pool.do
    else:
        do = _here
    return _recorded(_rounds(planned.pending, do, end, stop or (lambda: False), advance), planned)


def _rounds(
    pending: Sequence[Task],
    do: _Do,
    end: AbstractContextManager[Any],
    stop: Stop,
    advance: Callable[[float], object],
) -> Iterator[Entry]:
    """First the chunks of images that are done by chunks, then whole images, which join them."""
    with end:
        parts = {task.image: parts_of(task) for task in pending}
        for entry in do([part for group in parts.values() for part in group], stop):
            advance(1 / (len(parts[entry.image]) + 1))
        for entry in do(pending, stop) if not stop() else ():
            advance(1 / (len(parts[entry.image]) + 1))
            yield entry


def _recorded(entries: Iterator[Entry], planned: Plan) -> Iterator[Entry]:
    """The same entries, each written into the manifest first."""
    folder = planned.folder
    earlier = {
        task.image
        for task in planned.pending
        if any((folder / name).exists() for name in output_names(task))
    }
    with (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
        for found in entries:
            entry = found
            if found.error and found.image in earlier:
                error = f"{found.error}; its files in {folder.name} are of an earlier run"
                entry = replace(found, error=error)
            manifest.write(entry.line() + "\n")
            manifest.flush()
            os.fsync(manifest.fileno())
            yield entry


def finish(planned: Plan, entries: Sequence[Entry], seconds: float) -> Summary:
    """Write manifest, summary and page of a job; the summary."""
    every = planned.kept | {entry.image: entry for entry in entries}
    ordered = [every[task.image] for task in planned.tasks if task.image in every]
    failures = {entry.image: entry.error for entry in ordered if entry.error}
    summary = Summary(
        sum(not entry.error for entry in entries),
        len(planned.kept),
        len(failures),
        round(seconds, 3),
        failures,
    )
    folder = planned.folder
    _write_manifest(folder, ordered)
    document = {**summary.__dict__, "model": planned.job.model.model_dump(exclude_none=True)}
    with replace_file(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with replace_file(folder / PAGE) as temporary:
        # names of files need not be UTF-8
        shown = page(planned.job, ordered).encode("utf-8", "backslashreplace")
        temporary.write_bytes(shown)
    return summary


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The newest entry of every image; lines that are torn or of another kind are left out."""
    found: dict[str, Entry] = {}
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return found
    for line in lines:
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[entry.image] = entry
    return found


def _write_manifest(folder: Path, entries: Any) -> None:
    with replace_file(folder / MANIFEST) as temporary:
        temporary.write_text("".join(entry.line() + "\n" for entry in entries), encoding="utf-8")


def _kept(task: Task, before: dict[str, Entry], folder: Path) -> Entry | None:
    """The entry of an image that need not be done again."""
    entry = before.get(task.image)
    if entry is None or entry.error or set(entry.files) != set(output_names(task)):
        return None
    try:
        same = entry.key == task_key(task) and all(
            digest(folder / name) == found for name, found in entry.files.items()
        )
    except (OSError, InputError):
        return None
    return entry if same else None


def _own(folder: Path, job: Job, base: Path) -> bool:
    """Whether what is in a folder was written by this job, perhaps with other settings."""
    try:
        other = read_job(folder / JOB)
    except JobError:
        return False
    mine = {os.path.normpath(base / pattern) for pattern in job.inputs.images}
    return mine == {os.path.normpath(folder / pattern) for pattern in other.inputs.images}


def _is_resolved(path: Path) -> bool:
    """Whether a job file is one that a run has written, not one that somebody wrote by hand."""
    try:
        text = path.read_text(encoding="utf-8")
        job = read_job(path)
    except (OSError, UnicodeDecodeError, JobError):
        return False
    return job.model.sha256 is not None and text == yaml.safe_dump(
        yaml.safe_load(text), sort_keys=False
    )


def _model_path(name: str, base: Path) -> str:
    """A model file's path is relative to the job too."""
    return str((base / name).resolve()) if is_model_path(name) else name


def _here(pending: Sequence[Task], stop: Stop) -> Iterator[Entry]:
    for task in pending:
        if stop():
            return
        yield run_task(task)


class _Worker:
    """One process, started anew when it has died.

    Python's pool of several does not survive the death of one while another starts (3.11), and
    when one dies it kills the others with their work.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, task: Task) -> Future[Entry]:
        try:
            return self._pool.submit(run_task, task)
        except BrokenProcessPool:
            self.close()
            self._start()
            return self._pool.submit(run_task, task)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _Workers:
    """Processes of their own, for as long as the context lasts."""

    def __init__(self, count: int) -> None:
        self._every = [_Worker() for _ in range(count)]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for worker in self._every:
            worker.close()

    def do(self, pending: Sequence[Task], stop: Stop) -> Iterator[Entry]:
        """Do tasks; what a worker had when it died is tried once more."""
        waiting, free = deque(pending), list(self._every)
        retried: set[Task] = set()
        under_way: dict[Future[Entry], tuple[Task, _Worker]] = {}
        while waiting or under_way:
            if stop():
                waiting.clear()
            while waiting and free:
                task, worker = waiting.popleft(), free.pop()
                under_way[worker.submit(task)] = task, worker
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                task, worker = under_way.pop(future)
                free.append(worker)
                try:
                    entry = future.result()
                except BrokenProcessPool:
                    if task not in retried:
                        retried.add(task)
                        waiting.append(task)
                        continue
                    entry = _lost(task)
                yield entry


def _lost(task: Task) -> Entry:
    return Entry(task.image, "", {}, error="its worker died twice, perhaps for lack of memory")


def _client(address: str) -> Any:
    """A client of a Dask scheduler."""
    try:
        from distributed import Client
    except ImportError:
        raise JobError("--scheduler needs Dask: pip install 'napari-fctsfn[dask]'") from None
    try:
        return Client(address, timeout=_PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise JobError(f"no Dask scheduler answers at {address} ({reason}): start one") from None


def _from_cluster(client: Any, pending: Sequence[Task], stop: Stop) -> Iterator[Entry]:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    futures = {client.submit(run_task, task, pure=False, retries=1): task for task in pending}
    for future in as_completed(list(futures)):
        if stop():
            client.cancel(list(futures))
            return
        try:
            yield future.result()
        except KilledWorker:
            yield _lost(futures[future])
