"""Sample pictures that come with the package; `data/README.md` says where they are from."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

LayerTuple = tuple[NDArray[np.uint8], dict[str, Any], str]


def picture(name: str) -> NDArray[np.uint8]:
    """A bundled picture.

    Parameters
    ----------
    name : str
        ``nuclei`` or ``chloroplasts``.

    Returns
    -------
    array of uint8, shape (rows, columns)
        Grey, 0..255.
    """
    return _bundled(f"{name}.png")


def _grey(name: str, pixels: NDArray[np.uint8], shown: tuple[int, int]) -> LayerTuple:
    """A layer whose contrast is that of `Normalisation.from_array`, which would import torch."""
    return pixels, {"name": name, "contrast_limits": shown}, "image"


def _bundled(name: str) -> NDArray[np.uint8]:
    with as_file(files("napari_fctsfn") / "data" / name) as path:
        return np.asarray(iio.imread(path))


def nuclei() -> list[LayerTuple]:
    """Nuclei under the fluorescence microscope, 256 x 256, CC0."""
    return [_grey("nuclei", picture("nuclei"), (1, 81))]


def chloroplasts() -> list[LayerTuple]:
    """Chloroplasts in plant tissue under the electron microscope, 512 x 512, MIT."""
    return [_grey("chloroplasts", picture("chloroplasts"), (112, 199))]


def chloroplast_stack() -> list[LayerTuple]:
    """Ten slices of plant tissue under the electron microscope, 10 x 256 x 256, MIT."""
    import tifffile

    with as_file(files("napari_fctsfn") / "data" / "chloroplasts_stack.tif") as path:
        return [_grey("chloroplasts, stack", tifffile.imread(path), (103, 199))]


def stained_nuclei() -> list[LayerTuple]:
    """Stained nuclei under the microscope, 256 x 320, RGB, CC0."""
    meta = {"name": "stained nuclei", "rgb": True}
    return [(_bundled("stained_nuclei.jpg"), meta, "image")]


def cat() -> list[LayerTuple]:
    """A photograph of scikit-image's, 300 x 451, RGB, CC0."""
    from skimage.data import chelsea

    return [(chelsea(), {"name": "cat", "rgb": True}, "image")]
