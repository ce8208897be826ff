"""Boxes and scribbles: drawn in a Shapes layer, taken over as clicks, and taken out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.notifications import show_warning

from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.plugin.layers import TRANSFORMS
from napari_fctsfn.plugin.prompts import NEGATIVE_COLOR, POSITIVE_COLOR
from napari_fctsfn.session import SessionError, box_clicks, clip_box, scribble_clicks

if TYPE_CHECKING:
    from napari_fctsfn.plugin.editing import Editing

Tool = Literal["click", "box", "scribble"]
"""What the annotator prompts with."""

_MODES: dict[str, Tool] = {"add_rectangle": "box", "add_path": "scribble"}
_CLICKED = 4
"""What napari draws of a click alone is smaller than this, in pixels of the screen."""
_SHARE = 400
"""Lines are drawn over one part in so many of the image's longer side."""


class Shaping:
    """The layer in which boxes and scribbles are drawn; it is empty again after each.

    Parameters
    ----------
    bench : Editing

    Attributes
    ----------
    layer : Shapes or None
        None while nothing is annotated. It is in the viewer from its first use on.
    positive : bool
        Whether the next scribble is on the object.
    """

    def __init__(self, bench: Editing) -> None:
        self._bench = bench
        self.layer: Shapes | None = None
        self.positive = True
        # napari tells of a shape before it is done with it
        self._take = single_shot(bench, 0, self._on_drawn)

    @property
    def waits(self) -> bool:
        """Whether a shape has just been drawn."""
        return self._take.isActive()

    @property
    def tool(self) -> Tool | None:
        """The tool of the active layer; None if it is not this one."""
        if self.layer is None or self._bench.viewer.layers.selection.active != self.layer:
            return None
        return _MODES.get(str(self.layer.mode))

    def begin(self, labels: Labels) -> Shapes:
        """Make the layer, where the labels are."""
        self.layer = Shapes(
            ndim=labels.ndim,
            name="boxes and scribbles",
            edge_width=max(max(labels.data.shape[-2:]) / _SHARE, 0.5),
            edge_color=POSITIVE_COLOR,
            face_color="transparent",
        )
        self.follow(labels)
        self.layer.events.data.connect(self._on_data)
        self.positive = True
        return self.layer

    def follow(self, labels: Labels) -> None:
        """Put the layer where the labels are."""
        for name in TRANSFORMS if self.layer is not None else ():
            setattr(self.layer, name, getattr(labels, name))

    def end(self) -> None:
        """Take the layer out of the viewer."""
        self._take.stop()
        if self.layer is not None:
            self.layer.events.data.disconnect(self._on_data)
            if self.layer in self._bench.viewer.layers:
                self._bench.viewer.layers.remove(self.layer)
            self.layer = None

    def use(self, tool: Literal["box", "scribble"]) -> None:
        """Let the annotator draw."""
        bench, layer = self._bench, self.layer
        if layer is None or (site := bench.sound()) is None:
            return
        bench.come_back()
        if layer not in bench.viewer.layers:
            bench.viewer.add_layer(layer)
        self.follow(site.labels)
        bench.viewer.layers.selection.active = layer
        self._color(tool == "box" or self.positive)
        layer.mode = next(mode for mode, its in _MODES.items() if its == tool)
        bench.changed.emit()

    def choose_polarity(self, positive: bool) -> None:
        """Scribble on the object, or on the background."""
        self.positive = positive
        self._color(positive)
        self._bench.changed.emit()

    def _color(self, positive: bool) -> None:
        if self.layer is not None:
            self.layer.current_edge_color = POSITIVE_COLOR if positive else NEGATIVE_COLOR

    def _on_data(self, event: Any) -> None:
        if str(event.action).split(".")[-1].lower() == "added":
            self._take.start()

    def _on_drawn(self) -> None:
        layer, bench = self.layer, self._bench
        if layer is None or not layer.nshapes:
            return
        vertices, tool = np.asarray(layer.data[-1], dtype=float), layer.shape_type[-1]
        pixel = layer.scale_factor / layer.scale[-1]
        layer.selected_data = set()
        layer.data = []
        if (site := bench.sound()) is None:
            return
        bench.observe(site)
        bench.told = ""
        try:
            self._prompt(vertices, "box" if tool == "rectangle" else "scribble", pixel)
        except SessionError as error:
            bench.tell(f"That is not possible: {error}.")
        except ValueError as error:
            bench.tell(f"What you have drawn does not count: {error}.")
        if bench.told:
            show_warning(bench.told)
        site.show_object()
        bench.pump()

    def _prompt(self, vertices: np.ndarray, tool: Tool, pixel: float) -> None:
        """Tell the session of a shape, whose vertices have shape (n, axes of the image).

        Parameters
        ----------
        vertices : array of float
        tool : {"box", "scribble"}
        pixel : float
            Size of a pixel of the screen, in pixels of the image.
        """
        session, plane = self._bench.session, self._bench.source.plane()
        if session is None:
            return
        if plane is None:
            raise ValueError(self._bench.source.why_no_slice())
        shape = plane.shape(session.shape)
        path = vertices[:, list(plane.axes)]
        if tool == "box":
            if np.ptp(path, axis=0).max() < _CLICKED * pixel:
                raise ValueError("a click draws no box: drag it around the object")
            box = clip_box(path, shape)
            session.add_prompt(plane, box_clicks(box, shape), box)
        else:
            session.add_prompt(plane, scribble_clicks(path, self.positive))
