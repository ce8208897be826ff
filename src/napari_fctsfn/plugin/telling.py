"""What one dock lets the others know, and how they share the window."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.plugin.layers import camera_of

if TYPE_CHECKING:
    from napari.viewer import Viewer


def tell_models(widget: QWidget, use: str = "") -> None:
    """Let the other docks of a window list the models anew, and annotate with one of them.

    Parameters
    ----------
    widget : QWidget
        The dock in which a model was registered, renamed or deleted.
    use : str
        Name of the model to annotate with; empty to change nothing.
    """
    from napari_fctsfn.plugin.dock import AnnotateDock

    window = widget.window()
    docks: list[Any] = [] if window is None else window.findChildren(Docked)
    for other in docks:
        if isinstance(other, AnnotateDock):
            other.list_models(use)
        elif other is not widget:
            other.list_models()


def next_image(widget: QWidget) -> bool:
    """Let the Annotate dock of a window open the next image; return whether there is one."""
    from napari_fctsfn.plugin.dock import AnnotateDock

    window = widget.window()
    docks = [] if window is None else window.findChildren(AnnotateDock)
    return any(dock.next_image() for dock in docks[:1])


class Docked(QWidget):
    """A widget that napari docks in its window; it lets go when it is taken out or closed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer of the window.
    parent : QWidget, optional
    """

    _docked = False
    _released = False

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer

    def let_go(self) -> None:
        """Leave the viewer alone from now on; called once."""
        raise NotImplementedError

    @property
    def waits(self) -> bool:
        """Whether something is under way."""
        raise NotImplementedError

    def wait_idle(self, timeout_ms: int = 60_000) -> bool:
        """Process events until nothing is under way; return whether that was so in time."""
        deadline = time.monotonic() + timeout_ms / 1000
        while time.monotonic() < deadline:
            QApplication.processEvents()
            if not self.waits:
                return True
            time.sleep(0.002)
        return False

    def release(self) -> None:
        """Let go of the viewer and its layers; the labels stay."""
        if not self._released:
            self._released = True
            self.let_go()

    def event(self, event: QEvent | None) -> bool:
        """Let go when napari takes the dock out of its window: it is not closed then."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                if not self._docked:
                    single_shot(self, 0, partial(self._settle, _is_fitted(self._viewer))).start()
                self._docked = True
            elif self._docked:
                self.release()
        return super().event(event)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Let go when the dock is closed as a window of its own."""
        self.release()
        super().closeEvent(event)

    def _settle(self, fitted: bool) -> None:
        """Share the window with the other docks, and fit the view again to what is left of it."""
        self._join_tabs()
        if fitted and not self._released:
            self._viewer.reset_view()

    def _join_tabs(self) -> None:
        """Be a tab beside the other docks of the window; above each other they were too low."""
        window, own = self.window(), _frame(self)
        if not isinstance(window, QMainWindow) or own is None:
            return
        # four of them share a narrow column, and what plugin they are of is seen in them
        own.setWindowTitle(own.windowTitle().partition(" (")[0])
        area = window.dockWidgetArea(own)
        others = [
            frame
            for other in window.findChildren(Docked)
            if (frame := _frame(other)) is not None
            and frame is not own
            and not (frame.isHidden() or frame.isFloating())
            and window.dockWidgetArea(frame) == area
        ]
        # docks that come together find those that were settled before them already as tabs
        if others and not window.tabifiedDockWidgets(own):
            tabs = [frame for frame in others if window.tabifiedDockWidgets(frame)]
            window.tabifyDockWidget((tabs or others)[0], own)
        own.raise_()


def _is_fitted(viewer: Viewer) -> bool:
    """Whether a plane is shown as napari shows it at first, neither moved nor zoomed."""
    if viewer.dims.ndisplay != 2:
        return False
    camera = camera_of(viewer)
    before = camera.center, camera.zoom
    viewer.reset_view()
    fitted = np.allclose((*before[0], before[1]), (*camera.center, camera.zoom))
    camera.center, camera.zoom = before
    return fitted


def _frame(widget: QWidget) -> QDockWidget | None:
    """What Qt docks of a widget."""
    parent: Any = widget
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent
