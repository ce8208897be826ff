"""How long an annotator waits: image, first mask and clicks, at several sizes.

    python benchmarks/latency.py [--sizes 256 512 1024] [--model NAME] [--threads 2] [--json FILE]

Medians over repeated sessions of ten clicks on synthetic cells; windows that are encoded again
during a session count as part of their click.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.predict import Predictor, Settings


def cells(size: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Noisy discs on a dark ground (uint16) and the masks of eight of them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    image = np.full((size, size), 300.0)
    masks = []
    for _ in range(8):
        centre = rng.uniform(0.15, 0.85, 2) * size
        radius = rng.uniform(0.04, 0.15) * min(size, 1024)
        mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image[mask] += rng.uniform(800, 2500)
        masks.append(mask)
    return rng.poisson(gaussian_filter(image, 1.5)).astype(np.uint16), masks


def session(
    predictor: Predictor, size: int, seed: int, settings: Settings
) -> dict[str, list[float]]:
    """Seconds for the image, the first mask and nine more clicks on each of two objects."""
    image, masks = cells(size, seed)
    times: dict[str, list[float]] = {"image": [], "first_mask": [], "click": []}
    for mask in masks[:2]:
        predictor.set_image(image)
        began = time.perf_counter()
        predictor.warm_up()
        times["image"].append(time.perf_counter() - began)
        clicks = Clicks()
        previous = None
        for count in range(10):
            shown = np.zeros_like(mask) if previous is None else previous.full_mask()
            click = next_click(shown, mask, clicks, "ritm") or Click(*np.argwhere(mask)[count])
            clicks = clicks.append(click)
            began = time.perf_counter()
            previous = predictor.predict(clicks, previous, settings)
            seconds = time.perf_counter() - began
            if count:
                times["click"].append(seconds)
            else:
                times["first_mask"].append(seconds + times["image"][-1])
    return times


def import_seconds() -> float:
    """Median of five fresh interpreters that import the package, less those that import nothing."""

    def run(code: str) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    return run("import napari_fctsfn") - run("pass")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = Predictor.from_pretrained(options.model, options.device)
    results = []
    for size in options.sizes:
        session(predictor, size, 0, predictor.settings)
        runs = [
            session(predictor, size, 1 + s, predictor.settings) for s in range(options.sessions)
        ]
        pooled = {key: [t for run in runs for t in run[key]] for key in runs[0]}
        results.append(
            {
                "size": size,
                "image_ms": 1e3 * statistics.median(pooled["image"]),
                "first_mask_ms": 1e3 * statistics.median(pooled["first_mask"]),
                "click_ms": 1e3 * statistics.median(pooled["click"]),
                "click_p95_ms": 1e3 * float(np.percentile(pooled["click"], 95)),
                "device": str(predictor.device),
                "model": predictor.sha256[:12],
            }
        )
        row = results[-1]
        waits = ("image", "first_mask", "click", "click_p95")
        print(
            f"{size:5d} px:",
            *(f"{key} {row[key + '_ms']:.1f} ms" for key in waits),
            flush=True,
        )
    seconds = import_seconds()
    print(f"import napari_fctsfn: {1e3 * seconds:.0f} ms")
    if options.json:
        options.json.write_text(
            json.dumps({"results": results, "import_ms": 1e3 * seconds}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
