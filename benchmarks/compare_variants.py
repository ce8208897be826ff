"""The paper's variants at the width of `lite`, trained alike and measured alike.

    python benchmarks/compare_variants.py train --data DATA --output runs/variants \
        [--networks tslfn-5 ssfcn fctsfn] [--seeds 0 1 2] [--steps 300] [--minutes 3]
    python benchmarks/compare_variants.py measure --data DATA --output runs/variants \
        [--limit 20] [--max-clicks 10] [--minutes 20]

``train`` makes a model of every network and seed: the same pictures and clicks in the same order,
steps, input size, optimiser (AdamW) and start (ImageNet's image stream). The ``fctsfn`` is a refiner
on the ``tslfn-5`` of the same seed, which it leaves as it is, trained for as many steps again.
``--minutes`` bounds each training; what is not complete goes on with the same command. ``measure``
evaluates all models by the paper's protocol, as ``reproduce`` does, and writes one table; it goes on
where it was, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

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
    action.add_argument("--data", type=Path, required=True)
    action.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(2)
    options.run(options)


if __name__ == "__main__":
    main()
