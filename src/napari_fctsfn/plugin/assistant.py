"""The model in the background: found, loaded, and given one task after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.background import Background

if TYPE_CHECKING:
    from napari_fctsfn.session import Replayer


class Assistant(QObject):
    """Loads models and runs what needs one.

    Parameters
    ----------
    parent : QObject, optional
        Owner in Qt.

    Attributes
    ----------
    free : Signal()
        A task has ended, or the model has changed: there may be time for something else.
    listed : Signal(object)
        Models and devices of this machine (`tasks.Choices`) are known.
    """

    free = Signal()
    listed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.choices: tasks.Choices | None = None
        self.replayer: Replayer | None = None
        self.failure = ""
        self.model: tuple[str, str] | None = None
        self._wanted = False
        self._background = Background(self)
        self._background.run(tasks.list_choices, self._on_listed, self._on_failed)

    @property
    def busy(self) -> bool:
        """Whether a task runs."""
        return self._background.busy

    @property
    def ready(self) -> bool:
        """Whether a model is loaded and nothing runs."""
        return self.replayer is not None and not self.busy

    def use(self, name: str, device: str) -> None:
        """Load this model for this device as soon as there is time."""
        if (name, device) != self.model or self.failure:
            self.model, self._wanted = (name, device), True
            self.replayer, self.failure = None, ""
            self._load()

    def run(
        self,
        task: Callable[[Replayer], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Run a task with the model in the background; only when `ready`.

        Parameters
        ----------
        task : callable
            Gets the replayer; runs in another thread.
        done, failed : callable
            Get the result or the exception on the main thread; `free` follows.
        """
        assert self.replayer is not None
        self._background.run(
            partial(task, self.replayer), partial(self._end, done), partial(self._end, failed)
        )

    def close(self) -> None:
        """Let a running task end by itself and drop its result."""
        self._background.forget()

    def _load(self) -> None:
        if self._wanted and not self.busy and self.model is not None:
            self._wanted = False
            task = partial(tasks.load_replayer, *self.model)
            self._background.run(task, partial(self._on_loaded, self.model), self._on_failed)
        self.free.emit()

    def _end(self, then: Callable[[Any], None], value: Any) -> None:
        then(value)
        self._load()

    def _on_listed(self, choices: tasks.Choices) -> None:
        self.choices = choices
        if not choices.models:
            self.failure = "no model is installed"
        self.listed.emit(choices)
        self._load()

    def _on_loaded(self, model: tuple[str, str], replayer: Replayer) -> None:
        if model == self.model:  # else another one was chosen meanwhile
            self.replayer = replayer
        self._load()

    def _on_failed(self, error: Exception) -> None:
        if not self._wanted:  # else the failure is that of a model nobody wants any more
            self.failure = str(error)
            show_error(f"The model cannot be used: {error}")
        self._load()
