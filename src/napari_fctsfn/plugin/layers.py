"""Between napari layers and slices: shapes, transforms, the slice that is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points
from napari.utils.colormaps import CyclicLabelColormap
from napari.utils.colormaps.standardize_color import transform_color

from napari_fctsfn.session.patch import LARGEST
from napari_fctsfn.session.plane import Plane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.viewer import Viewer

    from napari_fctsfn.predict import Normalisation

TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What our layers share with the image, and the events that tell of its changes."""

_BRUSHES = 20
"""A new layer's brush goes at least so often into the shorter side of the picture."""

_FILLED = 0.95
"""Part of the canvas that an image fills, as when napari opens it."""

_COVERING = ("opaque", "translucent", "translucent_no_depth")
"""Blendings of images that nothing is seen through."""

THICK_POINTS = 16
"""Points clicked in any channel are so near to the middle of all that every channel shows them."""


def full_data(image: Image) -> Any:
    """The image's data at full resolution, possibly lazy; RGB has its channels last."""
    return image.data[0] if image.multiscale else image.data


def image_shape(image: Image, channels: int | None = None) -> tuple[int, ...]:
    """Shape of the labels of an image: its own at full resolution, without RGB channels.

    Parameters
    ----------
    image : Image
    channels : int, optional
        The axis of the channels: all of them have the same labels, so its size is 1.
    """
    sizes = full_data(image).shape[: image.ndim]
    return tuple(1 if axis == channels else int(size) for axis, size in enumerate(sizes))


def transforms(image: Image, channels: int | None = None, thick: float = 1) -> dict[str, Any]:
    """Keyword arguments that put a new layer where the image is.

    With an axis of `channels` its single slice is as thick as all channels together, so that the
    layer is shown whichever of them is; `thick` times as thick brings points nearer to its middle.
    """
    places = {name: getattr(image, name) for name in TRANSFORMS}
    if channels is not None:
        size = full_data(image).shape[channels]
        scale, translate = np.array(image.scale), np.array(image.translate)
        translate[channels] += scale[channels] * (size - 1) / 2
        scale[channels] *= size * thick
        places |= {"scale": scale, "translate": translate}
    return places


def follow(image: Image, layers: Iterable[Layer], channels: int | None = None) -> None:
    """Put layers where the image is."""
    for layer in layers:
        thick = THICK_POINTS if isinstance(layer, Points) else 1
        for name, value in transforms(image, channels, thick).items():
            setattr(layer, name, value)


def piece_transforms(layer: Layer, begin: tuple[float, ...]) -> dict[str, Any]:
    """Attributes that put a layer of a piece of another layer where that piece is.

    Parameters
    ----------
    layer : Layer
        The whole.
    begin : tuple of float
        Where the piece begins, in data coordinates of the whole.
    """
    corner = np.asarray(layer.data_to_world(begin))
    steps = [np.asarray(layer.data_to_world(begin + unit)) - corner for unit in np.eye(layer.ndim)]
    affine = np.eye(layer.ndim + 1)
    affine[:-1, :-1], affine[:-1, -1] = np.transpose(steps), corner
    return {"affine": affine, "units": layer.units, "axis_labels": layer.axis_labels}


_COLORS = (
    *("#009e73", "#f0e442", "#d55e00", "#9600ff", "#cc79a7", "#e1004b", "#9669ff", "#56b4e9"),
    *("#a5b469", "#00ffe1", "#783c1e", "#5a2dc3", "#96005a", "#c3ffb4"),
)
"""Of Okabe and Ito those that clicks do not have, and nine more that are far from these, from the
clicks' and from each other for every kind of colour vision; neighbours in number are farther apart
still, and so are the first eight, also where they are laid over something bright."""


def object_colors(first: int = 1) -> CyclicLabelColormap:
    """Colours of objects, anew for every layer; the first has that of the object `first`."""
    colors = np.array([transform_color(color)[0] for color in _COLORS])
    cycle = np.roll(colors, 1 - first, axis=0)
    return CyclicLabelColormap(colors=np.concatenate([np.zeros((1, 4)), cycle]), name="objects")


def displayed_range(image: Image) -> Normalisation:
    """The range of intensities of an image, as it is displayed.

    Where the contrast limits clip nothing nobody has chosen them, and a few bright pixels may make
    all others dark: then it is percentiles, as wherever there is no display. Lazy images of a
    single resolution are not read for that.
    """
    from napari_fctsfn.predict import Normalisation

    data = image.data[-1] if image.multiscale else image.data
    if image.rgb:
        return Normalisation.for_rgb(data.dtype)
    low, high = image.contrast_limits
    if low < high and not (image.multiscale or isinstance(data, np.ndarray)):
        return Normalisation.from_limits((low, high))
    # an image of one value, or of none but NaN, has no limits to go by
    every = Normalisation.from_array(data, 0, 100)
    if low < high and (low > every.low or high < every.high):
        return Normalisation.from_limits((low, high))
    return Normalisation.from_array(data)


