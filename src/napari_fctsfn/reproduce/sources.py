"""What is there to reproduce with: the data sets of a folder, and its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import ObjectReference, ObjectSet, open_dataset
from napari_fctsfn.evaluate.coco import Sample
from napari_fctsfn.models import ModelCard, ModelError, read_card
from napari_fctsfn.network import NetworkConfig, paper_config
from napari_fctsfn.reproduce.published import SET_KEYS, SET_NAMES, SetKey


class _Place(NamedTuple):
    """Where a data set may lie, and in what it differs from the paper's."""

    folder: str
    listed: str | None = None
    sample: Sample | None = None
    differs: str = ""


_PLACES: dict[SetKey, tuple[_Place, ...]] = {
    "voc": (
        _Place("VOCdevkit"),
        _Place("VOC2012"),
        _Place(
            "voc_subset",
            "val_objects.txt",
            differs="photographs of VOC 2012 that the authors published as an example, partly "
            "annotated and without void pixels, in place of the validation set",
        ),
    ),
    "coco": (
        _Place("coco", sample="paper", differs="another random sample of 20 images per category"),
        _Place(
            "coco_mval",
            "val.txt",
            differs="a part of COCO MVal, one object in a photograph, in place of 20 images per "
            "category",
        ),
    ),
    "grabcut": (_Place("GrabCut"), _Place("grabcut", "all.txt")),
    "berkeley": (_Place("Berkeley"), _Place("berkeley")),
}


@dataclass(frozen=True)
class TestSet:
    """One of the paper's four test sets, or what stands for it.

    Parameters
    ----------
    key : {"voc", "coco", "grabcut", "berkeley"}
    dataset : ObjectSet
    objects : sequence of ObjectReference
    differs : str
        How it differs from the paper's, for the report.
    """

    __test__ = False

    key: SetKey
    dataset: ObjectSet
    objects: Sequence[ObjectReference]
    differs: str


def find_sets(root: Path, limit: int | None, seed: int) -> dict[SetKey, TestSet]:
    """The test sets that lie in a folder.

    Parameters
    ----------
    root : Path
    limit : int, optional
        At most so many objects of each.
    seed : int
        Of their choice.

    Raises
    ------
    InputError
        If none is there, or one is damaged.
    """
    if not root.is_dir():
        raise InputError(f"--data {root}: there is no such folder")
    found: dict[SetKey, TestSet] = {}
    for key in SET_KEYS:
        place = next((place for place in _PLACES[key] if (root / place.folder).is_dir()), None)
        if place is not None:
            found[key] = _open(key, root, place, limit, seed)
    if not found:
        raise InputError(f"{root} has none of the paper's data sets: {where_sets_lie()}")
    return found


def where_sets_lie() -> str:
    """The folders that are looked for, for messages."""
    return "; ".join(
        f"{SET_NAMES[key]}: {' or '.join(place.folder for place in _PLACES[key])}"
        for key in SET_KEYS
    )


def why_no_set(key: SetKey) -> str:
    """Why a set could not be used."""
    return f"no folder {' or '.join(place.folder for place in _PLACES[key])} in the data"


def _open(key: SetKey, root: Path, place: _Place, limit: int | None, seed: int) -> TestSet:
    folder = root / place.folder
    dataset = open_dataset(folder, sample=place.sample)
    own = (folder / "dataset.json").exists()
    listed = Path(place.listed or "all.txt") if own else None
    every = dataset.objects(listed, None, seed)
    objects = dataset.objects(listed, limit, seed)
    differs = [place.differs] if place.differs else []
    if len(objects) < len(every):
        differs.append(f"{len(objects)} of {len(every)} objects, drawn with seed {seed}")
    return TestSet(key, dataset, objects, "; ".join(differs))


@dataclass(frozen=True)
class Model:
    """A way to segment that stands in tables and figures.

    Parameters
    ----------
    name : str
        Of a classical method or a registered model, or path of a model file.
    card : ModelCard, optional
        Of a model.
    """

    name: str
    card: ModelCard | None = None


class Found(NamedTuple):
    """The models of a folder.

    Attributes
    ----------
    models : dict of str to list of Model
        By the paper's name of the network; several are trainings of the same one. With ``vgg16``
        the TSLFN is also TSLFN_4, with ``lite`` TSLFN_5.
    others : list of str
        Files of networks that the paper has not.
    """

    models: dict[str, list[Model]]
    others: list[str]


def find_models(folder: Path | None) -> Found:
    """Model files below a folder, each known by the network that its card describes.

    Checkpoints are passed over.

    Raises
    ------
    InputError
        If there is no such folder, or it has models of two widths or backbones under one name.
    """
    found = Found({}, [])
    if folder is None:
        return found
    if not folder.is_dir():
        raise InputError(f"--models {folder}: there is no such folder")
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            card = read_card(path)
            names = known_as(NetworkConfig.from_dict(card.architecture))
        except (ModelError, ValueError):
            continue
        for name in names:
            found.models.setdefault(name, []).append(Model(str(path), card))
        if not names:
            found.others.append(path.name)
    for name, models in found.models.items():
        _check_alike(name, models)
    return found


def _check_alike(name: str, models: Sequence[Model]) -> None:
    """Raise if there are models of two networks where trainings of one are expected."""
    first, *others = ((model.name, model.card.architecture) for model in models if model.card)
    for path, architecture in others:
        if architecture != first[1]:
            raise InputError(
                f"{first[0]} and {path} are both a {name}, but not the same network, so that they "
                f"have no mean: keep them in two folders and give --models one of them"
            )


_NAMES = {
    "tslfn": "tslfn-8s",
    **{name: name for name in ("ssfcn", "fctsfn", "tslfn-32s", "tslfn-16s", "tslfn-minus")},
    **{f"tslfn-{blocks}": f"tslfn-{blocks}" for blocks in range(1, 6)},
    "layerwise": "layerwise",
}
"""Names in tables and figures, and what `paper_config` calls these networks."""


def known_as(config: NetworkConfig) -> list[str]:
    """Names under which a network stands in the tables; none if the paper has no such network."""

    def kind(some: NetworkConfig) -> NetworkConfig:
        own = NetworkConfig.vgg16() if some.backbone == "vgg16" else NetworkConfig()
        widths = ("fusion_channels", "fusion_blocks", "image_model")
        plain = {name: getattr(own, name) for name in widths}
        narrow = tuple(1 for _ in some.interaction_channels)
        refiner = tuple(1 for _ in some.bottleneck_channels)
        return replace(
            some,
            **plain,
            interaction_channels=narrow,
            bottleneck_channels=refiner,
            caffe=False,
        )

    return [
        name
        for name, papers in _NAMES.items()
        if kind(paper_config(papers, config.backbone)) == kind(config)
    ]
