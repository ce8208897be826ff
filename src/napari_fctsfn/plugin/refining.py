"""Sliders and switches for how masks are made from what the network sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QPushButton, QWidget
from superqt import QLabeledDoubleSlider

from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.session.refinement import HIGHEST, LOWEST, USUAL, Refinement

if TYPE_CHECKING:
    from napari_fctsfn.plugin.annotate import Annotator

_SETTLE_MS = 300
"""A slider is set once it has rested, and has not been held, for so long."""


class RefineBox(QWidget):
    """Threshold, pull of edges, clean-up, and the probability behind the mask.

    While a slider moves, an outline shows what the mask would be; where it comes to rest is one
    step of the history.

    Parameters
    ----------
    annotator : Annotator
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, annotator: Annotator, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._annotator = annotator
        self.threshold = _slider(LOWEST, HIGHEST)
        self.threshold.setToolTip(
            "A pixel is object where the network gives it a larger probability than this: to the "
            "left the mask grows, to the right it shrinks"
        )
        self.edges = _slider(0.0, 1.0)
        self.edges.setToolTip(
            "How strongly the outline is drawn to edges of the image (graph cut); 0 is off"
        )
        self.fill_holes = QCheckBox("Fill small holes")
        self.fill_holes.setToolTip("Fill small holes in which there is no click on the background")
        self.drop_unclicked = QCheckBox("Only parts with a click")
        self.drop_unclicked.setToolTip("Drop parts in which there is no click on the object")
        self.reset_button = QPushButton("As usual")
        self.reset_button.setToolTip("Put all of these back")
        self.probability = QCheckBox("Show probability")
        self.probability.setToolTip(
            "Lay the probability that the network gives each pixel of the object over the image"
        )
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.addRow("Threshold", self.threshold)
        form.addRow("Edges", self.edges)
        form.addRow(self.fill_holes, self.drop_unclicked)
        form.addRow(self.probability, self.reset_button)
        self._settle = single_shot(annotator, _SETTLE_MS, self._on_rest)
        self._sliders = (self.threshold, self.edges)
        self._switches = (self.fill_holes, self.drop_unclicked)
        self.refresh()
        for slider in self._sliders:
            slider.valueChanged.connect(self._on_slider)
        for switch in self._switches:
            switch.toggled.connect(self._on_rest)
        self.reset_button.clicked.connect(self._on_reset)
        self.probability.toggled.connect(annotator.looking.show_probability)

    @property
    def waits(self) -> bool:
        """Whether a slider has moved a moment ago."""
        return self._settle.isActive()

    @property
    def value(self) -> Refinement:
        """What sliders and switches say."""
        return Refinement(
            round(self.threshold.value(), 2),
            round(self.edges.value(), 2),
            self.fill_holes.isChecked(),
            self.drop_unclicked.isChecked(),
        )

    def refresh(self) -> None:
        """Show how masks are made, unless the annotator is about to change it."""
        if self.waits:
            return
        session = self._annotator.session
        now = USUAL if session is None else session.refinement
        self.reset_button.setEnabled(now != USUAL)
        if now == self.value:
            return
        for widget in (*self._sliders, *self._switches):
            widget.blockSignals(True)
        self.threshold.setValue(now.threshold)
        self.edges.setValue(now.edges)
        self.fill_holes.setChecked(now.fill_holes)
        self.drop_unclicked.setChecked(now.drop_unclicked)
        for widget in (*self._sliders, *self._switches):
            widget.blockSignals(False)

    def _on_slider(self, _value: float) -> None:
        self._settle.start()
        self._annotator.imagine_refined(self.value)

    def _on_rest(self, *_: Any) -> None:
        if any(slider.isSliderDown() for slider in self._sliders):
            self._settle.start()
            return
        self._settle.stop()
        self._annotator.refine(self.value)
        self.refresh()

    def _on_reset(self) -> None:
        self._settle.stop()
        self._annotator.refine(USUAL)
        self.refresh()


def _slider(lowest: float, highest: float) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(lowest, highest)
    slider.setDecimals(2)
    return slider
