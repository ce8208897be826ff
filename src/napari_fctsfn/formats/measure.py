"""A table of measurements."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.formats.labels import About, Box, all_boxes_of, numbers

PROPERTIES = (
    *("area", "centroid", "bbox", "perimeter", "eccentricity", "solidity"),
    *("axis_major_length", "axis_minor_length", "orientation"),
)
INTENSITIES = ("intensity_mean", "intensity_min", "intensity_max")


def measurements(labels: NDArray[Any], image: Any | None = None, about: About | None = None) -> str:
    """A table (CSV) with a line for each object in each slice.

    Parameters
    ----------
    labels : array of int, shape (..., rows, columns)
        It may be a mapped file: one object is looked at at a time.
    image : array-like, the same shape, or with a last axis of colours, which are averaged; optional
        Without it there are no intensities.
    about : About, optional
        Names and classes are columns if there are any. With a scale the last columns are the area
        in its unit squared, and the unit.

    Returns
    -------
    str
        Measurements of scikit-image's ``regionprops``, under its names, in pixels.
    """
    from skimage.measure import regionprops_table

    about, labels = about or About(), numbers(labels)
    properties = (*PROPERTIES, *(INTENSITIES if image is not None else ()))
    nothing = regionprops_table(np.zeros((1, 1), int), np.zeros((1, 1)), properties)
    rows, columns = about.scale_of(labels.ndim)[-2:]
    named = [(n, kept) for n, kept in (("name", about.names), ("class", about.classes)) if kept]
    stream = io.StringIO()
    table = csv.DictWriter(
        stream,
        [
            *(f"slice-{axis}" for axis in range(labels.ndim - 2)),
            *("label", *nothing, *(("area_physical", "unit") if about.scale else ())),
            *(name for name, _ in named),
        ],
        lineterminator="\n",
    )
    table.writeheader()
    for index in np.ndindex(*labels.shape[:-2]):
        for label, box in boxes_of(labels[index]):
            grey = None
            if image is not None:
                window: Any = (*index, *box)
                part = image[window]
                grey = part[..., :3].mean(axis=2) if part.ndim == 3 else part
            mask = (labels[index][box] == label).astype(np.uint8)
            found = regionprops_table(mask, grey, properties)
            row: dict[str, Any] = {name: values[0].item() for name, values in found.items()}
            for number, side in enumerate(box):
                for name in (f"centroid-{number}", f"bbox-{number}", f"bbox-{number + 2}"):
                    row[name] += side.start
            if about.scale:
                row |= {"area_physical": row["area"] * rows * columns, "unit": about.unit}
            row |= {f"slice-{axis}": place for axis, place in enumerate(index)}
            table.writerow(row | {"label": label} | {n: kept.get(label, "") for n, kept in named})
    return stream.getvalue()


def boxes_of(plane: NDArray[Any]) -> list[tuple[int, Box]]:
    """The objects of a slice, by label, and the boxes around them.

    Parameters
    ----------
    plane : array of int, shape (rows, columns)
    """
    return [(label, box) for label, box in all_boxes_of(plane) if label > 0]
