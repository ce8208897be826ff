"""Does a switch earn its place? Paired gains on validation objects, with 95 % intervals.

    python benchmarks/switches.py --data DATA --switch consistent=off --switch graph_cut=on \
        [--switch windows._MARGIN=1.4] [--sets voc_subset dsb2018] [--limit 40] [--model NAME]

Every switch is compared with the predictor's defaults on the same objects (protocol ritm, 20
clicks). A gain is positive where the switch saves clicks or raises the IoU; the intervals are
bootstraps over pictures, drawn within each set, and ``all`` weighs every set alike. A name of
`Settings` is on or off or a number; ``windows.NAME``, ``looks.NAME`` and ``predictor.NAME`` are
numbers of those modules.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from napari_fctsfn.evaluate import (
    DataSet,
    Difference,
    ObjectReference,
    ObjectResult,
    evaluate_objects,
    number_of_clicks,
    paired_difference,
)
from napari_fctsfn.predict import Predictor, Settings, looks, predictor, windows

SETS = [
    *("voc_subset", "coco_mval", "dsb2018", "isbi2012_em", "axon_sem", "chloroplast_em"),
    *("usgra", "spine_mr", "pfc_neurons", "wbc"),
]
MEASURES = ("noc85", "noc90", "iou1", "iou3", "iou5")

_NONE = (math.nan, math.nan)
"""The interval of a set with one picture."""

Measured = dict[str, dict[ObjectReference, float]]
"""Of every measure the value for each object."""


def measured(results: list[ObjectResult]) -> Measured:
    """What is compared, larger being better."""
    found: Measured = {name: {} for name in MEASURES}
    for result in results:
        noc = [-float(number_of_clicks(result.ious, threshold)[0]) for threshold in (0.85, 0.9)]
        values = noc + [result.ious[count - 1] for count in (1, 3, 5)]
        for name, value in zip(MEASURES, values, strict=True):
            found[name][result.reference] = value
    return found


@contextmanager
def switched(name: str, value: str) -> Iterator[Settings]:
    """Settings, and for a while constants, with one switch set."""
    settings = Settings().raw()
    place, _, constant = name.rpartition(".")
    if not place:
        kinds = {field.name: type(field.default) for field in fields(Settings)}
        parsed = value in ("on", "true", "1") if kinds[name] is bool else float(value)
        yield replace(settings, **{name: parsed})
        return
    module = {"windows": windows, "predictor": predictor, "looks": looks}[place]
    before = getattr(module, constant)
    setattr(module, constant, type(before)(float(value)))
    try:
        yield settings
    finally:
        setattr(module, constant, before)


def run(
    model: str, data: Path, sets: list[str], limit: int, settings: Settings, what: str
) -> dict[str, Measured]:
    """Measures of every object, by set."""
    fresh = Predictor.from_pretrained(model)
    found = {}
    for name in sets:
        dataset = DataSet.open(data / name)
        objects = dataset.objects(data / name / "val_objects.txt", limit, 0)
        runs = evaluate_objects(fresh, dataset, objects, "ritm", 20, settings)
        results = list(tqdm(runs, total=len(objects), desc=f"{what} {name}", leave=False))
        found[name] = measured(results)
    return found


def gains_of(other: dict[str, Measured], base: dict[str, Measured]) -> dict[str, list[Difference]]:
    """Gains of every measure, by set, and over all sets alike."""
    gains = {
        name: [
            paired_difference(values[measure], base[name][measure], seed) for measure in MEASURES
        ]
        for seed, (name, values) in enumerate(other.items())
    }
    gains["all"] = [Difference.averaged(parts) for parts in zip(*gains.values(), strict=True)]
    return gains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--switch", action="append", required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shared = options.model, options.data, options.sets, options.limit
    base = run(*shared, Settings().raw(), "defaults")
    report = {}
    print(f"{'switch':28s} {'set':15s} " + " ".join(f"{name:>22s}" for name in MEASURES))
    for switch in options.switch:
        name, _, value = switch.partition("=")
        with switched(name, value) as settings:
            other = run(*shared, settings, switch)
        gains = gains_of(other, base)
        for set_name, row in gains.items():
            cells = [
                "{:+.3f} ({:+.3f} {:+.3f})".format(gain.mean, *(gain.interval or _NONE))
                for gain in row
            ]
            print(f"{switch:28s} {set_name:15s} " + " ".join(f"{cell:>22s}" for cell in cells))
        report[switch] = {
            set_name: {
                measure: [gain.mean, *(gain.interval or (None, None))]
                for measure, gain in zip(MEASURES, row, strict=True)
            }
            for set_name, row in gains.items()
        }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
