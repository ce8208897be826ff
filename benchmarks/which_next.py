"""Does it pay to choose the next picture to annotate, or is any as good?

    python benchmarks/which_next.py --data DATA --output runs/next [--sets dsb2018] [--seeds 0 1 2]
    python benchmarks/which_next.py --data DATA --output runs/next --table

A simulated session: of a pool of pictures without masks the first is drawn by chance; the others
are drawn by chance, or ranked. Then the base is fine-tuned on all of them, and clicks are counted
on validation objects. A picture is ranked by how unlike it is to those that are chosen already
(means and deviations of the image stream's features, farthest first) times how unsure the base is
there (one less the predicted IoU, mean over a grid of clicks); or by how much nearer it is than
those chosen already to the other pictures, which count by how unsure the base is there
(``typical``: odd pictures stand for none but themselves). How many objects are in the pictures
is told too, since each of them is work. Every cell is written as soon as it is measured; the same
command goes on with what is missing, ``--table`` prints what there is.

From five pictures up one training is enough for a cell; of fewer each is held out once.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import torch
from finetune_curves import validation
from numpy.typing import NDArray

from napari_fctsfn._files import replace_file
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.models import LoadedModel, load_model, resolve_model
from napari_fctsfn.predict import Predictor
from napari_fctsfn.train.finetune import (
    FineTuneSettings,
    fine_tune,
    measure,
    pictures_of_dataset,
)

WAYS = ("chance", "unlike and unsure", "unlike", "typical")

_GRID = 4
"""Clicks along rows and columns of a picture whose predicted IoU is asked."""


def look(predictor: Predictor, image: NDArray[np.generic]) -> tuple[NDArray[np.float64], float]:
    """What a picture is like, and how unsure the model is there."""
    predictor.set_image(image)
    rows, columns = image.shape[:2]
    features = predictor.describe((0, 0, rows, columns)).astype(np.float64)
    places = [((n + 0.5) / _GRID) for n in range(_GRID)]
    quality = [
        predictor.predict(Clicks([Click(r * (rows - 1), c * (columns - 1))])).quality
        for r in places
        for c in places
    ]
    unsure = float(1 - np.mean(quality))
    return np.concatenate([features.mean(axis=(0, 1)), features.std(axis=(0, 1))]), unsure


def ranked(
    seen: list[tuple[NDArray[np.float64], float]], first: int, count: int, way: str
) -> list[int]:
    """Numbers of pictures, the first and then always the one that is worth most."""
    vectors = np.array([vector for vector, _ in seen])
    vectors = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    weight = np.ones(len(seen)) if way == "unlike" else np.array([doubt for _, doubt in seen])
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    chosen = [first]
    while len(chosen) < count:
        near = apart[chosen].min(axis=0)
        if way == "typical":
            worth = (np.maximum(near - apart, 0) * weight).sum(axis=1)
        else:
            worth = near * weight
        chosen.append(int(np.argmax(worth)))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--base", default="photo")
    parser.add_argument("--sets", nargs="+", default=["dsb2018"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pool", type=int, default=40, help="pictures to choose from")
    parser.add_argument("--images", type=int, default=5, help="pictures that are annotated")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--limit", type=int, default=60, help="validation objects")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what there is and end")
    options = parser.parse_args()
    if options.table:
        print(table(options.output))
        return
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    base = load_model(resolve_model(options.base))
    for name in options.sets:
        for seed in options.seeds:
            session(options, base, name, seed)


def table(folder: Path) -> str:
    """What there is, as Markdown, with the means over seeds."""
    lines = ["| set | way | seed | objects | NoC@85 | IoU 1 | IoU 3 |", "|---" * 7 + "|"]
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    for name, way in product(dict.fromkeys(cell["set"] for cell in cells), WAYS):
        rows = [
            [cell["objects"], *(cell["own"][part] for part in ("noc85", "iou1", "iou3"))]
            for cell in cells
            if (cell["set"], cell["way"]) == (name, way)
        ]
        seeds = [cell["seed"] for cell in cells if (cell["set"], cell["way"]) == (name, way)]
        if rows:
            rows.append(np.mean(rows, axis=0).tolist())
        for seed, (objects, noc, one, three) in zip([*seeds, "mean"], rows, strict=False):
            told = f"{objects:.0f} | {noc:.2f} | {one:.3f} | {three:.3f}"
            lines.append(f"| {name} | {way} | {seed} | {told} |")
    return "\n".join(lines)


def session(options: argparse.Namespace, base: LoadedModel, name: str, seed: int) -> None:
    """All ways to choose, from one pool and one first picture."""
    dataset = DataSet.open(options.data / name)
    stems = dataset.stems(options.data / name / "train.txt")
    drawn = np.random.default_rng(seed).permutation(len(stems))[: options.pool]
    pool = [stems[number] for number in drawn]
    predictor = Predictor(base, "cpu")
    paths = {way: options.output / f"{name}-{seed}-{way.replace(' ', '-')}.json" for way in WAYS}
    missing = [way for way in options.ways if not paths[way].exists()]
    seen = [look(predictor, dataset.pair(stem)[0]) for stem in pool] if missing else []
    for way in missing:
        path, count = paths[way], options.images
        order = list(range(count)) if way == "chance" else ranked(seen, 0, count, way)
        chosen = [pool[number] for number in order]
        listed = options.output / f"{path.stem}.txt"
        listed.write_text("\n".join(chosen) + "\n")
        pictures = pictures_of_dataset(options.data / name, listed)
        tuned = fine_tune(base, pictures, FineTuneSettings(30, seed=seed, device="cpu"))
        model = Predictor(LoadedModel(tuned.network, base.card, base.sha256), "cpu")
        own = measure(model, *validation(options.data / name, options.limit))
        found = {"set": name, "seed": seed, "way": way, "chosen": chosen, "own": asdict(own)}
        found |= {"objects": tuned.about["objects"], "steps": tuned.about["steps"]}
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1))
        print(name, seed, way, f"NoC@85 {own.noc85:.2f} IoU {own.iou1:.3f} {own.iou3:.3f}")


if __name__ == "__main__":
    main()
