"""Labels in the formats that other programs read, with scale and provenance."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from napari_fctsfn._files import replace_file, replace_folder
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats.outlines import outlines

Box = tuple[slice, slice]
"""Rows and columns around an object of a slice."""

_AXES = "TCZYX"
_KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_CHUNK = 1024

_CONTROLS = r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]"
"""Characters that XML, or names of files, cannot hold; names that are no UTF-8 have surrogates."""

_OURS = "napari-fctsfn"
"""Attribute of an OME-Zarr that this program wrote: where it comes from."""


@dataclass(frozen=True)
class About:
    """What is known of labels besides their pixels.

    Parameters
    ----------
    image : str
        File name of the image.
    scale : tuple of float
        Size of a pixel along each axis; empty if it is not known.
    unit : str
        Of the scale, such as ``micrometer``; ``pixel`` if it is not known.
    names : mapping of int to str
        Names of objects, by label.
    classes : mapping of int to str
        Classes of objects, by label.
    provenance : mapping of str to str
        Model, hash, versions, whatever says where the labels come from.
    axes : str
        A letter for each axis, such as ``zyx``; empty where they are the usual ones.
    """

    image: str = ""
    scale: Sequence[float] = ()
    unit: str = "pixel"
    names: Mapping[int, str] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    axes: str = ""

    def scale_of(self, ndim: int) -> list[float]:
        """The scale of every axis, 1 where it is not known."""
        known = list(self.scale)[-ndim:]
        return [1.0] * (ndim - len(known)) + [float(size) for size in known]


def write_ome_tiff(path: Path, labels: NDArray[Any], about: About | None = None) -> None:
    """Write labels as OME-TIFF; the same labels give the same bytes.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    labels : array of int, shape (..., rows, columns), up to five axes
        Of 64 bits they are written in the smallest type that holds them: OME-TIFF has no such type.
    about : About, optional
        Scale of rows, columns and planes, and provenance as the image's description.

    Raises
    ------
    InputError
        If there are more axes, or labels of more than 32 bits.
    """
    about = about or About()
    labels = _of_32_bits(numbers(labels))
    axes = _axes(labels, about)
    content = hashlib.sha256()
    for _, plane in _planes(labels):
        content.update(np.ascontiguousarray(plane).data)
    # tifffile's own identifier is random
    name = uuid.UUID(bytes=content.digest()[:16], version=4)
    title = re.sub(_CONTROLS, "", about.image)
    metadata: dict[str, Any] = {"axes": axes, "UUID": f"urn:uuid:{name}", "Name": title}
    if about.provenance:
        metadata["Description"] = json.dumps(dict(about.provenance), sort_keys=True)
    for axis, size in zip(axes, about.scale_of(labels.ndim), strict=True):
        if axis in "XYZ" and about.scale:
            metadata[f"PhysicalSize{axis}"] = size
            metadata[f"PhysicalSize{axis}Unit"] = _ome_unit(about.unit)
    with replace_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            photometric="minisblack",
            ome=True,
            metadata=metadata,
            compression="zlib",
        )


def write_ome_zarr(
    path: Path, labels: NDArray[Any], about: About | None = None, overwrite: bool = False
) -> None:
    """Write labels as OME-Zarr (version 0.5, one resolution), chunks of 1024 x 1024.

    Parameters
    ----------
    path : Path
        A folder; it appears when it is complete.
    labels : array of int, shape (..., rows, columns), up to five axes
        It may be a mapped file: chunks are read, packed and written side by side.
    about : About, optional
    overwrite : bool
        Whether an OME-Zarr of this program that is there is replaced; nothing else ever is.

    Raises
    ------
    InputError
        If Zarr is not installed, the folder is there, or there are more axes.
    """
    try:
        import zarr
    except ImportError:
        raise InputError("OME-Zarr needs Zarr: pip install 'napari-fctsfn[formats]'") from None
    about, labels = about or About(), numbers(labels)
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already: choose another name")
    if path.exists() and not is_export(path):
        raise InputError(
            f"{path} is there already and not written by this program: choose another name, or "
            f"remove it first"
        )
    axes = [
        {"name": axis.lower(), "type": _KINDS[axis]}
        | (
            {"unit": about.unit}
            if _KINDS[axis] == "space" and about.scale and about.unit != "pixel"
            else {}
        )
        for axis in _axes(labels, about)
    ]
    present: set[int] = set()
    for _, plane in _planes(labels):
        for top in range(0, len(plane), _CHUNK):
            present.update(np.unique(plane[top : top + _CHUNK]).tolist())
    scale = about.scale_of(labels.ndim)
    transformation = [{"type": "scale", "scale": scale}]
    datasets = [{"path": "0", "coordinateTransformations": transformation}]
    ome: Any = {
        "version": "0.5",
        "multiscales": [{"name": about.image, "axes": axes, "datasets": datasets}],
        "image-label": {
            "properties": [
                {"label-value": int(label)}
                | ({"name": about.names[label]} if about.names.get(label) else {})
                | ({"class": about.classes[label]} if about.classes.get(label) else {})
                for label in sorted(present - {0})
            ]
        },
    }
    with replace_folder(path) as temporary:
        group = zarr.open_group(
            temporary,
            mode="w",
            zarr_format=3,
            attributes={"ome": ome, _OURS: dict(about.provenance)},
        )
        chunks = (1,) * (labels.ndim - 2) + tuple(min(n, _CHUNK) for n in labels.shape[-2:])
        array = group.create_array("0", shape=labels.shape, dtype=labels.dtype, chunks=chunks)
        for index, plane in _planes(labels):
            for top in range(0, len(plane), _CHUNK):  # a row of chunks at a time fits into memory
                box: Any = (*index, slice(top, top + _CHUNK))
                array[box] = plane[top : top + _CHUNK]


def is_export(path: Path) -> bool:
    """Whether a path is an OME-Zarr that `write_ome_zarr` wrote."""
    try:
        group = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return _OURS in group["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_coco(path: Path, labels: NDArray[Any], about: About | None = None) -> None:
    """Write labels as COCO JSON, each object in each slice an annotation, masks as lists of runs.

    Parameters
    ----------
    path : Path
    labels : array of int, shape (..., rows, columns)
        Each slice is an image of the document; its place is in ``slice``.
    about : About, optional
        Classes are the categories; objects without one are of the category ``object``.
    """
    about, labels = about or About(), numbers(labels)
    rows, columns = (int(size) for size in labels.shape[-2:])
    categories = sorted({name for name in about.classes.values() if name} | {"object"})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (index, plane) in enumerate(_planes(labels), 1):
        images.append(
            {"id": number, "file_name": about.image, "height": rows, "width": columns}
            | ({"slice": list(index)} if index else {})
        )
        for label, box in all_boxes_of(plane):
            mask = plane[box] == label
            category = about.classes.get(label) or "object"
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories.index(category) + 1,
                    "object": label,
                    "name": about.names.get(label, ""),
                    "area": int(np.count_nonzero(mask)),
                    "bbox": [box[1].start, box[0].start, mask.shape[1], mask.shape[0]],
                    "iscrowd": 0,
                    "segmentation": {
                        "size": [rows, columns],
                        "counts": runs(mask, box, (rows, columns)),
                    },
                }
            )
    document = {
        "info": {"description": "napari-fctsfn", **about.provenance},
        "images": images,
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories, 1)],
        "annotations": annotations,
    }
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")


def runs(mask: NDArray[np.bool_], box: Box, shape: tuple[int, int]) -> list[int]:
    """Lengths of runs of background and object in turn, column by column, as COCO counts them.

    Parameters
    ----------
    mask : array of bool
        The object in its box.
    box : tuple of slice
        Rows and columns of the slice.
    shape : tuple of int
        Rows and columns of the slice as a whole.
    """
    edges = np.diff(np.pad(mask, ((1, 1), (0, 0))), axis=0)
    columns, rows = np.nonzero(edges.T)
    places = (columns + box[1].start) * shape[0] + rows + box[0].start
    # What ends at the bottom and goes on at the top of the next column is one run.
    changes, times = np.unique(places, return_counts=True)
    size = shape[0] * shape[1]
    changes = changes[(times == 1) & (changes < size)]
    lengths: list[int] = np.diff(np.concatenate([[0], changes, [size]])).tolist()
    return lengths


def write_rois(path: Path, labels: NDArray[Any], about: About | None = None) -> None:
    """Write labels as a zip of ImageJ ROIs, one for each object in each slice, holes included.

    Parameters
    ----------
    path : Path
    labels : array of int, shape (..., rows, columns)
        Of several leading axes the last is ImageJ's z, the one before it its t.
    about : About, optional
        Names of objects become names of ROIs, with the label where another object has the name,
        and ``_`` for what names of files cannot have.

    Raises
    ------
    InputError
        If roifile is not installed, or there is no object or more than four axes.
    """
    try:
        from roifile import ROI_TYPE, ImagejRoi, roiwrite
    except ImportError:
        raise InputError("ImageJ ROIs need roifile: pip install 'napari-fctsfn[formats]'") from None
    about, labels = about or About(), numbers(labels)
    if labels.ndim > 4:
        raise InputError(f"labels of {labels.ndim} axes do not fit into ImageJ ROIs: at most 4")
    names = _different_names(np.unique(labels).tolist(), about.names)
    rois = []
    for index, plane in _planes(labels):
        for label, box in all_boxes_of(plane):
            corner = [side.start for side in box]
            loops = [loop + corner for loop in outlines(plane[box] == label)]
            steps: list[float] = []
            for loop in loops:
                for number, (row, column) in enumerate(loop.tolist()):
                    steps += [1 if number else 0, column, row]
                steps.append(4)
            corners = np.concatenate(loops)
            (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
            place = "".join(f"-{n}" for n in index)
            roi = ImagejRoi(
                roitype=ROI_TYPE.RECT,
                name=f"{names[label]}{place}",
                top=int(top),
                left=int(left),
                bottom=int(bottom),
                right=int(right),
                shape_roi_size=len(steps),
                multi_coordinates=np.array(steps, dtype=np.float32),
                z_position=index[-1] + 1 if index else 0,
                t_position=index[-2] + 1 if len(index) > 1 else 0,
                position=index[-1] + 1 if len(index) == 1 else 0,
            )
            rois.append(roi)
    if not rois:
        raise InputError("there is no object to write: all labels are 0")
    with replace_file(path) as temporary:
        zipped = temporary.with_suffix(".zip")
        try:
            roiwrite(zipped, rois, mode="w")
            zipped.replace(temporary)
        finally:
            zipped.unlink(missing_ok=True)


def numbers(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as numbers, even if they are a mask."""
    return labels.view(np.uint8) if labels.dtype == bool else labels


