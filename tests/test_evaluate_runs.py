"""Evaluations that are interrupted, spread over processes, and compared."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fctsfn.cli import app
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import (
    DataSet,
    ObjectReference,
    ObjectResult,
    Progress,
    load_segmenter,
    read_results,
)
from napari_fctsfn.evaluate.parallel import WorkerError, evaluate_here, evaluate_in_processes
from napari_fctsfn.evaluate.progress import ProgressError
from napari_fctsfn.evaluate.results import ResultsError
from napari_fctsfn.evaluate.runner import evaluate_objects
from napari_fctsfn.models import ModelCard, load_model, save_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.predict import Predictor, Settings

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)
CARD = ModelCard(name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64)
QUICK = Settings(zoom=False, consistent=False)
OBJECTS = 18


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a data set of three pictures with six objects each."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    save_model(tmp_path / "tiny.safetensors", build_network(TINY).eval(), CARD)
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    labels = np.zeros((60, 80), np.uint8)
    for number in range(6):
        top, left = 4 + 28 * (number // 3), 4 + 25 * (number % 3)
        labels[top : top + 15 + number, left : left + 20] = number + 1
    for stem in "abc":
        image = 40 * labels + rng.integers(0, 40, labels.shape).astype(np.uint8)
        iio.imwrite(tmp_path / "set" / "images" / f"{stem}.png", image)
        iio.imwrite(tmp_path / "set" / "labels" / f"{stem}.png", labels)
    (tmp_path / "set" / "dataset.json").write_text('{"name": "set", "kind": "instances"}')
    # Lists may jump between pictures.
    (tmp_path / "set" / "list.txt").write_text("a 3\nb\nc\na\n")
    return tmp_path


@pytest.fixture
def quick(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `here`, and the model looks once, which is quicker."""

    def load(name: str, device: str) -> Any:
        if name != "tiny.safetensors":
            return load_segmenter(name, device)
        return Predictor(load_model(Path(name)), device, QUICK)

    monkeypatch.setattr("napari_fctsfn.evaluate.load_segmenter", load)
    return here


def command(output: str, *arguments: str) -> list[str]:
    defaults = {"--list": "list.txt", "--model": "growcut", "--max-clicks": "3"}
    rest = [text for pair in defaults.items() if pair[0] not in arguments for text in pair]
    return ["evaluate", "set", "--output", output, "--device", "cpu", *rest, *arguments]


def evaluate(output: str, *arguments: str, status: int = 0) -> Any:
    """The summary, or the message."""
    result = CliRunner().invoke(app, command(output, *arguments))
    assert result.exit_code == status, result.output
    if status:
        return result.stderr
    return json.loads(Path(output, "summary.json").read_text())


