"""What a mask would be, as an outline, without making it so; and the probability behind a mask."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_error

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.layers import piece_transforms
from napari_fctsfn.session import Mask

if TYPE_CHECKING:
    from napari_fctsfn.clicks import Clicks
    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.session import Plane, Refinement, Replay

Reason = Literal["drag", "refine", "without"]
"""Why an outline is shown: a click is dragged, a slider is moved, a click is pointed at."""

_COLOR = "#F0E442"
"""Yellow of Okabe and Ito."""
_SHARE = 300
"""The outline is one part in so many of the image's longer side wide."""


class Looking:
    """Predicts what is only looked at, the newest wish alone, and shows it in layers of its own.

    Parameters
    ----------
    bench : Bench

    Attributes
    ----------
    reason : str
        Why an outline is shown; empty if none is.
    probable : bool
        Whether the probability of the current object is shown.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.reason: Reason | Literal[""] = ""
        self.probable = False
        self._wish: Replay | None = None
        self._due = False
        self._seen: object = None
        self._outline: Labels | None = None
        self._probability: Image | None = None

    @property
    def waits(self) -> bool:
        """Whether something is yet to be looked at."""
        return self._due or self._unseen() is not None

    def imagine(
        self,
        reason: Reason,
        plane: Plane,
        clicks: Clicks | None = None,
        refinement: Refinement | None = None,
    ) -> None:
        """Show the mask that the current object would have in a slice, with other clicks or so."""
        site = self._bench.sound()
        if site is None:
            return
        wish = site.session.imagine(plane, clicks, refinement)
        if wish != self._wish or not self.reason:
            self.reason, self._wish, self._due = reason, wish, True
            self._bench.pump()

    def forget(self) -> None:
        """Show no outline any more."""
        if self.reason:
            self.reason, self._wish, self._due = "", None, False
            _hide(self._outline)
            self._bench.changed.emit()

    def show_probability(self, shown: bool) -> None:
        """Show the probability of the current object, or show it no more."""
        self.probable, self._seen = shown, None
        if not shown:
            _hide(self._probability)
        self._bench.pump()

    def owns(self, layer: Layer | None) -> bool:
        """Whether a layer is one of those that show what a mask would be."""
        return layer is not None and layer in (self._outline, self._probability)

    def end(self) -> None:
        """Take the layers out of the viewer."""
        self.reason, self._wish, self._due, self._seen = "", None, False, None
        for layer in (self._outline, self._probability):
            if layer is not None and layer in self._bench.viewer.layers:
                self._bench.viewer.layers.remove(layer)
        self._outline = self._probability = None

    def give(self) -> bool:
        """Look at what is wished, or at the probability; return whether there was anything."""
        if self._due and self._wish is not None:
            self._due = False
            return self._run(self._wish, self._on_imagined)
        unseen = self._unseen()
        if unseen is None:
            return False
        self._seen = unseen, self._bench.assistant.replayer
        return self._run(unseen, self._on_probability)

    def _unseen(self) -> Replay | None:
        """The replay whose probability should be shown and is not."""
        bench = self._bench
        site, plane = bench.site, bench.source.plane() if self.probable else None
        if site is None or bench.problem or site.session.busy:
            return None
        if plane is None:
            _hide(self._probability)
            self._seen = None
            return None
        now = site.session.imagine(plane)
        return None if self._seen == (now, bench.assistant.replayer) else now

    def _run(self, replay: Replay, then: Any) -> bool:
        bench, site = self._bench, self._bench.site
        if site is None:
            return False
        piece = bench.source.slice(replay.plane, site.session.normalisation)
        task = partial(tasks.predict, piece=piece, replay=replay)
        bench.assistant.run(task, partial(then, site), _on_failed)
        return True

    def _on_imagined(self, site: Site, answer: tasks.Answer) -> None:
        if site is not self._bench.sound() or answer.replay != self._wish:
            return
        plane, seen, given = answer.replay.plane, answer.prediction, answer.replay.given
        shape = plane.shape(site.session.shape)
        mask = given if seen is None else Mask.of(seen.mask, shape, seen.bbox[:2])
        if mask is None or mask.empty:
            _hide(self._outline)
            return
        width = max(1, round(max(shape) / _SHARE))
        top, left = mask.box[:2]
        crop = mask.inner().astype(np.uint8)
        if self._outline is None:
            colors = {1: _COLOR, None: "transparent"}
            self._outline = Labels(
                np.zeros((1,) * site.image.ndim, np.uint8),
                name="what the mask would be",
                opacity=1,
                colormap=DirectLabelColormap(color_dict=colors),
            )
        self._outline.contour = width
        pad = width + 1
        self.place(site, self._outline, plane, np.pad(crop, pad), top - pad, left - pad)

    def _on_probability(self, site: Site, answer: tasks.Answer) -> None:
        if site is not self._bench.sound() or not self.probable:
            return
        prediction = answer.prediction
        if prediction is None:
            _hide(self._probability)
            return
        if self._probability is None:
            self._probability = Image(
                np.zeros((1,) * site.image.ndim, np.float32),
                name="probability of the object",
                colormap="viridis",
                contrast_limits=(0, 1),
                opacity=0.5,
                rgb=False,
            )
        top, left = prediction.bbox[:2]
        piece = prediction.probability
        self.place(site, self._probability, answer.replay.plane, piece, top, left)

    def place(
        self, site: Site, layer: Layer, plane: Plane, piece: np.ndarray, top: int, left: int
    ) -> None:
        """Show a piece of a slice, (rows, columns), that begins at a row and a column of it."""
        layers = self._bench.viewer.layers
        others = tuple(axis for axis in range(len(plane.index)) if axis not in plane.axes)
        layer.data = np.expand_dims(piece, others)
        for name, value in piece_transforms(site.labels, plane.point(top, left)).items():
            setattr(layer, name, value)
        if layer not in layers:
            active = layers.selection.active
            layers.insert(layers.index(site.labels) + 1, layer)
            layers.selection.active = active
        layer.visible = True
        self._bench.changed.emit()


def _hide(layer: Layer | None) -> None:
    if layer is not None:
        layer.visible = False


def _on_failed(error: Exception) -> None:
    show_error(f"The mask cannot be shown in advance: {error}")
