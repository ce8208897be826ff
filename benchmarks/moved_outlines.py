"""How many clicks `voc_subset` takes if outlines are moved to where its labels end.

    python benchmarks/moved_outlines.py --data DATA [--model default] [--set voc_subset]

Clicks to 85 % and 90 % of a user who sees, and corrects, the mask after it was changed with what
nobody can know: grown or shrunk by the number of pixels (-4 to 4) that suits the object best, or
without all that lies within `--band` pixels outside the object.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn import Clicks, Predictor
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.evaluate.metrics import iou
from napari_fctsfn.evaluate.runner import protocol_settings

Mask = NDArray[np.bool_]

CLICKS = 20
MOST = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--set", default="voc_subset")
    parser.add_argument("--band", type=int, default=4)
    parser.add_argument("--limit", type=int, default=60)
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.model)
    dataset = DataSet.open(options.data / options.set)
    references = dataset.objects(dataset.folder / "val_objects.txt", options.limit, 0)
    changes: dict[str, Callable[[Mask, Mask], Mask]] = {
        "as it is": lambda mask, _truth: mask,
        "grown or shrunk as suits best": moved,
        f"{options.band} pixels about the object known": lambda mask, truth: (
            mask & (truth | (distance_transform_edt(~truth) > options.band))
        ),
    }
    print("| mask | clicks to 85 % | to 90 % | never at 85 % |")
    print("|---" * 4 + "|")
    for name, change in changes.items():
        needed = np.array([clicks_needed(predictor, dataset, one, change) for one in references])
        to85, to90 = np.minimum(needed, CLICKS).mean(axis=0)
        never = (needed[:, 0] > CLICKS).mean()
        print(f"| {name} | {to85:.2f} | {to90:.2f} | {100 * never:.0f} % |", flush=True)


def moved(mask: Mask, truth: Mask) -> Mask:
    """The mask grown or shrunk by the whole number of pixels that makes it most like the truth."""
    if not mask.any() or mask.all():
        return mask
    # whole numbers lie between pixels, so that 0 is the mask itself
    inside = np.where(mask, distance_transform_edt(mask) - 0.5, 0.5 - distance_transform_edt(~mask))
    return max((inside > by for by in range(-MOST, MOST + 1)), key=lambda one: iou(one, truth))


def clicks_needed(predictor, dataset, reference, change) -> tuple[int, int]:
    """Clicks to 85 % and to 90 %; one more than there are where that is never reached."""
    scene = dataset.scene(reference.stem)
    truth = scene.truth(reference.value)
    predictor.set_image(scene.image, key=(dataset.name, reference.stem))
    settings = protocol_settings(predictor.settings, "ritm")
    clicks, mask, before, found = Clicks(), np.zeros_like(truth), None, []
    while len(clicks) < CLICKS and (click := next_click(mask, truth, clicks)) is not None:
        clicks = Clicks([*clicks, click])
        before = predictor.predict(clicks, before, settings)
        mask = change(before.full_mask(), truth)
        found.append(iou(mask, truth))
    first85, first90 = (
        next((n for n, value in enumerate(found, 1) if value >= level), CLICKS + 1)
        for level in (0.85, 0.9)
    )
    return first85, first90


if __name__ == "__main__":
    main()
