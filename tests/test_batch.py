"""Batch jobs: the same bytes wherever they run, continued where they were stopped, errors told."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
import yaml
from skimage.measure import regionprops
from typer.testing import CliRunner

from napari_fctsfn import batch
from napari_fctsfn.batch import run as running
from napari_fctsfn.batch.sources import from_labels
from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, ClickRecord, Clicks, read_clicks, write_clicks
from napari_fctsfn.models import ModelCard, load_model, save_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.predict import Channels, Normalisation, Predictor, Settings, SliceView
from napari_fctsfn.predict.engine import one_thread
from napari_fctsfn.predict.postprocess import beside_others
from napari_fctsfn.session import (
    ImageIdentity,
    Journal,
    Plane,
    Replayer,
    Session,
    sessions_directory,
)
from napari_fctsfn.stack import guide_clicks

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)
CARD = ModelCard(name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, build_network(TINY).eval(), CARD)
    return path


@pytest.fixture
def folder(tmp_path, model, monkeypatch):
    """A working folder with three pictures and click files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for number in range(3):
        make_picture(tmp_path / "images" / f"p{number}.png", number)
    return tmp_path


def make_picture(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    iio.imwrite(path, rng.integers(0, 255, (40, 60)).astype(np.uint8))
    places = [(10, 15), (30, 40), (20, 50)]
    records = [ClickRecord(Click(r + seed % 9, c), object=n) for n, (r, c) in enumerate(places, 1)]
    write_clicks(path.with_name(f"{path.stem}_clicks.json"), records)


def a_job(model: Path, /, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "inputs": {"images": ["images/*.png"]},
        "clicks": {"from": "files"},
        "model": {"name": str(model)},
        "outputs": {"folder": "out", "probability": True},
        **changes,
    }


def run(document: dict[str, Any], *options: str, status: int = 0) -> str:
    """Run a job by the command line; its output, or the one line of its error."""
    Path("job.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    result = CliRunner().invoke(app, ["batch", "job.yaml", *options])
    assert result.exit_code == status, result.output
    if status != 2:
        return result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("Error: ")


def contents(folder: str = "out") -> dict[str, bytes]:
    """Everything that is written for images."""
    other = {"manifest.jsonl", "summary.json", "job.yaml", "index.html"}
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.name not in other}


def summary(folder: str = "out") -> dict[str, Any]:
    return json.loads((Path(folder) / "summary.json").read_text())


def test_clicks_become_masks_as_the_predictor_makes_them(folder, model):
    run(a_job(model))
    predictor = Predictor(load_model(model), "cpu")
    for number in range(3):
        image = iio.imread(f"images/p{number}.png")
        records = read_clicks(f"images/p{number}_clicks.json")
        expected = np.zeros(image.shape, np.uint8)
        probability = np.zeros(image.shape, np.float32)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for record in records:
            predictor.set_image(image)
            clicks = Clicks([record.click])
            found = predictor.predict(clicks)
            expected[beside_others(found.full_mask(), expected == 0, clicks)] = record.object
            probability = np.maximum(probability, found.full_probability())
        torch.set_num_threads(threads)
        labels = tifffile.imread(f"out/p{number}_labels.tif")
        assert (labels == expected).all()
        assert (tifffile.imread(f"out/p{number}_probability.tif") == probability).all()
        assert read_clicks(f"out/p{number}_clicks_used.json") == records
        with tifffile.TiffFile(f"out/p{number}_labels.tif") as file:
            about = file.shaped_metadata[0]
        assert (about["model"], about["model_sha256"]) == ("tiny", load_model(model).sha256)
        assert json.loads(about["settings"])["threshold"] == 0.5
        shown = iio.immeta(f"out/p{number}_overlay.png")
        assert shown["model_sha256"] == about["model_sha256"]
        table = Path(f"out/p{number}_measurements.csv").read_text().splitlines()
        header, *rows = (line.split(",") for line in table)
        for row, region in zip(rows, regionprops(labels, image), strict=True):
            assert int(row[0]) == region.label
            assert float(row[header.index("area")]) == region.area
            assert float(row[header.index("intensity_mean")]) == region.intensity_mean
    assert summary() | {"seconds": 0, "model": 0} == {
        "done": 3,
        "skipped": 0,
        "failed": 0,
        "failures": {},
        "seconds": 0,
        "model": 0,
    }


def test_the_same_bytes_here_in_processes_and_on_a_cluster(folder, model):
    distributed = pytest.importorskip("distributed")
    run(a_job(model))
    here = contents()
    assert len(here) == 15
    run(a_job(model, outputs={"folder": "two", "probability": True}), "--workers", "2")
    assert contents("two") == here
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        job = a_job(model, outputs={"folder": "dask", "probability": True})
        run(job, "--scheduler", cluster.scheduler_address)
    assert contents("dask") == here


def test_what_is_done_is_not_done_again_and_what_has_changed_is(folder, model):
    job = a_job(model)
    run(job)
    before = contents()
    assert "0 done, 3 done before" in run(job)
    make_picture(folder / "images" / "p1.png", 7)
    assert "1 done, 2 done before" in run(job)
    changed = {name for name, data in contents().items() if data != before[name]}
    assert {name[:2] for name in changed} == {"p1"}
    Path("out/p2_labels.tif").write_bytes(b"damaged")
    assert "1 done, 2 done before" in run(job)
    assert contents()["p2_labels.tif"] == before["p2_labels.tif"]
    assert "3 done, 0 done before" in run({**job, "settings": {"threshold": 0.4}})
    torch.manual_seed(8)
    save_model(folder / "other.safetensors", build_network(TINY).eval(), CARD)
    assert "3 done, 0 done before" in run({**job, "model": {"name": "./other.safetensors"}})
    assert "0 of 3 images to do" in run(
        {**job, "model": {"name": "other.safetensors"}}, "--dry-run"
    )


def test_killed_at_any_moment_it_ends_with_the_same_bytes(folder, model):
    for number in range(12):
        make_picture(folder / "images" / f"p{number}.png", number)
    job = a_job(model, outputs={"folder": "whole", "probability": True})
    run(job)
    Path("job.yaml").write_text(yaml.safe_dump(a_job(model)), encoding="utf-8")
    command = [sys.executable, "-c", "from napari_fctsfn.cli import main; main()", "batch"]
    rng, manifest = random.Random(0), Path("out/manifest.jsonl")
    for kill in range(10):
        with subprocess.Popen(
            [*command, "job.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if manifest.exists() and manifest.read_bytes().count(b"\n") > kill:
                    time.sleep(rng.random() * 0.05)
                    break
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
    done = manifest.read_bytes().count(b"\n")
    assert done >= 10
    output = run(a_job(model))
    assert f"{12 - done} done" in output or f"{13 - done} done" in output
    assert contents() == contents("whole")


def test_few_bright_pixels_on_black_have_a_common_range(folder, model):
    for number in range(3):
        image = np.zeros((200, 200), np.uint8)
        image[10, 15 : 15 + number] = 50 + number
        iio.imwrite(folder / "images" / f"p{number}.png", image)
    run(a_job(model, normalisation="job"))
    written = yaml.safe_load(Path("out/job.yaml").read_text())["normalisation"]
    assert written == {"low": 0.0, "high": 52.0}


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
def test_names_that_are_no_utf_8_are_done_like_any(folder, model):
    odd = os.fsdecode(b"b\xff")
    for ending in (".png", "_clicks.json"):
        (folder / "images" / f"p1{ending}").rename(folder / "images" / f"{odd}{ending}")
    assert "3 done, 0 done before" in run(a_job(model))
    assert f"{odd}_labels.tif" in contents()
    assert r"b\udcff" in Path("out/index.html").read_text(encoding="utf-8")
    assert "0 done, 3 done before" in run(a_job(model))


def test_a_torn_line_of_the_manifest_is_no_obstacle(folder, model):
    run(a_job(model))
    path = Path("out/manifest.jsonl")
    path.write_bytes(path.read_bytes()[:-30] + b"\xff\n[]\n")
    assert "1 done, 2 done before" in run(a_job(model))


def test_a_points_table_of_any_program(folder, model):
    Path("points.csv").write_text(
        "file,Y,X,kind,nucleus\np0.png,10,15,yes,4\np0.png,11,40,no,4\np1,30.5,40,yes,2\n"
    )
    columns = {"row": "Y", "column": "X", "image": "file", "positive": "kind", "object": "nucleus"}
    job = a_job(model, clicks={"from": "table", "path": "points.csv", "columns": columns})
    output = run(job, status=3)
    assert "p2.png: " in output
    assert "has no click on p2.png" in output
    used = read_clicks("out/p0_clicks_used.json")
    assert [(r.click.row, r.click.column, r.click.positive, r.object) for r in used] == [
        (10, 15, True, 4),
        (11, 40, False, 4),
    ]
    assert set(np.unique(tifffile.imread("out/p1_labels.tif"))) <= {0, 2}
    assert summary()["failed"] == 1


@pytest.mark.parametrize(("method", "dark"), [("log", False), ("maxima", False), ("log", True)])
def test_seeds_are_found_where_the_spots_are(folder, model, method, dark):
    rows, columns = np.mgrid[:80, :90]
    places = [(15, 20), (15, 60), (50, 30), (60, 75)]
    spots = sum(np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 18) for r, c in places)
    picture = (255 * spots).clip(0, 255).astype(np.uint8)
    iio.imwrite("images/spots.png", 255 - picture if dark else picture)
    clicks = {"from": "seeds", "method": method, "radius": 5, "dark": dark}
    run(a_job(model, inputs={"images": ["images/spots.png"]}, clicks=clicks))
    used = read_clicks("out/spots_clicks_used.json")
    found = [(record.click.row, record.click.column) for record in used]
    assert np.allclose(found, places, atol=1)
    assert [record.object for record in used] == [1, 2, 3, 4]


def test_masks_are_refined_and_centroids_clicked(folder, model):
    masks = np.zeros((40, 60), np.uint8)
    masks[5:15, 10:25], masks[22:35, 30:50] = 3, 7
    for number in range(3):
        iio.imwrite(f"rough_p{number}.png", masks)
    job = a_job(model, clicks={"from": "masks", "path": "rough_{stem}.png"})
    run(job)
    image = iio.imread("images/p0.png")
    predictor = Predictor(load_model(model), "cpu")
    predictor.set_image(image)
    expected = np.zeros(image.shape, np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for label in (3, 7):
        clicks = guide_clicks(masks == label)
        found = predictor.predict(clicks, masks == label).full_mask()
        expected[beside_others(found, expected == 0, clicks)] = label
    torch.set_num_threads(threads)
    assert (tifffile.imread("out/p0_labels.tif") == expected).all()
    job["clicks"] = {"from": "masks", "path": "rough_{stem}.png", "use": "centroids"}
    run(job)
    clicked = {r.object: r.click.pixel for r in read_clicks("out/p0_clicks_used.json")}
    assert masks[clicked[3]] == 3
    assert masks[clicked[7]] == 7


def test_annotated_slices_are_propagated(folder, model):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (4, 40, 60)).astype(np.uint8)
    tifffile.imwrite("stack.tif", pixels, photometric="minisblack")
    labels = np.zeros((4, 40, 60), np.uint8)
    labels[1, 10:20, 10:30] = 2
    labels[3, 0:5, 0:5] = 9
    tifffile.imwrite("stack_known.tif", labels, photometric="minisblack")
    clicks = {"from": "propagate", "path": "{stem}_known.tif", "slices": [1]}
    run(a_job(model, inputs={"images": ["stack.tif"]}, clicks=clicks, outputs={"folder": "out"}))
    found = tifffile.imread("out/stack_labels.tif")
    assert (found[1] == labels[1]).all()
    assert (found[3] == 9).sum() == 25


def test_a_session_is_replayed_with_another_model(folder, model):
    image = iio.imread("images/p0.png")
    predictor = Predictor(load_model(model), "cpu")
    session = Session(image.shape, Normalisation.from_array(image))
    labels, plane = np.zeros(image.shape, np.uint16), Plane((None, None))
    identity = ImageIdentity.of("p0.png", image)
    with Journal.create(folder / "sessions" / "p0", session, identity, labels):
        clicks = Clicks()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for click in (Click(10, 12), Click(30, 40, False)):
            clicks = clicks.append(click)
            session.edit_clicks(plane, clicks)
            replay = session.job(lambda _: labels)
            found = Replayer(predictor).predict(replay, image, session.normalisation, "p0")
            patch = session.resolve(replay, found.full_mask(), labels, "0" * 64)
            if patch is not None:
                patch.apply(labels)
        torch.set_num_threads(threads)
    clicks = {"from": "session", "folder": "sessions/{stem}"}
    job = a_job(
        model,
        inputs={"images": ["images/p0.png"]},
        clicks=clicks,
        outputs={"folder": "out"},
    )
    run(job)
    assert (tifffile.imread("out/p0_labels.tif") == labels).all()
    used = read_clicks("out/p0_clicks_used.json")
    assert [(r.click.pixel, r.click.positive) for r in used] == [
        ((10, 12), True),
        ((30, 40), False),
    ]
    make_picture(folder / "images" / "p0.png", 9)
    run(job, status=3)
    assert "is a session of" in summary()["failures"][str(folder / "images" / "p0.png")]


def test_a_session_of_a_channel_is_replayed_on_that_channel(folder, model):
    image = np.stack([iio.imread("images/p0.png"), iio.imread("images/p1.png")])
    tifffile.imwrite("two.tif", image, photometric="minisblack")
    channels = Channels.of(image, 0, (1,))
    session = Session((1, *image.shape[1:]), Normalisation(0, 1), channels=channels)
    labels, plane = np.zeros(session.shape, np.uint16), Plane((0, None, None))
    identity = ImageIdentity.of("two", image, source=str(folder / "two.tif"))
    seen = SliceView(image, plane.key, channels)
    with Journal.create(folder / "sessions" / "two", session, identity, labels):
        session.edit_clicks(plane, Clicks([Click(10, 12)]))
        replay = session.job(lambda plane: labels[plane.key])
        with one_thread():
            predictor = Predictor(load_model(model), "cpu")
            mask = Replayer(predictor).predict(replay, seen, session.normalisation, 0).full_mask()
        session.resolve(replay, mask, labels[0], "0" * 64).apply(labels[0])
    clicks = {"from": "session", "folder": "sessions"}
    run(a_job(model, inputs={"images": ["two.tif"]}, clicks=clicks, outputs={"folder": "out"}))
    found = tifffile.imread("out/two_labels.tif")
    assert (found == np.repeat(labels, 2, axis=0)).all()
    assert found.any()


@pytest.mark.parametrize("kept", [None, "elsewhere"])
def test_sessions_are_found_by_their_images_where_the_dock_keeps_them(folder, model, kept):
    own = sessions_directory() if kept is None else folder / kept
    (folder / "link").symlink_to(folder)  # napari was given another path of the same files
    plane = Plane((None, None))
    for name, source, column in (
        ("1 p0", "images/p0.png", 12),
        ("2 p0", "link/images/p0.png", 20),
        ("3 p0", "copies/p0.png", 28),  # a file of that name elsewhere
        ("1 p1", "copies/p1.png", 16),  # known by its name alone
        ("4 p0", "images/p0.png", None),  # nothing was done in it
    ):
        image = iio.imread(Path("images", Path(source).name))
        session = Session(image.shape, Normalisation.from_array(image))
        identity = ImageIdentity.of(name, image, source=str(folder / source))
        labels = np.zeros(image.shape, np.uint16)
        with Journal.create(own / name, session, identity, labels):
            if column is not None:
                session.edit_clicks(plane, Clicks([Click(10, column)]))
                mask = np.zeros(image.shape, bool)
                session.resolve(session.job(lambda _, now=labels: now), mask, labels, "0" * 64)
    clicks = {"from": "session"} | ({} if kept is None else {"folder": kept})
    run(a_job(model, clicks=clicks, outputs={"folder": "out"}), status=3)
    used = [read_clicks(f"out/{stem}_clicks_used.json")[0].click.pixel for stem in ("p0", "p1")]
    assert used == [(10, 20), (10, 16)]
    assert f"there is none in {own}" in summary()["failures"][str(folder / "images" / "p2.png")]


def test_a_common_range_is_resolved_once_and_written_down(folder, model):
    run(a_job(model, normalisation="job"))
    written = yaml.safe_load(Path("out/job.yaml").read_text())["normalisation"]
    values = np.concatenate([iio.imread(p).ravel() for p in sorted(Path("images").glob("*.png"))])
    assert written["low"] == pytest.approx(np.percentile(values, running.LOW_PERCENTILE))
    assert written["high"] == pytest.approx(np.percentile(values, running.HIGH_PERCENTILE))
    lines = Path("out/manifest.jsonl").read_text().splitlines()
    assert {json.loads(line)["high"] for line in lines} == {written["high"]}
    first = contents()
    run({**a_job(model, normalisation=written), "outputs": {"folder": "b", "probability": True}})
    assert contents("b") == first


@pytest.mark.parametrize("kind", ["ome-tiff", "png"])
def test_labels_in_other_formats_hold_the_same(folder, model, kind):
    run(a_job(model))
    run(a_job(model, outputs={"folder": "other", "labels": kind}))
    name = "p0_labels.ome.tif" if kind == "ome-tiff" else "p0_labels.png"
    read = tifffile.imread if kind == "ome-tiff" else iio.imread
    assert (read(f"other/{name}") == tifffile.imread("out/p0_labels.tif")).all()
    if kind == "ome-tiff":
        before = Path("other", name).read_bytes()
        Path("other", name).unlink()
        run(a_job(model, outputs={"folder": "other", "labels": kind}))
        assert Path("other", name).read_bytes() == before


def test_the_page_shows_failures_first_then_the_least_certain(folder, model):
    Path("images/p1.png").write_bytes(b"no picture")
    Path("images/<b>.png").write_bytes(b"")
    run(a_job(model), status=3)
    page = Path("out/index.html").read_text()
    assert "&lt;b&gt;.png" in page
    assert "<b>.png" not in page.replace("<b>&lt;b&gt;.png", "")
    assert page.index("p1.png") < page.index("p0_overlay.png")
    found = summary()
    assert (found["done"], found["failed"]) == (2, 2)
    assert "damaged" in found["failures"][str(folder / "images" / "p1.png")]


@pytest.mark.parametrize("always", [False, True])
def test_what_a_dead_worker_had_under_way_is_tried_once_more(folder, model, always):
    planned = batch.plan(batch.parse_job(a_job(model)), folder)
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            for child in multiprocessing.active_children():
                child.kill()
                if not always:
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    entries = list(batch.execute(planned, workers=2))
    over.set()
    killer.join()
    assert sorted(Path(entry.image).stem for entry in entries) == ["p0", "p1", "p2"]
    assert all(("died twice" in entry.error) == always for entry in entries)


def test_it_is_stopped_between_images_and_goes_on_later(folder, model):
    planned = batch.plan(batch.parse_job(a_job(model)), folder)
    done: list[batch.Entry] = []
    for entry in batch.execute(planned, stop=lambda: len(done) == 2):
        done.append(entry)  # noqa: PERF402  `stop` looks at it meanwhile
    assert len(done) == 2
    assert len(batch.plan(batch.parse_job(a_job(model)), folder).pending) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2, newer than 1"),
        ({"color": 1}, "the key color is unknown"),
        ({"outputs": {"foldr": "out"}}, "the key outputs.foldr is unknown: write folder"),
        ({"clicks": {"from": "tabel"}}, "clicks.from is 'tabel': say files, table, seeds, "),
        ({"clicks": {"path": "x.csv"}}, "the key clicks.from is missing: say files"),
        ({"clicks": {"from": "table", "path": "x.csv"}}, "x.csv cannot be read"),
        ({"clicks": {"from": "table", "colums": {}}}, "the key clicks.colums is unknown: write co"),
        ({"clicks": {"from": "seeds"}}, "radius is missing"),
        ({"settings": {"threshold": 1.5}}, "settings.threshold is '1.5'"),
        ({"normalisation": {"low": 3, "high": 1}}, "low 3.0 is above high 1.0"),
        ({"inputs": {"images": ["none/*.tif"]}}, "names no file"),
        ({"inputs": {"images": ["images/*"]}}, "same stem"),
        ({"model": {"name": "nobody"}}, "nobody"),
        ({"model": {"name": "default", "sha256": "0" * 64}}, "the job names 000000000000"),
        ({"outputs": {"folder": "images/p0.png"}}, "is a file"),
        (
            {"clicks": {"from": "session", "folder": "x"}},
            "outputs.probability is not known where clicks are from session",
        ),
    ],
)
def test_a_bad_job_is_refused_in_one_sentence(folder, model, changes, message):
    iio.imwrite("images/p0.tif", np.zeros((4, 4), np.uint8))
    assert message in run(a_job(model, **changes), status=2)
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00", "version: 1"])
def test_what_is_no_job_is_refused_in_one_sentence(folder, text):
    Path("job.yaml").write_text(text)
    result = CliRunner().invoke(app, ["batch", "job.yaml"])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_job_beside_the_results_runs_from_anywhere(folder, model, monkeypatch):
    (folder / "jobs").mkdir()
    (folder / "labels").mkdir()
    for number in range(3):
        labels = np.zeros((40, 60), np.uint8)
        labels[5:20, 10:30] = 1
        iio.imwrite(f"labels/p{number}.png", labels)
    monkeypatch.chdir("jobs")
    clicks = {"from": "masks", "path": "../labels/{stem}.png", "use": "centroids"}
    inputs = {"images": ["../images/*.png"]}
    run(a_job(model, inputs=inputs, clicks=clicks, outputs={"folder": "../deep/out"}))
    monkeypatch.chdir("/")
    again = CliRunner().invoke(app, ["batch", str(folder / "deep" / "out" / "job.yaml")])
    assert "0 done, 3 done before" in again.output
    monkeypatch.chdir(folder)
    written = yaml.safe_load(Path("deep/out/job.yaml").read_text())
    assert written["inputs"]["images"] == ["../../images/*.png"]
    assert (written["clicks"]["path"], written["outputs"]["folder"]) == (
        "../../labels/{stem}.png",
        ".",
    )


