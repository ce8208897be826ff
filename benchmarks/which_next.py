"""Does it pay to choose the next picture to annotate, or is any as good?

    python benchmarks/which_next.py --data DATA --output runs/next [--sets dsb2018] [--seeds 0 1 2]

A simulated session: of a pool of pictures without masks the first is drawn by chance; the others
are drawn by chance, or ranked. Then the base is fine-tuned on all of them, and clicks are counted
on validation objects. A picture is ranked by how unlike it is to those that are chosen already
(means and deviations of the image stream's features, farthest first) times how unsure the base is
there (one less the predicted IoU, mean over a grid of clicks). Every cell is written as soon as it
is measured; the same command goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
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
    seen: list[tuple[NDArray[np.float64], float]], first: int, count: int, unsure: bool
) -> list[int]:
    """Numbers of pictures, the first and then always the one that is worth most."""
    vectors = np.array([vector for vector, _ in seen])
    vectors = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    weight = np.array([doubt for _, doubt in seen]) if unsure else np.ones(len(seen))
    chosen = [first]
    while len(chosen) < count:
        near = np.min([np.linalg.norm(vectors - vectors[each], axis=1) for each in chosen], axis=0)
        chosen.append(int(np.argmax(near * weight)))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--base", default="photo")
    parser.add_argument("--sets", nargs="+", default=["dsb2018"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pool", type=int, default=40, help="pictures to choose from")
    parser.add_argument("--images", type=int, default=4, help="pictures that are annotated")
    parser.add_argument("--limit", type=int, default=60, help="validation objects")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    base = load_model(resolve_model(options.base))
    for name in options.sets:
        for seed in options.seeds:
            session(options, base, name, seed)


def session(options: argparse.Namespace, base: LoadedModel, name: str, seed: int) -> None:
    """All ways to choose, from one pool and one first picture."""
    dataset = DataSet.open(options.data / name)
    stems = dataset.stems(options.data / name / "train.txt")
    drawn = np.random.default_rng(seed).permutation(len(stems))[: options.pool]
    pool = [stems[number] for number in drawn]
    predictor = Predictor(base, "cpu")
    seen = [look(predictor, dataset.pair(stem)[0]) for stem in pool]
    ways: dict[str, Callable[[], list[int]]] = {
        "chance": lambda: list(range(options.images)),
        "unlike": lambda: ranked(seen, 0, options.images, unsure=False),
        "unlike and unsure": lambda: ranked(seen, 0, options.images, unsure=True),
    }
    for way, choose in ways.items():
        path = options.output / f"{name}-{seed}-{way.replace(' ', '-')}.json"
        if path.exists():
            continue
        chosen = [pool[number] for number in choose()]
        listed = options.output / f"{path.stem}.txt"
        listed.write_text("\n".join(chosen) + "\n")
        pictures = pictures_of_dataset(options.data / name, listed)
        tuned = fine_tune(base, pictures, FineTuneSettings(30, seed=seed, device="cpu"))
        model = Predictor(LoadedModel(tuned.network, base.card, base.sha256), "cpu")
        own = measure(model, *validation(options.data / name, options.limit))
        found = {"set": name, "seed": seed, "way": way, "chosen": chosen, "own": asdict(own)}
        with replace_file(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1))
        print(name, seed, way, f"NoC@85 {own.noc85:.2f} IoU {own.iou1:.3f} {own.iou3:.3f}")


if __name__ == "__main__":
    main()
