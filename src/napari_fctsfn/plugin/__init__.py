"""Everything that knows napari or Qt: docks, commands and sample data."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fctsfn.plugin.dock import AnnotateDock

__all__ = ["AnnotateDock"]


def __getattr__(name: str) -> Any:
    if name == "AnnotateDock":
        # sample data are read without Qt
        from napari_fctsfn.plugin.dock import AnnotateDock

        return AnnotateDock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
