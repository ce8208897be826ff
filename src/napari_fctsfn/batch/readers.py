"""Images of medicine, of large-image formats, and of napari's reader plugins.

Every reader returns pixels, a letter for each axis, the size of a pixel along each axis without
colours or None, and its unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.predict.images import ImageFileError

Found = tuple[NDArray[Any], str, tuple[float, ...] | None, str]

_UNITS = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), "micrometer"),
    **dict.fromkeys(("nm", "nanometre"), "nanometer"),
    **dict.fromkeys(("mm", "millimetre"), "millimeter"),
}


def unit_name(text: str) -> str:
    """The name that OME-Zarr and napari give a unit of length."""
    return _UNITS.get(text, text)


def reader_for(path: Path) -> Callable[[Path], Found] | None:
    """The reader of this module for a path, if there is one."""
    name = path.name.lower()
    if is_zarr(path):
        return read_zarr
    if name.endswith((".nii", ".nii.gz")) and path.is_file():
        return read_nifti
    if is_series(path) or (path.is_file() and _is_dicom(path)):
        return read_dicom
    return None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr."""
    return path.is_dir() and any(
        (path / name).is_file() for name in (".zgroup", ".zarray", "zarr.json")
    )


def is_series(path: Path) -> bool:
    """Whether a folder holds DICOM files and nothing deeper."""
    return path.is_dir() and any(_is_dicom(inner) for inner in itertools.islice(_files(path), 8))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_zarr(path: Path, lazy: bool = False) -> Found:
    """The full resolution of an OME-Zarr (0.4 or 0.5), or a plain Zarr array.

    Its pixels are a Zarr array if `lazy`.
    """
    import zarr

    read = (lambda array: array) if lazy else np.asarray

    opened: Any = zarr.open(path, mode="r")
    if not hasattr(opened, "members"):  # an array
        return read(opened), "", None, ""
    attributes = opened.attrs.asdict()
    about: Any = attributes.get("ome", attributes)
    if "multiscales" not in about:
        raise ImageFileError(f"{path} is a Zarr group without multiscales: give an OME-Zarr image")
    image = about["multiscales"][0]
    first = image["datasets"][0]
    pixels = read(opened[first["path"]])
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", ())]
    names = "".join(str(axis["name"]) for axis in axes)
    if len(names) != pixels.ndim:
        return pixels, "", None, ""
    sizes = np.ones(pixels.ndim)
    steps = [
        *first.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    scales = [step["scale"] for step in steps if step.get("type") == "scale"]
    for scale in scales:
        sizes = sizes * np.asarray(scale, dtype=float)
    unit = next((a["unit"] for a in reversed(axes) if a["name"] in "zyx" and "unit" in a), "")
    return pixels, names, tuple(map(float, sizes)) if scales else None, str(unit)


def read_nifti(path: Path) -> Found:
    """A NIfTI volume as stored, its axes turned to (t, z, y, x)."""
    import nibabel

    image: Any = nibabel.load(path)
    pixels = np.asarray(image.dataobj).T
    while pixels.ndim > 2 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim > 4:
        raise ImageFileError(f"{path} has shape {pixels.shape}: at most t, z, y and x are read")
    zooms = [abs(float(z)) or 1.0 for z in image.header.get_zooms()[: pixels.ndim]]
    unit = {"mm": "millimeter", "micron": "micrometer", "meter": "meter"}.get(
        image.header.get_xyzt_units()[0], "millimeter"
    )
    return np.ascontiguousarray(pixels), "tzyx"[-pixels.ndim :], tuple(zooms[::-1]), unit


def read_dicom(path: Path) -> Found:
    """A DICOM file, or the series in a folder, its slices in the order of their places in space."""
    import pydicom

    names = [p for p in _files(path) if _is_dicom(p)] if path.is_dir() else [path]
    parts: list[Any] = [pydicom.dcmread(name) for name in names]
    series = {str(part.get("SeriesInstanceUID", "")) for part in parts}
    if len(series) > 1:
        raise ImageFileError(f"{path} holds {len(series)} DICOM series: give each its own folder")
    places = [_along(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda n: (places[n], names[n].name))
    planes = [_intensities(parts[n]) for n in order]
    if len({plane.shape for plane in planes}) > 1:
        shapes = sorted({plane.shape for plane in planes})
        raise ImageFileError(
            f"{path} holds slices of different shapes, {shapes[0]} and {shapes[1]}"
        )
    pixels = planes[0] if len(planes) == 1 else np.stack(planes)
    colours = int(parts[0].get("SamplesPerPixel", 1)) > 1
    axes = "zyx"[-(pixels.ndim - colours) :] + ("s" if colours else "")
    if len(axes) != pixels.ndim:
        return pixels, "", None, ""
    spacing = parts[0].get("PixelSpacing")
    if spacing is None:
        return pixels, axes, None, ""
    gaps = np.diff(sorted(places))
    deep = float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else None
    depth = deep or float(parts[0].get("SpacingBetweenSlices") or 0)
    depth = depth or float(parts[0].get("SliceThickness") or 1)
    sizes = (depth, float(spacing[0]), float(spacing[1]))[-(pixels.ndim - colours) :]
    return pixels, axes, sizes, "millimeter"


def _along(part: Any) -> float:
    """Place of a slice along the normal of its plane, in millimetres, or its number."""
    position, turned = part.get("ImagePositionPatient"), part.get("ImageOrientationPatient")
    if position is None or turned is None:
        return float(part.get("InstanceNumber") or 0)
    normal = np.cross(np.asarray(turned[:3], float), np.asarray(turned[3:], float))
    return float(np.dot(normal, np.asarray(position, float)))


def _intensities(part: Any) -> NDArray[Any]:
    """Stored values, or what they stand for where the file says so, such as Hounsfield units."""
    pixels = np.asarray(part.pixel_array)
    slope, offset = float(part.get("RescaleSlope", 1)), float(part.get("RescaleIntercept", 0))
    if (slope, offset) == (1.0, 0.0):
        return pixels
    return (pixels * slope + offset).astype(np.float32)


def through_napari(path: Path) -> Found | None:
    """The first image that an installed reader plugin of napari finds in a file, or None.

    napari's own reader is left out: what it reads, this program reads.
    """
    import npe2

    plugins = npe2.PluginManager.instance()
    plugins.discover()
    for reader in plugins.iter_compatible_readers([str(path)]):
        if reader.plugin_name in ("napari", "napari-fctsfn"):
            continue
        try:
            layers = npe2.read([str(path)], stack=False, plugin_name=reader.plugin_name)
        except Exception as error:  # noqa: BLE001  a plugin raises anything
            reason = " ".join(str(error).split())[:200]
            raise ImageFileError(
                f"{path} cannot be read by {reader.plugin_name}: {reason}"
            ) from None
        for layer in layers:
            data, meta, kind = (*layer, {}, "image")[:3] if len(layer) < 3 else layer
            if kind in ("image", "labels"):
                pixels = np.asarray(data[0] if isinstance(data, (list, tuple)) else data)
                return pixels, *_napari_place(pixels, dict(meta or {}))
    return None


def _napari_place(
    pixels: NDArray[Any], meta: dict[str, Any]
) -> tuple[str, tuple[float, ...] | None, str]:
    """Axes, scale and unit of a layer's keyword arguments."""
    count = pixels.ndim - bool(meta.get("rgb", False))
    if meta.get("scale") is None or count > 4 or len(meta["scale"]) != count:
        return "", None, ""
    axes = "tzyx"[-count:] + ("s" if count < pixels.ndim else "")
    units = meta.get("units")
    unit = units if isinstance(units, str) else str(units[-1]) if units else ""
    return axes, tuple(map(float, meta["scale"])), unit_name(unit)