def test_memory_for_masks_goes_by_their_number_and_not_by_the_largest_label():
    labels = np.zeros((40, 60), np.uint32)
    labels[2:9, 3:9], labels[20:30, 30:50] = 4_000_000_000, 7
    tracemalloc.start()
    work, given = from_labels(labels, np.zeros((40, 60)), refine=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert list(work) == [7, 4_000_000_000]
    assert all((mask == (labels == label)).all() for (label, _), mask in given.items())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["p0,5,5,0"], "points.csv, line 2: object is '0' and no whole number from 1 on"),
        (["p0,5,5,3000000000"], "line 2: object is '3000000000' and no whole number"),
        (["p0,5,5,1", "p0,5,6"], "line 3: object is None and no number"),
    ],
)
def test_objects_of_a_table_are_numbered_from_one(folder, model, rows, message):
    Path("points.csv").write_text("picture,y,x,object\n" + "\n".join(rows) + "\n")
    columns = {"row": "y", "column": "x", "image": "picture", "object": "object"}
    clicks = {"from": "table", "path": "points.csv", "columns": columns}
    outputs = {"folder": "out", "clicks": False}
    run(
        a_job(model, inputs={"images": ["images/p0.png"]}, clicks=clicks, outputs=outputs), status=3
    )
    (error,) = summary()["failures"].values()
    assert message in error
    assert "earlier run" not in error
    assert not list(Path("out").glob("p0_*"))


