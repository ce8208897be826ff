"""What the network sees of an image with channels: chosen in the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_fctsfn.plugin.layers import image_shape

if TYPE_CHECKING:
    from napari_fctsfn.predict import Channels

_MOST = 64
"""Axes that are longer hold slices and not channels."""

_COLOURS = ("red", "green", "blue")
"""As which the network sees up to three channels."""


class ChannelChooser(QWidget):
    """Chooses the axis of an image's channels and up to three of them.

    Parameters
    ----------
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sizes: tuple[int, ...] = ()
        self.axis = _box("The axis along which the image has channels")
        self.channels = tuple(_box(f"The channel that the network sees as {c}") for c in _COLOURS)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.axis)
        self._row = QWidget()
        row = QHBoxLayout(self._row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for box in self.channels:
            row.addWidget(box)
        column.addWidget(self._row)
        self.axis.currentIndexChanged.connect(self._on_axis)
        self.offer(None)

    @property
    def choice(self) -> tuple[int, tuple[int, ...]] | None:
        """The axis and its chosen channels; None where every slice stands for itself."""
        axis = self.axis.currentData()
        chosen = tuple(c for box in self.channels if (c := box.currentData()) is not None)
        return (int(axis), chosen) if axis is not None and chosen else None

    @property
    def useful(self) -> bool:
        """Whether the image has an axis that may hold channels."""
        return self.axis.count() > 1

    def offer(self, image: Image | None) -> None:
        """List the axes of an image that may hold channels; at first it has none."""
        self._sizes = () if image is None else image_shape(image)
        self.axis.blockSignals(True)
        self.axis.clear()
        self.axis.addItem("none: slices only", None)
        if image is not None and len(self._sizes) > 2:
            for axis, size in enumerate(self._sizes):
                if 1 < size <= _MOST:
                    name = str(image.axis_labels[axis]).strip()
                    named = f" “{name}”" if name and not name.startswith("-") else ""
                    self.axis.addItem(f"axis {axis}{named}, {size} channels", axis)
        self.axis.blockSignals(False)
        self._on_axis()

    def show_channels(self, channels: Channels | None) -> None:
        """Show what a session has chosen."""
        self.axis.setCurrentIndex(0 if channels is None else self.axis.findData(channels.axis))
        for number, box in enumerate(self.channels):
            if channels is not None:
                there = number < len(channels.chosen)
                box.setCurrentIndex(box.findData(channels.chosen[number]) if there else 0)

    def _on_axis(self, _index: int = 0) -> None:
        axis = self.axis.currentData()
        self._row.setVisible(axis is not None)
        for number, box in enumerate(self.channels):
            box.clear()
            if axis is None:
                continue
            size = self._sizes[axis]
            if number:
                box.addItem("none", None)
            for channel in range(size):
                box.addItem(str(channel), channel)
            box.setCurrentIndex(min(number, size - 1) + 1 if 0 < number < size else 0)


def _box(tip: str) -> QComboBox:
    box = QComboBox()
    box.setToolTip(tip)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box
