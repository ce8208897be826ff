"""Learning curves of fine-tuning: clicks on validation objects after so many corrected pictures.

    python benchmarks/finetune_curves.py --data DATA --output runs/curves --sets dsb2018 \
        --images 0 1 5 10 --seeds 0 --limit 60 --photographs 60

Every cell (set, base, pictures, seed, parts) is written as soon as it is measured; the same command
goes on with what is missing. ``--table`` prints what there is, ``--plot FILE`` draws it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
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


def grouped(folder: Path) -> dict[tuple[str, str, str], dict[int, list[dict]]]:
    """Cells by base, set and parts, then by the number of pictures, one for each seed."""
    found: dict[tuple[str, str, str], dict[int, list[dict]]] = {}
    for path in sorted(folder.glob("*.json")):
        row = json.loads(path.read_text())
        counts = found.setdefault((row["base"], row["set"], row["parts"]), {})
        counts.setdefault(row["images"], []).append(row)
    return found


def spread(rows: list[dict], value: Callable[[dict], float], digits: int) -> str:
    """Mean over seeds, and in parentheses the least and the greatest where there are several."""
    values = [value(row) for row in rows]
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(folder: Path) -> str:
    """What there is, as Markdown: means over seeds, least and greatest in parentheses."""
    head = [
        *("base", "set", "parts", "pictures", "seeds", "NoC@85", "fewer", "IoU 1", "IoU 3"),
        *("generic NoC", "VOC NoC", "steps", "processor minutes"),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for (base, name, parts), counts in grouped(folder).items():
        for count, rows in sorted(counts.items()):
            before = _own(folder, base, name)
            fewer = "" if before is None or not count else f"{1 - _mean(rows) / before:.0%}"
            told = [base, name, parts, str(count), str(len(rows))]
            told += [spread(rows, lambda row: row["own"]["noc85"], 2), fewer]
            told += [spread(rows, lambda row, k=k: row["own"][k], 3) for k in ("iou1", "iou3")]
            told += [spread(rows, lambda row: row["generic"]["noc85"], 2)]
            told += [spread(rows, lambda row: row["photographs"]["noc85"], 2)]
            if count:
                told += [spread(rows, lambda row: row["steps"], 0)]
                told += [spread(rows, lambda row: row["processor_seconds"] / 60, 1)]
            lines.append("| " + " | ".join(told + [""] * (len(head) - len(told))) + " |")
    return "\n".join(lines)


def _mean(rows: list[dict]) -> float:
    return float(np.mean([row["own"]["noc85"] for row in rows]))


def _own(folder: Path, base: str, name: str) -> float | None:
    """Clicks on a set before anything was learned."""
    for (its, own, _), counts in grouped(folder).items():
        if (its, own) == (base, name) and 0 in counts:
            return _mean(counts[0])
    return None


def plot(folder: Path, path: Path, parts: str) -> None:
    """A curve of each set and base: clicks against pictures, every seed as a dot."""
    from matplotlib.figure import Figure

    found = {key: rows for key, rows in grouped(folder).items() if key[2] == parts}
    names = list(dict.fromkeys(name for _, name, _ in found))
    figure = Figure(figsize=(3 * len(names), 3), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)
    colours = dict(zip(dict.fromkeys(base for base, _, _ in found), ("C0", "C1"), strict=False))
    for (base, name, _), counts in found.items():
        axis = axes[0, names.index(name)]
        dots = [(count, row["own"]["noc85"]) for count, rows in counts.items() for row in rows]
        axis.scatter(*zip(*dots, strict=True), s=12, alpha=0.5, color=colours[base])
        curve = sorted((count, _mean(rows)) for count, rows in counts.items())
        axis.plot(*zip(*curve, strict=True), color=colours[base], label=f"from {base}")
        axis.set(title=name, xlabel="corrected pictures", xticks=sorted(counts))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("clicks to 85 % IoU")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, -1].legend()
    figure.savefig(path, dpi=120)


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
    parser.add_argument("--plot", type=Path, help="draw what there is into this file and end")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.output))
    if arguments.plot:
        plot(arguments.output, arguments.plot, arguments.parts[0])
    if arguments.table or arguments.plot:
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
