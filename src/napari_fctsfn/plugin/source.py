"""The image that is annotated, and what the predictor is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_fctsfn.plugin.layers import (
    TRANSFORMS,
    displayed_range,
    full_data,
    image_shape,
    shown_axes,
    shown_plane,
    slider_axis,
)
from napari_fctsfn.plugin.tasks import Slice

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_fctsfn.predict import Channels, Normalisation
    from napari_fctsfn.session import Plane


class ImageSource:
    """An Image layer, held by reference and watched.

    Parameters
    ----------
    viewer : Viewer
        Says which slice is shown.
    data_changed, moved : callable
        Called, without arguments, after the layer's data or its place have changed.

    Attributes
    ----------
    layer : Image or None
        The image; None before one is chosen.
    channels : Channels or None
        What the network sees of an image with an axis of channels.
    """

    def __init__(
        self, viewer: Viewer, data_changed: Callable[[], None], moved: Callable[[], None]
    ) -> None:
        self._viewer = viewer
        self._data_changed, self._moved = data_changed, moved
        self._revision = 0
        self._range: tuple[object, Normalisation] | None = None
        self.layer: Image | None = None
        self.channels: Channels | None = None

    def watch(self, layer: Image | None) -> None:
        """Take another image; None takes none."""
        if layer == self.layer:
            return
        if self.layer is not None:
            self.layer.events.data.disconnect(self._on_data)
            for name in TRANSFORMS:
                getattr(self.layer.events, name).disconnect(self._on_transform)
        self.layer = layer
        self.channels = None
        self._revision += 1
        if layer is not None:
            layer.events.data.connect(self._on_data)
            for name in TRANSFORMS:
                getattr(layer.events, name).connect(self._on_transform)

    @property
    def _axis(self) -> int | None:
        return None if self.channels is None else self.channels.axis

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image in labels; empty before one is chosen."""
        return () if self.layer is None else image_shape(self.layer, self._axis)

    def plane(self) -> Plane | None:
        """The slice that is shown; None in 3-D or where the viewer stands outside the image."""
        if self.layer is None:
            return None
        return shown_plane(self._viewer, self.layer, self.shape, self._axis)

    def choose(self, channels: tuple[int, tuple[int, ...]] | None) -> None:
        """Choose what the network sees: an axis and one to three channels along it, or all.

        Raises
        ------
        InputError
            If the image has no such channels.
        """
        from napari_fctsfn.predict import Channels

        data = full_data(self.layer)
        self.channels = None if channels is None else Channels.of(data, *channels)

    def neighbours(self, plane: Plane) -> list[Plane]:
        """The slices on either side of one, the higher one first."""
        assert self.layer is not None
        shape = image_shape(self.layer, self._axis)
        axis = slider_axis(self._viewer, plane, shape)
        if axis is None:
            return []
        places = [(plane.index[axis] or 0) + step for step in (1, -1)]
        return [
            replace(plane, index=(*plane.index[:axis], place, *plane.index[axis + 1 :]))
            for place in places
            if 0 <= place < shape[axis]
        ]

    def slice(self, plane: Plane, normalisation: Normalisation) -> Slice:
        """A slice for the predictor; its key changes when the image's data are replaced."""
        return self.slices(normalisation)(plane)

    def slices(self, normalisation: Normalisation) -> Callable[[Plane], Slice]:
        """What gives slices of the image that is there now, also once there is another."""
        data, revision, channels = full_data(self.layer), self._revision, self.channels

        def piece(plane: Plane) -> Slice:
            return Slice(data, plane, normalisation, (revision, plane.index, channels), channels)

        return piece

    def normalisation(self) -> Normalisation:
        """The range of intensities that is displayed: what the annotator sees the network sees."""
        from napari_fctsfn.predict import Normalisation

        assert self.layer is not None
        if self.channels is not None:  # each has its own range already
            return Normalisation(0.0, 1.0)
        key = (self._revision, tuple(self.layer.contrast_limits))
        if self._range is None or self._range[0] != key:
            self._range = key, displayed_range(self.layer)
        return self._range[1]

    def why_no_slice(self) -> str:
        """Why no slice is shown, and what to do."""
        if self._viewer.dims.ndisplay == 3:
            return "clicking needs the 2-D view, press Control-Y"
        if self._axis is not None and self.layer is not None:
            axes = shown_axes(self._viewer, self.layer)
            if axes is not None and self._axis in axes:
                return f"axis {self._axis} holds the channels, display the other axes"
        name = "" if self.layer is None else self.layer.name
        return f"no slice of “{name}” is shown, move the sliders back to it"

    def _on_data(self, _event: Any) -> None:
        self._revision += 1
        self._data_changed()

    def _on_transform(self, _event: Any) -> None:
        self._moved()
