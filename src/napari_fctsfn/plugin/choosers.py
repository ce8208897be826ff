"""A drop-down list of a viewer's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer


class LayerChooser(QComboBox):
    """Chooses one of a viewer's layers of a kind, held by reference and never found by name.

    Parameters
    ----------
    viewer : Viewer
        The viewer.
    kind : type of Layer
        Layers of other kinds are not listed.
    nothing : str
        Text of the first entry, which stands for no layer.
    always : bool
        Whether that entry is also offered where there are layers.
    parent : QWidget, optional
        Owner in Qt.

    Attributes
    ----------
    chosen : Signal()
        Another layer is chosen, by the user or because the layers have changed.
    """

    chosen = Signal()

    def __init__(
        self,
        viewer: Viewer,
        kind: type[Layer],
        nothing: str,
        always: bool,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._kind, self._nothing, self._always = viewer, kind, nothing, always
        self._layers: list[Layer | None] = []
        self._last: Layer | None = None
        # a long layer name must not widen the dock
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.currentIndexChanged.connect(self._on_index)
        for event in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, event).connect(self._refresh)
        self._refresh()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @property
    def layers(self) -> list[Any]:
        """All that can be chosen, newest first."""
        return [layer for layer in self._layers if layer is not None]

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer; None chooses none. One that is not listed changes nothing."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def release(self) -> None:
        """Stop listening to the viewer."""
        for event in ("inserted", "removed", "reordered"):
            getattr(self._viewer.layers.events, event).disconnect(self._refresh)
        self._unwatch()

    def _unwatch(self) -> None:
        for layer in self._layers:
            if layer is not None:
                layer.events.name.disconnect(self._refresh)

    def _refresh(self, _event: Any = None) -> None:
        before = self.layer
        self._unwatch()
        # the newest layer, which is the last, comes first
        found = [layer for layer in self._viewer.layers if isinstance(layer, self._kind)][::-1]
        self._layers = [None, *found] if self._always or not found else list(found)
        for layer in found:
            layer.events.name.connect(self._refresh)
        self.blockSignals(True)
        self.clear()
        self.addItems([self._nothing if layer is None else layer.name for layer in self._layers])
        if before in self._layers:
            self.setCurrentIndex(self._layers.index(before))
        self.blockSignals(False)
        self._on_index()

    def _on_index(self, _index: int = -1) -> None:
        if self.layer != self._last:
            self._last = self.layer
            self.chosen.emit()
