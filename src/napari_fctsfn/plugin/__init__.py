"""Everything that knows napari or Qt: docks, commands and sample data."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fctsfn.plugin.batching.dock import BatchDock
    from napari_fctsfn.plugin.dock import AnnotateDock
    from napari_fctsfn.plugin.shelf.dock import ModelsDock
    from napari_fctsfn.plugin.teaching.dock import FineTuneDock

__all__ = ["AnnotateDock", "BatchDock", "FineTuneDock", "ModelsDock"]


def __getattr__(name: str) -> Any:
    if name == "AnnotateDock":
        # sample data are read without Qt
        from napari_fctsfn.plugin.dock import AnnotateDock

        return AnnotateDock
    if name == "FineTuneDock":
        from napari_fctsfn.plugin.teaching.dock import FineTuneDock

        return FineTuneDock
    if name == "BatchDock":
        from napari_fctsfn.plugin.batching.dock import BatchDock

        return BatchDock
    if name == "ModelsDock":
        from napari_fctsfn.plugin.shelf.dock import ModelsDock

        return ModelsDock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
