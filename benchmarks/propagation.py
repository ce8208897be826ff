"""How far objects of labelled stacks are followed, and how well, beside copying and interpolation.

    python benchmarks/propagation.py DATA [--sets chloroplast_em spine_mr isbi2012_em]
        [--model NAME] [--objects 20] [--json FILE]

For each object of a stack whose labels are linked:

- with 1, 2, 3 annotated slices (true masks, evenly spread) the IoU in 3-D of all slices together,
  and how many slices in a row around a single one have an IoU of 0.8 or more, against copying the
  nearest annotated mask and blending the nearest two by signed distance;
- slices for each click of a simulated annotator, who clicks in the middle slice until the mask is
  good, has it propagated, goes to the first slice that is not good, clicks there until it is, and
  so on; against the same with each mask copied from the slice before, and each slice by itself.

Where labels are not linked (`isbi2012_em`), each object is followed by one slice, from its true
mask to the object that overlaps most with it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.predict import Normalisation, Prediction, Predictor
from napari_fctsfn.stack import Rule, Stack, blend, propagate

GOOD = 0.8
"""IoU of a slice that needs no correction."""

CLICKED = 0.85
"""IoU up to which the simulated annotator clicks in a slice."""

PATIENCE = 10
"""Clicks in a slice after which the simulated annotator paints it by hand."""

WAYS = ("model", "copy", "alone")
"""Where the mask of a slice comes from that nobody has clicked in: followed, that of the slice
before, none."""

_FEWEST = 4
"""Slices in which an object must be seen."""

_SMALLEST = 50
"""Pixels that it must have in the middle one."""

Volume = NDArray[Any]
Mask = NDArray[np.bool_]


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


def copied(truth: Mask, known: Sequence[int]) -> Mask:
    """Each slice like the nearest known one."""
    nearest = [min(known, key=lambda k: abs(k - z)) for z in range(len(truth))]
    return truth[nearest]


def interpolated(truth: Mask, known: Sequence[int]) -> Mask:
    """Between two known slices by signed distance, beyond them like the nearest."""
    result = copied(truth, known)
    for one, two in pairwise(known):
        for z in range(one + 1, two):
            result[z] = blend(truth[one], truth[two], (z - one) / (two - one))
    return result


def iou(one: Mask, two: Mask) -> float:
    return float((one & two).sum() / max((one | two).sum(), 1))


class Bench:
    """Slices of one stack, for the measurements."""

    def __init__(self, predictor: Predictor, name: str, image: Volume, labels: Volume) -> None:
        self.predictor, self.name, self.image, self.labels = predictor, name, image, labels
        colours = image.ndim == 4
        self.normalisation = (
            Normalisation.for_rgb(image.dtype) if colours else Normalisation.from_array(image)
        )

    def key(self, index: int) -> tuple[str, int]:
        return self.name, index

    def part(self, value: int) -> slice | None:
        """Slices in which an object is seen; None if too few, with gaps, or if it is too small."""
        seen = np.flatnonzero((self.labels == value).any(axis=(1, 2)))
        if len(seen) < _FEWEST or np.ptp(seen) >= len(seen):
            return None
        if (self.labels[seen[len(seen) // 2]] == value).sum() < _SMALLEST:
            return None
        return slice(int(seen[0]), int(seen[-1]) + 1)

    def stack(self, part: slice) -> Stack:
        """The slices of a part, counted from its first."""
        image, first = self.image[part], part.start
        return Stack(
            self.predictor, image.__getitem__, self.normalisation, lambda z: self.key(first + z)
        )

    def linked(self, value: int, part: slice) -> dict[str, float]:
        """The figures of one object from true masks."""
        truth = self.labels[part] == value
        result: dict[str, float] = {"slices": len(truth)}
        for number in (1, 2, 3):
            known = spread(range(len(truth)), number)
            found = np.zeros(truth.shape, np.uint8)
            found[known] = truth[known]
            began = time.perf_counter()
            steps = [
                step for _, step in propagate(self.stack(part), found, {1: known}, "both", Rule())
            ]
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


class Annotator:
    """Somebody who wants all slices of an object, and clicks where a mask is not good."""

    def __init__(self, bench: Bench, value: int, part: slice, way: str) -> None:
        self.bench, self.part, self.way = bench, part, way
        self.truth = bench.labels[part] == value
        self.clicks = self.painted = 0

    def work(self) -> None:
        middle = len(self.truth) // 2
        first = self.clicked(middle, None)
        self.onward(first, middle, range(middle + 1, len(self.truth)))
        self.onward(first, middle, range(middle)[::-1])

    def clicked(self, z: int, start: Mask | None) -> Mask:
        """Clicks in a slice until its mask is good."""
        bench, truth = self.bench, self.truth[z]
        place = self.part.start + z
        bench.predictor.set_image(bench.image[place], bench.normalisation, bench.key(place))
        mask = np.zeros_like(truth) if start is None else start
        before: Prediction | Mask | None = start
        made = Clicks()
        while iou(mask, truth) < CLICKED:
            click = next_click(mask, truth, made)
            if click is None or len(made) == PATIENCE:
                self.painted += 1
                mask = truth
                break
            made = made.append(click)
            before = bench.predictor.predict(made, before)
            mask = before.full_mask()
        self.clicks += len(made)
        return mask

    def onward(self, mask: Mask, z: int, rest: Sequence[int]) -> None:
        """All further slices of one side, with corrections where they are due."""
        while rest:
            done = 0
            for index, proposed in zip(rest, self.proposed(mask, z, rest), strict=False):
                done += 1
                if proposed is None or iou(proposed, self.truth[index]) < GOOD:
                    mask, z = self.clicked(index, proposed), index
                    break
            rest = rest[done:]

    def proposed(self, mask: Mask, z: int, rest: Sequence[int]) -> Iterator[Mask | None]:
        """What is there in each slice before anybody has clicked in it."""
        if self.way == "model":
            for step in self.bench.stack(self.part).follow(mask, z, rest):
                yield step.mask
        elif self.way == "copy":
            yield from (mask for _ in rest)
        yield from (None for _ in rest)


def reach(masks: Mask, truth: Mask, start: int) -> int:
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
    parser.add_argument("--sets", nargs="+", default=["chloroplast_em", "spine_mr", "isbi2012_em"])
    parser.add_argument("--model", default="default")
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.model, "cpu")
    table: dict[str, Any] = {"model": predictor.sha256}
    for name in options.sets:
        linked = json.loads((options.data / name / "dataset.json").read_text())["linked"]
        for stack, (image, labels) in read_stacks(options.data / name).items():
            bench = Bench(predictor, f"{name} {stack}", image, labels)
            rng = np.random.default_rng(options.seed)
            measured = of_objects if linked else pairs
            results = measured(bench, options.objects, rng)
            row = {key: float(np.mean([r[key] for r in results])) for key in results[0]}
            for way in WAYS if linked else ():
                row[f"slices_per_click_{way}"] = row["slices"] / row[f"clicks_{way}"]
            table[bench.name] = {"objects": len(results), **row}
            print(f"{bench.name}, {image.shape[1]} x {image.shape[2]}: {len(results)} objects")
            for key, mean in row.items():
                print(f"    {key:14} {mean:.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=2) + "\n")


def of_objects(bench: Bench, objects: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """The figures of so many objects of a stack with linked labels."""
    results: list[dict[str, float]] = []
    for value in tqdm(rng.permutation(np.unique(bench.labels)), desc=bench.name):
        part = bench.part(int(value)) if value else None
        if part is None:
            continue
        result = bench.linked(int(value), part)
        for way in WAYS:
            user = Annotator(bench, int(value), part, way)
            user.work()
            result[f"clicks_{way}"], result[f"painted_{way}"] = user.clicks, user.painted
        results.append(result)
        if len(results) == objects:
            break
    return results


def pairs(bench: Bench, objects: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Objects of single slices, followed by one slice."""
    results = []
    for z in range(len(bench.image) - 1):
        values = [int(v) for v in np.unique(bench.labels[z]) if v]
        for value in rng.permutation(values)[: max(objects // 10, 1)]:
            before = bench.labels[z] == value
            inside = bench.labels[z + 1][before]
            if before.sum() < _SMALLEST or not inside.any():
                continue
            truth = bench.labels[z + 1] == np.bincount(inside[inside > 0]).argmax()
            if iou(before, truth) < 0.3:
                continue
            step = next(bench.stack(slice(z, z + 2)).follow(before, 0, [1]))
            found = iou(step.mask, truth) if step.mask is not None else 0.0
            copy = iou(before, truth)
            results.append(
                {
                    "accepted": float(step.mask is not None),
                    "model": found,
                    "copy": copy,
                    "model_good": float(found >= GOOD),
                    "copy_good": float(copy >= GOOD),
                }
            )
    return results


if __name__ == "__main__":
    main()
