"""Pictures and stacks from files, and label images back into them."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.models.files import replace_file

_TIFF = {".tif", ".tiff"}

_LARGEST_RATIO = 4096
"""No usual compression packs more bytes than this into one; a file that claims it is damaged."""


class ImageFileError(InputError):
    """An image file that cannot be read."""


def read_image(path: Path) -> NDArray[Any]:
    """Read a picture or a stack.

    Parameters
    ----------
    path : Path
        TIFF (any number of dimensions) or whatever imageio reads (PNG, JPEG, ...).

    Returns
    -------
    array
        As stored: (rows, columns), (rows, columns, 3 or 4), or with leading axes for slices.

    Raises
    ------
    ImageFileError
        If the file is missing, empty, damaged or no image.
    """
    if not path.is_file():
        raise ImageFileError(f"there is no image file {path}")
    if not path.stat().st_size:
        raise ImageFileError(f"{path} is an empty file: write the image again")
    try:
        # Decoders tell of damage by warnings and log lines; what they return is checked below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = (
                _read_tiff(path) if path.suffix.lower() in _TIFF else np.asarray(iio.imread(path))
            )
    except ImageFileError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImageFileError(f"{path} cannot be read as an image: {reason}") from None
    if image.dtype.kind not in "biuf":
        raise ImageFileError(f"{path} holds values of type {image.dtype}, not real numbers")
    if not image.size or image.ndim < 2:
        raise ImageFileError(f"{path} holds no picture: its shape is {image.shape}")
    return image


def _read_tiff(path: Path) -> NDArray[Any]:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if series.size * series.dtype.itemsize > max(1 << 26, _LARGEST_RATIO * path.stat().st_size):
            raise ImageFileError(
                f"{path} claims a picture of shape {series.shape}, more than its "
                f"{path.stat().st_size} bytes can hold: write the image again"
            )
        return np.asarray(series.asarray())


def is_rgb(image: NDArray[Any]) -> bool:
    """Whether the last axis holds colours: three or more axes, the last of 3 or 4."""
    return image.ndim >= 3 and image.shape[-1] in (3, 4)


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
