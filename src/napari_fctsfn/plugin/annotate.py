"""The annotator's work: layers on one side, the session on the other, the model behind.

`Annotator` is what the dock's buttons and keys call. Here sessions begin and end, and what happens
in the viewer reaches them; `Bench` takes their steps to the layers, `Editing` has what is done with
objects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject  # type: ignore[attr-defined]

from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.plugin.editing import Editing
from napari_fctsfn.plugin.finding import Finding
from napari_fctsfn.plugin.keeping import attach, begin, end, kept_channels, reopen
from napari_fctsfn.plugin.keys import Keys
from napari_fctsfn.plugin.layers import new_labels
from napari_fctsfn.plugin.predicting import Predicting
from napari_fctsfn.plugin.site import Site, refusal
from napari_fctsfn.plugin.warming import Warming
from napari_fctsfn.session import Session, SessionError

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer

    from napari_fctsfn.session import Journal
    from napari_fctsfn.stack import Direction


class Annotator(Editing):
    """One viewer's annotation.

    Parameters
    ----------
    viewer : Viewer
        The viewer.
    parent : QObject, optional
        Owner in Qt.

    Attributes
    ----------
    actions : dict of str to callable
        What keys and commands do, by the names of `keys.ACTIONS`; the dock adds its own.
    keys : Keys
        The keys that are bound while a session runs.
    finding : Finding
        Objects like those of the slice.

    See Also
    --------
    Bench : Its further attributes.
    """

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(viewer, parent)
        self.predicting = Predicting(self)
        self.finding = Finding(self)
        self.warming = Warming(self)
        self.work = (
            self.predicting.give,
            self.looking.give,
            self.propagation.give,
            self.finding.give,
            self.warming.give,
        )
        # layers are removed one by one: look once all have gone
        self._recheck = single_shot(self, 0, self.sound)
        # napari tells of a stroke before it writes the last pixels of it
        self._stroke = single_shot(self, 0, self._on_stroke)
        self.actions: dict[str, Callable[[], object]] = {
            "switch_polarity": self.switch_polarity,
            "next_object": self.next_object,
            "take_up_pointed": self.take_up_pointed,
            "undo": self.undo,
            "redo": self.redo,
            "grow_mask": partial(self.size_mask, larger=True),
            "shrink_mask": partial(self.size_mask, larger=False),
            "click": partial(self.use_tool, "click"),
            "box": partial(self.use_tool, "box"),
            "scribble": partial(self.use_tool, "scribble"),
            "propagate_both": partial(self.propagate, "both"),
            "propagate_up": partial(self.propagate, "up"),
            "propagate_down": partial(self.propagate, "down"),
            "propagate_between": partial(self.propagate, "between"),
            "cancel": self.cancel,
            "doubtful_slice": self.worst_slice,
            "find_similar": self.finding.start,
            "accept_similar": self.finding.accept,
            "reject_similar": self.finding.reject,
            "delete_all": self.delete_all,
            "renumber": self.renumber,
        }
        self.keys = Keys(self.actions)
        self._connections = [
            (viewer.layers.events.removed, self._on_layers),
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.dims.events.point, self._on_dims),
            (viewer.dims.events.order, self._on_dims),
            (viewer.dims.events.ndisplay, self._on_dims),
        ]
        for emitter, callback in self._connections:
            emitter.connect(callback)

    # -- what the dock asks --------------------------------------------------------------------

    @property
    def layers_missing(self) -> bool:
        """Whether layers have been removed that `resume` would put back."""
        return bool(self.problem) and self.site is not None and bool(self.site.missing())

    @property
    def busy(self) -> bool:
        """Whether something is under way in the background or waits for it."""
        if self.closed:
            return False
        waiting = self.session is not None and self.session.busy and not self.problem
        return (
            self.assistant.busy
            or self.warming.waits
            or self._recheck.isActive()
            or self._stroke.isActive()
            or self.shaping.waits
            or self.pointing.waits
            or (self.looking.waits and self.assistant.ready and not self.problem)
            or (self.propagation.following is not None and not self.problem)
            or (self.finding.under_way and not self.problem)
            or (waiting and self.assistant.ready)
        )

    def preview(self, image: Image | None) -> None:
        """Warm up for an image that will perhaps be annotated."""
        if self.site is None:
            self.source.watch(image)
            self.warming.later()
            self.changed.emit()

    def start(
        self,
        image: Image | None,
        labels: Labels | None = None,
        channels: tuple[int, tuple[int, ...]] | None = None,
    ) -> bool:
        """Begin to annotate an image.

        Parameters
        ----------
        image : Image or None
            The image.
        labels : Labels, optional
            Where the masks go; by default a new layer. One that was annotated here before brings
            its objects and clicks along.
        channels : (int, tuple of int), optional
            The axis of the image's channels, and one to three of them for the network to see.
            Labels that were annotated before bring theirs along.

        Returns
        -------
        bool
            Whether it began; if not, a notification says why.
        """
        channels = kept_channels(labels, channels)
        reason = refusal(image, labels, None if channels is None else channels[0])
        if not reason and self.assistant.replayer is None:
            reason = "The model is not loaded: wait until the dock says “Ready”."
        if image is None or reason:
            show_warning(reason)
            return False
        before = self._leave()
        self.source.watch(image)
        try:
            self.source.choose(channels)
            seen = self.source.channels
            session, journal = begin(image, self.source.normalisation(), labels, seen)
        except ValueError as error:
            show_warning(f"Annotation of “{image.name}” cannot begin: {error}.")
            return False
        axis = None if channels is None else channels[0]
        self._begin(
            session,
            journal,
            image,
            new_labels(image, channels=axis) if labels is None else labels,
            before,
        )
        return True

    def reopen(self, image: Image, folder: Path) -> bool:
        """Go on with a session of an image that was kept in a folder, in a new labels layer.

        Returns
        -------
        bool
            Whether it began; if not, a notification says why.
        """
        if self.assistant.replayer is None:
            show_warning("The model is not loaded: wait until the dock says “Ready”.")
            return False
        before = self._leave()
        self.source.watch(image)
        try:
            opened = reopen(image, folder)
        except SessionError as error:
            show_warning(f"The session cannot be reopened: {error}.")
            return False
        seen = opened.session.channels
        labels = new_labels(image, opened.labels, None if seen is None else seen.axis)
        self._begin(opened.session, opened.journal, image, labels, before)
        return True

    def _leave(self) -> Image | None:
        """End what is being annotated; return its image."""
        before = None if self.site is None else self.site.image
        self.stop()
        return before

    def _begin(
        self,
        session: Session,
        journal: Journal | None,
        image: Image,
        labels: Labels,
        before: Image | None,
    ) -> None:
        """Set everything up around a session, after that of another image perhaps."""
        attach(labels, image, journal)
        self.source.channels = session.channels
        site = self.site = Site(
            session,
            journal,
            self.viewer,
            image,
            labels,
            clicked=self._on_points,
            painted=self._on_paint,
            replaced=self._on_labels_data,
        )
        shapes = self.shaping.begin(labels)
        self.keys.bind([self.viewer, site.labels, *site.prompts.layers, shapes])
        self.pointing.begin()
        site.show_object()
        self.observe(site)
        for layer in site.prompts.layers:
            layer.mode = "add"
        self.activate(site.prompts.positive)
        self.reveal(site, before)
        self.warming.later()

    def stop(self) -> None:
        """End the annotation: the labels stay, and so does the session in its folder."""
        if self.site is not None:
            self.keys.release()
            self.pointing.end()
            self.shaping.end()
            self.looking.end()
            site, self.site = self.site, None
            self.problem, self.last, self.told = "", None, ""
            self.source.channels = None
            self.propagation.forget()
            self.finding.reject()
            site.close()
            end(site.session, site.journal, site.labels)

    def resume(self) -> None:
        """Put back those of our layers that have been removed from the viewer."""
        if self.site is not None:
            self.site.add_missing()
            if (site := self.sound()) is not None:
                self.observe(site)
                self.activate(site.prompts.positive)

    def close(self) -> None:
        """Stop, take off keys and connections, and let a running task end by itself."""
        if self.closed:
            return
        self.closed = True
        self.assistant.close()
        self.stop()
        self.source.watch(None)
        self.warming.stop()
        self._recheck.stop()
        self._stroke.stop()
        for emitter, callback in self._connections:
            emitter.disconnect(callback)

    def undo(self) -> None:
        """Take back the last step; while proposals are shown, a rejection of one before it."""
        if not self.finding.take_back():
            super().undo()

    def propagate(self, direction: Direction) -> None:
        """Follow the current object through the slices, until it is done, unsure or cancelled."""
        self.propagation.start(direction)

    def worst_slice(self) -> None:
        """Go to the slice of the current object whose mask is most in doubt, then to the next."""
        self.propagation.worst()

    def cancel(self) -> None:
        """End a propagation or a search; what it has found so far stays."""
        self.propagation.cancel()
        self.finding.cancel()

    # -- events --------------------------------------------------------------------------------

    def _on_points(self) -> None:
        self.told = ""
        self.pointing.leave()
        if (site := self.sound()) is not None:
            self.observe(site)
            try:
                site.take_clicks("" if self.source.plane() else self.source.why_no_slice())
            except ValueError as error:
                site.show_object()
                self.tell(f"That click does not count: {error}.")
                show_warning(self.told)
            self.pump()

    def _on_layers(self, _event: Any) -> None:
        self._recheck.start()

    def _on_active(self, _event: Any) -> None:
        self.changed.emit()

    def _on_dims(self, _event: Any) -> None:
        self.pointing.leave()
        self.told = ""
        if self.site is not None and not self.problem:
            self.observe(self.site)
            self.site.expect()
        self.warming.later()
        self.changed.emit()

    def _on_paint(self) -> None:
        self._stroke.start()

    def _on_stroke(self) -> None:
        if (site := self.sound()) is not None:
            site.session.label_in_use(int(site.labels.selected_label))
            self.observe(site)
            self.pump()

    def _on_labels_data(self) -> None:
        if (site := self.sound()) is not None:
            self.observe(site)

    def _on_image_data(self) -> None:
        self.sound()
        self.warming.later()
