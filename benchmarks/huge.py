"""Clicks in a huge multiscale zarr in the real window, beside the same in a small picture.

    scripts/with-display.sh .venv/bin/python benchmarks/huge.py [--side 20000] [--objects 6]

Prints memory, and waiting times as ratios to those in a picture of 2048 x 2048 of the same run.
Drawing is what napari takes for its canvas, by software on a virtual display; labels wider than a
texture are sent to it whole with every change.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from clicks import Drawing
from memory import peak_mb, resident_mb

_TILE = 2048


def discs(rng: np.random.Generator) -> np.ndarray:
    """A tile with bright discs at the places that `places` gives, uint16."""
    tile = rng.poisson(400, (_TILE, _TILE)).astype(np.uint16)
    rows, columns = np.mgrid[:_TILE, :_TILE]
    for row, column in places():
        tile[(rows - row) ** 2 + (columns - column) ** 2 < 60**2] += 1200
    return tile


def places() -> list[tuple[int, int]]:
    """Middles of the discs of a tile."""
    return [(row, column) for row in range(256, _TILE, 512) for column in range(256, _TILE, 512)]


def pyramid(folder: Path, side: int) -> list[Any]:
    """A multiscale image on disk, of tiles."""
    tile = discs(np.random.default_rng(0))
    levels = []
    while True:
        shape = (side, side)
        level = zarr.create_array(
            store=str(folder / f"{len(levels)}"), shape=shape, chunks=(512, 512), dtype="uint16"
        )
        step = tile.shape[0]
        for row in range(0, side, step):
            for column in range(0, side, step):
                height, width = min(step, side - row), min(step, side - column)
                level[row : row + height, column : column + width] = tile[:height, :width]
        levels.append(level)
        if side <= _TILE:
            return levels
        side, tile = side // 2, tile[::2, ::2]


def session(viewer: Any, objects: int, tiles: int) -> dict[str, float]:
    """Annotate discs with three clicks each, in different tiles; seconds as medians."""
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    dock.wait_idle(120_000)
    began = time.perf_counter()
    if not dock.start():
        raise SystemExit("the dock did not start")
    dock.wait_idle(60_000)
    start = time.perf_counter() - began
    first, later, drawn = [], [], []
    drawing = Drawing(viewer.window._qt_viewer.canvas._scene_canvas)  # noqa: SLF001
    for number in range(objects):
        row, column = places()[number % len(places())]
        place = _TILE * (number % tiles)
        for click in range(3):
            began, before = time.perf_counter(), drawing.seconds
            point = [place + row + 9 * click, place + column - 11 * click]
            dock.annotator.site.prompts.positive.add([point])
            dock.wait_idle(60_000)
            (later if click else first).append(time.perf_counter() - began)
            if click:
                drawn.append(drawing.seconds - before)
        dock.annotator.next_object()
        dock.wait_idle(60_000)
    found = len(np.unique(dock.annotator.site.labels.data[:: 2**4, :: 2**4])) - 1
    return {
        "start_s": start,
        "first_mask_s": float(np.median(first)),
        "first_mask_worst_s": max(first),
        "click_s": float(np.median(later)),
        "of_which_drawing_s": float(np.median(drawn)),
        "objects": found,
    }


def headless(path: str, objects: int, tiles: int) -> dict[str, float]:
    """The same with the predictor alone, on a single level; in a process of its own."""
    from napari_fctsfn import Click, Clicks, Predictor
    from napari_fctsfn.predict import Normalisation, SliceView

    level = zarr.open_array(path, mode="r")
    predictor = Predictor.from_pretrained("default")
    view = SliceView(level, (slice(None), slice(None)))
    first, later = [], []
    for number in range(objects):
        row, column = places()[number % len(places())]
        place = _TILE * (number % tiles)
        before = None
        clicks: list[Any] = []
        for click in range(3):
            began = time.perf_counter()
            clicks.append(Click(place + row + 9 * click, place + column - 11 * click))
            predictor.set_image(view, Normalisation(0, 2000), key="huge")
            before = predictor.predict(Clicks(clicks), before)
            (later if click else first).append(time.perf_counter() - began)
    return {
        "first_mask_s": float(np.median(first)),
        "click_s": float(np.median(later)),
        "peak_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=6)
    options = parser.parse_args()
    import napari

    result: dict[str, Any] = {"side": options.side}
    with tempfile.TemporaryDirectory() as folder:
        levels = pyramid(Path(folder), options.side)
        tiles = options.side // _TILE
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            path = str(Path(folder) / "0")
            result["headless"] = pool.submit(headless, path, options.objects, tiles).result()
        viewer = napari.Viewer()
        viewer.add_image(levels, multiscale=True, contrast_limits=(0, 2000))
        result["huge"] = session(viewer, options.objects, tiles)
        result["resident_mb"], result["peak_mb"] = resident_mb(), peak_mb()
        viewer.close()
        viewer = napari.Viewer()
        viewer.add_image(discs(np.random.default_rng(0)), contrast_limits=(0, 2000))
        result["small"] = session(viewer, options.objects, 1)
        viewer.close()
    for name in ("first_mask_s", "click_s"):
        result[f"{name}_ratio"] = result["huge"][name] / result["small"][name]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
