"""Sample pictures that come with the package; `data/README.md` says where they are from."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

LayerData = tuple[NDArray[np.uint8], dict[str, Any], str]


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


def _bundled(name: str) -> NDArray[np.uint8]:
    with as_file(files("napari_fctsfn") / "data" / name) as path:
        return np.asarray(iio.imread(path))


def nuclei() -> list[LayerData]:
    """Nuclei under the fluorescence microscope, 256 x 256, CC0."""
    return [(picture("nuclei"), {"name": "nuclei"}, "image")]


def chloroplasts() -> list[LayerData]:
    """Chloroplasts in plant tissue under the electron microscope, 512 x 512, MIT."""
    return [(picture("chloroplasts"), {"name": "chloroplasts"}, "image")]


def chloroplast_stack() -> list[LayerData]:
    """Ten slices of plant tissue under the electron microscope, 10 x 256 x 256, MIT."""
    import tifffile

    with as_file(files("napari_fctsfn") / "data" / "chloroplasts_stack.tif") as path:
        return [(tifffile.imread(path), {"name": "chloroplasts, stack"}, "image")]


def stained_nuclei() -> list[LayerData]:
    """Stained nuclei under the microscope, 256 x 320, RGB, CC0."""
    meta = {"name": "stained nuclei", "rgb": True}
    return [(_bundled("stained_nuclei.jpg"), meta, "image")]


def cat() -> list[LayerData]:
    """A photograph of scikit-image's, 300 x 451, RGB, CC0."""
    from skimage.data import chelsea

    return [(chelsea(), {"name": "cat", "rgb": True}, "image")]
