"""Images of a job with the names of their axes and the size of their pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_fctsfn.batch import readers
from napari_fctsfn.errors import InputError
from napari_fctsfn.predict.images import (
    ImageFileError,
    is_converted,
    is_rgb,
    read_image,
    tiff_axes,
)

_DOUBLE = (".ome.zarr", ".ome.tif", ".ome.tiff", ".nii.gz")
_OWN = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


class Lazy:
    """An array in a file, of which only what is asked for is read.

    Parameters
    ----------
    read : callable
        Reads a part, given an integer or a slice for each axis of the file.
    shape : tuple of int
        Of the array in the file.
    dtype : dtype
    axes : sequence of int, optional
        Which axes of the file are those of this array; by default all.
    chosen : dict of int to int, optional
        The places that are looked at on the other axes.
    """

    def __init__(
        self,
        read: Callable[[tuple[Any, ...]], NDArray[Any]],
        shape: tuple[int, ...],
        dtype: Any,
        axes: Sequence[int] | None = None,
        chosen: Mapping[int, int] | None = None,
    ) -> None:
        self._read, self._whole = read, shape
        self._axes = tuple(range(len(shape)) if axes is None else axes)
        self._chosen = dict(chosen or {})
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.shape = tuple(shape[axis] for axis in self._axes)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)

    def transpose(self, order: Sequence[int]) -> Lazy:
        """The same with its axes in another order."""
        axes = [self._axes[axis] for axis in order]
        return Lazy(self._read, self._whole, self.dtype, axes, self._chosen)

    def take(self, place: int, axis: int) -> Lazy:
        """The part at a place of an axis, which is gone."""
        axes = [other for number, other in enumerate(self._axes) if number != axis]
        chosen = {**self._chosen, self._axes[axis]: place}
        return Lazy(self._read, self._whole, self.dtype, axes, chosen)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        wanted = index if isinstance(index, tuple) else (index,)
        wanted = (*wanted, *[slice(None)] * (self.ndim - len(wanted)))
        parts: dict[int, Any] = {**self._chosen, **dict(zip(self._axes, wanted, strict=True))}
        kept = [axis for axis in self._axes if isinstance(parts[axis], slice)]
        found = self._read(tuple(parts[axis] for axis in range(len(self._whole))))
        return found.transpose([sorted(kept).index(axis) for axis in kept])


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, or labels, and where they are in space.

    Parameters
    ----------
    pixels : array of any real dtype, or Lazy
        Slices first, then rows and columns, then colours.
    axes : str
        A letter for each axis, such as ``zyx``; empty where the file names none.
    scale : tuple of float or None
        Size of a pixel along each axis without colours, in `unit`; None where it is not known.
    unit : str
        Such as ``micrometer``; empty where it is not known.
    """

    pixels: Any
    axes: str = ""
    scale: tuple[float, ...] | None = None
    unit: str = ""


def stem_of(path: Path) -> str:
    """The name of an image without its ending, of which ``.ome.zarr`` and ``.nii.gz`` are one."""
    for ending in _DOUBLE:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)]
    return path.stem


def is_picture(path: Path) -> bool:
    """Whether a path can be an image: a file, a Zarr, or the folder of a DICOM series."""
    return path.is_file() or readers.is_zarr(path) or readers.is_series(path)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    found = hashlib.sha256()
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    for inner in sorted(p for p in path.rglob("*") if p.is_file()):
        with inner.open("rb") as file:
            one = hashlib.file_digest(file, "sha256").hexdigest()
        found.update(f"{inner.relative_to(path).as_posix()}\0{one}\0".encode())
    return found.hexdigest()


