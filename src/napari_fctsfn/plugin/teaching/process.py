"""The process that learns: started, read, paused, cancelled; never waited for."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QProcess, Signal  # type: ignore[attr-defined]

from napari_fctsfn.plugin.background import Background

if TYPE_CHECKING:
    from napari_fctsfn.train.finetune import FineTuneSettings, Picture

_GRACE = 3000
"""Milliseconds that the process gets to end by itself when the dock is closed."""


class Teaching(QObject):
    """One fine-tuning in a process of lower priority.

    Parameters
    ----------
    parent : QObject, optional
        Owner in Qt.

    Attributes
    ----------
    progressed : Signal(dict)
        The fields of a `Progress`.
    finished : Signal(object)
        Folder with the result (Path), or None where there is none; `problem` says why.
    problem : str
        What went wrong, in one sentence; empty if nothing did.
    paused : bool
        Whether it holds on.
    """

    progressed = Signal(dict)
    finished = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.problem = ""
        self.paused = False
        self._cancelled = False
        self._background = Background(self)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: QProcess | None = None
        self._line = b""

    @property
    def busy(self) -> bool:
        """Whether something is being learned."""
        return self._background.busy or self._process is not None

    def start(
        self,
        base: str,
        pictures: Sequence[Picture],
        settings: FineTuneSettings,
        threads: int | None = None,
    ) -> None:
        """Write the job in the background, then start the process.

        Parameters
        ----------
        base : str
            Name of the model to start from.
        pictures : sequence of Picture
        settings : FineTuneSettings
        threads : int, optional
            Of the process; torch's own choice if not given.
        """
        self.problem, self.paused, self._cancelled = "", False, False
        self.clean()
        self._folder = tempfile.TemporaryDirectory(
            prefix="napari-fctsfn-", ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)

        def write() -> None:
            from napari_fctsfn.models import resolve_model
            from napari_fctsfn.train.finetune.job import write_job

            write_job(folder, resolve_model(base), pictures, settings, threads)

        self._background.run(write, lambda _: self._launch(folder), self._failed)

    def pause(self, paused: bool) -> None:
        """Hold on, or go on."""
        self.paused = paused
        self._say("pause" if paused else "resume")

    def cancel(self) -> None:
        """End the learning; the best so far is measured and comes as a result."""
        self.paused, self._cancelled = False, True
        self._say("cancel")

    def close(self) -> None:
        """End the process and drop what it did."""
        self._background.forget()
        process, self._process = self._process, None
        if process is not None:
            process.finished.disconnect(self._on_finished)
            process.readyReadStandardOutput.disconnect(self._read)
            process.kill()
            process.waitForFinished(_GRACE)
        self.clean()

    def clean(self) -> None:
        """Remove the folder of the last job."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _launch(self, folder: Path) -> None:
        self._line = b""
        self._process = process = QProcess(self)
        process.setStandardErrorFile(str(folder / "errors.txt"))
        process.readyReadStandardOutput.connect(self._read)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        process.start(sys.executable, ["-m", "napari_fctsfn.train.finetune", str(folder)])
        # What was pressed while the job was written.
        if self._cancelled:
            self._say("cancel")
        elif self.paused:
            self._say("pause")

    def _say(self, word: str) -> None:
        if self._process is not None:
            self._process.write(f"{word}\n".encode())

    def _read(self) -> None:
        if self._process is None:
            return
        output = self._line + self._process.readAllStandardOutput().data()
        *lines, self._line = output.split(b"\n")
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if "error" in told:
                self.problem = told["error"]
            else:
                self.progressed.emit(told)

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._failed(OSError(f"{sys.executable} cannot be started"))

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        process, self._process = self._process, None
        if process is not None:
            process.deleteLater()
        assert self._folder is not None
        folder = Path(self._folder.name)
        crashed = status != QProcess.ExitStatus.NormalExit
        if not self.problem and (crashed or code):
            self.problem = "the training process ended unexpectedly; models are as they were"
        self.finished.emit(None if self.problem else folder)

    def _failed(self, error: Exception) -> None:
        self._process = None
        self.problem = str(error)
        self.finished.emit(None)
