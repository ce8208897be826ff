"""The layers of one annotation: what is wrong with them, and writing into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils import DirectLabelColormap

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.plugin.layers import (
    capacity,
    follow,
    full_data,
    image_shape,
    show_plane,
    shown_axes,
)
from napari_fctsfn.plugin.prompts import Prompts
from napari_fctsfn.plugin.strokes import by_slice, spans
from napari_fctsfn.session import Plane

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_fctsfn.session import Journal, Patch, Session


_COLORS_AHEAD = 256
"""Labels that get their colour before they are used, once there are colours of choice."""

_COLORS_AT_ONCE = 1 << 16
"""Labels that get it whether they are used or not; of higher ones only those that are there do."""


def refusal(image: Image | None, labels: Labels | None, channels: int | None = None) -> str:
    """Why these layers cannot be annotated, in one sentence; empty if they can.

    Parameters
    ----------
    image : Image or None
    labels : Labels or None
    channels : int, optional
        The axis of the image's channels.
    """
    if image is None:
        return "There is no image to annotate: open one first."
    if image.ndim < 2 or 0 in image_shape(image):
        return f"“{image.name}” has shape {image_shape(image)}: choose an image with pixels."
    if labels is None:
        return ""
    if not (isinstance(labels.data, np.ndarray) and labels.data.flags.writeable):
        return (
            f"Labels layer “{labels.name}” is multiscale, loaded lazily or read-only and cannot be "
            "written: choose “New labels layer”."
        )
    if labels.data.shape != image_shape(image, channels):
        return (
            f"Labels layer “{labels.name}” has shape {labels.data.shape}, image “{image.name}” "
            f"{image_shape(image, channels)}: choose labels of the image's shape or “New labels "
            "layer”."
        )
    return ""


class Site:
    """A session and its layers, held by reference.

    Parameters
    ----------
    session : Session
        The document.
    journal : Journal or None
        Where it is saved; None if it is not.
    viewer : Viewer
        Where the layers are shown.
    image : Image
        The image.
    labels : Labels
        Where the masks go.
    clicked, painted, replaced : callable
        Called, without arguments, after the annotator has changed points, after somebody else has
        painted in the labels, and after the labels got other data.
    """

    def __init__(
        self,
        session: Session,
        journal: Journal | None,
        viewer: Viewer,
        image: Image,
        labels: Labels,
        clicked: Callable[[], None],
        painted: Callable[[], None],
        replaced: Callable[[], None],
    ) -> None:
        self.session = session
        self.journal = journal
        self._viewer = viewer
        self._painted, self._replaced = painted, replaced
        self._writing = self._hearing = False
        self._strokes: dict[Plane, list[list[np.ndarray]]] = {}
        self.image = image
        self.labels = labels
        self._own_colors = labels.colormap
        self._chosen_colors: dict[int, str] = {}
        self._colored: set[int] = set()
        self._channels = None if session.channels is None else session.channels.axis
        self.prompts = Prompts(image, clicked, self._channels)
        self.labels.events.paint.connect(self._on_paint)
        self.labels.events.data.connect(self._on_data)
        self.follow_image()
        self.add_missing()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Image, labels and both prompt layers."""
        return self.image, self.labels, *self.prompts.layers

    def close(self) -> None:
        """Stop listening and take out the prompts; the labels stay, in colours of their own."""
        self.labels.events.paint.disconnect(self._on_paint)
        self.labels.events.data.disconnect(self._on_data)
        if self._chosen_colors:
            self.labels.colormap = self._own_colors
        self.prompts.close()
        for layer in self.prompts.layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def missing(self) -> list[Layer]:
        """Those of the layers that are not in the viewer."""
        return [layer for layer in self.layers if layer not in self._viewer.layers]

    def add_missing(self) -> None:
        """Put the missing layers into the viewer, the image lowest and the prompts on top."""
        for layer in self.missing():
            self._viewer.add_layer(layer)
            for above in self.layers[self.layers.index(layer) + 1 :]:
                if above in self._viewer.layers:
                    self._viewer.layers.move(self._viewer.layers.index(above), -1)

    def follow_image(self) -> None:
        """Put labels and prompts where the image is."""
        follow(self.image, self.layers[1:], self._channels)

    def show(self, plane: Plane) -> None:
        """Move the sliders so that a slice is shown."""
        show_plane(self._viewer, self.image, plane, self._channels)

    def labels_of(self, plane: Plane) -> np.ndarray:
        """The labels of a slice, (rows, columns); a view."""
        return self.labels.data[plane.key]

    def take_clicks(self, why_none: str) -> None:
        """Tell the session which clicks there are now.

        Parameters
        ----------
        why_none : str
            Why clicks cannot be added now; empty if they can.

        Raises
        ------
        ValueError
            If a click is outside the image, or was added while none can be.
        """
        session, found = self.session, self.prompts.read()
        label = session.current
        known = {plane: session.clicks(label, plane) for plane in session.planes(label)}
        if why_none and sum(map(len, found.values())) > sum(map(len, known.values())):
            raise ValueError(why_none)
        for plane in dict.fromkeys([*known, *found]):
            session.edit_clicks(plane, found.get(plane, Clicks()))

    def show_object(self) -> None:
        """Show the clicks of the current object, and of no other."""
        session, label = self.session, self.session.current
        self._dress()
        self.labels.selected_label = label
        self.expect()
        self.prompts.show({plane: session.clicks(label, plane) for plane in session.planes(label)})

    def _dress(self) -> None:
        """Give the labels the colours that the annotator has chosen, and hide what is hidden."""
        chosen = {
            label: "transparent" if note.hidden else note.color
            for label, note in self.session.notes.items()
            if note.hidden or note.color
        }
        known = self._colored.issuperset([self.session.current, *self.session.objects])
        if chosen == self._chosen_colors and (known or not chosen):
            return
        self._chosen_colors = chosen
        colors = self._own_colors
        if chosen:
            labels = self._to_color()
            every: dict[Any, Any] = dict(zip(labels.tolist(), colors.map(labels), strict=True))
            self._colored = set(every)
            colors = DirectLabelColormap(color_dict=every | chosen | {None: colors.map(1)})
        self.labels.colormap = colors

    def _to_color(self) -> np.ndarray:
        """Labels that get a colour of their own where there are colours of choice."""
        highest = self.session.highest
        if highest < _COLORS_AT_ONCE:
            return np.arange(highest + _COLORS_AHEAD)
        used = set().union(*(np.unique(part).tolist() for part in self.labels.data))
        ahead = range(highest, highest + _COLORS_AHEAD)
        ours = (self.session.current, *self.session.objects)
        return np.array(sorted({0, *used, *ours, *ahead}))

    def expect(self) -> None:
        """Say what the next click will belong to: the current object and the slice shown."""
        self.prompts.expect(self.session.current, shown_axes(self._viewer, self.image))

    def write(self, patch: Patch) -> None:
        """Write a patch, so that napari's own history of the labels stays true as well."""
        writes = list(patch.writes(self.labels_of(patch.plane)))
        self._writing = True
        try:
            with self.labels.block_history():
                for number, (rows, columns, value) in enumerate(writes, 1):
                    indices = patch.plane.indices(rows, columns)
                    self.labels.data_setitem(indices, value, refresh=number == len(writes))
        finally:
            self._writing = False

    def problem(self) -> str:
        """What keeps the session from going on, and what to do; empty if nothing does."""
        gone = [f"“{layer.name}”" for layer in self.missing()]
        if len(gone) == 1:
            return f"Layer {gone[0]} was removed: nothing is lost, “Resume” puts it back."
        if gone:
            return (
                f"Layers {', '.join(gone)} were removed: nothing is lost, “Resume” puts them back."
            )
        session = self.session
        remedy = "give it back its data, or press “Start” to begin again."
        for layer, shape in (
            (self.labels, np.shape(self.labels.data)),
            (self.image, image_shape(self.image, self._channels)),
        ):
            if shape != session.shape:
                return f"“{layer.name}” now has shape {shape} and not {session.shape}: {remedy}"
        if session.channels is not None and not session.channels.fit(full_data(self.image).shape):
            return (
                f"“{self.image.name}” no longer has channels {list(session.channels.chosen)}: "
                f"{remedy}"
            )
        if capacity(self.labels) < session.current:
            return (
                f"“{self.labels.name}” of type {self.labels.data.dtype} cannot hold label "
                f"{session.current}: {remedy}"
            )
        return ""

    def strokes(self) -> Iterator[tuple[Plane, np.ndarray, np.ndarray]]:
        """Slices in which somebody has painted at once, their labels before and now; told once.

        Of a stroke that is under way what is painted so far is told, as one of its own: whatever
        is written next would end it unheard.
        """
        self._hearing = True
        try:
            with self.labels.block_history():
                pass
        finally:
            self._hearing = False
        strokes, self._strokes = self._strokes, {}
        for plane, parts in strokes.items():
            now = self.labels_of(plane)
            before = now.copy()
            for rows, columns, old in reversed(parts):
                before[rows, columns] = old
            yield plane, before, now

    def _on_paint(self, event: Any) -> None:
        if not self._writing:
            axes = shown_axes(self._viewer, self.image)
            for atom in event.value:
                touched = spans(atom, self.session.shape)
                if axes is None:
                    self.session.painted(None)
                else:
                    (row, end_row), (column, end_column) = (touched[axis] for axis in axes)
                    self.session.painted((row, column, end_row, end_column))
                self._note_stroke(atom, touched, axes)
            if not self._hearing:
                self._painted()

    def _note_stroke(
        self, atom: Any, touched: list[tuple[int, int]], axes: tuple[int, int] | None
    ) -> None:
        """Note a stroke that is not in the slice that is observed alone, or not seen in time."""
        if self.labels.data.shape != self.session.shape:
            return
        last = len(touched) - 2, len(touched) - 1
        through = axes is None or any(
            end - first > 1 for axis, (first, end) in enumerate(touched) if axis not in axes
        )
        if not (through or self._hearing or self.problem()):
            shown = Plane.through([first for first, _ in touched], axes or last)
            if self.session.observed == shown:
                return
        for plane, *pixels in by_slice(atom, axes or last):
            self._strokes.setdefault(plane, []).append(pixels)

    def _on_data(self, _event: Any) -> None:
        self.session.capacity = capacity(self.labels)
        self.session.painted(None)
        self._replaced()
