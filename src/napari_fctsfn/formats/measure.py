"""A table of measurements."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.formats.labels import About

PROPERTIES = (
    *("area", "centroid", "bbox", "perimeter", "eccentricity", "solidity"),
    *("axis_major_length", "axis_minor_length", "orientation"),
)
INTENSITIES = ("intensity_mean", "intensity_min", "intensity_max")


def measurements(
    labels: NDArray[Any], image: NDArray[Any] | None = None, about: About | None = None
) -> str:
    """A table (CSV) with a line for each object in each slice.

    Parameters
    ----------
    labels : array of int, shape (..., rows, columns)
    image : array, the same shape, or with a last axis of colours, which are averaged; optional
        Without it there are no intensities.
    about : About, optional
        Names and classes are columns if there are any. With a scale areas are in its unit, and so
        are lengths if rows and columns have the same; centroids and boxes stay in pixels.

    Returns
    -------
    str
        Measurements of scikit-image's ``regionprops``, under its names.
    """
    from skimage.measure import regionprops_table

    about = about or About()
    properties = ["label", *PROPERTIES, *(INTENSITIES if image is not None else ())]
    rows, columns = about.scale_of(labels.ndim)[-2:]
    even = rows if np.isclose(rows, columns) else 1.0
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    for index in np.ndindex(*labels.shape[:-2]):
        grey = None
        if image is not None:
            grey = image[index]
            grey = grey[..., :3].mean(axis=2) if grey.ndim == 3 else grey
        found = regionprops_table(
            labels[index].astype(np.int64), grey, properties=tuple(properties)
        )
        found["area"] = found["area"] * rows * columns
        for name in ("perimeter", "axis_major_length", "axis_minor_length"):
            found[name] = found[name] * even
        if not stream.tell():
            extra = [name for name, kept in _named(about) if kept]
            slices = [f"slice-{axis}" for axis in range(len(index))]
            table.writerow([*slices, *found, *extra])
        for row in zip(*found.values(), strict=True):
            label = int(row[0])
            extra = [kept.get(label, "") for _, kept in _named(about) if kept]
            table.writerow([*index, *(value.item() for value in row), *extra])
    return stream.getvalue()


def _named(about: About) -> list[tuple[str, dict[int, str]]]:
    return [("name", dict(about.names)), ("class", dict(about.classes))]