def points_table(rows: list[str]) -> None:
    Path("points.csv").write_text("picture,y,x\n" + "\n".join(rows) + "\n")


def test_a_points_table_is_looked_at_before_anything_is_done(folder, model):
    columns = {"row": "y", "column": "x", "image": "picture"}
    job = a_job(model, clicks={"from": "table", "path": "points.csv", "columns": columns})
    points_table(["p0,10,15", "p1.png,30,40", "p2,20,50", "p0,30,40", "q7,1,1", "a9,2,2"])
    assert (
        "points.csv: 2 of its clicks are on images that inputs.images does not find, such as "
        in (run(job, "--dry-run"))
    )
    assert "3 done" in run(job)
    assert {record.object for record in read_clicks("out/p0_clicks_used.json")} == {1, 2}
    # a row more for one picture: the others stay done
    points_table(["p0,10,15", "p1.png,30,40", "p2,20,50", "p0,30,40", "p1,8,8"])
    output = run(job)
    assert "1 done, 2 done before" in output
    assert "inputs.images" not in output
    for wrong in ("--dry-run", "--overwrite"):
        columns["row"] = "why"
        assert "has no column 'why' for the row: it has picture, y, x" in run(job, wrong, status=2)


def test_files_of_an_earlier_run_of_a_failed_image_are_named(folder, model):
    run(a_job(model))
    write_clicks("images/p0_clicks.json", [ClickRecord(Click(400, 1))])
    assert "its files in out are of an earlier run" in run(a_job(model), status=3)
    assert "its files in out are of an earlier run" in Path("out/index.html").read_text()
    Path("images/p1_clicks.json").unlink()
    for path in Path("out").glob("p1_*"):
        path.unlink()
    run(a_job(model), status=3)
    reasons = summary()["failures"]
    assert "earlier run" not in reasons[str(folder / "images" / "p1.png")]


