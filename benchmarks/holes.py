"""What a background click well inside an object takes away, where the mask is right.

    python benchmarks/holes.py --data DATA [--model default ...] [--sets NAME ...] [--limit 60]

The simulated user clicks three times on an object, then once well inside what was found of it: on
an organelle, say. What is counted lies farther off than that can mean (`hole_click`). Of
``voc_subset`` the border band is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from levels import validation_objects

from napari_fctsfn import Clicks, Predictor
from napari_fctsfn.clicks.sampling import hole_click
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.train.mixture import MIXTURES

CLICKS = 3
MUCH = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--sets", nargs="+", default=["grabcut", *MIXTURES["default"]])
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    print(f"| model | set | objects | taken of the rest, mean | median | more than {MUCH:.0%} |")
    print("|---" * 6 + "|")
    for model in options.model:
        predictor = Predictor.from_pretrained(model)
        rows = []
        every = validation_objects(options.data, options.sets, options.limit)
        for name, dataset, references in every:
            taken = [t for each in references if (t := lost(predictor, dataset, each)) is not None]
            if taken:
                means = [np.mean(taken), np.median(taken), np.mean(np.array(taken) > MUCH)]
                rows.append(means)
                print(line(f"{name} | {len(taken)}", means, predictor.sha256), flush=True)
        print(line("mean |", np.mean(rows, axis=0), predictor.sha256), flush=True)


def lost(predictor: Predictor, dataset: DataSet, reference) -> float | None:
    """Part of what was found of an object around a hole that the click takes; None without room."""
    scene = dataset.scene(reference.stem)
    truth = scene.truth(reference.value)
    predictor.set_image(scene.image, key=(dataset.name, reference.stem))
    clicks, prediction, mask = Clicks(), None, np.zeros_like(truth)
    for _ in range(CLICKS):
        click = next_click(mask, truth, clicks, ignore=scene.ignore)
        if click is None:
            break
        clicks = clicks.append(click)
        prediction = predictor.predict(clicks, prediction)
        mask = prediction.full_mask()
    found = hole_click(mask, truth, clicks, np.random.default_rng(0))
    if found is None:
        return None
    click, reach = found
    after = predictor.predict(clicks.append(click), prediction).full_mask()
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    rest = mask & truth & (np.hypot(rows - click.row, columns - click.column) > reach)
    return float((rest & ~after).sum() / rest.sum())


def line(about: str, means, sha256: str) -> str:
    mean, median, much = means
    return f"| {sha256[:8]} | {about} | {mean:.2f} | {median:.2f} | {much:.0%} |"


if __name__ == "__main__":
    main()
