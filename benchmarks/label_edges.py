"""Do the labels of a data set end where its objects end?

    python benchmarks/label_edges.py --data DATA [--sets voc_subset coco_mval ...] [--limit 60]

For each object, the mean gradient of the picture at every signed distance from the border of its
label (negative inside), as a multiple of the object's own mean. Given is the mean over the objects
and the distance of the peak: above zero where labels stay short of the edge, as where a border band
is drawn as background (`DataSet.band`).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_gradient_magnitude

from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.train.mixture import MIXTURES, eight_bit

REACH = 6
"""Pixels to both sides of the border."""

SMALLEST = 50
"""Pixels of an object that is looked at."""


def profile(image: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Relative gradient at the distances -REACH to REACH; not a number where there are no pixels.

    The pixels beside the border are at -0.5 and 0.5: distance k takes what is within 0.5 of it.
    """
    squares = [
        gaussian_gradient_magnitude(image[..., c].astype(np.float64), 0.7) ** 2 for c in range(3)
    ]
    gradient = np.sqrt(sum(squares))
    inside, outside = (distance_transform_edt(part) - 0.5 for part in (truth, ~truth))
    distance = np.where(truth, -inside, outside)
    values = np.full(2 * REACH + 1, math.nan)
    for place, middle in enumerate(range(-REACH, REACH + 1)):
        there = gradient[np.abs(distance - middle) <= 0.5]
        if there.size:
            values[place] = there.mean()
    return values / np.nanmean(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(MIXTURES["default"]))
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    distances = np.arange(-REACH, REACH + 1)
    print("| set | objects | peak | " + " | ".join(map(str, distances)) + " |")
    print("|---" * (3 + len(distances)) + "|")
    for name in options.sets:
        dataset = DataSet.open(options.data / name)
        lists = [dataset.folder / file for file in ("val_objects.txt", "all.txt")]
        listed = next(file for file in lists if file.exists())
        profiles = []
        for reference in dataset.objects(listed, options.limit, 0):
            scene = dataset.scene(reference.stem)
            truth = scene.truth(reference.value)
            if truth.sum() >= SMALLEST:
                profiles.append(profile(eight_bit(scene.image), truth))
        if not profiles:
            continue
        mean = np.nanmean(profiles, axis=0)
        cells = [name, str(len(profiles)), f"{distances[mean.argmax()]:+d}"]
        print("| " + " | ".join([*cells, *(f"{value:.2f}" for value in mean)]) + " |", flush=True)


if __name__ == "__main__":
    main()