@pytest.mark.parametrize(
    ("clicks", "missing", "message"),
    [
        ({"from": "files"}, "images/p1_clicks.json", "p1.png has no click file"),
        ({"from": "masks", "path": "{stem}.png"}, None, "p1.png is not there"),
        ({"from": "session", "folder": "{stem}"}, None, "p1.png has no session"),
    ],
)
def test_a_dry_run_tells_what_is_missing(folder, model, clicks, missing, message):
    if missing:
        Path(missing).unlink()
    output = run(a_job(model, clicks=clicks, outputs={"folder": "out"}), "--dry-run", status=3)
    assert "p1.png: cannot be done: " in output
    assert message in output
    to_do = 2 if missing else 0
    assert f"{to_do} of 3 images to do, {3 - to_do} cannot be done" in output
    assert not Path("out").exists()


def test_files_of_others_are_not_overwritten_unless_told(folder, model):
    Path("out").mkdir()
    Path("out/p1_labels.tif").write_bytes(b"precious")
    assert "p1_labels.tif is there already" in run(a_job(model), status=2)
    assert Path("out/p1_labels.tif").read_bytes() == b"precious"
    run(a_job(model), "--overwrite")
    assert (tifffile.imread("out/p1_labels.tif") >= 0).all()


def test_clicks_outside_and_missing_click_files_fail_alone(folder, model):
    write_clicks("images/p0_clicks.json", [ClickRecord(Click(400, 1))])
    Path("images/p1_clicks.json").unlink()
    run(a_job(model), status=3)
    reasons = summary()["failures"]
    assert "row 400" in reasons[str(folder / "images" / "p0.png")]
    assert "has no click file" in reasons[str(folder / "images" / "p1.png")]
    assert sorted({name[:2] for name in contents()}) == ["p2"]


