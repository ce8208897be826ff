"""Between napari layers and slices: shapes, transforms, the slice that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_fctsfn.session.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.viewer import Viewer

TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What our layers share with the image, and the events that tell of its changes."""


def full_data(image: Image) -> Any:
    """The image's data at full resolution, possibly lazy; RGB has its channels last."""
    return image.data[0] if image.multiscale else image.data


def image_shape(image: Image) -> tuple[int, ...]:
    """Shape of the labels of an image: its own at full resolution, without RGB channels."""
    return tuple(int(size) for size in full_data(image).shape[: image.ndim])


def transforms(image: Image) -> dict[str, Any]:
    """Keyword arguments that put a new layer where the image is."""
    return {name: getattr(image, name) for name in TRANSFORMS}


def follow(image: Image, layers: Iterable[Layer]) -> None:
    """Put layers where the image is."""
    for layer in layers:
        for name in TRANSFORMS:
            setattr(layer, name, getattr(image, name))


def new_labels(image: Image, data: np.ndarray | None = None) -> Labels:
    """A Labels layer for an image; by default empty, uint16."""
    if data is None:
        data = np.zeros(image_shape(image), dtype=np.uint16)
    return Labels(data, name=f"{image.name} objects", **transforms(image))


def capacity(labels: Labels) -> int:
    """The largest label a Labels layer can hold; napari shows none beyond 32 bits."""
    return min(int(np.iinfo(labels.data.dtype).max), 2**31 - 1)


def shown_axes(viewer: Viewer, layer: Layer) -> tuple[int, int] | None:
    """The two axes of a layer that the viewer shows; None in 3-D or if it shows others."""
    offset = viewer.dims.ndim - layer.ndim
    axes = sorted(axis - offset for axis in viewer.dims.displayed)
    if len(axes) != 2 or axes[0] < 0:
        return None
    return axes[0], axes[1]


def shown_plane(viewer: Viewer, layer: Layer, shape: tuple[int, ...]) -> Plane | None:
    """The slice of a layer that the viewer shows.

    Parameters
    ----------
    viewer : Viewer
        The viewer.
    layer : Layer
        The image.
    shape : tuple of int
        Its shape in labels.

    Returns
    -------
    Plane or None
        None in the 3-D view and where the viewer stands outside the image.
    """
    axes = shown_axes(viewer, layer)
    if axes is None:
        return None
    point = layer.world_to_data(viewer.dims.point)
    if min((round(float(x)) for i, x in enumerate(point) if i not in axes), default=0) < 0:
        return None
    plane = Plane.through(point, axes)
    return plane if plane.inside(shape) else None


def show_plane(viewer: Viewer, layer: Layer, plane: Plane) -> None:
    """Move the sliders so that a slice of a layer is shown."""
    offset = viewer.dims.ndim - layer.ndim
    world = layer.data_to_world(plane.point(0.0, 0.0))
    for axis, index in enumerate(plane.index):
        if index is not None:
            viewer.dims.set_point(axis + offset, world[axis])
