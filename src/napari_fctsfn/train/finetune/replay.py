"""Pictures that come with the package, so that a model does not forget what it could."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np

from napari_fctsfn.predict.images import read_image, read_labels
from napari_fctsfn.train.finetune.pictures import Picture
from napari_fctsfn.train.finetune.split import Item


def _folder() -> Path:
    return Path(str(files("napari_fctsfn"))) / "data" / "replay"


def replay_pictures() -> list[Picture]:
    """Pictures to replay; they have no masks, since the base is the teacher on them."""
    return [
        Picture(path.stem, image, np.zeros(image.shape[:2], dtype=np.int64), (), source="replay")
        for path in sorted((_folder() / "images").iterdir())
        if not (_folder() / "labels" / f"{path.stem}.png").exists()
        for image in [read_image(path)]
    ]


def measuring_objects() -> tuple[list[Picture], list[Item]]:
    """Other pictures with true masks, and the objects by which forgetting is measured."""
    listed = json.loads((_folder() / "objects.json").read_text(encoding="utf-8"))
    pictures, items = [], []
    for place, (name, values) in enumerate(sorted(listed.items())):
        image = read_image(next((_folder() / "images").glob(f"{name}.*")))
        labels = read_labels(_folder() / "labels" / f"{name}.png")
        pictures.append(Picture(name, image, labels, tuple(values), source="generic"))
        items += [Item(place, int(value)) for value in values]
    return pictures, items
