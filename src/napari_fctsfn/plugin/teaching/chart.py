"""A small chart of two curves over steps: loss, and IoU on what is held out."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

_LOSS, _IOU = QColor("#ffb000"), QColor("#3fb8ff")
_SMOOTH = 0.8


class Chart(QWidget):
    """Loss (falling) and IoU (rising), each on its own scale.

    Parameters
    ----------
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMinimumHeight(120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.losses: list[tuple[int, float]] = []
        self.ious: list[tuple[int, float]] = []

    def clear(self) -> None:
        """Forget both curves."""
        self.losses, self.ious = [], []
        self.update()

    def add(self, step: int, loss: float | None, iou: float | None) -> None:
        """A point of each curve that has one; the loss is smoothed."""
        if loss is not None:
            last = self.losses[-1][1] if self.losses else loss
            self.losses.append((step, _SMOOTH * last + (1 - _SMOOTH) * loss))
        if iou is not None:
            self.ious.append((step, iou))
        self.update()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802 - Qt's name
        """Draw frame, curves and legend."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QRectF(self.rect()).adjusted(4, 20, -4, -16)
        text = self.palette().windowText().color()
        faint = QColor(text)
        faint.setAlpha(60)
        painter.setPen(faint)
        painter.drawRect(frame)
        for part in (0.25, 0.5, 0.75):
            y = frame.top() + part * frame.height()
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
        last = max([step for step, _ in self.losses + self.ious], default=0)
        painter.setPen(text)
        middle = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignBottom
        painter.drawText(self.rect(), middle, f"step {last}" if last else "no step yet")
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop
        for points, color, name, side in (
            (self.losses, _LOSS, "loss", left),
            (self.ious, _IOU, "IoU held out", right),
        ):
            painter.setPen(color)
            value = f" {points[-1][1]:.2f}" if points else ""
            painter.drawText(self.rect().adjusted(4, 0, -4, 0), side, f"{name}{value}")
            self._curve(painter, frame, points, color, last)
        painter.end()

    @staticmethod
    def _curve(
        painter: QPainter,
        frame: QRectF,
        points: list[tuple[int, float]],
        color: QColor,
        last: int,
    ) -> None:
        if not points or not last:
            return
        values = [value for _, value in points]
        low, high = min(values), max(values)
        span = max(high - low, 1e-6)
        places = [
            QPointF(
                frame.left() + frame.width() * step / last,
                frame.bottom() - frame.height() * (0.08 + 0.84 * (value - low) / span),
            )
            for step, value in points
        ]
        painter.setPen(QPen(color, 2))
        painter.drawPolyline(QPolygonF(places))
        painter.setBrush(color)
        painter.drawEllipse(places[-1], 2.5, 2.5)
        painter.setBrush(Qt.BrushStyle.NoBrush)
