"""What one dock lets the others know, and how they share the window."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget


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

    for other in _docks(widget):
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


def join_tabs(widget: QWidget) -> None:
    """Show a dock as a tab beside the others of its window; above each other they were too low.

    Parameters
    ----------
    widget : QWidget
        The dock that was opened last.
    """
    window, own = widget.window(), _frame(widget)
    if not isinstance(window, QMainWindow) or own is None:
        return
    area = window.dockWidgetArea(own)
    for other in _docks(widget):
        frame = _frame(other)
        if other is widget or frame is None or frame.isHidden() or frame.isFloating():
            continue
        if window.dockWidgetArea(frame) == area:
            window.tabifyDockWidget(frame, own)
            own.raise_()
            return


def _docks(widget: QWidget) -> list[Any]:
    """All docks of this package in a widget's window."""
    from napari_fctsfn.plugin.batching.dock import BatchDock
    from napari_fctsfn.plugin.dock import AnnotateDock
    from napari_fctsfn.plugin.shelf.dock import ModelsDock
    from napari_fctsfn.plugin.teaching.dock import FineTuneDock

    window = widget.window()
    kinds = AnnotateDock, FineTuneDock, BatchDock, ModelsDock
    return [] if window is None else [dock for kind in kinds for dock in window.findChildren(kind)]


def _frame(widget: QWidget) -> QDockWidget | None:
    """What Qt docks of a widget."""
    parent: Any = widget
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent
