"""Corrected pictures: what a fine-tuning learns from, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import DataSet, DataSetError
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.predict.images import is_rgb, read_image, read_labels
from napari_fctsfn.predict.slices import SliceView
from napari_fctsfn.session import ImageIdentity, Plane, SessionError, read_header, read_session
from napari_fctsfn.train.finetune.pairing import paired

SMALLEST_OBJECT = 30
"""Objects of fewer pixels are left out."""

_EVERYTHING = 0.98
"""An object that covers more than this part of its picture is no object."""

OWN = "your own pictures"
"""Licence of pictures that belong to nobody's published set."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with objects whose masks are right.

    Parameters
    ----------
    name : str
        For messages and thumbnails.
    image : array, shape (rows, columns) or (rows, columns, 3 or 4)
        Any real dtype.
    labels : array of int, shape (rows, columns)
    objects : tuple of int
        Values in `labels` to learn from.
    normalisation : Normalisation, optional
        The display range; by default as the predictor chooses it.
    ignore : array of bool, shape (rows, columns), optional
        Pixels that count neither as object nor as background.
    source : str
        Data set, folder or session that it is from.
    licence : str
        Of picture and masks.
    stack : str
        Name of the stack that it is a slice of, slices in their order; empty if of none.

    Raises
    ------
    InputError
        If the labels do not have the picture's rows and columns.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[Any]
    objects: tuple[int, ...]
    normalisation: Normalisation | None = None
    ignore: NDArray[np.bool_] | None = None
    source: str = ""
    licence: str = OWN
    stack: str = ""

    def __post_init__(self) -> None:
        if self.image.shape[:2] != self.labels.shape:
            raise InputError(
                f"{self.name}: the image has {self.image.shape[:2]} rows and columns, its labels "
                f"{self.labels.shape}; they must be equal"
            )

    def truth(self, value: int) -> NDArray[np.bool_]:
        """Mask of an object, shape (rows, columns)."""
        mask: NDArray[np.bool_] = self.labels == value
        return mask


def display_range(picture: Picture) -> Normalisation:
    """The range in which the network sees a picture: its own, or as the predictor chooses it."""
    if picture.normalisation is not None:
        return picture.normalisation
    if picture.image.ndim == 3:
        return Normalisation.for_rgb(picture.image.dtype)
    return Normalisation.from_array(picture.image)


def pictures_of_dataset(folder: Path, listed: Path, band: int = 0) -> list[Picture]:
    """Pictures of a data set in the layout with ``dataset.json``.

    Parameters
    ----------
    folder : Path
    listed : Path
        A list of lines ``STEM`` or ``STEM VALUE``.
    band : int
        Width in pixels of a border band to ignore, where that of the set is not as wide.

    Raises
    ------
    DataSetError
        If something is missing or does not fit, or the set is for evaluation only.
    """
    dataset = DataSet.open(folder)
    dataset = replace(dataset, band=max(dataset.band, band))
    if dataset.evaluation_only:
        raise DataSetError(f"{folder} is for evaluation only: nothing may be trained on it")
    objects: dict[str, list[int]] = {}
    for reference in dataset.objects(listed):
        objects.setdefault(reference.stem, []).append(reference.value)
    stacks = {stem: dataset.stack(stem) for stem in objects}
    pictures = []
    # Slices in their order, whatever that of the list is.
    for stem in sorted(objects, key=lambda stem: (stacks[stem], stem if stacks[stem] else "")):
        image, labels = dataset.pair(stem)
        pictures.append(
            Picture(
                stem,
                image,
                labels,
                tuple(objects[stem]),
                ignore=dataset.ignored(labels),
                source=dataset.name,
                licence=dataset.licence,
                stack=stacks[stem],
            )
        )
    return pictures


def pictures_of_session(folder: Path, images: str | None = None) -> list[Picture]:
    """The slices that were annotated in a session.

    Parameters
    ----------
    folder : Path
        Of the session, which may be open in a window meanwhile.
    images : str, optional
        File of the image, where the session does not know it or it has moved.

    Raises
    ------
    InputError
        If the session cannot be opened, or its image is not found or another.
    """
    try:
        identity = read_header(folder).image
        session, labels = read_session(folder)
    except SessionError as error:
        raise InputError(str(error)) from error
    path = images or identity.source
    if not path:
        raise InputError(
            f"the session {folder} does not know the file of its image “{identity.name}”: "
            f"name it with --images FILE"
        )
    image = read_image(path)
    rgb = image.ndim == len(session.shape) + 1
    if not ImageIdentity.of(identity.name, image, channels=rgb).same(identity):
        raise InputError(f"{path} is not the image of the session {folder}, which is {identity}")
    channels = session.channels
    # Channels come brought to 0..1, each by its own range.
    shown = session.normalisation if channels is None else Normalisation(0.0, 1.0)
    values: dict[Plane, list[int]] = {}
    for label, planes in session.objects.items():
        for plane in planes:
            values.setdefault(plane, []).append(label)
    pictures = []
    for plane in sorted(values, key=lambda plane: [i or 0 for i in plane.index]):
        index = ",".join(str(i) for i in plane.index if i is not None)
        pictures.append(
            Picture(
                f"{identity.name} {index}".strip(),
                np.asarray(SliceView(image, plane.key, channels)),
                labels[plane.key],
                tuple(values[plane]),
                shown,
                source=identity.name,
                stack=identity.name if len(plane.index) > 2 else "",
            )
        )
    return pictures


