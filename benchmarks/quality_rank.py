"""Does the predicted IoU tell good masks from bad ones? Its rank correlation with the true IoU.

    python benchmarks/quality_rank.py --data DATA [--model NAME] [--sets dsb2018 usgra] [--limit 40]
        [--clicks 3] [--write]

After each of the first clicks (protocol ritm) on the same validation objects, Spearman's
correlation of the predicted with the true IoU, by set and as the mean of the sets; with ``--write``
that mean goes into the card of the model file NAME as the metric ``quality_rank``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import DataSet, iou
from napari_fctsfn.models import load_model, resolve_model, save_model
from napari_fctsfn.predict import Predictor

SETS = ["voc_subset", "coco_mval", "dsb2018", "isbi2012_em", "chloroplast_em", "usgra", "spine_mr"]


def measured(predictor: Predictor, dataset: DataSet, lines: Path, limit: int, clicks: int) -> float:
    """Spearman's correlation over all first clicks on all objects."""
    predicted, true = [], []
    for reference in dataset.objects(lines, limit, 0):
        scene = dataset.scene(reference.stem)
        truth = scene.truth(reference.value)
        predictor.set_image(scene.image, key=(dataset.name, reference.stem))
        mask, made, before = np.zeros_like(truth), Clicks(), None
        for _ in range(clicks):
            click = next_click(mask, truth, made, "ritm", scene.ignore)
            if click is None:
                break
            made = made.append(click)
            before = predictor.predict(made, before, predictor.settings.raw())
            mask = before.full_mask()
            predicted.append(before.quality)
            true.append(iou(mask, truth, scene.ignore))
    return float(spearmanr(predicted, true).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--clicks", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    path = resolve_model(options.model)
    model = load_model(path)
    predictor = Predictor(model)
    found = []
    for name in options.sets:
        dataset = DataSet.open(options.data / name)
        lines = options.data / name / "val_objects.txt"
        found.append(measured(predictor, dataset, lines, options.limit, options.clicks))
        print(f"{name:16s} {found[-1]:.2f}", flush=True)
    mean = float(np.mean(found))
    print(f"{'mean':16s} {mean:.2f}")
    if options.write:
        metrics = {**model.card.metrics, "quality_rank": round(mean, 4)}
        save_model(path, model.network, model.card.model_copy(update={"metrics": metrics}))


if __name__ == "__main__":
    main()
