"""What a job writes for an image."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_fctsfn._files import replace_file, replace_folder
from napari_fctsfn.batch.job import Outputs
from napari_fctsfn.batch.pictures import Picture, digest, spatial_axes
from napari_fctsfn.batch.work import Index, Segmented, Work, planes_of
from napari_fctsfn.clicks import ClickRecord, write_clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats import About, write_ome_tiff
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

_ENDINGS = {"tiff": "tif", "ome-tiff": "ome.tif", "ome-zarr": "ome.zarr", "png": "png"}

_CHUNK = 512
"""Rows and columns of a chunk of an OME-Zarr; a chunk is in one slice."""

PROPERTIES = (
    *("area", "centroid", "bbox", "perimeter", "eccentricity", "solidity"),
    *("axis_major_length", "axis_minor_length", "orientation"),
    *("intensity_mean", "intensity_min", "intensity_max"),
)


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
) -> dict[str, str]:
    """Write everything for an image; SHA-256 of every file by its name."""
    paths = {kind: folder / name for kind, name in names(outputs, stem).items()}
    for kind, path in paths.items():
        if kind == "labels":
            write_labels(path, outputs.labels, found.labels, picture)
        elif kind == "probability" and found.probability is not None:
            _write_tiff(path, found.probability, picture)
        elif kind == "clicks":
            write_clicks(path, records(work))
        elif kind == "measurements":
            _write_text(path, measurements(picture, found.labels))
        else:
            with replace_file(path) as temporary:
                shown = overlay(picture.pixels, found.labels, normalisation)
                iio.imwrite(temporary, shown, extension=".png")
    return {path.name: digest(path) for path in paths.values()}


def records(work: Work) -> list[ClickRecord]:
    """Clicks as a click file holds them."""
    return [
        ClickRecord(click, index, label)
        for label, planes in work.items()
        for index, clicks in planes.items()
        for click in clicks
    ]


def measurements(picture: Picture, labels: NDArray[Any]) -> str:
    """A table (CSV) with a line for each object in each slice, lengths in pixels.

    Where the size of a pixel is known, the last columns are the area in its unit squared, and the
    unit.
    """
    from skimage.measure import regionprops_table

    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    header: list[str] | None = None
    image, scale = picture.pixels, picture.scale
    for index in planes_of(image):
        plane = image[index]
        grey = plane[..., :3].mean(axis=2) if plane.ndim == 3 else plane
        found = regionprops_table(
            labels[index].astype(np.int64), grey, properties=("label", *PROPERTIES)
        )
        if header is None:
            slices = [f"slice-{axis}" for axis in range(len(index))]
            header = [*slices, *found, *(("area_physical", "unit") if scale else ())]
            table.writerow(header)
        for row in zip(*found.values(), strict=True):
            values = [value.item() for value in row]
            if scale is not None:
                area = values[list(found).index("area")] * scale[-2] * scale[-1]
                values += [area, picture.unit]
            table.writerow([*index, *values])
    return stream.getvalue()


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


def write_labels(path: Path, kind: str, labels: NDArray[Any], picture: Picture) -> None:
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

    Raises
    ------
    InputError
        If they do not fit into a PNG, or Zarr is not installed.
    """
    if kind == "tiff":
        _write_tiff(path, labels, picture)
    elif kind == "ome-zarr":
        _write_zarr(path, labels, picture)
    elif kind == "png":
        if labels.ndim != 2 or labels.dtype.itemsize > 2:
            raise InputError(
                f"labels of shape {labels.shape} up to {labels.max()} do not fit into a PNG: "
                f"say tiff"
            )
        with replace_file(path) as temporary:
            iio.imwrite(temporary, labels, extension=".png")
    else:
        about = About(scale=picture.scale or (), unit=picture.unit or "pixel")
        write_ome_tiff(path, labels, about)


def _write_tiff(path: Path, values: NDArray[Any], picture: Picture) -> None:
    """A TIFF; axes, size of a pixel and unit are in its description where they are known."""
    if picture.scale is None:
        write_tiff(path, values)
        return
    about = {
        "axes": spatial_axes(picture).upper(),
        "scale": list(picture.scale),
        "unit": picture.unit,
    }
    with replace_file(path) as temporary:
        tifffile.imwrite(
            temporary, values, compression="zlib", photometric="minisblack", metadata=about
        )


def _write_zarr(path: Path, labels: NDArray[Any], picture: Picture) -> None:
    """An OME-Zarr 0.4 with one resolution; Zarr writes its chunks side by side."""
    try:
        import zarr
    except ImportError:
        raise InputError("labels as OME-Zarr: pip install napari-fctsfn[formats]") from None
    names = spatial_axes(picture)
    kinds = {"t": "time", "c": "channel"}
    axes = [{"name": name, "type": kinds.get(name, "space")} for name in names]
    for axis in axes:
        if picture.unit and axis["type"] == "space":
            axis["unit"] = picture.unit
    scale = {"type": "scale", "scale": list(picture.scale or (1.0,) * labels.ndim)}
    about: Any = {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    chunks = (*[1] * (labels.ndim - 2), *(min(size, _CHUNK) for size in labels.shape[-2:]))
    with replace_folder(path) as temporary:
        group = zarr.open_group(temporary, mode="w", zarr_format=2)
        group.attrs.update({"multiscales": [about], "image-label": {"version": "0.4"}})
        array = group.create_array(
            "0",
            shape=labels.shape,
            dtype=labels.dtype,
            chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        array[...] = labels


def _write_text(path: Path, text: str) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