def test_a_full_disk_is_told_for_each_image_and_leaves_nothing_half_written(
    folder, model, monkeypatch
):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_fctsfn.batch.outputs.tifffile.imwrite", full)
    output = run(a_job(model), status=3)
    assert output.count("No space left on device") == 3
    assert contents() == {}


def test_a_scheduler_that_does_not_answer_is_named(folder, model, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_fctsfn.batch.run._PATIENCE", "1s")
    message = run(a_job(model), "--scheduler", "tcp://127.0.0.1:9", status=2)
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in message


def test_the_schema_names_every_key():
    result = CliRunner().invoke(app, ["batch", "--schema"])
    document = json.loads(result.stdout)
    assert set(document["properties"]) == {
        *("version", "inputs", "clicks", "model", "normalisation", "settings", "outputs")
    }
    settings = document["$defs"]["Choices"]["properties"]
    assert set(settings) == set(Settings.__dataclass_fields__) - {"zoom"}
    columns = document["$defs"]["Columns"]["properties"]
    assert columns["positive"]["description"].endswith("it needs object")


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    ("clicks", "read"),
    [
        ({"from": "masks", "path": "out/{stem}_labels.tif"}, "p0_labels.tif"),
        ({"from": "masks", "path": "out/p1_labels.tif"}, "p1_labels.tif"),
        ({"from": "files", "folder": "out", "suffix": "_clicks_used"}, "p0_clicks_used.json"),
        ({"from": "table", "path": "link/p1_measurements.csv"}, "p1_measurements.csv"),
    ],
)
def test_what_a_job_reads_is_never_overwritten(folder, model, clicks, read, option):
    run(a_job(model))
    (folder / "link").symlink_to(folder / "out")
    if clicks["from"] == "table":
        Path("out", read).write_text("axis-0,axis-1\n1,1\n")
    before = contents()
    assert f"{read} is read by the job" in run(a_job(model, clicks=clicks), *option, status=2)
    assert contents() == before


