"""What a job writes for an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from napari_fctsfn._files import replace_file
from napari_fctsfn.batch.job import Outputs
from napari_fctsfn.batch.pictures import Picture, digest, spatial_axes
from napari_fctsfn.batch.work import Index, Segmented, Work, planes_of
from napari_fctsfn.clicks import ClickRecord, write_clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats import About, measurements, write_ome_tiff, write_ome_zarr
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.predict.normalisation import as_rgb

_OVERLAY = 512
"""Longest side of an overlay picture."""

_COLOURS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167]],
    dtype=np.float32,
)
"""Of outlines, told apart by the colour-blind too (Okabe and Ito 2008)."""

_ENDINGS = {"tiff": "tif", "ome-tiff": "ome.tif", "ome-zarr": "ome.zarr", "png": "png"}


def names(outputs: Outputs, stem: str) -> dict[str, str]:
    """File names of what is written for an image, by what it is."""
    found = {"labels": f"{stem}_labels.{_ENDINGS[outputs.labels]}"}
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
    picture: Picture,
    normalisation: Normalisation,
    work: Work,
    found: Segmented,
    origin: Mapping[str, str],
) -> dict[str, str]:
    """Write everything for an image; SHA-256 of every file by its name.

    `origin` says which program, model and settings it comes from; it is in all pictures.
    """
    paths = {kind: folder / name for kind, name in names(outputs, stem).items()}
    for kind, path in paths.items():
        if kind == "labels":
            write_labels(path, outputs.labels, found.labels, picture, origin)
        elif kind == "probability":
            assert found.probability is not None
            _write_tiff(path, found.probability, picture, origin)
        elif kind == "clicks":
            write_clicks(path, records(work))
        elif kind == "measurements":
            _write_text(path, measurements(found.labels, picture.pixels, about_of(picture)))
        else:
            with replace_file(path) as temporary:
                shown = overlay(picture.pixels, found.labels, normalisation)
                iio.imwrite(temporary, shown, extension=".png", pnginfo=_png_text(origin))
    return {path.name: digest(path) for path in paths.values()}


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
    step = -(-max(labels.shape[-2:]) // _OVERLAY)
    every: Any = (*index, slice(None, None, step), slice(None, None, step))
    small = normalisation.apply(image[every])
    picture = as_rgb(small[..., :3] if small.ndim == 3 else small) * np.float32(255)
    shown = labels[index][::step, ::step]
    outline = find_boundaries(shown, mode="inner")
    picture[outline] = _COLOURS[(shown[outline].astype(np.int64) - 1) % len(_COLOURS)]
    return picture.round().astype(np.uint8)


def _fullest(image: NDArray[Any], labels: NDArray[Any]) -> Index:
    """The first of the slices that have most pixels of objects."""
    return max(planes_of(image), key=lambda index: int(np.count_nonzero(labels[index])))


def write_labels(
    path: Path,
    kind: str,
    labels: NDArray[Any],
    picture: Picture,
    origin: Mapping[str, str] | None = None,
) -> None:
    """Write labels, whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    kind : str
        ``tiff``, ``ome-tiff``, ``ome-zarr`` or ``png``.
    labels : array of unsigned int
    picture : Picture
        Their image: its axes and the size of its pixels are written with them.
    origin : mapping of str to str, optional
        Where they come from; written with them, too.

    Raises
    ------
    InputError
        If they do not fit into a PNG, or Zarr is not installed.
    """
    if kind == "tiff":
        _write_tiff(path, labels, picture, origin or {})
    elif kind == "png":
        if labels.ndim != 2 or labels.dtype.itemsize > 2:
            raise InputError(
                f"labels of shape {labels.shape} up to {labels.max()} do not fit into a PNG: "
                f"say tiff"
            )
        with replace_file(path) as temporary:
            text = _png_text(origin or {})
            iio.imwrite(temporary, labels, extension=".png", pnginfo=text)
    else:
        about = replace(about_of(picture), provenance=dict(origin or {}))
        if kind == "ome-zarr":
            write_ome_zarr(path, labels, about, overwrite=True)
        else:
            write_ome_tiff(path, labels, about)


def about_of(picture: Picture) -> About:
    """What is known of the labels of an image: its axes, and the size of its pixels."""
    return About(
        axes=spatial_axes(picture), scale=picture.scale or (), unit=picture.unit or "pixel"
    )


def _png_text(origin: Mapping[str, str]) -> PngInfo:
    info = PngInfo()
    for key, text in origin.items():
        info.add_itxt(key, text)
    return info


def _write_tiff(
    path: Path, values: NDArray[Any], picture: Picture, origin: Mapping[str, str]
) -> None:
    """A TIFF; its origin, axes, and if known the size of a pixel are in its description."""
    about: dict[str, Any] = {"axes": spatial_axes(picture).upper(), **origin}
    if picture.scale is not None:
        about |= {"scale": list(picture.scale), "unit": picture.unit}
    with replace_file(path) as temporary:
        tifffile.imwrite(
            temporary, values, compression="zlib", photometric="minisblack", metadata=about
        )


def _write_text(path: Path, text: str) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
