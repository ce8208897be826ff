"""One task at a time in the background, its result on the main thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import FunctionWorker
from qtpy.QtCore import QObject, QTimer


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


class Background(QObject):
    """Runs one task at a time in a worker thread of napari.

    `FunctionWorker` is used directly and not through `create_worker`, which would list every
    single click in napari's task manager and ask about it when the window is closed.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: FunctionWorker | None = None
        self._done: Callable[[Any], None] | None = None
        self._failed: Callable[[Exception], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a task runs or its result is on its way."""
        return self._worker is not None

    def run(
        self,
        task: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Run a task in the background.

        Parameters
        ----------
        task : callable
            Runs in another thread; it must not touch layers or Qt.
        done : callable
            Gets what the task returned, on the main thread.
        failed : callable
            Gets the exception the task raised, on the main thread.
        """
        if self.busy:
            raise RuntimeError("a background task is running already")

        def guarded() -> _Outcome:
            try:
                return _Outcome(value=task())
            except Exception as error:  # noqa: BLE001 - `failed` reports it on the main thread
                return _Outcome(error=error)

        self._done, self._failed = done, failed
        self._worker = FunctionWorker(guarded)
        self._worker.returned.connect(self._returned)
        self._worker.start()

    def forget(self) -> None:
        """Let a running task end by itself and drop its result."""
        if self._worker is not None:
            self._worker.returned.disconnect(self._returned)
            self._worker.quit()
            self._worker = None
        self._done = self._failed = None

    def _returned(self, outcome: _Outcome) -> None:
        done, failed = self._done, self._failed
        self._worker = self._done = self._failed = None
        if outcome.error is not None and failed is not None:
            failed(outcome.error)
        elif outcome.error is None and done is not None:
            done(outcome.value)


def single_shot(parent: QObject, milliseconds: int, then: Callable[[], object]) -> QTimer:
    """A timer that calls `then` once, so long after it was started last."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(then)
    return timer
