"""Damaged click, model and image files: a right answer or a clear error, never anything else.

    python benchmarks/fuzz.py [--cases 100000] [--seed 0] [--kind click|model|image] [--case N]

Each case damages a sound file (bits flipped, cut, spliced, numbers and lengths overwritten, JSON
values replaced) and reads it in a worker process of bounded memory. A worker that dies, or needs
more than `--patience` seconds for a case, is reported with its case and replaced. `--case N` runs
one case here, with its traceback, and keeps the file. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from damage import damaged, make_corpus

Reader = Callable[[Path], None]

_KINDS = ("click", "click", "click", "image", "image")
"""Kinds of files by turns; every twentieth case is a model, which takes the longest to read."""

_MODEL_EVERY = 20
_LONGEST_MESSAGE = 1000
_MEMORY = 3 << 29
"""Bytes that reading may take on top of what a worker has when it is ready."""


def read_click_file(path: Path) -> None:
    """Read clicks; what can be read can be written and is then the same."""
    from napari_fctsfn.clicks import read_clicks, write_clicks

    records = read_clicks(path)
    copy = path.with_name("copy.json")
    write_clicks(copy, records)
    assert read_clicks(copy) == records, "clicks change when they are written"


def read_image_file(path: Path) -> None:
    """Read an image: real numbers in two dimensions or more, the same every time."""
    from napari_fctsfn.predict.images import read_image

    image = read_image(path)
    assert image.ndim >= 2, "not two-dimensional"
    assert image.size > 0, "empty"
    assert image.dtype.kind in "biuf", "not real"
    np.testing.assert_array_equal(read_image(path), image)


def read_model_file(path: Path) -> None:
    """Read a model: the sound one's weights, unless the file says that nobody has sealed them."""
    import torch

    from napari_fctsfn.models import load_model, read_card

    loaded = load_model(path)
    assert read_card(path) == loaded.card, "two cards"
    state = loaded.network.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values()), "not finite"
    if b'"weights_sha256"' in path.read_bytes()[:100_000]:
        sound = load_model(path.with_name("model-tiny.safetensors")).network.state_dict()
        assert state.keys() == sound.keys(), "other weights"
        assert all(torch.equal(value, sound[key]) for key, value in state.items()), "other weights"


READERS: dict[str, Reader] = {
    "click": read_click_file,
    "model": read_model_file,
    "image": read_image_file,
}


def read_case(path: Path, reader: Reader) -> tuple[bool, str]:
    """Whether reading `path` went as it must, and how."""
    from napari_fctsfn.errors import InputError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader(path)
    except InputError as error:
        message = str(error)
        if "\n" in message or len(message) > _LONGEST_MESSAGE or path.name not in message:
            return False, f"unclear {type(error).__name__}: {message[:300]!r}"
        return True, type(error).__name__
    except Exception as error:  # noqa: BLE001  finding these is what this is for
        return False, f"{type(error).__name__}: {str(error)[:300]!r}"
    return True, "read"


class Cases:
    """The cases of a seed: case `n` is the same file whoever asks, and whatever ran before.

    Parameters
    ----------
    folder : Path
        Where the sound files lie and where damaged ones are written.
    seed : int
    kind : str, optional
        Only cases of this kind.
    """

    def __init__(self, folder: Path, seed: int, kind: str | None = None) -> None:
        self._folder = folder
        self._seed = seed
        self._kind = kind
        self._sound: dict[str, list[tuple[str, bytes]]] = {kind: [] for kind in READERS}
        for path in sorted(folder.glob("*-*.*")):
            self._sound[path.name.partition("-")[0]].append((path.suffix, path.read_bytes()))

    def write(self, number: int) -> tuple[str, Path]:
        """Write the file of a case; its kind and path."""
        rng = random.Random(f"{self._seed}:{number}")
        kind = self._kind or (
            "model" if number % _MODEL_EVERY == 0 else _KINDS[number % len(_KINDS)]
        )
        suffix, content = rng.choice(self._sound[kind])
        content = damaged(content, [other for _, other in self._sound[kind]], suffix, rng)
        path = self._folder / f"case{suffix}"
        path.write_bytes(content)
        return kind, path


