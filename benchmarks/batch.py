"""Batch jobs killed at random moments, and how fast they are beside a loop over the predictor.

    python benchmarks/batch.py kills [--kills 50] [--seed 0]
    python benchmarks/batch.py stack [--images 200] [--rounds 3]
    python benchmarks/batch.py nuclei [--images 8] [--rounds 3]
    python benchmarks/batch.py memory [--images 1000]
    python benchmarks/batch.py huge [--images 20480]

`kills`: a process with a tiny untrained model is killed with SIGKILL after a random time, again and
again, each time going on from what its folder holds; in the end the outputs must be those of an
uninterrupted run, byte by byte. Exit status 1 if they are not. `stack`: slices of 512 x 512 with a
click on each; `nuclei`: one image of so many rows and columns of the bundled nuclei, all clicked:
ratios of one run, in which the ways take turns, each in processes of its own whose start counts.
`memory`: resident memory of one process over many images; `huge`: over one image of so many rows
and columns. Needs an operating system that forks.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
import torch
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label, regionprops

from napari_fctsfn import batch
from napari_fctsfn.batch.pictures import digest
from napari_fctsfn.batch.task import load_predictor
from napari_fctsfn.batch.work import read_placed
from napari_fctsfn.clicks import Click, ClickRecord, Clicks, write_clicks
from napari_fctsfn.models import ModelCard, save_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.plugin.samples import picture

_FORK = multiprocessing.get_context("fork")
_PLACES = [(10, 15), (30, 40), (20, 50)]


def make(folder: Path, images: int) -> None:
    """Images with click files, and a tiny model."""
    rng = np.random.default_rng(0)
    for number in range(images):
        pixels = rng.integers(0, 255, (40, 60)).astype(np.uint8)
        iio.imwrite(folder / f"p{number:04}.png", pixels)
        clicks = [ClickRecord(Click(*place), object=n) for n, place in enumerate(_PLACES, 1)]
        write_clicks(folder / f"p{number:04}_clicks.json", clicks)
    torch.manual_seed(0)
    config = NetworkConfig(
        interaction_channels=(4, 4, 4, 4, 4),
        fusion_channels=8,
        fusion_blocks=0,
        bottleneck_channels=(4, 4, 4, 2),
    )
    card = ModelCard(
        name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64
    )
    save_model(folder / "tiny.safetensors", build_network(config).eval(), card)


def make_large(folder: Path, what: str, count: int) -> int:
    """A stack of `count` slices of 512 x 512 with a click on each, or `count` rows and columns of
    pictures of nuclei with a click on every one; the number of clicks."""
    nuclei = picture("nuclei")
    if what == "stack":
        pixels = np.stack([np.roll(np.tile(nuclei, (2, 2)), 11 * z, axis=1) for z in range(count)])
    else:
        pixels = np.tile(nuclei, (count, count))
    clicks = []
    for index in np.ndindex(*pixels.shape[:-2]):
        plane = gaussian(pixels[index], 1)
        found = [r for r in regionprops(label(plane > threshold_otsu(plane))) if r.area >= 64]
        for number, region in enumerate(found[:1] if index else found, 1):
            clicks.append(ClickRecord(Click(*map(float, region.centroid)), index, number))
    tifffile.imwrite(folder / "large.tif", pixels, photometric="minisblack", tile=(512, 512))
    write_clicks(folder / "large_clicks.json", clicks)
    return len(clicks)


def run(
    folder: Path,
    outputs: str,
    model: str,
    workers: int = 1,
    images: str = "*.png",
    chunk: int = 0,
    rate: Any = None,
) -> None:
    """A job; `rate` becomes the chunks in a second once every worker has done its first."""
    document = {
        "version": 1,
        "inputs": {"images": [images], "chunk": chunk or None},
        "clicks": {"from": "files"},
        "model": {"name": model},
        "outputs": {"folder": outputs, "probability": not chunk},
    }
    planned = batch.plan(batch.parse_job(document), folder)
    steps: list[float] = []
    entries = list(
        batch.execute(planned, workers, advance=lambda _: steps.append(time.perf_counter()))
    )
    summary = batch.finish(planned, entries, 0)
    assert not summary.failed, summary.failures
    if rate is not None:
        first = workers
        rate.value = (len(steps) - 2 - first) / (steps[-2] - steps[first])


def contents(folder: Path) -> dict[str, str]:
    other = {"manifest.jsonl", "summary.json", "job.yaml", "index.html"}
    return {path.name: digest(path) for path in folder.iterdir() if path.name not in other}


def kills(count: int, seed: int) -> int:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, 12)
        torch.set_num_threads(1)
        began = time.perf_counter()
        run(folder, "whole", "./tiny.safetensors")
        whole = time.perf_counter() - began
        killed, rounds, wrong = 0, 0, 0
        while killed < count:
            rounds += 1
            while killed < count:
                process = _FORK.Process(target=run, args=(folder, "out", "./tiny.safetensors"))
                process.start()
                process.join(rng.random() * whole / 4)
                if not process.is_alive():
                    break
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()
                killed += 1
            run(folder, "out", "./tiny.safetensors")
            wrong += contents(folder / "out") != contents(folder / "whole")
            for path in (folder / "out").iterdir():
                path.unlink()
        print(f"{killed} kills in {rounds} jobs: {wrong} ended with other bytes")
    return int(wrong > 0)


def loop(folder: Path, threads: int) -> None:
    """The predictor called in a loop; nothing is written."""
    torch.set_num_threads(threads)
    predictor = load_predictor("default")
    pixels = tifffile.imread(folder / "large.tif")
    for placed in read_placed(folder / "large_clicks.json"):
        predictor.set_image(pixels[placed.slice], key=placed.slice)
        predictor.replay(Clicks([placed.click]))


def timed(target: Any, *arguments: object, rate: bool = False) -> tuple[float, float]:
    """Seconds in a process of its own, its start included, and its rate."""
    context = multiprocessing.get_context("spawn")
    value = context.Value("d", math.nan)
    process = context.Process(target=target, args=arguments, kwargs={"rate": value} if rate else {})
    began = time.perf_counter()
    process.start()
    process.join()
    return time.perf_counter() - began, value.value


def speed(what: str, count: int, rounds: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clicks = make_large(folder, what, count)
        ways: dict[str, tuple[Any, ...]] = {
            "one worker": (run, folder, "one", "default", 1, "large.tif", 512),
            "two workers": (run, folder, "two", "default", 2, "large.tif", 512),
            "loop over the predictor, one thread": (loop, folder, 1),
            "loop over the predictor, two threads": (loop, folder, 2),
        }
        found: dict[str, list[tuple[float, float]]] = {}
        for number in range(rounds):
            for way, (target, *arguments) in ways.items():
                seconds, rate = timed(target, *arguments, rate=target is run)
                found.setdefault(way, []).append((seconds, rate))
                print(f"round {number}, {way}: {seconds:.1f} s, {rate:.2f} chunks/s", flush=True)
            for outputs in ("one", "two"):
                shutil.rmtree(folder / outputs)
        load = os.getloadavg()[0]
        print(f"{what} of {count}, {clicks} clicks, load {load:.1f} on {os.cpu_count()} cores")
        base, usual = (
            statistics.median(column) for column in zip(*found["one worker"], strict=True)
        )
        for way, pairs in found.items():
            middle, rate = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(
                f"{way}: {clicks / middle:.1f} clicks/s with its start, {base / middle:.2f} times "
                f"one worker; {rate:.2f} chunks/s under way, {rate / usual:.2f} times one worker"
            )
    return 0


def memory(images: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, images)
        document = {
            "version": 1,
            "inputs": {"images": ["*.png"]},
            "clicks": {"from": "files"},
            "model": {"name": "./tiny.safetensors"},
            "outputs": {"folder": "out"},
        }
        planned = batch.plan(batch.parse_job(document), folder)
        for number, _ in enumerate(batch.execute(planned), 1):
            if number in (10, images // 4, images // 2, images):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                print(f"after {number} images: {pages * resource.getpagesize() / 1e6:.0f} MB")
    return 0


def huge(side: int) -> int:
    """A Zarr of `side` x `side` uint16 pixels with discs, in chunks of 2048."""
    import zarr

    rng = np.random.default_rng(0)
    tile = rng.poisson(400, (1024, 1024)).astype(np.uint16)
    rows, columns = np.indices(tile.shape)
    tile[np.hypot(rows - 500, columns - 500) < 60] += 1200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        array = zarr.create_array(
            str(folder / "big.zarr"), shape=(side, side), dtype="uint16", chunks=tile.shape
        )
        places = [(r, c) for r in range(0, side, 1024) for c in range(0, side, 1024)]
        for row, column in places:
            array[row : row + 1024, column : column + 1024] = tile
        clicked = [(r + 500, c + 500) for r, c in places if not (r | c) & 1024]
        clicks = [ClickRecord(Click(*place), object=n) for n, place in enumerate(clicked, 1)]
        write_clicks(folder / "big_clicks.json", clicks)
        document = {
            "version": 1,
            "inputs": {"images": ["big.zarr"], "chunk": 2048, "halo": 128},
            "clicks": {"from": "files"},
            "model": {"name": "default"},
            "outputs": {"folder": "out", "labels": "ome-zarr"},
        }
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        began = time.perf_counter()
        planned = batch.plan(batch.parse_job(document), folder)
        entries = list(batch.execute(planned))
        assert not batch.finish(planned, entries, 0).failed
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(
            f"{side} x {side}, {len(clicks)} objects: {seconds:.0f} s, at most {peak:.0f} MB "
            f"resident, {before:.0f} MB before"
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kills", "stack", "nuclei", "memory", "huge"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.what == "kills":
        return kills(options.kills, options.seed)
    if options.what == "memory":
        return memory(options.images or 1000)
    if options.what == "huge":
        return huge(options.images or 20480)
    return speed(
        options.what, options.images or {"stack": 200, "nuclei": 8}[options.what], options.rounds
    )


if __name__ == "__main__":
    raise SystemExit(main())