def read_picture(
    path: Path, axes: str | None = None, channel: int | None = None, lazy: bool = False
) -> Picture:
    """Read an image in the order that predictors want.

    Parameters
    ----------
    path : Path
        TIFF, what imageio reads, OME-Zarr (a folder), NIfTI, DICOM (a file, or the folder of a
        series), or whatever an installed reader plugin of napari reads.
    axes : str, optional
        Names of the axes, instead of those in the file.
    channel : int, optional
        Which place of the axis c is wanted; by default channels count as slices.
    lazy : bool
        Whether pixels are read from a TIFF or Zarr only when they are asked for (`Lazy`); files of
        other kinds are read whole all the same. Needs Zarr.

    Raises
    ------
    InputError
        If it cannot be read, or axes or channel do not fit.
    """
    found = _read_lazily(path) if lazy else _read(path)
    if not found.pixels.size or found.pixels.ndim < 2 or found.pixels.dtype.kind not in "biuf":
        raise ImageFileError(
            f"{path} holds no picture of real numbers: it has shape {found.pixels.shape} and type "
            f"{found.pixels.dtype}"
        )
    return arranged(found, axes, channel)


def arranged(picture: Picture, axes: str | None = None, channel: int | None = None) -> Picture:
    """The same with slices first, then rows and columns, then colours, one channel chosen.

    Raises
    ------
    InputError
        If the axes do not fit the image, or there is no such channel.
    """
    pixels, named = picture.pixels, picture.axes if axes is None else axes
    if axes is not None and (
        len(axes) != pixels.ndim or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes)
    ):
        raise InputError(
            f"inputs.axes is {axes!r} and the image has shape {pixels.shape}: name each axis once"
        )
    if not named:
        if channel is not None:
            raise InputError("inputs.channel needs inputs.axes, which says which axis c is")
        return picture
    scale = _by_axis(picture) if axes is None or sorted(axes) == sorted(picture.axes) else {}
    pixels, named = _sampled(pixels, named)
    if "c" in named:
        place = named.index("c")
        count = pixels.shape[place]
        if channel is None and count == 1:
            channel = 0
        if channel is not None and channel >= count:
            raise InputError(
                f"inputs.channel is {channel}: the image has channels 0 to {count - 1}"
            )
        if channel is not None:
            pixels, named = pixels.take(channel, axis=place), named.replace("c", "")
    elif channel:
        raise InputError(f"inputs.channel is {channel}: the image has one channel, 0")
    order = [n for n, name in enumerate(named) if name not in "yxs"]
    order += [named.index(name) for name in "yxs" if name in named]
    names = "".join(named[n] for n in order)
    sizes = [scale.get(name, 1.0) for name in names if name != "s"]
    pixels = pixels.transpose(order)
    return Picture(
        np.ascontiguousarray(pixels) if isinstance(pixels, np.ndarray) else pixels,
        names,
        tuple(sizes) if scale else None,
        picture.unit if scale else "",
    )


def _sampled(pixels: Any, named: str) -> tuple[Any, str]:
    """Pixels whose axis s, if there is one, holds colours, and the names of their axes."""
    if "s" not in named:
        return pixels, named
    place = named.index("s")
    count = pixels.shape[place]
    if count <= 2:  # grey and alpha
        return pixels.take(0, axis=place), named.replace("s", "")
    if count <= 4:
        return pixels, named
    if "c" in named:
        raise InputError(
            f"the image has {count} samples in each pixel and an axis c: save it with one of them"
        )
    return pixels, named.replace("s", "c")


def _by_axis(picture: Picture) -> dict[str, float]:
    if picture.scale is None:
        return {}
    return dict(zip(picture.axes.replace("s", ""), picture.scale, strict=True))


def _read_lazily(path: Path) -> Picture:
    """As `_read`, of a TIFF or Zarr without its pixels."""
    try:
        import zarr
    except ImportError:
        raise ImageFileError(
            "inputs.chunk needs Zarr: pip install 'napari-fctsfn[formats]'"
        ) from None

    def tiff(index: tuple[Any, ...] | None) -> Any:
        # Opened here: by its path tifffile would open it anew for chunks that Zarr still reads
        # when one is damaged, and leave it open.
        with _damage_told(path), path.open("rb") as file:
            store: Any = tifffile.imread(file, aszarr=True, level=0)
            with store:
                array: Any = zarr.open(store, mode="r")
                return array if index is None else np.asarray(array[index])

    def part(index: tuple[Any, ...]) -> NDArray[Any]:
        with _damage_told(path):
            return np.asarray(array[index])

    with _damage_told(path):
        if readers.is_zarr(path):
            array, *_ = about = readers.read_zarr(path, lazy=True)
            return Picture(Lazy(part, array.shape, array.dtype), *about[1:])
        if path.is_file() and path.name.lower().endswith((".tif", ".tiff")):
            array = tiff(None)
            return _tiff(path, Lazy(tiff, array.shape, array.dtype))
    found = _read(path)
    pixels = found.pixels
    return replace(found, pixels=Lazy(pixels.__getitem__, pixels.shape, pixels.dtype))


