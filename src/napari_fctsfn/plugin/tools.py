"""The row of buttons that say what the annotator prompts with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

if TYPE_CHECKING:
    from napari_fctsfn.plugin.annotate import Annotator
    from napari_fctsfn.plugin.shaping import Tool

_TOOLS: dict[Tool, tuple[str, str]] = {
    "click": ("Click", "Click on the object or on the background"),
    "box": ("Box", "Drag a box around the object: its mask is made anew from there"),
    "scribble": (
        "Scribble",
        "Drag along the object or the background: a few clicks at once",
    ),
}


class ToolRow(QWidget):
    """Click, box or scribble.

    Parameters
    ----------
    annotator : Annotator
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, annotator: Annotator, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._annotator = annotator
        self.buttons: dict[Tool, QPushButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for tool, (text, tip) in _TOOLS.items():
            button = self.buttons[tool] = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, tool=tool: annotator.use_tool(tool))
            row.addWidget(button)

    def refresh(self) -> None:
        """Show which is in use."""
        for tool, button in self.buttons.items():
            button.setChecked(tool == self._annotator.tool)
