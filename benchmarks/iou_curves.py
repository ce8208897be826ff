"""Draw how the IoU of the objects rises with clicks, from what `evaluate` wrote.

    python benchmarks/iou_curves.py PICTURE.png RESULTS/grabcut RESULTS/dsb2018 ...

A panel for each folder of results, under its name: the mean over the objects, and between which
values the middle half of them lies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from napari_fctsfn.evaluate.results import read_results

_CLICKS = 10
_COLUMNS = 5


def main() -> None:
    picture, *folders = map(Path, sys.argv[1:])
    rows = -(-len(folders) // _COLUMNS)
    columns = min(len(folders), _COLUMNS)
    figure = Figure(figsize=(2.2 * columns, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(folders) :]:
        axis.set_axis_off()
    clicks = np.arange(1, _CLICKS + 1)
    for folder, axis in zip(folders, axes.flat, strict=False):
        results, _ = read_results(folder)
        ious = np.array([result.ious[:_CLICKS] for result in results])
        low, high = np.percentile(ious, (25, 75), axis=0)
        axis.fill_between(clicks, low, high, alpha=0.25, linewidth=0)
        axis.plot(clicks, ious.mean(axis=0))
        axis.axhline(0.9, color="gray", linewidth=0.7, linestyle=":")
        axis.set_title(folder.name, fontsize=9)
        axis.set(xlim=(1, _CLICKS), ylim=(0.4, 1), xticks=(1, 3, 5, 10))
        axis.grid(alpha=0.3)
    figure.supxlabel("clicks", fontsize=9)
    figure.supylabel("IoU with the true object", fontsize=9)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