def all_boxes_of(plane: NDArray[Any]) -> list[tuple[int, Box]]:
    """The objects of a slice, in the order of their labels, and the boxes around them.

    Parameters
    ----------
    plane : array of int, shape (rows, columns)
        Negative labels are objects, too.
    """
    lowest, highest = int(plane.min()), int(plane.max())
    labels: Sequence[int] = range(1, highest + 1)
    # find_objects sees none below 1, and takes memory for every number up to the highest
    if lowest < 0 or highest > plane.size:
        present, places = np.unique(plane, return_inverse=True)
        labels, plane = present.tolist(), places.reshape(plane.shape) + 1
    boxes = zip(labels, find_objects(plane.astype(np.int64, copy=False)), strict=True)
    return [(label, box) for label, box in boxes if box is not None and label]


def _of_32_bits(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels of 64 bits in the smallest type that holds them, others as they are."""
    if labels.dtype.itemsize < 8:
        return labels
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    small = np.min_scalar_type(high if low == 0 else min(low, -high - 1))
    if small.itemsize > 4:
        raise InputError(
            f"labels from {low} to {high} do not fit into OME-TIFF: renumber them, or choose "
            f"OME-Zarr"
        )
    return labels.astype(small)


def _different_names(labels: Iterable[int], names: Mapping[int, str]) -> dict[int, str]:
    """A name for each label that a file can have, no two the same."""
    given: dict[str, int] = {}
    for label in labels:
        name = re.sub(rf"[/\\:]|{_CONTROLS}", "_", names.get(label) or str(label))
        while name in given:
            name += f"-{label}"
        given[name] = label
    return {label: name for name, label in given.items()}


def _planes(labels: NDArray[Any]) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Every slice and its place."""
    for index in np.ndindex(*labels.shape[:-2]):
        yield index, labels[index]


def _axes(labels: NDArray[Any], about: About) -> str:
    if not 2 <= labels.ndim <= len(_AXES):
        raise InputError(f"labels of {labels.ndim} axes cannot be written: 2 to {len(_AXES)} can")
    if len(about.axes) == labels.ndim:
        return about.axes.upper()
    # without channels, as labels have none
    return "TZYX"[-labels.ndim :] if labels.ndim < len(_AXES) else _AXES


def _ome_unit(unit: str) -> str:
    return {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}.get(unit, unit)
