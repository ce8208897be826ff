"""What one dock lets the others know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


def tell_models(widget: QWidget, use: str = "") -> None:
    """Let the other docks of a window list the models anew, and annotate with one of them.

    Parameters
    ----------
    widget : QWidget
        The dock in which a model was registered, renamed or deleted.
    use : str
        Name of the model to annotate with; empty to change nothing.
    """
    from napari_fctsfn.plugin.batching.dock import BatchDock
    from napari_fctsfn.plugin.dock import AnnotateDock
    from napari_fctsfn.plugin.shelf.dock import ModelsDock
    from napari_fctsfn.plugin.teaching.dock import FineTuneDock

    window = widget.window()
    if window is None:
        return
    for annotate in window.findChildren(AnnotateDock):
        annotate.list_models(use)
    others: tuple[Any, ...] = (
        *window.findChildren(FineTuneDock),
        *window.findChildren(BatchDock),
        *window.findChildren(ModelsDock),
    )
    for other in others:
        if other is not widget:
            other.list_models()


def next_image(widget: QWidget) -> bool:
    """Let the Annotate dock of a window open the next image; return whether there is one."""
    from napari_fctsfn.plugin.dock import AnnotateDock

    window = widget.window()
    docks = [] if window is None else window.findChildren(AnnotateDock)
    return any(dock.next_image() for dock in docks[:1])