def pictures_of_files(images: str, labels: str) -> list[Picture]:
    """Pictures and label images from two patterns, paired by their names (see `paired`).

    Parameters
    ----------
    images, labels : str
        Patterns such as ``raw/*.tif``; stacks are taken slice by slice.

    Raises
    ------
    InputError
        If a pattern matches nothing, the numbers differ, or a file does not fit.
    """
    # Path.glob takes no absolute pattern.
    paths = [[Path(p) for p in glob(pattern)] for pattern in (images, labels)]  # noqa: PTH207
    for option, pattern, found in zip(
        ("--images", "--labels"), (images, labels), paths, strict=True
    ):
        if not found:
            raise InputError(f"{option} {pattern} matches no file")
    if len(paths[0]) != len(paths[1]):
        raise InputError(
            f"--images matches {len(paths[0])} files and --labels {len(paths[1])}: each picture "
            f"has one label image, so there must be as many"
        )
    return [picture for image, mask in paired(*paths) for picture in _slices(image, mask)]


def _folder(path: Path) -> str:
    """Name of a file's folder; of ``images`` that of the folder that it is in."""
    folder = path.resolve().parent
    return (folder.parent if folder.name == "images" else folder).name


def _slices(image: Path, mask: Path) -> list[Picture]:
    pixels = read_image(image)
    if pixels.ndim == 2 or (pixels.ndim == 3 and is_rgb(pixels)):
        return [picture_of(image.stem, pixels, read_labels(mask), source=_folder(image))]
    return pictures_of_stack(image.stem, pixels, read_labels(mask, stack=True))


def pictures_of_stack(
    name: str,
    image: NDArray[Any],
    labels: NDArray[Any],
    normalisation: Normalisation | None = None,
) -> list[Picture]:
    """The slices of a stack that have objects.

    Parameters
    ----------
    name : str
    image : array, shape (..., rows, columns) or (..., rows, columns, 3 or 4)
    labels : array of int, shape (..., rows, columns)
    normalisation : Normalisation, optional

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    leading = labels.ndim - 2
    if image.shape[: labels.ndim] != labels.shape or image.ndim > labels.ndim + 1:
        raise InputError(
            f"{name}: the image has shape {image.shape}, its labels {labels.shape}; "
            f"the labels must have the image's"
        )
    normalisation = normalisation or (
        Normalisation.from_array(image) if image.ndim == labels.ndim else None
    )
    return [
        picture_of(
            f"{name} {','.join(map(str, index))}".strip(),
            np.asarray(image[index]),
            np.asarray(labels[index]),
            normalisation,
            source=name,
            stack=name if leading else "",
        )
        for index in np.ndindex(*labels.shape[:leading])
        if np.asarray(labels[index]).any()
    ]


def picture_of(
    name: str,
    image: NDArray[Any],
    labels: NDArray[Any],
    normalisation: Normalisation | None = None,
    *,
    source: str = "",
    stack: str = "",
) -> Picture:
    """A picture whose labels above 0 are its objects."""
    values = tuple(int(value) for value in np.unique(labels) if value > 0)
    return Picture(name, image, labels, values, normalisation, source=source, stack=stack)


def usable(pictures: Sequence[Picture]) -> tuple[list[Picture], list[str]]:
    """The pictures with the objects that can be learned from, and what was left out.

    Returns
    -------
    list of Picture
        None without an object.
    list of str
        A sentence for each kind of thing that was left out.

    Raises
    ------
    InputError
        If nothing is left.
    """
    kept, small, everything, empty = [], [], [], []
    for picture in pictures:
        counts = dict(zip(*np.unique(picture.labels, return_counts=True), strict=True))
        most = _EVERYTHING * picture.labels.size
        sizes = {value: int(counts.get(value, 0)) for value in picture.objects}
        everything += [picture.name for size in sizes.values() if size > most]
        small += [picture.name for size in sizes.values() if size < SMALLEST_OBJECT]
        values = tuple(v for v, size in sizes.items() if SMALLEST_OBJECT <= size <= most)
        if values:
            kept.append(replace(picture, objects=values))
        elif not any(size > most for size in sizes.values()):
            empty.append(picture.name)
    said = []
    if small:
        said.append(f"objects of less than {SMALLEST_OBJECT} pixels are left out: {len(small)}")
    if everything:
        said.append(
            f"masks that cover everything are left out: {len(everything)}, the first in "
            f"{everything[0]}"
        )
    if empty:
        said.append(f"pictures without an object: {len(empty)}, the first is {empty[0]}")
    if not kept:
        why = "; ".join(said) or "there is no picture"
        raise InputError(f"there is nothing to learn from: {why}; give masks of objects")
    return kept, said
