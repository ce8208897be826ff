"""How many nuclei `find_similar` finds once a few of an image are accepted, and how many are right.

    python benchmarks/similar.py DATA [--images 30] [--accepted 3] [--list val.txt] [--seed 0]

The accepted ones are true masks, drawn by chance; images with fewer than eight nuclei of 30 pixels
or more are left out. A proposal is right if it has an IoU of 0.5 or more with a nucleus that was
not accepted and that no other proposal has found. Precision and recall are of all images together.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.predict import Predictor
from napari_fctsfn.predict.region import Region
from napari_fctsfn.predict.similar import find_similar

_FEWEST = 8
_SMALLEST = 30
_RIGHT = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="dsb2018")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--accepted", type=int, default=3)
    parser.add_argument("--list", default="val.txt")
    parser.add_argument("--model", default="default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = options.data / options.set
    dataset = DataSet.open(folder)
    rng = np.random.default_rng(options.seed)
    stems = sorted({line.split()[0] for line in (folder / options.list).open()})
    predictor = Predictor.from_pretrained(options.model, "cpu")
    scores, there, images, seconds = [], 0, 0, 0.0
    for stem in tqdm(rng.permutation(stems)):
        image, labels = dataset.pair(str(stem))
        values = [int(v) for v in np.unique(labels) if v and (labels == v).sum() >= _SMALLEST]
        if len(values) < _FEWEST:
            continue
        chosen = rng.choice(values, options.accepted, replace=False)
        whole = (0, 0, *labels.shape)
        accepted = [Region.of(labels == value, whole) for value in chosen]
        predictor.set_image(image, key=str(stem))
        began = time.perf_counter()
        found = list(find_similar(predictor, accepted, np.isin(labels, chosen)))
        seconds += time.perf_counter() - began
        rest = set(values) - {int(value) for value in chosen}
        there += len(rest)
        for proposal in (step.proposal for step in found if step.proposal is not None):
            part = labels[proposal.bbox[0] : proposal.bbox[2], proposal.bbox[1] : proposal.bbox[3]]
            counts = np.bincount(part[proposal.mask], minlength=1)
            counts[0] = 0
            value = int(counts.argmax())
            union = (labels == value).sum() + proposal.mask.sum() - counts[value]
            right = value in rest and counts[value] / union >= _RIGHT
            rest -= {value} if right else set()
            scores.append((proposal.score, right))
        images += 1
        if images == options.images:
            break
    table = np.array(scores, float)
    print(f"{images} images, {there} nuclei to find, {seconds / images:.1f} s for an image")
    print("least score  proposals  precision  recall")
    for least in (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        kept = table[table[:, 0] >= least]
        print(
            f"{least:11.1f}  {len(kept):9d}  {kept[:, 1].mean():9.3f}  "
            f"{kept[:, 1].sum() / there:6.3f}"
        )


if __name__ == "__main__":
    main()