def test_results_of_another_job_are_kept_unless_told(folder, model):
    (folder / "more").mkdir()
    make_picture(folder / "more" / "q.png", 5)
    one, two = a_job(model), a_job(model, inputs={"images": ["more/*.png"]})
    run(one)
    before = Path("out/manifest.jsonl").read_bytes()
    assert "out holds the results of another job, such as of" in run(two, status=2)
    assert Path("out/manifest.jsonl").read_bytes() == before
    Path("images/p2.png").unlink()  # a picture less: the job is the same
    assert "0 done, 2 done before" in run(one)
    run(two, "--overwrite")
    assert "out holds the results of another job, such as of" in run(one, status=2)
    # more pictures in the same folder: nothing is lost
    both = a_job(model, inputs={"images": ["images/*.png", "more/*.png"]})
    assert "2 done, 1 done before" in run(both, "--overwrite")


def test_images_in_the_output_folder_are_told(folder, model):
    Path("out").mkdir()
    for name in ("q0", "q1"):
        make_picture(Path("out", f"{name}.png"), 1)
    wide = a_job(model, inputs={"images": ["**/*.png"]})
    told = f"{folder / 'out'} holds 2 of the images that inputs.images names, such as 'q0.png'"
    for state in ("3 done, 0 done before", "0 done, 3 done before"):  # of which there are overlays
        said = run(wide)
        assert state in said
        assert f"{told}: they are left out\n" in said
    for name in ("q0", "q1"):
        Path("out", f"{name}.png").unlink()
    assert "left out" not in run(wide)


