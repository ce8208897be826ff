"""Pictures and stacks from files, and masks back into them."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError

_TIFF = (".tif", ".tiff")

_LARGEST_RATIO = 4096
"""No usual compression packs more bytes than this into one; a file that claims it is damaged."""

_PLAIN = {"LA": "L", "PA": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
"""Pillow's modes whose channels are not grey, RGB or RGBA, and what they are read as."""

_CONVERTED = (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB)
"""Colours of TIFF files that only Pillow turns into RGB."""

_STORED = {
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
}
"""Compressions that know nothing of colours; JPEG makes RGB of YCbCr itself."""

_GREY_ALPHA = 2
"""So many samples in a pixel of a TIFF are grey and alpha."""

_unlimited = Lock()
"""Pillow's limit is one for all threads: held while it is off."""


class ImageFileError(InputError):
    """An image file that cannot be used; the message names it and what is wrong with it."""


def read_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a picture or a stack.

    Parameters
    ----------
    path : path
        TIFF (any number of dimensions) or whatever imageio reads with Pillow (PNG, JPEG, BMP, ...),
        of which the first frame is taken. CMYK and YCbCr are read as RGB, grey with alpha without
        its alpha.

    Returns
    -------
    array
        As stored, any real dtype: (rows, columns), (rows, columns, 3 or 4) for RGB or RGBA, or with
        leading axes for slices.

    Raises
    ------
    ImageFileError
        If the file is missing, empty, damaged or no image.
    """
    image = _read(Path(path), _read_picture)
    if image.dtype.kind not in "biuf":
        raise ImageFileError(f"{path} holds values of type {image.dtype}, not real numbers")
    if not image.size or image.ndim < 2:
        raise ImageFileError(f"{path} holds no picture: its shape is {image.shape}")
    return image


def read_labels(path: str | os.PathLike[str], stack: bool = False) -> NDArray[Any]:
    """Read a label image; of a palette image the indices, not the colours.

    Parameters
    ----------
    path : path
        PNG or TIFF.
    stack : bool
        Whether there may be leading axes.

    Returns
    -------
    array of int or bool, shape (rows, columns), or with leading axes

    Raises
    ------
    ImageFileError
        If the file is missing, empty, damaged or no label image.
    """
    labels = _read(Path(path), _read_indices)
    flat = labels.ndim == 2 or (stack and labels.ndim > 2 and not is_rgb(labels))
    if not flat or not labels.size or labels.dtype.kind not in "biu":
        raise ImageFileError(
            f"{path} is no label image: it has shape {labels.shape} and type {labels.dtype}; "
            f"labels have (rows, columns) and whole numbers"
        )
    return labels


def is_rgb(image: NDArray[Any]) -> bool:
    """Whether the last axis holds colours: three or more axes, the last of 3 or 4."""
    return image.ndim >= 3 and image.shape[-1] in (3, 4)


def tiff_axes(series: tifffile.TiffPageSeries) -> str:
    """Letters of a TIFF's axes as `read_image` gives them: colours last, no alpha of grey."""
    axes = str(series.axes)
    if "S" not in axes:
        return axes
    if series.shape[axes.index("S")] == _GREY_ALPHA:
        return axes.replace("S", "")
    coloured = series.keyframe.photometric == tifffile.PHOTOMETRIC.RGB or is_converted(series)
    return axes.replace("S", "") + "S" if coloured else axes


def is_converted(series: tifffile.TiffPageSeries) -> bool:
    """Whether the colours of a TIFF are no RGB, which `read_image` makes of them."""
    page = series.keyframe
    stored = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression in _STORED
    return stored or page.photometric in _CONVERTED


def write_tiff(path: Path, image: NDArray[Any]) -> None:
    """Write a TIFF with lossless compression, atomically.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    image : array, any number of dimensions
    """
    with replace_file(path) as temporary:
        tifffile.imwrite(temporary, image, compression="zlib", photometric="minisblack")