def table(output: str) -> list[dict[str, str]]:
    """Rows of the table, times left out."""
    with Path(output, "objects.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


def unfinished(output: str) -> list[bytes]:
    path = Path(output, "unfinished.jsonl")
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def result(stem: str, value: int, ious: tuple[float, ...] = (0.5, 0.9), **more: Any) -> Any:
    return ObjectResult(ObjectReference(stem, value), 9, ious, 0.25, 2, **more)


# -- processes -------------------------------------------------------------------------------------


def test_results_are_the_same_bit_for_bit_however_many_processes_there_are(here: Path) -> None:
    data = DataSet.open(here / "set")
    objects = data.objects(Path("list.txt"), limit=5)
    run = partial(
        evaluate_objects,
        dataset=data,
        protocol="ritm",
        max_clicks=2,
        settings=QUICK.raw(),
        jitter=0.5,
        decidability=True,
    )
    load = partial(load_segmenter, "tiny.safetensors", "cpu")
    threads = torch.get_num_threads()
    runs = [
        evaluate_here(load(), run, objects),
        evaluate_in_processes(load, run, objects, 2),
    ]
    one, two = (
        {result.reference: replace(result, seconds=0) for result in results} for results in runs
    )
    assert one.keys() == set(objects)
    assert one == two
    assert any(result.decidability["free_choice_5"] is not None for result in one.values())
    assert torch.get_num_threads() == threads


def test_the_command_line_has_processes_too(here: Path) -> None:
    one, two = evaluate("one"), evaluate("two", "--workers", "2")
    assert table("one") == table("two")
    assert len(table("one")) == OBJECTS
    assert one["noc85"] == two["noc85"]


def rules(folder: Path) -> partial[Any]:
    return partial(
        evaluate_objects, dataset=DataSet.open(folder / "set"), protocol="ritm", max_clicks=1
    )


@pytest.mark.parametrize(
    ("load", "error", "message"),
    [
        (partial(os._exit, 3), WorkerError, "one of 1 processes died.*give fewer --workers"),
        (partial(load_segmenter, "unheard"), InputError, "unknown model 'unheard'"),
    ],
)
def test_what_goes_wrong_in_a_process_is_told(
    here: Path, load: Any, error: type[Exception], message: str
) -> None:
    runs = evaluate_in_processes(load, rules(here), [ObjectReference("a", 1)], 2)
    with pytest.raises(error, match=message):
        list(runs)


# -- interruption ----------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_killed_evaluation_goes_on_where_it_was(here: Path) -> None:
    started = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from napari_fctsfn.cli import main; main()",
            *command("killed", "--workers", "2", "--max-clicks", "10", "--model", "gm"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(unfinished("killed")) > 3 or started.poll() is not None)
    workers = children(started.pid)
    started.send_signal(signal.SIGKILL)
    started.wait()
    lines = unfinished("killed")
    assert 3 < len(lines) <= OBJECTS
    assert not Path("killed", "objects.csv").exists()
    wait_until(lambda: not any(map(alive, workers)))

    # As if killed within a write.
    Path("killed", "unfinished.jsonl").write_bytes(b"".join(lines) + lines[1][:40])
    for output in ("killed", "whole"):
        evaluate(output, "--max-clicks", "10", "--model", "gm")
    assert table("killed") == table("whole")
    assert len(table("whole")) == OBJECTS
    for output in ("killed", "whole"):
        names = sorted(path.name for path in Path(output).iterdir())
        assert names == ["objects.csv", "summary.json"]


def test_finished_objects_are_not_evaluated_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stopping(predictor: Any, *, objects: Any, **more: Any) -> Any:
        for found in evaluate_objects(predictor, objects=objects, **more):
            if len(asked) == 8:
                raise KeyboardInterrupt
            asked.append(found.reference)
            yield found

    monkeypatch.setattr("napari_fctsfn.evaluate.job.evaluate_objects", stopping)
    assert CliRunner().invoke(app, command("out")).exit_code != 0
    assert len(unfinished("out")) == 9
    monkeypatch.undo()
    monkeypatch.chdir(here)

    def noting(predictor: Any, *, objects: Any, **more: Any) -> Any:
        asked.extend(objects)
        return evaluate_objects(predictor, objects=objects, **more)

    monkeypatch.setattr("napari_fctsfn.evaluate.job.evaluate_objects", noting)
    evaluate("out")
    assert len(asked) == len(set(asked)) == OBJECTS
    assert [(row["stem"], row["object"]) for row in table("out")][:2] == [("a", "3"), ("b", "1")]


@pytest.mark.parametrize(
    ("arguments", "different"),
    [
        (("--protocol", "fctsfn"), "protocol"),
        (("--max-clicks", "4"), "max_clicks"),
        (("--limit", "2"), "objects"),
        (("--seed", "1"), "seed, objects"),
        (("--model", "rw"), "model_sha256"),
        (
            ("--model", "tiny.safetensors", "--decidability"),
            "model_sha256, settings, decidability",
        ),
    ],
)
def test_another_evaluation_is_not_mixed_in(
    here: Path, arguments: tuple[str, ...], different: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_fctsfn.evaluate.job.summarise", lambda *_: 1 / 0)
        evaluate("out", "--limit", "1", status=1)
    before = unfinished("out")
    assert len(before) == 2
    limit = () if "--limit" in arguments else ("--limit", "1")
    message = evaluate("out", *arguments, *limit, status=2)
    assert f"is of an evaluation with other {different}: repeat its options" in message
    assert unfinished("out") == before


@pytest.mark.parametrize(
    ("arguments", "different"),
    [
        (("--protocol", "fctsfn"), "post, protocol"),
        (("--max-clicks", "2"), "max_clicks"),
        (("--list", "list.txt", "--limit", "2"), "objects"),
        (("--seed", "1", "--jitter", "0.5"), "jitter, seed"),
        (("--band", "1"), "band"),
        (("--model", "rw"), "model_sha256"),
    ],
)
def test_results_of_other_options_are_not_replaced(
    quick: Path, arguments: tuple[str, ...], different: str
) -> None:
    Path("one.txt").write_text("a 3\n")
    few = ("--list", "one.txt", "--limit", "1", "--model", "tiny.safetensors")
    evaluate("out", *few)
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    message = evaluate("out", *few, *arguments, status=2)
    told = f"out holds the results of an evaluation with other {different}: choose another folder"
    assert told in " ".join(message.split())
    assert before == {path: path.read_bytes() for path in Path("out").iterdir()}
    evaluate("out", *few)
    Path("out", "summary.json").write_text("{}")
    Path("out", "objects.csv").write_text("name,colour\n")
    message = " ".join(evaluate("out", *few, status=2).split())
    assert "out holds no results of an evaluation: they are empty: choose another" in message


def test_labels_that_were_corrected_meanwhile_are_not_mixed_in(here: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_fctsfn.evaluate.job.summarise", lambda *_: 1 / 0)
        evaluate("out", "--limit", "1", status=1)
    before = unfinished("out")
    stem, value = (json.loads(before[1])[key] for key in ("stem", "object"))
    path = next(here.rglob(f"labels/{stem}.*"))
    labels = iio.imread(path)
    labels[tuple(np.argwhere(labels == value)[0])] = 0
    iio.imwrite(path, labels)
    message = evaluate("out", "--limit", "1", status=2)
    assert f"object {value} of {stem} has {(labels == value).sum()} pixels" in message
    assert unfinished("out") == before


def entries() -> tuple[dict[str, Any], list[ObjectReference], list[ObjectResult]]:
    found = [
        result("a b", 1),
        result("é", 2, (1 / 3, 0.1 + 0.2), decidability={"free_choice_1": None, "x": 2.5}),
        result("c", 3),
    ]
    return {"protocol": "ritm", "jitter": 0.1}, [item.reference for item in found], found


def test_progress_gives_back_exactly_what_was_written(tmp_path: Path) -> None:
    about, objects, found = entries()
    with Progress(tmp_path / "new", about, objects) as progress:
        for one in reversed(found[:2]):
            progress.add(one)
        assert progress.left == objects[2:]
    with Progress(tmp_path / "new", about, objects) as progress:
        assert progress.results == found[:2]
        progress.add(found[2])
        assert (progress.results, progress.left) == (found, [])
        progress.remove()
    assert not list((tmp_path / "new").iterdir())


def test_progress_cut_at_any_byte_keeps_the_whole_lines(tmp_path: Path) -> None:
    about, objects, found = entries()
    with Progress(tmp_path, about, objects) as progress:
        for one in found:
            progress.add(one)
    path = tmp_path / "unfinished.jsonl"
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        with Progress(tmp_path, about, objects) as progress:
            assert progress.results == found[: max(whole - 1, 0)]
            for one in found:
                if one.reference in progress.left:
                    progress.add(one)
        assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"\0\0\0\n", b"{}\n", b"[1]\n", b'"text"\n', b"3\n"])
def test_what_follows_a_damaged_line_is_done_again(tmp_path: Path, line: bytes) -> None:
    about, objects, found = entries()
    with Progress(tmp_path, about, objects) as progress:
        for one in found:
            progress.add(one)
    path = tmp_path / "unfinished.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    with Progress(tmp_path, about, objects) as progress:
        assert progress.results == found[:1]


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b'{"format": "something else"}\n'])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, line: bytes) -> None:
    about, objects, _ = entries()
    path = tmp_path / "unfinished.jsonl"
    path.write_bytes(line)
    with pytest.raises(ProgressError, match=r"unfinished\.jsonl is of an evaluation with other"):
        Progress(tmp_path, about, objects)
    assert path.read_bytes() == line


