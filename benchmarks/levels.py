"""What the keys that grow and shrink the mask are worth after one click.

    python benchmarks/levels.py --data DATA [--model default] [--sets grabcut ...] [--limit 60]

The simulated user clicks once, then grows or shrinks the mask by the steps of the dock, in the one
direction that helps more, as long as each step gains GAIN of IoU or more. Masks are those that
users get. Of ``voc_subset`` the border band is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from napari_fctsfn import Clicks, Predictor
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.evaluate.metrics import iou
from napari_fctsfn.session.refinement import USUAL, Refinement
from napari_fctsfn.train.mixture import BANDS, MIXTURES

GAIN = 0.01
MOST = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--sets", nargs="+", default=["grabcut", *MIXTURES["default"]])
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.model)
    rows = []
    print("| set | objects | after the click | and presses | presses, mean | objects with any |")
    print("|---" * 6 + "|")
    for name, dataset, references in validation_objects(options.data, options.sets, options.limit):
        found = []
        for reference in references:
            scene = dataset.scene(reference.stem)
            truth = scene.truth(reference.value)
            predictor.set_image(scene.image, key=(name, reference.stem))
            click = next_click(np.zeros_like(truth), truth, Clicks(), ignore=scene.ignore)
            clicks = Clicks([click])
            scored = partial(score, predictor, predictor.predict(clicks), clicks, truth, scene)
            found.append(best(scored))
        values = np.array(found)
        means = [*values.mean(axis=0), (values[:, 2] > 0).mean()]
        rows.append(means)
        print(line(f"{name} | {len(found)}", means), flush=True)
    print(line("mean |", np.mean(rows, axis=0)))


def validation_objects(data: Path, sets: Sequence[str], limit: int):
    """Name, data set without its border band, and objects of each set that has a list of them."""
    for name in sets:
        dataset = replace(DataSet.open(data / name), band=BANDS.get(name, 0))
        lists = [dataset.folder / file for file in ("val_objects.txt", "all.txt")]
        listed = next((file for file in lists if file.exists()), None)
        if listed is not None:
            yield name, dataset, dataset.objects(listed, limit, 0)


def score(predictor, prediction, clicks, truth, scene, how: Refinement) -> float:
    """IoU of the mask under other settings."""
    finished = predictor.finish(prediction, clicks, how.applied(predictor.settings))
    return iou(finished.full_mask(), truth, scene.ignore)


def best(scored) -> tuple[float, float, int]:
    """IoU after the click, after the presses, and their number."""
    usual = scored(USUAL)
    ways = []
    for larger in (True, False):
        how, value, presses = USUAL, usual, 0
        while presses < MOST and (after := scored(how.sized(larger))) >= value + GAIN:
            how, value, presses = how.sized(larger), after, presses + 1
        ways.append((usual, value, presses))
    return max(ways, key=lambda way: way[1])


def line(name: str, means) -> str:
    usual, after, presses, share = means
    return f"| {name} | {usual:.3f} | {after:.3f} | {presses:.1f} | {100 * share:.0f} % |"


if __name__ == "__main__":
    main()
