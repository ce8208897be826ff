"""The annotator's bench: a session and its layers, and how a step of one reaches the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_fctsfn.plugin.assistant import Assistant
from napari_fctsfn.plugin.source import ImageSource
from napari_fctsfn.session import SessionError, Step

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_fctsfn.plugin import tasks
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.session import Patch, Session


class Bench(QObject):
    """What everything that works on one viewer's annotation has in common.

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
        The session and its layers; None while nothing is annotated.
    source : ImageSource
        The image.
    assistant : Assistant
        The model in the background.
    work : tuple of callable
        Each gives the assistant a task and returns whether it had one; the first is asked first.
    problem : str
        What keeps the session from going on; empty if nothing does.
    last : tasks.Answer or None
        The newest prediction of the current object.
    told : str
        How the last longer work ended or what is missing; empty once something else was done.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.site: Site | None = None
        self.problem = ""
        self.last: tasks.Answer | None = None
        self.told = ""
        self.work: tuple[Callable[[], bool], ...] = ()
        self.closed = False
        self.source = ImageSource(viewer, self._on_image_data, self._on_moved)
        self.assistant = Assistant(self)
        self.assistant.free.connect(self.pump)

    @property
    def session(self) -> Session | None:
        """The document; None while nothing is annotated."""
        return None if self.site is None else self.site.session

    def tell(self, text: str) -> None:
        """Say something in the dock, until something else is done."""
        self.told = text
        self.changed.emit()

    def sound(self) -> Site | None:
        """Session and layers if all is as it should be; a notification tells of a new problem."""
        before = self.problem
        self.problem = "" if self.site is None else self.site.problem()
        if self.problem != before:
            if self.problem:
                show_warning(self.problem)
            self.pump()
        return None if self.problem else self.site

    def observe(self, site: Site) -> None:
        """Let the session see the labels that are shown; strokes on protected objects go."""
        self._mind(site, site.session.observe_all(site.strokes()))
        # the slice that was shown before too: napari's own undo, say, tells nobody of itself
        for plane in dict.fromkeys((site.session.observed, self.source.plane())):
            if plane is not None:
                self._mind(site, site.session.observe(plane, site.labels_of(plane)))

    @staticmethod
    def _mind(site: Site, touched: set[int]) -> None:
        """Take back the newest step, somebody's stroke, if it touched a protected object."""
        closed = sorted(label for label in touched if site.session.note(label).protected)
        if closed and (step := site.session.take_back()) is not None:
            for patch in step.patches:
                site.write(patch)
            show_warning(f"Object {closed[0]} is protected: the stroke was taken back.")

    def after(self, site: Site, step: Step | None) -> None:
        """Show what a step of the history has changed."""
        if step is None:
            return
        self.told = ""
        # written before the view moves, since a moving view looks at the labels
        for patch in step.patches:
            site.write(patch)
        if step.plane is not None:
            site.show(step.plane)
        self.last = None
        site.show_object()
        self.pump()

    def do(self, change: Callable[[Site], tuple[Patch, ...] | None]) -> bool:
        """Do something with the session and show what it changed; return whether that worked."""
        if (site := self.sound()) is None:
            return False
        self.observe(site)
        try:
            patches = change(site)
        except SessionError as error:
            show_warning(f"That is not possible: {error}.")
            return False
        self.after(site, Step(None, patches or ()))
        return True

    def activate(self, layer: Any) -> None:
        """Let the annotator add to one of the prompt layers."""
        self.viewer.layers.selection.active = layer
        layer.mode = "add"
        self.changed.emit()

    def pump(self) -> None:
        """Give the background its next task."""
        if self.closed:
            return
        if self.assistant.ready and not self.problem:
            any(give() for give in self.work)
        self.changed.emit()

    def _on_image_data(self) -> None:
        self.sound()
        self.pump()

    def _on_moved(self) -> None:
        if self.site is not None:
            self.site.follow_image()
