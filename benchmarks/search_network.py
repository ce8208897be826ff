"""What should the click path be? Short trainings of networks that differ in one thing each.

    python benchmarks/search_network.py train --data DATA --output runs/search \
        [--networks base wide disks ...] [--steps 300] [--seed 0] [--size 192]
    python benchmarks/search_network.py table --output runs/search [--last 100] [--input 320]

``train`` gives every network the same crops in the same order, the same recipe (modern, no late
steps) and the same start: the image stream of ``default``, all else random. Nothing is learned from
a crop before it is scored, so that the IoU of the last steps after one, two and three clicks is one
on unseen crops. ``table`` adds what a picture and a click cost on this machine (medians, the
networks in turn) and what each network gains against the first one, paired step by step, with
95 % intervals. Networks without a refiner are compared with the first of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from napari_fctsfn.evaluate import ObjectReference, paired_difference
from napari_fctsfn.models import load_model, resolve_model
from napari_fctsfn.network import NetworkConfig, build_network, interaction_maps
from napari_fctsfn.network.counts import parameter_count
from napari_fctsfn.predict.engine import Engine
from napari_fctsfn.train.card import write_model
from napari_fctsfn.train.modern import TrainSettings, train_model
from napari_fctsfn.train.start import load_timm

NETWORKS = {
    "base": NetworkConfig(),
    "narrow": NetworkConfig(interaction_channels=(8, 12, 16, 32, 64)),
    "wide": NetworkConfig(interaction_channels=(32, 48, 64, 128, 256)),
    "depth 1": NetworkConfig(interaction_depth=1),
    "depth 3": NetworkConfig(interaction_depth=3),
    "distance": NetworkConfig(encoding="distance"),
    "bounded": NetworkConfig(encoding="bounded"),
    "disks": NetworkConfig(encoding="disks"),
    "to stride 2": NetworkConfig(bottleneck_channels=(48, 32, 24)),
    "to stride 4": NetworkConfig(bottleneck_channels=(48, 32)),
    "stride 8": NetworkConfig(stride=8),
    "stride 8, blocks": NetworkConfig(stride=8, refiner_blocks=1),
    "no refiner": NetworkConfig(bottleneck_channels=()),
    "no refiner, 4 blocks": NetworkConfig(
        bottleneck_channels=(), stream_blocks=4, interaction_channels=(16, 24, 32, 64)
    ),
    "no refiner, 3 blocks": NetworkConfig(
        bottleneck_channels=(), stream_blocks=3, interaction_channels=(16, 24, 32)
    ),
}


def folder_of(output: Path, name: str) -> Path:
    """Where a network is trained."""
    return output / name.replace(", ", "-").replace(" ", "-")


def train(options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    default = load_model(resolve_model("default")).network.state_dict()
    prefix = "image_stream.backbone."
    pyramid = options.output / "pyramid.safetensors"
    save_file(
        {
            key.removeprefix(prefix): value.contiguous()
            for key, value in default.items()
            if key.startswith(prefix)
        },
        pyramid,
    )
    for name in options.networks:
        folder = folder_of(options.output, name)
        folder.mkdir(exist_ok=True)
        start = folder / "start.safetensors"
        if not start.exists():
            torch.manual_seed(options.seed)
            network = build_network(NETWORKS[name])
            load_timm(network, pyramid)
            write_model(folder, "start", network, recipe="none", settings={}, learned=[])
        settings = TrainSettings(
            data=options.data,
            output=folder,
            steps=options.steps,
            size=options.size,
            late=0.0,
            seed=options.seed,
            network=NETWORKS[name],
            start=str(start),
        )
        if not (folder / "search.safetensors").exists():
            train_model(settings, "search")
        print(name, "trained", flush=True)


def last_ious(folder: Path, last: int) -> list[dict[ObjectReference, float]]:
    """IoU of each of the last steps after one, two and three clicks."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        {ObjectReference(str(line["step"]), 0): line["iou"][state] for line in lines[-last:]}
        for state in range(3)
    ]


def table(options: argparse.Namespace) -> None:
    found = {}
    for name in NETWORKS:
        folder = folder_of(options.output, name)
        if (folder / "search.safetensors").exists():
            found[name] = folder
    costs = times(list(found), options.input, options.rounds)
    heads = [
        "network",
        "parameters",
        "image",
        "click",
        "IoU at 1, 2, 3 clicks",
        "gain at 1",
        "at 3",
    ]
    print("| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", sep="\n")
    for name, folder in found.items():
        own = last_ious(folder, options.last)
        cells = [name, f"{sum(parameter_count(NETWORKS[name]).values()) / 1e6:.2f} M"]
        cells += [f"{cost:.1f} ms" for cost in costs[name]]
        cells.append(", ".join(f"{np.mean(list(ious.values())):.3f}" for ious in own))
        base = "base" if NETWORKS[name].refines else "no refiner"
        if name == base or base not in found:
            cells += ["", ""]
        else:
            other = last_ious(found[base], options.last)
            for state in (0, 2):
                gain = paired_difference(own[state], other[state], 0)
                low, high = gain.interval or (np.nan, np.nan)
                cells.append(f"{gain.mean:+.3f} ({low:.3f} to {high:.3f})")
        print("| " + " | ".join(cells) + " |")


def times(names: list[str], size: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of a picture and of a click, medians."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, size, size)
    clicks = torch.tensor([[[size / 2, size / 2], [size / 4, size / 3]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    maps = interaction_maps(clicks, torch.tensor([[True, False]]), both, (size, size))
    maps = torch.cat([maps, torch.zeros(1, 1, size, size)], dim=1)
    engines = {
        name: Engine(build_network(NETWORKS[name]).eval(), torch.device("cpu"), size)
        for name in names
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name, engine in engines.items():
            began = time.perf_counter()
            features = engine.features(turn, lambda: image)
            encoded = time.perf_counter()
            engine.look(features, maps)
            spent[name].append((encoded - began, time.perf_counter() - encoded))
    medians = {}
    for name, pairs in spent.items():
        image_ms, click_ms = (statistics.median(part) * 1e3 for part in zip(*pairs, strict=True))
        medians[name] = image_ms, click_ms
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    training.add_argument("--steps", type=int, default=300)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--size", type=int, default=192)
    training.set_defaults(run=train)
    tabling = commands.add_parser("table")
    tabling.add_argument("--input", type=int, default=320)
    tabling.add_argument("--rounds", type=int, default=30)
    tabling.add_argument("--last", type=int, default=100)
    tabling.set_defaults(run=table)
    for command in (training, tabling):
        command.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
