"""The annotator's work: layers on one side, the session on the other, the model behind.

`Annotator` is what the dock's buttons and keys call. It translates points into clicks of the
session and patches of the session into labels, and keeps the background busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.assistant import Assistant
from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.plugin.following import Following
from napari_fctsfn.plugin.keeping import attach, begin, end, reopen
from napari_fctsfn.plugin.keys import NEXT, POLARITY, REDO, UNDO, Keys
from napari_fctsfn.plugin.layers import new_labels, show_plane
from napari_fctsfn.plugin.site import Site, refusal
from napari_fctsfn.plugin.source import ImageSource
from napari_fctsfn.session import Session, SessionError, Step

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer

    from napari_fctsfn.session import Journal, Patch, Replay
    from napari_fctsfn.stack import Direction

_SETTLE_MS = 150
"""A slice is warmed up once the sliders have rested for so long."""


class Annotator(QObject):
    """One viewer's annotation.

    Parameters
    ----------
    viewer : Viewer
        The viewer.
    parent : QObject, optional
        Owner in Qt.

    Attributes
    ----------
    changed : Signal()
        Anything that the dock shows has changed.
    site : Site or None
        The session and its layers; None before `start` and after `stop`.
    problem : str
        What keeps the session from going on; empty if nothing does.
    last : tasks.Answer or None
        The newest prediction of the current object.
    following : Following or None
        An object on its way through the stack.
    told : str
        How the last propagation ended; empty once something else was done.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.site: Site | None = None
        self.problem = ""
        self.last: tasks.Answer | None = None
        self.following: Following | None = None
        self.told = ""
        self._warmed: object = None
        self._closed = False
        self.source = ImageSource(viewer, self._on_image_data, self._on_moved)
        self._settle = single_shot(self, _SETTLE_MS, self._pump)
        # layers are removed one by one: look once all have gone
        self._recheck = single_shot(self, 0, self._sound)
        # napari tells of a stroke before it writes the last pixels of it
        self._stroke = single_shot(self, 0, self._on_stroke)
        self._keys = Keys(
            {
                POLARITY: self.switch_polarity,
                NEXT: self.next_object,
                UNDO: self.undo,
                REDO: self.redo,
            }
        )
        self.assistant = Assistant(self)
        self.assistant.free.connect(self._pump)
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
    def session(self) -> Session | None:
        """The document; None before `start` and after `stop`."""
        return None if self.site is None else self.site.session

    @property
    def polarity(self) -> bool | None:
        """Whether the next click is one on the object; None if another layer would get it."""
        active = self.viewer.layers.selection.active
        if self.site is None or active == self.site.prompts.positive:
            return True
        return False if active == self.site.prompts.negative else None

    @property
    def layers_missing(self) -> bool:
        """Whether layers have been removed that `resume` would put back."""
        return bool(self.problem) and self.site is not None and bool(self.site.missing())

    @property
    def busy(self) -> bool:
        """Whether something is under way in the background or waits for it."""
        if self._closed:
            return False
        waiting = self.session is not None and self.session.busy and not self.problem
        return (
            self.assistant.busy
            or self._settle.isActive()
            or self._recheck.isActive()
            or self._stroke.isActive()
            or (self.following is not None and not self.problem)
            or (waiting and self.assistant.ready)
        )

    def preview(self, image: Image | None) -> None:
        """Warm up for an image that will perhaps be annotated."""
        if self.site is None:
            self.source.watch(image)
            self._settle.start()
            self.changed.emit()

    def start(self, image: Image | None, labels: Labels | None = None) -> bool:
        """Begin to annotate an image.

        Parameters
        ----------
        image : Image or None
            The image.
        labels : Labels, optional
            Where the masks go; by default a new layer. One that was annotated here before brings
            its objects and clicks along.

        Returns
        -------
        bool
            Whether it began; if not, a notification says why.
        """
        reason = refusal(image, labels)
        if not reason and self.assistant.replayer is None:
            reason = "The model is not loaded: wait until the dock says “Ready”."
        if image is None or reason:
            show_warning(reason)
            return False
        self.stop()
        self.source.watch(image)
        try:
            session, journal = begin(image, self.source.normalisation(), labels)
        except ValueError as error:
            show_warning(f"Annotation of “{image.name}” cannot begin: {error}.")
            return False
        self._begin(session, journal, image, new_labels(image) if labels is None else labels)
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
        self.stop()
        self.source.watch(image)
        try:
            opened = reopen(image, folder)
        except SessionError as error:
            show_warning(f"The session cannot be reopened: {error}.")
            return False
        self._begin(opened.session, opened.journal, image, new_labels(image, opened.labels))
        return True

    def _begin(
        self, session: Session, journal: Journal | None, image: Image, labels: Labels
    ) -> None:
        """Set everything up around a session."""
        attach(labels, image, journal)
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
        self._keys.bind([self.viewer, site.labels, *site.prompts.layers])
        site.show_object()
        self._observe(site)
        for layer in site.prompts.layers:
            layer.mode = "add"
        self._activate(site.prompts.positive)
        self._settle.start()

    def stop(self) -> None:
        """End the annotation: the labels stay, and so does the session in its folder."""
        if self.site is not None:
            self._keys.release()
            site, self.site = self.site, None
            self.problem, self.last, self.following, self.told = "", None, None, ""
            site.close()
            end(site.session, site.journal)

    def resume(self) -> None:
        """Put back those of our layers that have been removed from the viewer."""
        if self.site is not None:
            self.site.add_missing()
            if (site := self._sound()) is not None:
                self._activate(site.prompts.positive)

    def close(self) -> None:
        """Stop, take off keys and connections, and let a running task end by itself."""
        if self._closed:
            return
        self._closed = True
        self.assistant.close()
        self.stop()
        self.source.watch(None)
        self._settle.stop()
        self._recheck.stop()
        self._stroke.stop()
        for emitter, callback in self._connections:
            emitter.disconnect(callback)

    def choose_polarity(self, positive: bool) -> None:
        """Click this kind from now on: its Points layer becomes the active one."""
        if (site := self._sound()) is not None:
            self._activate(site.prompts.positive if positive else site.prompts.negative)

    def switch_polarity(self) -> None:
        """Click the other kind from now on."""
        self.choose_polarity(not self.polarity)

    def next_object(self) -> None:
        """Finish the current object and go on to the next free label."""
        if (site := self._sound()) is not None:
            self._observe(site)
            try:
                site.session.next_object()
            except SessionError as error:
                show_warning(f"There is no next object yet: {error}.")
            else:
                # a new object begins with a click on it
                self._activate(site.prompts.positive)
                self._after(site, Step())

    def take_up(self, label: int) -> None:
        """Go on with an object that was finished before: its clicks come back."""
        self._do(lambda site: site.session.select(label))
        if self.session is not None:
            self.jump(label)

    def describe(self, labels: Iterable[int], **changes: Any) -> None:
        """Change what is said about objects: fields of their `Note` and their new values."""

        def change(site: Site) -> None:
            session = site.session
            session.describe({n: replace(session.note(n), **changes) for n in labels})

        self._do(change)

    def delete(self, labels: Sequence[int]) -> None:
        """Delete objects with their clicks."""
        if labels:
            self._do(lambda site: site.session.delete(labels, site.labels_of))

    def merge(self, labels: Sequence[int]) -> None:
        """Make objects one, which gets the smallest of their labels."""
        if len(labels) > 1:
            into = min(labels)
            self._do(lambda site: site.session.merge(into, labels, site.labels_of))

    def renumber(self) -> None:
        """Number all objects from one up, without gaps; labels of other tools stay."""

        def change(site: Site) -> tuple[Patch, ...]:
            others = set(np.unique(site.labels.data).tolist()) - {0}
            return site.session.renumber(site.labels_of, others)

        self._do(change)

    def jump(self, label: int) -> None:
        """Go to a slice in which an object is annotated, and look at its middle."""
        site = self._sound()
        planes = None if site is None else site.session.objects.get(label)
        if site is None or not planes:
            return
        shown = self.source.plane()
        plane = shown if shown in planes else next(iter(planes))
        show_plane(self.viewer, site.image, plane)
        row, column, end_row, end_column = planes[plane].mask.box
        middle = plane.point((row + end_row - 1) / 2, (column + end_column - 1) / 2)
        world = site.image.data_to_world(middle)
        self.viewer.camera.center = tuple(world[axis] for axis in plane.axes)

    def color(self, label: int) -> tuple[float, float, float, float]:
        """The colour of a label, red, green, blue and alpha, 0..1; black if it has none."""
        found = None if self.site is None else self.site.labels.get_color(label)
        red, green, blue, alpha = (0, 0, 0, 0) if found is None else found
        return float(red), float(green), float(blue), float(alpha)

    def propagate(self, direction: Direction) -> None:
        """Follow the current object through the slices, until it is done, unsure or cancelled."""
        if (site := self._sound()) is None or self.following is not None:
            return
        plane = self.source.plane()
        if plane is None:
            show_warning(f"No propagation: {self.source.why_no_slice()}.")
            return
        self._observe(site)
        hidden = [axis for axis, index in enumerate(plane.index) if index is not None]
        if not hidden:
            show_warning("No propagation: the image has a single slice.")
            return
        used = self.viewer.dims.last_used - (self.viewer.dims.ndim - len(plane.index))
        axis = used if used in hidden else hidden[-1]
        try:
            self.following = Following(site, self.source, plane, axis, direction)
        except ValueError as error:
            show_warning(f"No propagation: {error}.")
        self._pump()

    def cancel(self) -> None:
        """End a propagation; what it has found so far stays, as one step."""
        if self.following is not None:
            self._followed_all(self.following, "cancelled")

    def undo(self) -> None:
        """Take back the last click, move, deletion, brush stroke or change of object."""
        if (site := self._sound()) is not None:
            self._observe(site)
            self._after(site, site.session.undo())

    def redo(self) -> None:
        """Do again what was taken back last."""
        if (site := self._sound()) is not None:
            self._observe(site)
            self._after(site, site.session.redo())

    # -- layers and session --------------------------------------------------------------------

    def _sound(self) -> Site | None:
        """Session and layers if all is as it should be; a notification tells of a new problem."""
        before = self.problem
        self.problem = "" if self.site is None else self.site.problem()
        if self.problem != before:
            if self.problem:
                show_warning(self.problem)
            self._pump()
        return None if self.problem else self.site

    def _observe(self, site: Site) -> set[int]:
        """Let the session see the labels that are shown; which of them somebody has painted."""
        plane = self.source.plane()
        return set() if plane is None else site.session.observe(plane, site.labels_of(plane))

    def _after(self, site: Site, step: Step | None) -> None:
        """Show what a step of the history has changed."""
        if step is None:
            return
        self.told = ""
        # written before the view moves, since a moving view looks at the labels
        for patch in step.patches:
            site.write(patch)
        if step.plane is not None:
            show_plane(self.viewer, site.image, step.plane)
        self.last = None
        site.show_object()
        self._pump()

    def _do(self, change: Callable[[Site], tuple[Patch, ...] | None]) -> None:
        """Do something with the session's objects, and show what it changed."""
        if (site := self._sound()) is not None:
            self._observe(site)
            try:
                patches = change(site)
            except SessionError as error:
                show_warning(f"That is not possible: {error}.")
            else:
                self._after(site, Step(None, patches or ()))

    def _activate(self, layer: Any) -> None:
        self.viewer.layers.selection.active = layer
        layer.mode = "add"
        self.changed.emit()

    # -- events --------------------------------------------------------------------------------

    def _on_points(self) -> None:
        self.told = ""
        if (site := self._sound()) is not None:
            self._observe(site)
            try:
                site.take_clicks("" if self.source.plane() else self.source.why_no_slice())
            except ValueError as error:
                show_warning(f"That click does not count: {error}.")
                site.show_object()
            self._pump()

    def _on_layers(self, _event: Any) -> None:
        self._recheck.start()

    def _on_active(self, _event: Any) -> None:
        self.changed.emit()

    def _on_dims(self, _event: Any) -> None:
        if self.site is not None and not self.problem:
            self._observe(self.site)
            self.site.expect()
        self._settle.start()
        self.changed.emit()

    def _on_paint(self) -> None:
        self._stroke.start()

    def _on_stroke(self) -> None:
        if (site := self._sound()) is not None:
            session = site.session
            session.label_in_use(int(site.labels.selected_label))
            touched = self._observe(site)
            closed = sorted(label for label in touched if session.note(label).protected)
            if closed:
                self._after(site, session.undo())
                session.history.forget_undone()
                show_warning(f"Object {closed[0]} is protected: the stroke was taken back.")
            self._pump()

    def _on_labels_data(self) -> None:
        if (site := self._sound()) is not None:
            self._observe(site)

    def _on_image_data(self) -> None:
        self._sound()
        self._settle.start()

    def _on_moved(self) -> None:
        if self.site is not None:
            self.site.follow_image()

    # -- the background ------------------------------------------------------------------------

    def _pump(self) -> None:
        """Give the background its next task: first what was clicked, then the slice shown."""
        if self._closed:
            return
        ready = self.assistant.ready and not self.problem
        if ready and not (self._predict() or self._follow()):
            self._warm_up()
        self.changed.emit()

    def _predict(self) -> bool:
        """Predict the step that waits first; return whether there is one."""
        site = self.site
        replay = None if site is None else site.session.job(site.labels_of)
        if site is None or replay is None:
            return False
        piece = self.source.slice(replay.plane, site.session.normalisation)
        self.assistant.run(
            partial(tasks.predict, piece=piece, replay=replay),
            partial(self._predicted, site),
            partial(self._not_predicted, site, replay),
        )
        return True

    def _follow(self) -> bool:
        """Do the next slice of a propagation; return whether there is one."""
        following = self.following
        if following is None:
            return False
        self.assistant.run(
            lambda replayer: following.next(replayer.predictor),
            partial(self._followed, following),
            partial(self._not_followed, following),
        )
        return True

    def _followed(self, following: Following, step: Any) -> None:
        if following is self.following:
            if step is None:
                self._followed_all(following, "")
            else:
                following.take(step)

    def _not_followed(self, following: Following, error: Exception) -> None:
        show_error(f"The propagation ended at an error: {error}")
        if following is self.following:
            self._followed_all(following, "ended at an error")

    def _followed_all(self, following: Following, how: str) -> None:
        """Write what was found, as one step, and go where it was unsure."""
        self.following = None
        if (site := self._sound()) is None or self.assistant.replayer is None:
            return
        annotated = site.session.objects.get(following.label, {})
        masks = {p: mask for p, mask in following.masks.items() if p not in annotated}
        sha256 = self.assistant.replayer.predictor.sha256
        self._do(lambda s: s.session.propagate(following.label, masks, s.labels_of, sha256))
        found = f"Object {following.label}: {len(masks)} slices found"
        self.told = f"{found}{', ' + how if how else ''}. Undo takes them back."
        if following.stop is not None:
            show_plane(self.viewer, site.image, following.stop)
            self.told += f" It was unsure here ({following.reason}): click, and go on from here."
        self.changed.emit()

    def _warm_up(self) -> None:
        plane = self.source.plane()
        if plane is None or self._settle.isActive():
            return
        normalisation = (
            self.source.normalisation() if self.site is None else self.site.session.normalisation
        )
        piece = self.source.slice(plane, normalisation)
        wanted = (piece.key, normalisation, self.assistant.replayer)
        if wanted != self._warmed:
            self._warmed = wanted
            self.assistant.run(partial(tasks.warm_up, piece=piece), _nothing, self._not_warm)

    def _predicted(self, site: Site, answer: tasks.Answer) -> None:
        if site is self._sound():
            labels = site.labels_of(answer.replay.plane)
            patch = site.session.resolve(answer.replay, answer.mask, labels, answer.model)
            if patch is not None:
                site.write(patch)
            self.last = answer

    def _not_predicted(self, site: Site, replay: Replay, error: Exception) -> None:
        show_error(f"The last click was taken back, because no mask could be predicted: {error}")
        if site is self._sound() and site.session.job(site.labels_of) == replay:
            site.session.drop()
            site.show_object()

    def _not_warm(self, error: Exception) -> None:
        show_error(f"The slice that is shown cannot be prepared: {error}")


def _nothing(_value: object) -> None:
    """A slice is warmed up: the assistant says that it is free."""