@pytest.mark.parametrize(
    ("pattern", "place"), [("images/*.png", "images"), ("*.png", "."), ("images/*.png", ".")]
)
def test_a_job_is_not_run_into_its_images_nor_over_its_own_file(folder, model, pattern, place):
    make_picture(folder / "own.png", 1)
    job = a_job(model, inputs={"images": [pattern]}, outputs={"folder": place})
    reason = "is in the way" if pattern != "*.png" and place == "." else "holds the images"
    for options in ((), ("--overwrite",)):
        assert reason in run(job, *options, status=2)
        assert yaml.safe_load(Path("job.yaml").read_text()) == job
    assert not list(folder.rglob("*_labels.tif"))


def test_results_are_no_images_of_the_job_beside_them(folder, model):
    job = a_job(model, inputs={"images": ["**/*.png"]})
    run(job)
    assert "0 done, 3 done before, 0 failed" in run(job)
    again = CliRunner().invoke(app, ["batch", "out/job.yaml"])
    assert "0 done, 3 done before, 0 failed" in again.output


def test_columns_of_a_table_that_say_half_are_refused(folder, model):
    columns = {"row": "y", "column": "x", "positive": "kind"}
    job = a_job(model, clicks={"from": "table", "path": "points.csv", "columns": columns})
    assert "positive kind needs object too: name the column" in run(job, status=2)


