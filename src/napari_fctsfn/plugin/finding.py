"""Similar objects from the dock: searched in the background, shown, and accepted or rejected."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.notifications import show_error, show_warning

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.keys import native
from napari_fctsfn.plugin.layers import object_colors
from napari_fctsfn.plugin.masks import label_at

if TYPE_CHECKING:
    from napari_fctsfn.plugin.editing import Editing
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.plugin.tasks import Slice
    from napari_fctsfn.predict import Predictor
    from napari_fctsfn.predict.similar import Progress, Proposal
    from napari_fctsfn.session import Plane

_CONTOUR = 2
_NAME = "proposals (click to reject)"


class Search:
    """A search in a slice.

    Parameters
    ----------
    site : Site
    plane : Plane
    piece : Slice
        The slice for the predictor.

    Attributes
    ----------
    proposals : list of Proposal
        What was found so far.
    done, total : int
        How far it is with the windows, then with the places.
    unit : str
        Which of the two.
    refinement : Refinement
        How the masks are made: as it was set when the search began.

    Raises
    ------
    ValueError
        If no object is annotated in the slice.
    """

    def __init__(self, site: Site, plane: Plane, piece: Slice) -> None:
        session, labels = site.session, site.labels_of(plane)
        self.site, self.plane, self._piece = site, plane, piece
        masks = [
            annotation.mask
            for planes in session.objects.values()
            if (annotation := planes.get(plane)) is not None and not annotation.mask.empty
        ]
        if not masks:
            raise ValueError("there is no object in this slice yet: click on a few first")
        self._masks, self._taken = masks, labels != 0
        self.refinement = session.refinement
        boxes = [mask.box for mask in masks]
        self.extent = float(np.median([max(b[2] - b[0], b[3] - b[1]) for b in boxes]))
        self.proposals: list[Proposal] = []
        self.done, self.total, self.unit = 0, 1, "windows"
        self._first_place = 0.0
        self._steps: Iterator[Progress] | None = None
        self._predictor: Predictor | None = None

    @property
    def model(self) -> str:
        """SHA-256 of the model file; empty before the first window."""
        return "" if self._predictor is None else self._predictor.sha256

    @property
    def seconds_left(self) -> float:
        """How long it will probably take; infinite until the places to look at are known."""
        if self.unit == "windows" or self.done < 2:
            return math.inf
        spent = time.monotonic() - self._first_place
        return spent / (self.done - 1) * (self.total - self.done)

    def take(self, progress: Progress) -> None:
        """Keep what came of a window or a place."""
        self.done, self.total = progress.done, progress.total
        if progress.places and self.unit == "windows":
            self.unit, self._first_place = "places", time.monotonic()
        if progress.proposal is not None:
            self.proposals.append(progress.proposal)

    def next(self, replayer: Any) -> Progress | None:
        """Look at the next window or place; None if there is none. Runs in the background."""
        from napari_fctsfn.predict.region import Region
        from napari_fctsfn.predict.similar import find_similar

        # one model does all of it, whichever is chosen meanwhile
        predictor = self._predictor = self._predictor or replayer.predictor
        predictor.set_image(self._piece.read(), self._piece.normalisation, key=self._piece.key)
        if self._steps is None:
            usual = replace(predictor.settings, extent=self.extent)
            settings = self.refinement.applied(usual)
            accepted = [Region(mask.inner(), mask.box) for mask in self._masks]
            self._steps = find_similar(predictor, accepted, self._taken, settings)
        return next(self._steps, None)


class Finding:
    """Searches for objects like those of the slice, and holds what was found until it is decided.

    Parameters
    ----------
    bench : Editing

    Attributes
    ----------
    search : Search or None
        One that is under way, or whose proposals wait.
    under_way : bool
    rejected : set of int
        Numbers of proposals, from 0, that are not to become objects.
    annotated : set of int
        Numbers of those of which objects have most by now.
    layer : Labels or None
        Shows the proposals.
    """

    def __init__(self, bench: Editing) -> None:
        self._bench = bench
        self.search: Search | None = None
        self.under_way = False
        self.rejected: set[int] = set()
        self.annotated: set[int] = set()
        self.layer: Labels | None = None
        self._toggled: list[tuple[int, object]] = []
        self._compared: tuple[int, int] | None = None
        bench.changed.connect(self._on_changed)

    @property
    def offered(self) -> list[Proposal]:
        """The proposals that are neither rejected nor annotated."""
        return [proposal for _, proposal in self._numbered()]

    def _numbered(self) -> list[tuple[int, Proposal]]:
        every = [] if self.search is None else self.search.proposals
        gone = self.rejected | self.annotated
        return [(n, proposal) for n, proposal in enumerate(every) if n not in gone]

    def start(self) -> None:
        """Search the slice that is shown."""
        bench = self._bench
        if (site := bench.sound()) is None or self.under_way:
            return
        plane = bench.source.plane()
        if plane is None:
            show_warning(f"Nothing is searched: {bench.source.why_no_slice()}.")
            return
        self.reject()
        bench.observe(site)
        piece = bench.source.slice(plane, site.session.normalisation)
        try:
            self.search = Search(site, plane, piece)
        except ValueError as error:
            bench.tell(f"Nothing is searched: {error}.")
            return
        self.under_way = True
        bench.tell("Looking for objects like those of this slice…")
        bench.pump()

    def cancel(self) -> None:
        """End the search; what it has found is offered."""
        if self.under_way:
            self._end("Cancelled. ")

    def accept(self) -> None:
        """Make objects of all proposals that are not rejected, as one step."""
        bench, search = self._bench, self.search
        if search is None or self.under_way:
            return
        if (site := bench.sound()) is None or site is not search.site:
            self.reject()
            return
        shape = search.plane.shape(site.session.shape)
        offered = self.offered
        # one mask of the whole slice at a time
        found = ((each.click, _full(each, shape)) for each in offered)
        how = search.model, search.extent, search.refinement
        if bench.do(lambda s: s.session.accept(search.plane, found, s.labels_of, *how)):
            self.reject()
            current = site.session.current
            further = (
                f"Object {current} is still the current one; {native('next_object')} goes on to "
                f"the next."
                if site.session.objects.get(current)
                else "Click on the next thing."
            )
            bench.tell(f"{len(offered)} objects accepted; Undo takes them back. {further}")

    def reject(self) -> None:
        """Drop all proposals."""
        if self.search is not None:
            self._bench.told = ""
        self.search, self.under_way = None, False
        self.rejected, self.annotated, self._toggled = set(), set(), []
        bench, layer, self.layer = self._bench, self.layer, None
        if layer is not None and layer in bench.viewer.layers:
            clicked_on = bench.viewer.layers.selection.active == layer
            bench.viewer.layers.remove(layer)
            if clicked_on and bench.site is not None and not bench.site.missing():
                bench.activate(bench.site.prompts.positive)
        bench.changed.emit()

    def give(self) -> bool:
        """Look at the next window or place; return whether there is one."""
        search = self.search
        if search is None or not self.under_way:
            return False
        self._bench.assistant.run(
            search.next, partial(self._on_step, search), partial(self._on_error, search)
        )
        return True

    def _on_step(self, search: Search, step: Progress | None) -> None:
        if search is not self.search or not self.under_way:
            return
        if step is None:
            self._end("")
            return
        search.take(step)
        if step.proposal is not None:
            self._show()
        self._bench.changed.emit()

    def _on_error(self, search: Search, error: Exception) -> None:
        if search is not self.search:
            return
        if isinstance(error, InputError):
            self.reject()
            self._bench.tell(f"Nothing is searched: {error}.")
        else:
            show_error(f"The search ended at an error: {error}")
            self._end("")

    def _end(self, how: str) -> None:
        self.under_way = False
        if self.offered:
            self._bench.tell(
                f"{how}Click on those proposals that are wrong (Undo brings them back), then press "
                f"Accept; drop all with Reject."
            )
        else:
            self.reject()
            self._bench.tell(f"{how}Nothing similar was found: a few more objects may help.")
        self._bench.pump()

    def _show(self) -> None:
        """Draw the outlines of the proposals over the slice."""
        search = self.search
        if search is None:
            return
        if self.layer is None:
            self.layer = Labels(
                np.zeros((1,) * search.site.image.ndim, np.uint16),
                name=_NAME,
                opacity=1,
                colormap=object_colors(search.site.session.highest + 1),
            )
            self.layer.contour = _CONTOUR
            self.layer.mouse_drag_callbacks.append(self._on_mouse)
        shape = search.plane.shape(search.site.session.shape)
        top = max(min(p.bbox[0] for p in search.proposals) - 1, 0)
        left = max(min(p.bbox[1] for p in search.proposals) - 1, 0)
        bottom = min(max(p.bbox[2] for p in search.proposals) + 1, shape[0])
        right = min(max(p.bbox[3] for p in search.proposals) + 1, shape[1])
        drawn = np.zeros((bottom - top, right - left), np.uint16)
        for number, each in self._numbered():
            box = each.bbox
            part = drawn[box[0] - top : box[2] - top, box[1] - left : box[3] - left]
            part[each.mask] = number + 1
        fresh = self.layer not in self._bench.viewer.layers
        self._bench.looking.place(search.site, self.layer, search.plane, drawn, top, left)
        if fresh:
            self._bench.viewer.layers.selection.active = self.layer

    def _on_changed(self) -> None:
        """Offer no more what was annotated meanwhile, and offer it again once that is undone."""
        search, site = self.search, self._bench.site
        if search is None or site is not search.site:
            return
        now = site.session.revision, len(search.proposals)
        if now == self._compared:
            return
        self._compared = now
        labels = site.labels_of(search.plane)
        annotated = {n for n, each in enumerate(search.proposals) if _mostly_taken(each, labels)}
        if annotated != self.annotated:
            self.annotated = annotated
            self._show()

    def _on_mouse(self, layer: Labels, _event: Any) -> None:
        """Reject the proposal that was clicked on."""
        if self.under_way or self.search is None or layer.mode != "pan_zoom":
            return
        number = label_at(self._bench.viewer, layer)
        if number:
            self.toggle(number - 1)

    def toggle(self, number: int) -> None:
        """Reject a proposal, or no longer."""
        self._toggled.append((number, self._newest()))
        self._change(number)

    def take_back(self) -> bool:
        """Undo the last `toggle`; return whether there was one after the session's last step."""
        if not self._toggled or self._toggled[-1][1] is not self._newest():
            return False
        number, _ = self._toggled.pop()
        self._change(number)
        return True

    def _newest(self) -> object:
        """The session's last step."""
        return None if self.search is None else self.search.site.session.history.newest

    def _change(self, number: int) -> None:
        self.rejected ^= {number}
        self._show()
        self._bench.changed.emit()


def _mostly_taken(proposal: Proposal, labels: np.ndarray) -> bool:
    """Whether more than half of a proposal belongs to objects."""
    top, left, bottom, right = proposal.bbox
    return bool(np.mean(labels[top:bottom, left:right][proposal.mask] != 0) > 0.5)


def _full(proposal: Proposal, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    box = proposal.bbox
    mask[box[0] : box[2], box[1] : box[3]] = proposal.mask
    return mask