def work(cases: Cases, start: int, stop: int) -> None:
    """Run cases in this process, a line of JSON for each on the standard output."""
    faulthandler.enable()
    for module in ("napari_fctsfn.models", "napari_fctsfn.predict.images"):
        __import__(module)
    _bound_memory()
    print("ready", flush=True)
    for number in range(start, stop):
        kind, path = cases.write(number)
        good, outcome = read_case(path, READERS[kind])
        print(json.dumps([number, kind, good, outcome]), flush=True)


def _bound_memory() -> None:
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        limit = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@dataclass
class Report:
    """What came of the cases: how often which outcome, and every finding in words."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def fuzz(
    count: int, seed: int, folder: Path, patience: float, kind: str | None = None
) -> Iterator[Report]:
    """Run `count` cases in worker processes; after each the report so far.

    Parameters
    ----------
    count, seed : int
    folder : Path
        For sound and damaged files; must exist.
    patience : float
        Seconds after which a case is a hang.
    kind : {"click", "model", "image"}, optional
        Only files of this kind.
    """
    make_corpus(folder)
    report, number = Report(), 0
    while number < count:
        worker = _Worker(folder, seed, kind, number, count)
        try:
            # Imports are slow on a busy machine; they are no case.
            ready = worker.line(max(patience, 300))
            if ready != "ready":
                raise RuntimeError(f"the worker does not start: {ready} {worker.end()}")
            while number < count:
                line = worker.line(patience)
                if line is None:
                    report.findings.append(f"case {number}: {worker.end()}")
                    report.outcomes["crash or hang"] += 1
                    number += 1
                    yield report
                    break
                number, found, good, outcome = json.loads(line)
                report.outcomes[f"{found}: {outcome if good else 'finding'}"] += 1
                if not good:
                    report.findings.append(f"case {number} ({found}): {outcome}")
                number += 1
                yield report
        finally:
            worker.end()


class _Worker:
    """A process that runs cases, and its lines as they come."""

    def __init__(self, folder: Path, seed: int, kind: str | None, start: int, stop: int) -> None:
        only = ["--kind", kind] if kind else []
        arguments = ["--folder", folder, "--seed", seed, "--work", start, stop, *only]
        self._errors = (folder / "worker.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, patience: float) -> str | None:
        """The next line; None if the process has ended or says nothing for so many seconds."""
        try:
            return self._lines.get(timeout=patience)
        except queue.Empty:
            return None

    def end(self) -> str:
        """End the process; what has become of it, in words."""
        try:
            # One that has closed its output ends by itself.
            status = self._process.wait(1 if self._errors.closed else 3)
            words = f"the worker ended with status {status}"
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            words = "no answer in time"
        self._listener.join()
        if not self._errors.closed:
            self._errors.seek(0)
            words += f"; {self._errors.read()[-1500:].strip()!r}"
            self._errors.close()
        return words


def _one(cases: Cases, number: int) -> int:
    kind, path = cases.write(number)
    print(f"case {number}: {kind} file {path}")
    faulthandler.enable()
    try:
        READERS[kind](path)
    finally:
        print(read_case(path, READERS[kind]))
    return 0


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(READERS))
    parser.add_argument("--patience", type=float, default=60, help="seconds for one case")
    parser.add_argument("--case", type=int, help="run only this case, here")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Cases(options.folder, options.seed, options.kind), *options.work)
        return 0
    if options.case is not None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        make_corpus(folder)
        return _one(Cases(folder, options.seed, options.kind), options.case)
    began, report = time.monotonic(), Report()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        cases = fuzz(options.cases, options.seed, Path(name), options.patience, options.kind)
        told = 0
        for done, report in enumerate(cases, 1):
            # At once, so that a run that is cut short has told what it found.
            for finding in report.findings[told:]:
                print(finding, flush=True)
            told = len(report.findings)
            if done % 5000 == 0:
                print(f"{done} cases, {told} findings", flush=True)
    print(f"{options.cases} cases of seed {options.seed} in {time.monotonic() - began:.0f} s")
    for outcome, times in sorted(report.outcomes.items()):
        print(f"{times:8d}  {outcome}")
    print(f"{len(report.findings)} findings")
    return bool(report.findings)


if __name__ == "__main__":
    sys.exit(main())
