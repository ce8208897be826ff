"""How far objects of labelled stacks are followed, and how well, beside copying and interpolation.

    python benchmarks/propagation.py DATA [--sets chloroplast_em spine_mr] [--model NAME]
        [--objects 20] [--json FILE]

`DATA` holds data sets with linked stacks. For each object: from one annotated slice (its true mask
in the middle of its slices) to both ends, how many slices are followed at an IoU of 0.8 or more;
and with 1, 2, 3 annotated slices, evenly spread, the IoU in 3-D of all slices together. Baselines:
copying the nearest annotated mask, and blending the nearest two by signed distance.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.stack import Rule, Stack, blend, propagate

GOOD = 0.8
"""IoU of a slice that needs no correction."""

_FEWEST = 4
"""Slices in which an object must be seen."""

_SMALLEST = 50
"""Pixels that it must have in the middle one."""

Volume = NDArray[Any]


def read_stacks(folder: Path) -> dict[str, tuple[Volume, Volume]]:
    """Image and labels of each stack of a data set, (slices, rows, columns)."""
    dataset = DataSet.open(folder)
    patterns = json.loads((folder / "dataset.json").read_text()).get("stacks") or {"all": "*"}
    stacks = {}
    for name, pattern in patterns.items():
        pairs = [
            dataset.pair(path.stem) for path in sorted((folder / "labels").glob(pattern + ".png"))
        ]
        images, labels = zip(*pairs, strict=True)
        stacks[name] = np.stack(images), np.stack(labels).astype(np.int32)
    return stacks


def spread(seen: Sequence[int], number: int) -> list[int]:
    """So many of some slices, evenly spread, the ends left out where possible."""
    places = (np.arange(number) + 0.5) / number * len(seen)
    return sorted({seen[int(place)] for place in places})


def copied(truth: NDArray[np.bool_], known: Sequence[int]) -> NDArray[np.bool_]:
    """Each slice like the nearest known one."""
    nearest = [min(known, key=lambda k: abs(k - z)) for z in range(len(truth))]
    return truth[nearest]


def interpolated(truth: NDArray[np.bool_], known: Sequence[int]) -> NDArray[np.bool_]:
    """Between two known slices by signed distance, beyond them like the nearest."""
    result = copied(truth, known)
    for one, two in pairwise(known):
        for z in range(one + 1, two):
            result[z] = blend(truth[one], truth[two], (z - one) / (two - one))
    return result


def iou(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    return float((one & two).sum() / max((one | two).sum(), 1))


def measure(
    predictor: Predictor, image: Volume, labels: Volume, value: int, key: str
) -> dict[str, Any] | None:
    """One object; None if it is too small or seen in too few slices."""
    truth = labels == value
    seen = [z for z in range(len(truth)) if truth[z].any()]
    if len(seen) < _FEWEST or truth[seen[len(seen) // 2]].sum() < _SMALLEST:
        return None
    part = slice(seen[0], seen[-1] + 1)
    truth, volume = truth[part], image[part]
    normalisation = (
        Normalisation.for_rgb(image.dtype) if image.ndim == 4 else Normalisation.from_array(image)
    )
    stack = Stack(predictor, volume.__getitem__, normalisation, lambda index: (key, index))
    result: dict[str, Any] = {"slices": len(truth)}
    for number in (1, 2, 3):
        known = spread([z for z in range(len(truth)) if truth[z].any()], number)
        found = np.zeros(truth.shape, np.uint8)
        for z in known:
            found[z] = truth[z]
        began = time.perf_counter()
        steps = [step for _, step in propagate(stack, found, {1: known}, "both", Rule())]
        seconds = time.perf_counter() - began
        ways = {
            "model": found > 0,
            "copy": copied(truth, known),
            "blend": interpolated(truth, known),
        }
        for name, masks in ways.items():
            result[f"{name}_{number}"] = iou(masks, truth)
            if number == 1:
                result[f"{name}_reach"] = reach(masks, truth, known[0])
        result[f"per_second_{number}"] = len(steps) / max(seconds, 1e-9)
        result[f"stopped_{number}"] = sum(step.mask is None for step in steps)
    return result


def reach(masks: NDArray[np.bool_], truth: NDArray[np.bool_], start: int) -> int:
    """Slices on both sides of `start` until the first that is not good."""
    total = 0
    for side in (range(start + 1, len(truth)), range(start)[::-1]):
        for z in side:
            if truth[z].any() and iou(masks[z], truth[z]) < GOOD:
                break
            total += 1
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["chloroplast_em", "spine_mr"])
    parser.add_argument("--model", default="default")
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.model, "cpu")
    table = {}
    for name in options.sets:
        for stack, (image, labels) in read_stacks(options.data / name).items():
            values = [int(v) for v in np.unique(labels) if v]
            rng = np.random.default_rng(options.seed)
            results = []
            for value in tqdm(rng.permutation(values), desc=f"{name} {stack}"):
                result = measure(predictor, image, labels, int(value), f"{name} {stack} {value}")
                results += [] if result is None else [result]
                if len(results) == options.objects:
                    break
            means = {key: float(np.mean([r[key] for r in results])) for key in results[0]}
            table[f"{name} {stack}"] = {"objects": len(results), **means}
            print(f"{name} {stack}: {len(results)} objects")
            for key, value in means.items():
                print(f"    {key:14} {value:.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps({"model": predictor.sha256, **table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
