"""Write what `evaluate` measured into the card of a model file.

    python benchmarks/write_metrics.py MODEL.safetensors RESULTS/grabcut RESULTS/voc_subset ...

Each folder is one that `napari-fctsfn evaluate` wrote; its name becomes part of the metric's. The
weights stay bit for bit, the file's SHA-256 changes with the card.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from napari_fctsfn.models import load_model, save_model

REPORTED = ("noc85", "noc90", "miou1", "miou3", "miou5")


def main() -> None:
    path, *folders = map(Path, sys.argv[1:])
    model = load_model(path)
    metrics = dict(model.card.metrics)
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        name = f"{folder.name}/{summary['protocol']}"
        # a mean number of clicks says little where nobody clicked twenty times
        keys = REPORTED if summary["miou20"] is not None else REPORTED[2:]
        metrics |= {f"{name}/{key}": round(summary[key], 4) for key in keys}
    save_model(path, model.network, model.card.model_copy(update={"metrics": metrics}))
    print(f"{path}: {len(metrics)} metrics, SHA-256 {load_model(path).sha256}")


if __name__ == "__main__":
    main()
