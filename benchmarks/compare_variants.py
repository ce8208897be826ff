"""The paper's variants at the width of `lite`, trained alike and measured alike.

    python benchmarks/compare_variants.py train --data DATA --output runs/variants \
        [--networks tslfn-5 ssfcn fctsfn] [--seeds 0 1 2] [--steps 300] [--minutes 3]
    python benchmarks/compare_variants.py measure --data DATA --output runs/variants \
        [--sets grabcut voc] [--limit 20] [--max-clicks 10] [--minutes 20]

``train`` makes a model of every network and seed: the same pictures and clicks in the same order,
steps, input size, optimiser (AdamW) and start (ImageNet's image stream). The ``fctsfn`` is a
refiner on the ``tslfn-5`` of the same seed, which it leaves as it is, trained for as many steps
again. ``--minutes`` bounds each training; what is not complete goes on with the same command.
``measure`` evaluates all models by the paper's protocol, as ``reproduce`` does, and writes
``variants.md``; it goes on where it was, too. The decidability index is of the SSFCN and the TSLFN,
as in the paper, and has a table of its own with all settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from napari_fctsfn.evaluate.decidability import CHOICES, measured
from napari_fctsfn.reproduce.cells import Cell, Gain, cell, gain
from napari_fctsfn.reproduce.published import SET_KEYS, SET_NAMES, SetKey
from napari_fctsfn.reproduce.report import Stock
from napari_fctsfn.reproduce.runs import Runs, Wanted, deadline_after
from napari_fctsfn.reproduce.sources import find_models, find_sets
from napari_fctsfn.train import PaperSettings, train_paper_model

NETWORKS = {
    "tslfn-5": "tslfn8",
    "ssfcn": "tslfn8",
    "fctsfn": "msrn",
    "tslfn-3": "tslfn8",
    "tslfn-1": "tslfn8",
    "tslfn-4": "tslfn8",
    "tslfn-2": "tslfn8",
    "tslfn-32s": "tslfn32",
    "tslfn-minus": "tslfn32",
    "tslfn-16s": "tslfn16",
    "layerwise": "tslfn32",
}
"""Networks and the stage that trains each; the TSLFN of `lite` is its ``tslfn-5``."""


MEASURES = {"noc": "clicks", "iou1": "IoU at 1", "iou3": "IoU at 3", "iou10": "IoU at 10"}
INDEX = "free_choice_5"
INDICES = [f"{choice}_{count}" for choice in CHOICES for count in measured(choice)]
CLAIMS = (
    ("tslfn-5", "ssfcn"),
    ("fctsfn", "tslfn-5"),
    *(("tslfn-5", f"tslfn-{blocks}") for blocks in (1, 2, 3, 4)),
    ("tslfn-32s", "tslfn-minus"),
    ("tslfn-5", "tslfn-16s"),
    ("tslfn-5", "tslfn-32s"),
    ("tslfn-32s", "layerwise"),
)
"""Pairs of which the first one should be better."""


def train(options: argparse.Namespace) -> None:
    for name in options.networks:
        for seed in options.seeds:
            model = train_one(options, name, seed)
            print(f"{name} seed {seed}: {model or 'not complete: the same command goes on'}")


def train_one(options: argparse.Namespace, name: str, seed: int) -> Path | None:
    """The model of a network and a seed; None if it is not complete."""
    folder = options.output / "models" / name / f"seed{seed}"
    path = folder / f"{name}-{seed}.safetensors"
    if path.exists():
        return path
    stage, start = NETWORKS[name], "imagenet"
    variant = "tslfn-5" if name in ("fctsfn", "tslfn-32s", "tslfn-16s") else name
    if stage == "msrn":
        tslfn = train_one(options, "tslfn-5", seed)
        if tslfn is None:
            return None
        start = str(tslfn)
    settings = PaperSettings.of(
        stage,
        backbone="lite",
        optimizer="adamw",
        variant=variant,
        start=start,
        seed=seed,
        data=options.data,
        output=folder,
        set=options.set,
        steps=options.steps,
        batch=options.batch,
        input=options.input,
        augment=False,
        patience=0,
        validate_every=options.steps,
        save_every=50,
        minutes=options.minutes,
    )
    return train_paper_model(settings, f"{name}-{seed}")


def measure(options: argparse.Namespace) -> None:
    sets = {
        key: test_set
        for key, test_set in find_sets(options.data, options.limit, 0).items()
        if key in options.sets
    }
    models = find_models(options.output / "models").models
    runs = Runs(options.output / "runs", options.max_clicks, "cpu", 1)
    names = [name for name in NETWORKS if name in models]
    wanted = [
        Wanted(name, model, test_set, name in ("ssfcn", "tslfn-5"))
        for test_set in sets.values()
        for name in names
        for model in models[name]
    ]
    for line in runs.run(wanted, deadline_after(options.minutes)):
        print(line)
    text = tables(Stock(sets, models, (), runs), names)
    (options.output / "variants.md").write_text(text)
    print(text)


def tables(stock: Stock, names: list[str]) -> str:
    """Markdown: every network on every set, and the gains."""
    heads = ["network", "data set", "trainings", *MEASURES.values(), "decidability"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for key in stock.sets:
        for name in names:
            runs = stock.results(name, key)
            if isinstance(runs, str):
                lines.append(f"| {name} | {SET_NAMES[key]} | {runs} |" + " |" * (len(heads) - 3))
                continue
            cells = [str(len(runs))]
            cells += [told(cell(runs, measure, key)) for measure in (*MEASURES, INDEX)]
            lines.append(f"| {name} | {SET_NAMES[key]} | {' | '.join(cells)} |")
    heads = ["claim", "data set", "measure", "gain", "here"]
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for better, worse in CLAIMS:
        for key in stock.sets:
            lines += gains(stock, better, worse, key)
    return "\n".join([*lines, *decidability(stock)]) + "\n"


def decidability(stock: Stock) -> list[str]:
    """The index of one stream and of two (the paper's table 1); nothing if one is missing."""
    lines = []
    for key in stock.sets:
        single, double = (stock.results(name, key) for name in ("ssfcn", "tslfn-5"))
        if isinstance(single, str) or isinstance(double, str):
            continue
        for index in INDICES:
            one, two = (cell(runs, index, key) for runs in (single, double))
            found = gain(double, single, index, key)
            if one is None or two is None or found is None:
                continue
            setting, _, clicks = index.rpartition("_")
            texts = [f"{told(each)}, median {each.median:.3f}" for each in (one, two)]
            lines.append(
                f"| {SET_NAMES[key]} | {setting.replace('_', ' ')} | {clicks} | "
                f"{' | '.join(texts)} | {told(found)} | {found.verdict} |"
            )
    heads = "| data set | setting | clicks | ssfcn | tslfn-5 | gain | here |"
    return ["", heads, "|---" * 7 + "|", *lines] if lines else []


def gains(stock: Stock, better: str, worse: str, key: SetKey) -> list[str]:
    ours, theirs = stock.results(better, key), stock.results(worse, key)
    if isinstance(ours, str) or isinstance(theirs, str):
        return []
    lines = []
    for measure, title in {**MEASURES, INDEX: "decidability"}.items():
        found = gain(ours, theirs, measure, key)
        if found is not None:
            lines.append(
                f"| {better} before {worse} | {SET_NAMES[key]} | {title} | {told(found)} | "
                f"{found.verdict} |"
            )
    return lines


def told(found: Cell | Gain | None) -> str:
    if found is None:
        return "-"
    # There is no minus before a zero.
    mean = round(found.mean, 3) + 0.0
    if found.interval is None:
        return f"{mean:.3f} (one picture)"
    low, high = (round(value, 3) + 0.0 for value in found.interval)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(required=True)
    action = actions.add_parser("train")
    action.set_defaults(run=train)
    action.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    action.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    action.add_argument("--set", default="voc_subset")
    action.add_argument("--steps", type=int, default=300)
    action.add_argument("--batch", type=int, default=4)
    action.add_argument("--input", default="128x160")
    action.add_argument("--minutes", type=float)
    other = actions.add_parser("measure")
    other.set_defaults(run=measure)
    other.add_argument("--sets", nargs="+", choices=SET_KEYS, default=["grabcut", "voc"])
    other.add_argument("--limit", type=int, default=20)
    other.add_argument("--max-clicks", type=int, default=10)
    other.add_argument("--minutes", type=float)
    for each in (action, other):
        each.add_argument("--data", type=Path, required=True)
        each.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
