"""A column of widgets that always fits its window: it scrolls, and parts of it fold away."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget
from superqt import QCollapsible


class Scrolling(QScrollArea):
    """Shows widgets in their full width and scrolls up and down where the window is too low.

    Parameters
    ----------
    content : QWidget
        What is shown.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As large as its content."""
        return self._wide(super().sizeHint())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as its content and low."""
        return self._wide(super().minimumSizeHint())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Ask for another width when the content needs it."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def _wide(self, hint: QSize) -> QSize:
        content, bar = self.widget(), self.verticalScrollBar()
        if content is None or bar is None:
            return hint
        width = content.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(max(width, hint.width()), hint.height())


def section(title: str, content: QWidget, expanded: bool = False) -> QCollapsible:
    """A part of a column that can be folded away."""
    part = QCollapsible(title, expandedIcon="▼", collapsedIcon="▶")
    part.setDuration(0)
    for layout in (part.layout(), part.content().layout()):
        if layout is not None:
            layout.setContentsMargins(0, 0, 0, 0)
    part.addWidget(content)
    if expanded:
        part.expand(animate=False)
    return part