@pytest.mark.parametrize("chunk", [{}, {"chunk": 64}])
def test_labels_that_no_click_file_holds_are_refused_before_the_work(
    folder, model, monkeypatch, chunk
):
    if chunk:
        pytest.importorskip("zarr")
    labels = np.zeros((40, 60), np.uint32)
    labels[5:15, 10:25] = 3_000_000_000
    tifffile.imwrite("p0.tif", labels)
    monkeypatch.setattr(Predictor, "set_image", lambda *_, **__: pytest.fail("it has begun"))
    inputs = {"images": ["images/p0.png"], **chunk}
    run(a_job(model, inputs=inputs, clicks={"from": "masks", "path": "{stem}.tif"}), status=3)
    (error,) = summary()["failures"].values()
    assert "p0.tif has the label 3000000000: labels go up to 2147483647" in error
    assert contents() == {}


def test_names_are_taken_as_they_are(folder, model):
    for name in ("cell [1].png", "50% #2?.png", "._p0.png"):
        make_picture(folder / "images" / name, 1)
    run(a_job(model, inputs={"images": ["images/cell [1].png", "images/5*.png"]}))
    assert {name[:4] for name in contents()} == {"cell", "50% "}
    page = Path("out/index.html").read_text()
    assert "src='50%25%20%232%3F_overlay.png'" in page
    for pattern, name in (("images/*p0.png", "p0.png"), ("images/.*.png", "._p0.png")):
        job = batch.parse_job(a_job(model, inputs={"images": [pattern]}))
        assert running.find_images(job, folder)[0] == [folder / "images" / name]


@pytest.mark.parametrize("others", [[np.uint8], [np.uint8, np.uint8], [np.uint16]])
def test_a_common_range_is_of_all_images_or_refused(folder, model, others):
    for number, dtype in enumerate([np.uint8, *others]):
        shape = (40, 60) if others == [np.uint8] and number else (40, 60, 3)
        iio.imwrite(f"c{number}.tiff", np.full(shape, 9, dtype))
        write_clicks(f"c{number}_clicks.json", [ClickRecord(Click(9, 9))])
    job = a_job(model, inputs={"images": ["*.tiff"]}, normalisation="job")
    if others in ([np.uint8], [np.uint16]):
        message = run(job, status=2)
        assert "c0.tiff and " in message
        assert "c1.tiff have no range in common" in message
        return
    run(job)
    written = yaml.safe_load(Path("out/job.yaml").read_text())["normalisation"]
    assert written == {"low": 0.0, "high": 255.0}


def test_a_session_is_done_in_its_own_range(folder, model):
    image = iio.imread("images/p0.png")
    session = Session(image.shape, Normalisation(3, 77))
    labels, plane = np.zeros(image.shape, np.uint16), Plane((None, None))
    identity = ImageIdentity.of("p0.png", image)
    with Journal.create(folder / "sessions" / "p0", session, identity, labels):
        session.edit_clicks(plane, Clicks([Click(10, 12)]))
        session.resolve(session.job(lambda _: labels), labels > 0, labels, "0" * 64)
    clicks = {"from": "session", "folder": "sessions/{stem}"}
    job = a_job(
        model, inputs={"images": ["images/p0.png"]}, clicks=clicks, outputs={"folder": "out"}
    )
    run(job)
    (line,) = Path("out/manifest.jsonl").read_text().splitlines()
    assert (json.loads(line)["low"], json.loads(line)["high"]) == (3, 77)
    message = run({**job, "normalisation": "job"}, status=2)
    assert "normalisation does not go with clicks from session" in message
