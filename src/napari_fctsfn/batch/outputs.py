"""What a job writes for an image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from napari_fctsfn._files import replace_file
from napari_fctsfn.batch.job import Outputs
from napari_fctsfn.batch.work import Index, Segmented, Work, planes_of
from napari_fctsfn.clicks import ClickRecord, write_clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats import measurements, write_ome_tiff
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.predict.images import write_tiff
from napari_fctsfn.predict.normalisation import as_rgb

_OVERLAY = 512
"""Longest side of an overlay picture."""

_COLOURS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167]],
    dtype=np.float32,
)
"""Of outlines, told apart by the colour-blind too (Okabe and Ito 2008)."""


def names(outputs: Outputs, stem: str) -> dict[str, str]:
    """File names of what is written for an image, by what it is."""
    found = {"labels": f"{stem}_labels.{'png' if outputs.labels == 'png' else 'tif'}"}
    if outputs.labels == "ome-tiff":
        found["labels"] = f"{stem}_labels.ome.tif"
    for kind, wanted, ending in (
        ("probability", outputs.probability, "probability.tif"),
        ("clicks", outputs.clicks, "clicks_used.json"),
        ("measurements", outputs.measurements, "measurements.csv"),
        ("overlay", outputs.overlay, "overlay.png"),
    ):
        if wanted:
            found[kind] = f"{stem}_{ending}"
    return found


def write_all(
    folder: Path,
    outputs: Outputs,
    stem: str,
    image: NDArray[Any],
    normalisation: Normalisation,
    work: Work,
    found: Segmented,
) -> dict[str, str]:
    """Write everything for an image; SHA-256 of every file by its name."""
    paths = {kind: folder / name for kind, name in names(outputs, stem).items()}
    for kind, path in paths.items():
        if kind == "labels":
            _write_labels(path, outputs, found.labels)
        elif kind == "probability" and found.probability is not None:
            write_tiff(path, found.probability)
        elif kind == "clicks":
            write_clicks(path, records(work))
        elif kind == "measurements":
            _write_text(path, measurements(found.labels, image))
        else:
            with replace_file(path) as temporary:
                picture = overlay(image, found.labels, normalisation)
                iio.imwrite(temporary, picture, extension=".png")
    return {path.name: digest(path) for path in paths.values()}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def records(work: Work) -> list[ClickRecord]:
    """Clicks as a click file holds them."""
    return [
        ClickRecord(click, index, label)
        for label, planes in work.items()
        for index, clicks in planes.items()
        for click in clicks
    ]


def overlay(
    image: NDArray[Any], labels: NDArray[Any], normalisation: Normalisation
) -> NDArray[np.uint8]:
    """The slice with most objects, their outlines drawn, at most 512 pixels a side."""
    from skimage.segmentation import find_boundaries

    index = _fullest(image, labels)
    plane = image[index]
    step = -(-max(plane.shape[:2]) // _OVERLAY)
    small = normalisation.apply(plane[::step, ::step, ...])
    picture = as_rgb(small[..., :3] if small.ndim == 3 else small) * np.float32(255)
    shown = labels[index][::step, ::step]
    outline = find_boundaries(shown, mode="inner")
    picture[outline] = _COLOURS[(shown[outline].astype(np.int64) - 1) % len(_COLOURS)]
    return picture.round().astype(np.uint8)


def _fullest(image: NDArray[Any], labels: NDArray[Any]) -> Index:
    """The first of the slices that have most pixels of objects."""
    return max(planes_of(image), key=lambda index: int(np.count_nonzero(labels[index])))


def _write_labels(path: Path, outputs: Outputs, labels: NDArray[Any]) -> None:
    if outputs.labels == "tiff":
        write_tiff(path, labels)
    elif outputs.labels == "png":
        if labels.ndim != 2 or labels.dtype.itemsize > 2:
            raise InputError(
                f"labels of shape {labels.shape} up to {labels.max()} do not fit into a PNG: "
                f"say tiff"
            )
        with replace_file(path) as temporary:
            iio.imwrite(temporary, labels, extension=".png")
    else:
        write_ome_tiff(path, labels)


def _write_text(path: Path, text: str) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