def _read(path: Path) -> Picture:
    name = path.name.lower()
    special = readers.reader_for(path)
    if special is not None:
        with _damage_told(path):
            try:
                return Picture(*special(path))
            except ImportError as error:
                raise ImageFileError(
                    f"{path} needs a package that is not installed ({error.name}): pip install "
                    "'napari-fctsfn[formats]'"
                ) from None
    if path.is_file() and path.suffix.lower() not in _OWN:
        found = readers.through_napari(path)
        if found is not None:
            return Picture(*found)
    pixels = read_image(path)
    if name.endswith((".tif", ".tiff")):
        return _tiff(path, pixels)
    return Picture(pixels)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turn whatever decoders raise into one sentence."""
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise ImageFileError(f"{path} is larger than the memory: crop it") from None
    except Exception as error:  # noqa: BLE001  decoders raise anything on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageFileError(f"{path} cannot be read: it is damaged ({reason})") from None


def _tiff(path: Path, pixels: NDArray[Any] | Lazy) -> Picture:
    """A TIFF's pixels with the axes and sizes that OME, ImageJ or this program wrote."""
    try:
        with tifffile.TiffFile(path) as file:
            series, lazy = file.series[0], isinstance(pixels, Lazy)
            axes = (series.axes if lazy else tiff_axes(series)).lower()
            converted = is_converted(series)
            scale, unit = _tiff_scale(file)
    except Exception:  # noqa: BLE001  the pixels are there; what describes them is damaged
        return Picture(pixels)
    if lazy and converted:
        raise ImageFileError(
            f"{path} has colours that are no RGB: save it as RGB, or leave out inputs.chunk"
        )
    if len(axes) != pixels.ndim or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        return Picture(pixels)
    if scale is None or not all(math.isfinite(s) and s > 0 for s in scale.values()):
        return Picture(pixels, axes)
    return Picture(pixels, axes, tuple(scale.get(a, 1.0) for a in axes if a != "s"), unit)


def _tiff_scale(file: tifffile.TiffFile) -> tuple[dict[str, float] | None, str]:
    if file.is_ome:
        document: Any = tifffile.xml2dict(file.ome_metadata or "")["OME"]["Image"]
        about = (document[0] if isinstance(document, list) else document)["Pixels"]
        found = {a: float(about[f"PhysicalSize{a.upper()}"]) for a in "zyx" if _has(about, a)}
        unit = readers.unit_name(str(about.get("PhysicalSizeXUnit", "µm")))
        return (found, unit) if found else (None, "")
    if file.is_imagej:
        notes: Any = file.imagej_metadata or {}
        tags = file.pages[0].tags  # type: ignore[union-attr]
        unit = readers.unit_name(str(notes.get("unit", "")))
        if "XResolution" not in tags or unit in ("", "pixel"):
            return None, ""
        found = {a: _per(tags[f"{a.upper()}Resolution"].value) for a in "yx"}
        return {**found, "z": float(notes.get("spacing", 1.0))}, unit
    shaped: Any = (file.shaped_metadata or ({},))[0]
    if "scale" in shaped and "axes" in shaped:
        axes = str(shaped["axes"]).lower()
        return dict(zip(axes, map(float, shaped["scale"]), strict=True)), str(shaped["unit"])
    return None, ""


def _has(about: Any, axis: str) -> bool:
    return f"PhysicalSize{axis.upper()}" in about


def _per(rational: Sequence[int]) -> float:
    return rational[1] / rational[0]


def spatial_axes(picture: Picture) -> str:
    """Letters for the axes without colours, made up where the file names none."""
    count = picture.pixels.ndim - is_rgb(picture.pixels)
    named = picture.axes.replace("s", "")
    if len(named) == count and set(named) <= set("tczyx"):
        return named
    return "tczyx"[-count:] if count != 4 else "tzyx"