def _read(path: Path, read_other: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    if path.is_dir():
        raise ImageFileError(f"{path} is a folder: name an image in it, or see `batch` for folders")
    if not path.is_file():
        raise ImageFileError(f"there is no image file {path}: check its folder and name")
    if not path.stat().st_size:
        raise ImageFileError(f"{path} is an empty file: write the image again")
    try:
        with _silent():
            return _read_tiff(path) if path.suffix.lower() in _TIFF else read_other(path)
    except ImageFileError:
        raise
    except Exception as error:  # noqa: BLE001  decoders raise anything on damaged files
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            what = "is larger than the memory: crop it or take slices"
            raise ImageFileError(f"{path} {what}") from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageFileError(
            f"{path} cannot be read as an image: it is damaged, no image, or of another format "
            f"than its name says; write it again with the program it comes from ({reason})"
        ) from None


def _read_tiff(path: Path) -> NDArray[Any]:
    _check_pages(path)
    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise ImageFileError(f"{path} is a TIFF file without a picture")
        series = file.series[0]
        _check_size(path, series.shape, series.nbytes // (8 if series.dtype == bool else 1))
        if is_converted(series) and any(series.keyframe.extrasamples):
            raise ImageFileError(f"{path} has alpha beside colours that are no RGB: save it as RGB")
        numbers = [page.index for page in series.pages if page is not None]
        try:
            if not is_converted(series):
                return _arranged(np.asarray(series.asarray(maxworkers=1)), series)
        except (ValueError, ImportError) as error:
            # LZW and JPEG in TIFF need a package that tifffile does not require; Pillow has them.
            if "imagecodecs" not in str(error):
                raise
    with _mute(), _opened(path) as other:
        mode = _PLAIN.get(other.metadata(index=0, exclude_applied=False)["mode"])
        pages = np.asarray([other.read(index=number, mode=mode) for number in numbers])
    return pages[0] if len(pages) == 1 else pages


def _arranged(pixels: NDArray[Any], series: tifffile.TiffPageSeries) -> NDArray[Any]:
    """Pixels with the axes that `tiff_axes` tells."""
    axes = tiff_axes(series)
    place = series.axes.find("S")
    if "S" not in axes:
        return pixels if place < 0 else pixels.take(0, axis=place)
    return np.moveaxis(pixels, place, axes.index("S"))


def _check_pages(path: Path) -> None:
    """Refuse pages that lead in a circle: tifffile would follow them for ever."""
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "<")
        big = head[2:4] in {b"+\0", b"\0+"}
        count, following = (Struct(order + ("Q" if big else kind)) for kind in "HI")
        (offset,) = following.unpack_from(head, 8 if big else 4)
        seen = set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            tags = file.read(count.size)
            if len(tags) < count.size:
                return
            file.seek(count.unpack(tags)[0] * (20 if big else 12), os.SEEK_CUR)
            after = file.read(following.size)
            if len(after) < following.size:
                return
            (offset,) = following.unpack(after)
        if offset:
            raise ImageFileError(
                f"{path} is damaged: after page {len(seen)} comes an earlier one again"
            )


def _read_picture(path: Path) -> NDArray[Any]:
    return _read_frame(path, indices=False)


def _read_indices(path: Path) -> NDArray[Any]:
    return _read_frame(path, indices=True)


def _read_frame(path: Path, *, indices: bool) -> NDArray[Any]:
    with _opened(path) as file:
        about = file.metadata(index=0, exclude_applied=False)
        stored, pixels = about["mode"], math.prod(about["shape"])
        mode = "P" if indices and stored in {"P", "PA"} else _PLAIN.get(stored)
        # what is no colour may be a single bit in the file
        flat = (mode or stored) in ({"1", "L", "P"} if indices else {"1", "L"})
        if not _is_webp(path):
            _check_size(path, tuple(about["shape"]), pixels // 8 if flat else 3 * pixels)
        return np.asarray(file.read(index=0, mode=mode))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file that Pillow reads, however large its picture is: `_check_size` asks instead."""
    with _unlimited:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with iio.imopen(path, "r", plugin="pillow") as file:
                yield file
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _is_webp(path: Path) -> bool:
    """Whether a few bytes may hold a large blank picture, and none is larger than 16383 squared."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"WEBP"


def _check_size(path: Path, shape: tuple[int, ...], nbytes: int) -> None:
    """Refuse a picture of so many bytes as cannot be in the file, before memory is taken for it."""
    size = path.stat().st_size
    if nbytes > max(1 << 26, _LARGEST_RATIO * size):
        raise ImageFileError(
            f"{path} claims a picture of {' x '.join(map(str, shape))} pixels, more than its "
            f"{size} bytes can hold: write the image again"
        )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep decoders from telling of damage by warnings and log lines; an error says it all."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


@contextmanager
def _mute() -> Iterator[None]:
    """Keep libtiff quiet: it writes to the process's error stream, past Python's."""
    try:
        kept = os.dup(2)
    except OSError:  # a process without an error stream
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