def new_labels(image: Image, data: np.ndarray | None = None, channels: int | None = None) -> Labels:
    """A Labels layer for an image; by default empty, uint16.

    Its memory is taken where something is written, so that a huge image costs nothing at first.
    """
    if data is None:
        data = np.zeros(image_shape(image, channels), dtype=np.uint16)
    name = f"{image.name} objects"
    layer = Labels(data, name=name, colormap=object_colors(), **transforms(image, channels))
    # napari's usual brush paints over all of a small picture with one stroke
    layer.brush_size = min(layer.brush_size, max(1, min(data.shape[-2:]) // _BRUSHES))
    return layer


def capacity(labels: Labels) -> int:
    """The largest label of an object that a Labels layer can hold."""
    return min(int(np.iinfo(labels.data.dtype).max), LARGEST)


def shown_axes(viewer: Viewer, layer: Layer) -> tuple[int, int] | None:
    """The two axes of a layer that the viewer shows; None in 3-D or if it shows others."""
    offset = viewer.dims.ndim - layer.ndim
    axes = sorted(axis - offset for axis in viewer.dims.displayed)
    if len(axes) != 2 or axes[0] < 0:
        return None
    return axes[0], axes[1]


def shown_plane(
    viewer: Viewer, layer: Layer, shape: tuple[int, ...], channels: int | None = None
) -> Plane | None:
    """The slice of a layer that the viewer shows.

    Parameters
    ----------
    viewer : Viewer
        The viewer.
    layer : Layer
        The image.
    shape : tuple of int
        Its shape in labels.
    channels : int, optional
        The axis of its channels, whose slider says nothing.

    Returns
    -------
    Plane or None
        None in the 3-D view, where the viewer stands outside the image, and where the channels
        are a displayed axis.
    """
    axes = shown_axes(viewer, layer)
    if axes is None:
        return None
    point = [float(x) for x in layer.world_to_data(viewer.dims.point)]
    if channels is not None:
        if channels in axes:
            return None
        point[channels] = 0.0
    if min((round(float(x)) for i, x in enumerate(point) if i not in axes), default=0) < 0:
        return None
    plane = Plane.through(point, axes)
    return plane if plane.inside(shape) else None


def camera_of(viewer: Viewer) -> Any:
    """The viewer's camera, which since napari 0.9 is its scene's."""
    return getattr(viewer, "scene", viewer).camera


def blended(image: Image) -> bool:
    """Whether an image is seen together with those behind it."""
    return image.visible and (image.blending not in _COVERING or image.opacity < 1)


def covers(image: Image, viewer: Viewer, other: Image) -> bool:
    """Whether an image hides another one behind it."""
    in_front = viewer.layers.index(image) > viewer.layers.index(other)
    return image.visible and not blended(image) and in_front


def fit(viewer: Viewer, image: Image, before: Image) -> None:
    """Fit the view to an image that is not where the one before was; in the 3-D view nothing."""
    old, new = (np.asarray(layer.extent.world)[:, -2:] for layer in (before, image))
    if viewer.dims.ndisplay != 2 or np.allclose(old, new):
        return
    viewer.reset_view()
    # that fits all layers, and those of older napari cannot be told from one
    if (canvas := getattr(viewer, "canvas", None)) is not None:
        camera, sides = camera_of(viewer), np.maximum(new[1] - new[0], 1e-9)
        camera.center = (0.0, *new.mean(axis=0).tolist())
        camera.zoom = _FILLED * float(min(np.array(canvas.size) / sides))


def shows(layer: Layer, plane: Plane, box: tuple[int, int, int, int]) -> bool:
    """Whether the canvas, as it was drawn last, shows a box of a layer's slice from end to end.

    Parameters
    ----------
    layer : Layer
        A layer that is no pyramid.
    plane : Plane
        The slice.
    box : (int, int, int, int)
        First row, first column, row after the last, column after the last.
    """
    (top, left), (bottom, right) = layer.corner_pixels[:, list(plane.axes)]
    return bool(top <= box[0] and left <= box[1] and box[2] - 1 <= bottom and box[3] - 1 <= right)


def slider_axis(viewer: Viewer, plane: Plane, shape: tuple[int, ...]) -> int | None:
    """The axis along which the annotator goes through the slices; None if there is no other.

    Parameters
    ----------
    viewer : Viewer
        Says which slider was moved last.
    plane : Plane
        The slice that is shown.
    shape : tuple of int
        Of the labels.
    """
    hidden = [n for n, index in enumerate(plane.index) if index is not None and shape[n] > 1]
    used = viewer.dims.last_used - (viewer.dims.ndim - len(plane.index))
    return used if used in hidden else max(hidden, default=None)


def show_plane(viewer: Viewer, layer: Layer, plane: Plane, channels: int | None = None) -> None:
    """Move the sliders so that a slice of a layer is shown; that of the channels stays."""
    offset = viewer.dims.ndim - layer.ndim
    world = layer.data_to_world(plane.point(0.0, 0.0))
    for axis, index in enumerate(plane.index):
        if index is not None and axis != channels:
            viewer.dims.set_point(axis + offset, world[axis])
