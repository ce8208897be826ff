"""Two thousand of the damaged files of benchmarks/fuzz.py, and that the fuzzer finds things."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CASES = 2000


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("fuzz")
    for name in ("fuzz", "damage"):
        sys.modules.pop(name, None)


def test_damaged_files_are_read_rightly_or_refused_clearly(fuzz, tmp_path):
    report = fuzz.Report()
    # A machine may be busy; a hang is longer than that.
    for done, report in enumerate(fuzz.fuzz(CASES, 0, tmp_path, patience=120), 1):  # noqa: B007
        pass
    assert report.findings == []
    assert done == CASES == report.outcomes.total()
    for outcome in (
        *("click: read", "image: read", "model: read"),
        *("click: ClickFileError", "image: ImageFileError", "model: ModelError"),
    ):
        assert report.outcomes[outcome] > 0


def test_sound_files_are_read(fuzz, tmp_path):
    fuzz.make_corpus(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        reader = fuzz.READERS[path.name.partition("-")[0]]
        assert fuzz.read_case(path, reader) == (True, "read")


def test_a_case_is_the_same_file_whatever_ran_before(fuzz, tmp_path):
    fuzz.make_corpus(tmp_path)
    cases = fuzz.Cases(tmp_path, 7)
    files = [cases.write(number)[1].read_bytes() for number in range(40)]
    again = fuzz.Cases(tmp_path, 7)
    for number in (39, 3, 20):
        assert again.write(number)[1].read_bytes() == files[number]
    assert fuzz.Cases(tmp_path, 8).write(3)[1].read_bytes() != files[3]


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("raise KeyError('x')", "case 2 (click): KeyError"),
        ("raise ClickFileError('bad')", "case 2 (click): unclear ClickFileError: 'bad'"),
        ("os.abort()", "case 2: the worker ended with status"),
        ("time.sleep(3600)", "case 2: no answer in time"),
        ("bytearray(1 << 62)", "case 2 (click): MemoryError"),
    ],
)
def test_what_goes_wrong_in_a_reader_is_found(fuzz, tmp_path, monkeypatch, fault, finding):
    """Workers are made to read clicks wrongly, in the case that is the third."""
    (tmp_path / "sitecustomize.py").write_text(
        "import napari_fctsfn.clicks as clicks, os, time\n"
        "from napari_fctsfn.clicks import ClickFileError\n"
        "calls = 0\n"
        "def read_clicks(path):\n"
        "    global calls\n"
        "    calls += 1\n"
        f"    if calls == 3: {fault}\n"
        "    raise ClickFileError(f'{path} is refused; it is a test')\n"
        "clicks.read_clicks = read_clicks\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    *_, report = fuzz.fuzz(4, 0, tmp_path, patience=8, kind="click")
    assert report.outcomes["click: ClickFileError"] == 3
    (found,) = report.findings
    assert found.startswith(finding)
