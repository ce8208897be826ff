"""Rows of buttons: how to go on, what the annotator prompts with, what becomes of proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QMenu, QPushButton, QToolButton, QWidget

from napari_fctsfn.plugin.keeping import told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


class ReopenRow(QWidget):
    """Goes on with the last session of an image, or with one before it.

    Parameters
    ----------
    reopen : callable
        Given the folder of the session that is asked for.
    """

    def __init__(self, reopen: Callable[[Path], object]) -> None:
        super().__init__()
        self._reopen = reopen
        self.offered: list[Path] = []
        self.last_button = QPushButton("Reopen last session")
        self.last_button.clicked.connect(lambda *_: reopen(self.offered[0]))
        self.earlier_button = QToolButton()
        self.earlier_button.setText("Earlier…")
        self.earlier_button.setToolTip("Choose among the sessions that may be of this image")
        self.earlier_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.earlier_button.setStyleSheet("QToolButton { padding-right: 14px; }")  # its arrow
        self._menu = QMenu(self.earlier_button)
        self._menu.aboutToShow.connect(self._fill)
        self.earlier_button.setMenu(self._menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self.last_button, 1)
        row.addWidget(self.earlier_button)

    def offer(self, folders: list[Path], enabled: bool) -> None:
        """Show what can be gone on with, the newest first; nothing is shown if there is none."""
        self.setVisible(bool(folders))
        self.earlier_button.setVisible(len(folders) > 1)
        if folders and folders != self.offered:
            self.last_button.setToolTip(told(folders[0]))
        self.offered = folders
        self.setEnabled(enabled)

    def _fill(self) -> None:
        self._menu.clear()
        for folder in self.offered:
            self._menu.addAction(told(folder), lambda folder=folder: self._reopen(folder))


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


class FindRow(QWidget):
    """Asks for proposals, and decides about them.

    Parameters
    ----------
    annotator : Annotator
    """

    def __init__(self, annotator: Annotator) -> None:
        super().__init__()
        self._finding = annotator.finding
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)

        def button(text: str, tip: str, action: Callable[[], None]) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            made.clicked.connect(lambda *_: action())
            row.addWidget(made)
            return made

        finding = self._finding
        self.find_button = button(
            "Find similar", "Propose further objects like those of this slice", finding.start
        )
        self.accept_button = button(
            "Accept", "Make objects of the proposals; one step for undo", finding.accept
        )
        self.reject_button = button(
            "Reject", "Drop all proposals; a click on one drops that one", finding.reject
        )

    def refresh(self) -> None:
        """Show what can be done now."""
        finding = self._finding
        offered = finding.search is not None and not finding.under_way
        self.find_button.setVisible(not offered)
        self.accept_button.setVisible(offered)
        self.accept_button.setText(f"Accept {len(finding.offered)}")
        self.reject_button.setVisible(offered)