# -- comparison ------------------------------------------------------------------------------------


def test_differences_are_added_to_the_summary(quick: Path) -> None:
    shared = ("--limit", "5")
    mine = (*shared, "--model", "tiny.safetensors", "--decidability")
    first = evaluate("first", *mine)
    for counts in first["decidability"].values():
        assert all(0 <= found["left_out"] <= 5 for found in counts.values())
    found = evaluate("again", *mine, "--against", "first")["difference"]
    assert {"noc90", "miou3", "free_choice_5", "single_positive_10"} <= found.keys()
    for name in found.keys() - {"against"}:
        assert (found[name]["mean"], found[name]["interval"]) == (0, [0, 0])
    found = evaluate("rw", *shared, "--model", "rw", "--against", "first")["difference"]
    assert found["against"]["model"] == "tiny.safetensors"
    assert found.keys() == {"against", "noc85", "noc90", "miou1", "miou3"}
    for name in found.keys() - {"against"}:
        pairs = zip(read_results(Path("rw"))[0], read_results(Path("first"))[0], strict=True)
        if name.startswith("miou"):
            gains = [(a.ious, b.ious) for a, b in pairs]
            expected = np.mean([a[int(name[4:]) - 1] - b[int(name[4:]) - 1] for a, b in gains])
            assert found[name]["mean"] == pytest.approx(expected)
        assert found[name]["interval"][0] <= found[name]["mean"] <= found[name]["interval"][1]
        assert found[name]["objects"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "fctsfn"), "their protocol is ritm, not fctsfn; make both with the same"),
        (("--max-clicks", "2"), "their max_clicks is 3, not 2"),
        (("--jitter", "0.5"), "their jitter is 0.0, not 0.5"),
        (("--band", "2"), "their band is 0, not 2"),
        (("--band", "-1"), "--band -1: give a number from 0 to 100"),
        (("--limit", "2"), "first has others: 1 are in one of the two only, the first is"),
        (("--against", "nowhere"), "nowhere holds no results of an evaluation"),
        (("--workers", "0"), "--workers 0: give a number from 1 to"),
        (("--model", "gc", "--decidability"), "--decidability is for models"),
        (("--sample", "mval"), "a sample (mval) is drawn from COCO only"),
        (("--sample", "some"), "--sample some is unknown; choose paper or mval"),
        (("--split", "val"), "set has no splits (val)"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_hours_are_spent(
    here: Path, arguments: tuple[str, ...], message: str
) -> None:
    evaluate("first", "--limit", "1")
    rest = {"--limit": "1", "--against": "first"}
    more = [text for pair in rest.items() if pair[0] not in arguments for text in pair]
    assert message in " ".join(evaluate("out", *arguments, *more, status=2).split())
    assert not Path("out").exists()


def test_results_on_other_labels_are_not_compared(here: Path) -> None:
    evaluate("first", "--limit", "1")
    (row,) = table("first")
    path = Path("set", "labels", f"{row['stem']}.png")
    labels = iio.imread(path)
    # The same numbers stand for other objects.
    iio.imwrite(path, np.where(labels, 7 - labels, 0).astype(np.uint8))
    message = evaluate("out", "--limit", "1", "--against", "first", status=2)
    told = f"had {row['area']} when it was evaluated in first: evaluate both on the same labels"
    assert told in " ".join(message.split())
    assert not Path("out").exists()


def test_a_published_layout_needs_no_list(here: Path) -> None:
    for name in ("data_GT", "boundary_GT"):
        Path("grabcut", name).mkdir(parents=True)
    image = iio.imread("set/images/a.png")
    for stem in ("x", "y"):
        iio.imwrite(f"grabcut/data_GT/{stem}.jpg", np.stack([image] * 3, axis=-1))
        iio.imwrite(f"grabcut/boundary_GT/{stem}.bmp", np.where(image > 120, 255, 0).astype("u1"))
    arguments = ("--output", "out", "--model", "tiny.safetensors", "--max-clicks", "1")
    done = CliRunner().invoke(app, ["evaluate", "grabcut", *arguments, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert [(row["stem"], row["object"]) for row in table("out")] == [("x", "255"), ("y", "255")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("objects.csv", "stem,object\na,1\n"),
        ("objects.csv", "stem,object,area,seconds,clicks,iou_1\na,b,1,1,1,1\n"),
        ("objects.csv", "stem,object,area,seconds,clicks,iou_1\n"),
        ("objects.csv", None),
        ("summary.json", "[]"),
        ("summary.json", "{"),
        ("summary.json", None),
    ],
)
def test_results_that_cannot_be_read_are_refused(
    tmp_path: Path, name: str, content: str | None
) -> None:
    row = "stem,object,area,seconds,clicks,iou_1\na,1,1,1,1,1\n"
    for path, text in {"objects.csv": row, "summary.json": "{}"}.items():
        (tmp_path / path).write_text(text)
    assert read_results(tmp_path)[0][0].ious == (1.0,)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ResultsError, match="holds no results of an evaluation"):
        read_results(tmp_path)
