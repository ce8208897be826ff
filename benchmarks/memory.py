"""Peak memory while annotating a 512 x 512 x 100 uint16 stack in the real window.

    scripts/with-display.sh .venv/bin/python benchmarks/memory.py [--slices 100] [--clicks 3]

Prints the peak resident memory above that of a process that has imported torch.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch


def resident_mb() -> float:
    """Memory resident now, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """Most memory resident so far, in MB (Linux counts in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--clicks", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.zeros(8, 8).mm(torch.zeros(8, 8))
    before = resident_mb()

    import napari

    rng = np.random.default_rng(0)
    stack = rng.poisson(400, (options.slices, 512, 512)).astype(np.uint16)
    rows, columns = np.mgrid[:512, :512]
    for index, plane in enumerate(stack):
        plane[(rows - 256) ** 2 + (columns - 200 - index) ** 2 < 60**2] += 1200
    viewer = napari.Viewer()
    viewer.add_image(stack)
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    dock.wait_idle(120_000)
    if not dock.start():
        raise SystemExit("the dock did not start")
    positive = dock.annotator.site.prompts.positive
    seconds = []
    for index in range(options.slices):
        viewer.dims.set_point(0, index)
        for click in range(options.clicks):
            began = time.perf_counter()
            positive.add([[index, 256 + 7 * click, 200 + index - 9 * click]])
            dock.wait_idle(60_000)
            seconds.append(time.perf_counter() - began)
    result = {
        "above_torch_mb": peak_mb() - before,
        "torch_mb": before,
        "slices": options.slices,
        "clicks": len(seconds),
        "click_ms_first_quarter": 1e3 * float(np.median(seconds[: len(seconds) // 4])),
        "click_ms_last_quarter": 1e3 * float(np.median(seconds[-len(seconds) // 4 :])),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    viewer.close()


if __name__ == "__main__":
    main()
