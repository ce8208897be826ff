"""The Annotate dock's actions as commands, for menus, the command palette and other plugins.

napari gives the viewer; other callers give it themselves::

    npe2.PluginManager.instance().commands.execute("napari-fctsfn.next_object", (viewer,))

`next_object` and its like are looked up by name: there is one for each of `keys.ACTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# napari injects the viewer by this annotation
import napari.viewer

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.keys import ACTIONS


def __getattr__(name: str) -> Any:
    if name in ACTIONS:
        return _command(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _command(name: str) -> Callable[[Any], None]:
    def command(viewer: napari.viewer.Viewer = None) -> None:
        _dock_of(viewer).act(name)

    command.__name__ = command.__qualname__ = name
    command.__doc__ = f"{ACTIONS[name].title}, in the Annotate dock of a viewer."
    return command


def _dock_of(viewer: Any) -> Any:
    """The open Annotate dock of a viewer."""
    from napari_fctsfn.plugin.dock import AnnotateDock

    if viewer is None:
        raise InputError("there is no viewer: give viewer, or call it from napari's palette")
    dock = AnnotateDock.of(viewer)
    if dock is None:
        raise InputError(
            "the Annotate dock is not open: Plugins ▸ FCTSFN click segmentation ▸ Annotate"
        )
    return dock
