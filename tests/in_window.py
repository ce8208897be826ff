"""What tests do in a napari window: click, press keys, wait for a notification."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_fctsfn.plugin import AnnotateDock

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


@contextmanager
def notified(text: str) -> Iterator[None]:
    """Exactly one notification is shown, and it says this."""
    before = len(notification_manager.records)
    yield
    messages = [str(record.message) for record in list(notification_manager.records)[before:]]
    assert len(messages) == 1, messages
    assert text in messages[0]


def click(dock: AnnotateDock, *point: float, positive: bool = True) -> None:
    """Click, and wait until the mask is there."""
    prompts = dock.annotator.site.prompts
    (prompts.positive if positive else prompts.negative).add(list(point))
    assert dock.wait_idle()


def press(viewer: Any, key: Qt.Key, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
    """Press a key over the canvas, as a user does."""
    from qtpy.QtTest import QTest

    canvas = next(
        w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop"
    )
    QTest.keyClick(canvas, key, modifiers)
    QApplication.processEvents()


def grey(*shape: int, seed: int = 0) -> np.ndarray:
    """A noisy picture."""
    return np.random.default_rng(seed).integers(0, 200, shape, dtype=np.uint8)


def cells(dock: AnnotateDock) -> list[list[Any]]:
    """What the table of objects shows."""
    model = dock.objects.model
    return [
        [model.data(model.index(row, column), 0) for column in range(model.columnCount() - 1)]
        for row in range(model.rowCount())
    ]
