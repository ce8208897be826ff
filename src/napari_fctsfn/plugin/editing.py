"""What the annotator does with objects: one function for each button, key and menu entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning

from napari_fctsfn.plugin.bench import Bench
from napari_fctsfn.plugin.keeping import image_of
from napari_fctsfn.plugin.layers import blended, camera_of, covers, fit, shows
from napari_fctsfn.plugin.looking import Looking
from napari_fctsfn.plugin.masks import label_under_cursor, masks_of
from napari_fctsfn.plugin.pointing import Pointing
from napari_fctsfn.plugin.propagation import Propagation
from napari_fctsfn.plugin.shaping import Shaping
from napari_fctsfn.plugin.status import travelled
from napari_fctsfn.session import Refinement, SessionError, Step

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtCore import QObject  # type: ignore[attr-defined]

    from napari_fctsfn.plugin.shaping import Tool
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.session import Patch


class Editing(Bench):
    """The part of `Annotator` that prompts, goes from object to object, and edits them.

    Attributes
    ----------
    looking : Looking
        What a mask would be.
    pointing : Pointing
        The mouse over the clicks.
    shaping : Shaping
        Boxes and scribbles.
    propagation : Propagation
        Follows an object through slices.
    """

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(viewer, parent)
        self.looking = Looking(self)
        self.pointing = Pointing(self, self.looking)
        self.shaping = Shaping(self)
        self.propagation = Propagation(self)

    @property
    def tool(self) -> Tool | None:
        """What the annotator prompts with; None if another layer is active."""
        if self.site is not None and self.shaping.tool is None and self.polarity is None:
            return None
        return self.shaping.tool or "click"

    def use_tool(self, tool: Tool) -> None:
        """Prompt with this from now on."""
        self.told = ""
        if tool != "click":
            self.shaping.use(tool)
        elif (site := self.sound()) is not None:
            self.activate(site.prompts.positive)
        self.changed.emit()

    @property
    def polarity(self) -> bool | None:
        """Whether the next click is one on the object; None if another layer would get it."""
        active = self.viewer.layers.selection.active
        if self.site is None or active == self.site.prompts.positive:
            return True
        if self.shaping.tool is not None:
            return self.shaping.tool == "box" or self.shaping.positive
        return False if active == self.site.prompts.negative else None

    def choose_polarity(self, positive: bool) -> None:
        """Click this kind from now on: its Points layer becomes the active one, or scribble it."""
        self.told = ""
        if self.shaping.tool == "scribble":
            self.shaping.choose_polarity(positive)
        elif (site := self.sound()) is not None:
            self.activate(site.prompts.positive if positive else site.prompts.negative)

    def activate(self, layer: Any) -> None:
        """Let the annotator add to one of the prompt layers."""
        self.come_back()
        super().activate(layer)

    def come_back(self) -> None:
        """Show the image that is annotated again where another one is the active layer."""
        active, site = self.viewer.layers.selection.active, self.site
        another = isinstance(active, Image) and not self.looking.owns(active)
        if site is not None and another and active != site.image:
            self.reveal(site, active)

    def reveal(self, site: Site, before: Image | None) -> None:
        """Let the annotator see the image that is annotated, when another one was there before.

        Images that cover it are hidden, and so are masks of other images, but of those that are
        blended with it, as channels are; the view is fitted if it is elsewhere.
        """
        image, viewer = site.image, self.viewer
        image.visible = site.labels.visible = True
        others = [
            layer
            for layer in viewer.layers
            if isinstance(layer, Image) and layer is not image and not self.looking.owns(layer)
        ]
        together = {"", image.name, *(layer.name for layer in others if blended(layer))}
        for layer in viewer.layers:
            if isinstance(layer, Labels) and image_of(layer) not in together:
                layer.visible = False
        over = [layer for layer in others if covers(layer, viewer, image)]
        for layer in over:
            layer.visible = False
        if over:
            names = ", ".join(f"“{layer.name}”" for layer in over)
            self.tell(
                f"Hidden, since it lay over “{image.name}”: {names}. The layer list shows it."
            )
        if before is not None:
            fit(self.viewer, image, before)

    def switch_polarity(self) -> None:
        """Click the other kind from now on."""
        self.choose_polarity(not self.polarity)

    def next_object(self) -> None:
        """Finish the current object and go on to the next free label."""
        if (site := self.sound()) is not None:
            self.observe(site)
            try:
                site.session.next_object()
            except SessionError as error:
                self.tell(f"There is no next object yet: {error}.")
                show_warning(self.told)
            else:
                # a new object begins with a click on it, or with a box where boxes are drawn
                if self.shaping.tool != "box":
                    self.activate(site.prompts.positive)
                self.after(site, Step())

    def undo(self) -> None:
        """Take back the last click, move, deletion, brush stroke or change of object."""
        if (site := self.sound()) is not None:
            self.observe(site)
            step = site.session.undo()
            ended = self.propagation.lose(step)
            self.after(site, step)
            if said := f"{travelled('Undone', step, site.session.current)} {ended}".strip():
                self.tell(said)

    def redo(self) -> None:
        """Do again what was taken back last."""
        if (site := self.sound()) is not None:
            self.observe(site)
            step = site.session.redo()
            ended = self.propagation.lose(step)
            self.after(site, step)
            if said := f"{travelled('Done again', step, site.session.current)} {ended}".strip():
                self.tell(said)

    def refine(self, refinement: Refinement) -> None:
        """Make masks in another way from now on, that of the current object in this slice too."""
        if (site := self.sound()) is not None:
            self.observe(site)
            self.looking.forget()
            site.session.refine(self.source.plane(), refinement)
            self.told = ""
            self.pump()

    def size_mask(self, larger: bool) -> None:
        """Let masks be larger or smaller from now on by a step of the threshold; see `refine`."""
        if (site := self.sound()) is not None:
            before = site.session.refinement
            self.refine(before.sized(larger))
            if site.session.refinement == before:
                self.tell(
                    f"The threshold is at its end, {before.threshold}: correct the mask by clicks."
                )

    def imagine_refined(self, refinement: Refinement) -> None:
        """Show what `refine` would make of the mask."""
        plane = self.source.plane()
        if self.site is not None and plane is not None:
            self.looking.imagine("refine", plane, refinement=refinement)

    def after(self, site: Site, step: Step | None) -> None:
        """Show what a step of the history has changed."""
        self.pointing.leave()
        super().after(site, step)

    def _on_moved(self) -> None:
        super()._on_moved()
        self.pointing.leave()
        if self.site is not None:
            self.shaping.follow(self.site.labels)
            self.looking.show_probability(self.looking.probable)

    def take_up(self, label: int) -> None:
        """Go on with an object that was finished before, by clicks on it: its own come back."""
        if self.do(lambda site: site.session.select(label)):
            self.use_tool("click")
            self.jump(label, always=False)

    def take_up_pointed(self) -> None:
        """Go on with what the cursor points at: an object, or a mask of another tool."""
        if (site := self.sound()) is not None:
            found = label_under_cursor(self.viewer, site.labels)
            if found is None:
                show_warning("There is nothing to take up: point at a mask in a Labels layer.")
            else:
                self._take_up_in(site, *found)

    def take_up_picked(self) -> None:
        """Go on with the label that is chosen in the active Labels layer, or else in our own."""
        if (site := self.sound()) is not None:
            active = self.viewer.layers.selection.active
            layer = active if isinstance(active, Labels) else site.labels
            self._take_up_in(site, layer, int(layer.selected_label))

    def _take_up_in(self, site: Site, layer: Labels, label: int) -> None:
        """Go on with an object, or make one of a mask that the session does not know."""
        session = site.session
        plane = self.source.plane()
        if layer is site.labels and label in {session.current, *session.objects}:
            if self.do(lambda site: site.session.select(label)):
                self.use_tool("click")
                if plane not in session.objects.get(label, {}):
                    self.jump(label, always=False)
            return
        shape = (layer.data[0] if layer.multiscale else layer.data).shape
        if plane is None:
            show_warning(f"No mask is taken up: {self.source.why_no_slice()}.")
        elif shape != session.shape:
            show_warning(
                f"“{layer.name}” has shape {shape} and “{site.labels.name}” {session.shape}: take "
                "up masks from labels of the image's shape."
            )
        elif not (masks := masks_of(layer, label, plane.axes)):
            show_warning(f"“{layer.name}” has no pixel of label {label}: pick one of its masks.")
        else:
            ours = layer is site.labels or session.highest < label <= session.capacity
            number = label if ours else session.highest + 1
            if self.do(lambda s: s.session.adopt(number, masks, s.labels_of)):
                self.use_tool("click")

    def describe(self, labels: Iterable[int], **changes: Any) -> None:
        """Change what is said about objects: fields of their `Note` and their new values."""
        labels = list(labels)
        if changes.get("protected"):
            self.propagation.leave(labels)  # what it has found comes before

        def change(site: Site) -> None:
            session = site.session
            session.describe({n: replace(session.note(n), **changes) for n in labels})

        self.do(change)

    def delete(self, labels: Sequence[int]) -> None:
        """Delete objects with their clicks."""
        if labels:
            self.propagation.leave(labels)
            self.do(lambda site: site.session.delete(labels, site.labels_of))

    def delete_all(self) -> None:
        """Delete every object with its clicks, but for protected ones; one step for undo."""
        if self.session is not None:
            session = self.session
            self.delete([n for n in session.objects if not session.note(n).protected])

    def merge(self, labels: Sequence[int]) -> None:
        """Make objects one, which gets the smallest of their labels."""
        if len(labels) > 1:
            into = min(labels)
            self.propagation.leave(labels)
            self.do(lambda site: site.session.merge(into, labels, site.labels_of))

    def renumber(self) -> None:
        """Number all objects from one up, without gaps; labels of other tools stay."""

        def change(site: Site) -> tuple[Patch, ...]:
            others = set(np.unique(site.labels.data).tolist()) - {0}
            return site.session.renumber(site.labels_of, others)

        if self.session is not None:
            self.propagation.leave(self.session.objects)
            self.do(change)

    def jump(self, label: int, always: bool = True) -> None:
        """Go to a slice in which an object is annotated, and look at its middle.

        Parameters
        ----------
        label : int
            The object.
        always : bool
            Whether to move the picture also where it shows the whole object as it is.
        """
        site = self.sound()
        planes = None if site is None else site.session.objects.get(label)
        if site is None or not planes:
            return
        shown = self.source.plane()
        plane = shown if shown in planes else next(iter(planes))
        site.show(plane)
        row, column, end_row, end_column = box = planes[plane].mask.box
        if not always and shows(site.labels, plane, box):
            return
        middle = plane.point((row + end_row - 1) / 2, (column + end_column - 1) / 2)
        world = site.image.data_to_world(middle)
        offset = self.viewer.dims.ndim - len(world)
        shown = self.viewer.dims.displayed[-2:]
        camera_of(self.viewer).center = tuple(world[axis - offset] for axis in shown)

    def color(self, label: int) -> tuple[float, float, float, float]:
        """The colour of a label, red, green, blue and alpha, 0..1; black if it has none."""
        found = None if self.site is None else self.site.labels.get_color(label)
        red, green, blue, alpha = (0, 0, 0, 0) if found is None else found
        return float(red), float(green), float(blue), float(alpha)
