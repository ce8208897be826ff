"""A chart of the clicks that objects have taken, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from napari_fctsfn.session.effort import Effort

_ONE, _MEAN = QColor("#56b4e9"), QColor("#e69f00")
_OVER = 10
"""Objects whose mean is drawn."""


def running_means(clicks: Sequence[float]) -> list[float]:
    """The mean of each and the nine before it."""
    means = []
    for end in range(1, len(clicks) + 1):
        part = clicks[max(end - _OVER, 0) : end]
        means.append(sum(part) / len(part))
    return means


class EffortChart(QWidget):
    """Clicks of each object, the mean of ten, and where another model came into use.

    Attributes
    ----------
    efforts : sequence of Effort
    names : dict of str to str
        Names of models by their SHA-256.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumHeight(140)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.efforts: Sequence[Effort] = ()
        self.names: dict[str, str] = {}

    def show_efforts(self, efforts: Sequence[Effort], names: dict[str, str]) -> None:
        """Draw these."""
        self.efforts, self.names = efforts, names
        self.update()

    @property
    def changes(self) -> list[tuple[int, str]]:
        """Where a model comes into use, by the number of the object from 0, and its name."""
        found, before = [], None
        for number, effort in enumerate(self.efforts):
            if effort.model != before:
                before = effort.model
                found.append((number, self.names.get(before, before[:8] or "unknown")))
        return found

    def paintEvent(self, _event: Any) -> None:  # noqa: N802 - Qt's name
        """Draw frame, points, curve and names."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        painter.setPen(text)
        if not self.efforts:
            middle = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), int(middle), "No object was clicked on yet.")
            return
        frame = QRectF(self.rect()).adjusted(26, 30, -6, -18)
        clicks = [effort.clicks for effort in self.efforts]
        top = max(*clicks, 4.0)
        wide = max(len(clicks) - 1, 1)

        def place(number: float, value: float) -> QPointF:
            x = frame.left() + number / wide * frame.width()
            return QPointF(x, frame.bottom() - value / top * frame.height())

        faint = QColor(text)
        faint.setAlpha(60)
        for value in range(0, int(top) + 1, max(int(top) // 4, 1)):
            painter.setPen(faint)
            painter.drawLine(place(0, value), place(wide, value))
            painter.setPen(text)
            painter.drawText(QPointF(4, place(0, value).y() + 4), str(value))
        for row, (number, name) in enumerate(self.changes):
            x = place(number, 0).x()
            painter.setPen(QPen(faint, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(x, frame.top()), QPointF(x, frame.bottom()))
            painter.setPen(text)
            painter.drawText(QPointF(min(x + 2, frame.right() - 60), 11 + 13 * (row % 2)), name)
        painter.setPen(QPen(_ONE, 4, cap=Qt.PenCapStyle.RoundCap))
        for number, taken in enumerate(clicks):
            painter.drawPoint(place(number, taken))
        painter.setPen(QPen(_MEAN, 2))
        curve = [place(number, value) for number, value in enumerate(running_means(clicks))]
        painter.drawPolyline(QPolygonF(curve))
        painter.setPen(text)
        painter.drawText(
            QRectF(frame.left(), frame.bottom() + 2, frame.width(), 16),
            int(Qt.AlignmentFlag.AlignHCenter),
            f"clicks for each of {len(clicks)} objects, and the mean of {_OVER}",
        )
