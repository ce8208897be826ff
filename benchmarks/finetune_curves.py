"""Learning curves of fine-tuning: clicks on validation objects after so many corrected pictures.

    python benchmarks/finetune_curves.py --data DATA --output runs/curves --sets dsb2018 \
        --images 0 1 5 10 --seeds 0 --limit 60 --photographs 60

Every cell (set, base, pictures, seed, parts) is written as soon as it is measured; the same command
goes on with what is missing. ``--table`` prints what there is.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import torch

from napari_fctsfn._files import replace_file
from napari_fctsfn.evaluate import DataSet
from napari_fctsfn.models import LoadedModel, load_model, resolve_model
from napari_fctsfn.predict import Predictor
from napari_fctsfn.train.finetune import (
    FineTuneError,
    FineTuneSettings,
    Picture,
    fine_tune,
    measure,
    pictures_of_dataset,
)
from napari_fctsfn.train.finetune.replay import measuring_objects
from napari_fctsfn.train.finetune.split import Item


def validation(folder: Path, limit: int) -> tuple[list[Picture], list[Item]]:
    """The objects of val_objects.txt, or a random sample of them with seed 0."""
    dataset = DataSet.open(folder)
    objects = dataset.objects(folder / "val_objects.txt", limit, 0)
    stems = list(dict.fromkeys(reference.stem for reference in objects))
    pictures = []
    for stem in stems:
        image, labels = dataset.pair(stem)
        pictures.append(Picture(stem, image, labels, (), ignore=dataset.ignored(labels)))
    items = [Item(stems.index(o.stem), o.value) for o in objects]
    return pictures, sorted(items, key=lambda item: (item.picture, item.value))


def cell(arguments: argparse.Namespace, name: str, count: int, seed: int, parts: str) -> dict:
    """One fine-tuning and its measures."""
    base = load_model(resolve_model(arguments.base))
    folder = arguments.data / name
    found: dict = {"set": name, "images": count, "seed": seed, "parts": parts}
    network = base.network
    if count:
        stems = DataSet.open(folder).stems(folder / "train.txt")
        chosen = sorted(np.random.default_rng(seed).permutation(len(stems))[:count])
        listed = arguments.output / f"list-{name}-{count}-{seed}.txt"
        listed.write_text("\n".join(stems[i] for i in chosen) + "\n")
        settings = FineTuneSettings(arguments.minutes, parts, seed, device=arguments.device)
        began, processor = time.monotonic(), time.process_time()
        tuned = fine_tune(base, pictures_of_dataset(folder, listed), settings)
        found |= {
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "improved": tuned.improved,
            "held_out_before": None if tuned.before is None else asdict(tuned.before),
            "held_out_after": None if tuned.after is None else asdict(tuned.after),
            "notes": list(tuned.notes),
            "steps": tuned.about["steps"],
        }
        network = tuned.network
    predictor = Predictor(LoadedModel(network, base.card, base.sha256), arguments.device)
    measured = {
        "own": measure(predictor, *validation(folder, arguments.limit)),
        "generic": measure(predictor, *measuring_objects()),
    }
    if arguments.photographs and not count:
        # The base is the same on photographs, whatever the set.
        for path in arguments.output.glob(f"*-{Path(arguments.base).stem}-00-*.json"):
            before = json.loads(path.read_text())
            return (
                found
                | {k: asdict(v) for k, v in measured.items()}
                | {"photographs": before["photographs"]}
            )
    if arguments.photographs:
        voc = validation(arguments.data / "voc_subset", arguments.photographs)
        measured["photographs"] = measure(predictor, *voc)
    return found | {key: asdict(value) for key, value in measured.items()}


def table(folder: Path) -> str:
    """What there is, as Markdown."""
    names = "set, base, pictures, seed, parts, NoC@85, IoU 1, IoU 3, generic NoC, VOC NoC"
    head = [*names.split(", "), "processor s", "better"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for path in sorted(folder.glob("*.json")):
        row = json.loads(path.read_text())
        own = row["own"]
        voc = "" if "photographs" not in row else f"{row['photographs']['noc85']:.2f}"
        lines.append(
            f"| {row['set']} | {row['base']} | {row['images']} | {row['seed']} | {row['parts']} "
            f"| {own['noc85']:.2f} | {own['iou1']:.3f} | {own['iou3']:.3f} "
            f"| {row['generic']['noc85']:.2f} | {voc} "
            f"| {row.get('processor_seconds', '')} | {row.get('improved', '')} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--base", default="photo")
    parser.add_argument("--sets", nargs="+", default=["dsb2018", "isbi2012_em", "wbc", "usgra"])
    parser.add_argument("--images", nargs="+", type=int, default=[0, 1, 5, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--parts", nargs="+", default=["interaction"])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--limit", type=int, default=60, help="validation objects")
    parser.add_argument(
        "--photographs", type=int, default=60, help="objects of voc_subset; 0: none"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", action="store_true", help="print what there is and end")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.output))
        return
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    cells = product(arguments.images, arguments.seeds, arguments.sets, arguments.parts)
    for count, seed, name, parts in cells:
        key = f"{name}-{Path(arguments.base).stem}-{count:02d}-{seed}-{parts}"
        path = arguments.output / f"{key}.json"
        if path.exists() or (
            count == 0 and (seed, parts) != (arguments.seeds[0], arguments.parts[0])
        ):
            continue
        try:
            found = cell(arguments, name, count, seed, parts)
        except FineTuneError as error:
            print(f"{key}: {error}", flush=True)
            continue
        with replace_file(path) as temporary:
            temporary.write_text(
                json.dumps(
                    {
                        **found,
                        "base": arguments.base,
                        "minutes": arguments.minutes,
                        "threads": arguments.threads,
                        "limit": arguments.limit,
                    },
                    indent=1,
                )
            )
        print(key, found["own"], flush=True)


if __name__ == "__main__":
    main()
