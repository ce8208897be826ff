"""The Batch dock: a job built by choosing, tried on three images, run, and its results opened."""

from __future__ import annotations

import glob
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# napari injects the viewer by this annotation, which it looks up when it makes the widget
import napari.viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.background import Background
from napari_fctsfn.plugin.batching.form import JobForm
from napari_fctsfn.plugin.telling import Docked

if TYPE_CHECKING:
    from napari_fctsfn.batch import Entry, Plan, Summary

_PREVIEW = 3
"""Images that are tried before a long run."""

_OPENED = 5
"""Results that are opened at once."""


class BatchDock(Docked):
    """Builds a batch job by choosing, and runs it in the background.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Results are opened here.
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self._background, self._lister = Background(self), Background(self)
        self._trial = Path(tempfile.mkdtemp(prefix="napari-fctsfn-"))
        self._entries: list[Entry] = []
        self._done = 0.0
        self._plan: Plan | None = None
        self._finished: tuple[Plan, list[Entry]] | None = None
        self._began = 0.0
        self._stopped = False
        self.form = JobForm()
        self.workers = QSpinBox()
        self.workers.setRange(1, 64)
        self.workers.setPrefix("Processes: ")
        self.overwrite = QCheckBox("Replace files of others")
        self.preview_button = QPushButton("Try on three images")
        self.run_button = QPushButton("Run")
        self.load_button, self.save_button = QPushButton("Open job…"), QPushButton("Save job…")
        self.cancel_button, self.results_button = QPushButton("Cancel"), QPushButton("Open results")
        self.progress = QProgressBar()
        self.status = QLabel("Choose images, and where their clicks come from.")
        self.status.setWordWrap(True)
        self._lay_out()
        self.preview_button.clicked.connect(self.preview)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.results_button.clicked.connect(self.open_results)
        self.load_button.clicked.connect(self._ask_load)
        self.save_button.clicked.connect(self._ask_save)
        self._timer = QTimer(self)
        self._timer.setInterval(100)
        self._timer.timeout.connect(self._refresh)
        self._refresh()
        self.list_models()

    def list_models(self) -> None:
        """List the models; those that the list has already stay."""
        if not self._lister.busy:
            self._lister.run(tasks.list_choices, self._on_choices, self._failed)

    @property
    def busy(self) -> bool:
        """Whether images are being segmented, or the list of models is on its way."""
        return self._background.busy or self._lister.busy

    def preview(self) -> None:
        """Do the first, a middle and the last image in a folder of its own, and show them."""
        self._start(self._tried, trial=True)

    def run(self) -> None:
        """Do the job; its results and the job itself go to the folder chosen."""
        self._start(self._ran, trial=False)

    def cancel(self) -> None:
        """Stop after the images under way; what is done is kept."""
        self._stopped = True
        self._refresh()

    def open_results(self) -> None:
        """Add images and labels as layers, those of which the model is least sure first."""
        if self._finished is not None:
            planned, entries = self._finished
            done = [entry for entry in entries if not entry.error]
            done.sort(key=lambda e: (1.0 if e.certainty is None else e.certainty, e.image))
            self._show(planned, done[:_OPENED])

    def load(self, path: Path) -> None:
        """Show a job file."""
        from napari_fctsfn.batch import read_job
        from napari_fctsfn.errors import InputError

        try:
            job = read_job(path)
        except InputError as error:
            self._say(f"{error}.")
            return
        document = job.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.form.show_document(document, path.resolve().parent)
        self._say(f"{path.name} is open.")

    def save(self, path: Path) -> None:
        """Write the job as a file for the command line."""
        from napari_fctsfn.batch import parse_job, write_job

        try:
            write_job(path, parse_job(self.form.document()))
        except (ValueError, OSError) as error:
            self._say(f"Not saved: {error}.")
        else:
            self._say(f"Saved. In a shell: napari-fctsfn batch {path.name}")

    @property
    def waits(self) -> bool:
        """Whether something is under way or about to be."""
        return self.busy

    def let_go(self) -> None:
        """Stop what is under way and remove what was only tried."""
        self._stopped = True
        self._timer.stop()
        self._background.forget()
        self._lister.forget()
        shutil.rmtree(self._trial, ignore_errors=True)

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.addWidget(self.workers, 0, 0)
        grid.addWidget(self.overwrite, 0, 1)
        grid.addWidget(self.load_button, 1, 0)
        grid.addWidget(self.save_button, 1, 1)
        grid.addWidget(self.preview_button, 2, 0)
        grid.addWidget(self.run_button, 2, 1)
        grid.addWidget(self.progress, 3, 0)
        grid.addWidget(self.cancel_button, 3, 1)
        column = QVBoxLayout(self)
        column.addWidget(self.form)
        column.addLayout(grid)
        column.addWidget(self.status)
        column.addWidget(self.results_button)
        column.addStretch(1)

    def _start(self, then: Callable[[Any], None], *, trial: bool) -> None:
        if self._background.busy:
            return
        try:
            document = self.form.document()
        except ValueError as error:
            self._say(f"Not started: {error}.")
            return
        workers, overwrite = self.workers.value(), self.overwrite.isChecked()
        self._entries, self._plan, self._stopped = [], None, False
        self._done = 0.0
        self._began = time.monotonic()
        self._say("Looking at the images…")

        def task() -> tuple[Plan, Summary, list[Entry]]:
            return self._do(document, workers, overwrite, trial)

        self._background.run(task, then, self._failed)
        self._timer.start()
        self._refresh()

    def _do(
        self, document: dict[str, Any], workers: int, overwrite: bool, trial: bool
    ) -> tuple[Plan, Summary, list[Entry]]:
        """Plan and do a job; in the background."""
        from napari_fctsfn import batch
        from napari_fctsfn.batch.run import find_images

        if trial:
            images, _ = find_images(batch.parse_job(document), Path.cwd())
            places = sorted({0, (len(images) - 1) // 2, len(images) - 1})[:_PREVIEW]
            chosen = [glob.escape(str(images[place])) for place in places]
            outputs = {**document["outputs"], "folder": str(self._trial), "labels": "tiff"}
            inputs = {**document["inputs"], "images": chosen}
            document = {**document, "inputs": inputs, "outputs": outputs}
        planned = batch.plan(batch.parse_job(document), Path.cwd(), overwrite or trial)
        self._plan = planned
        runs = batch.execute(planned, workers, stop=lambda: self._stopped, advance=self._advance)
        for entry in runs:
            self._entries.append(entry)
        summary = batch.finish(planned, self._entries, time.monotonic() - self._began)
        every = {**planned.kept, **{entry.image: entry for entry in self._entries}}
        return planned, summary, list(every.values())

    def _tried(self, outcome: tuple[Plan, Summary, list[Entry]]) -> None:
        planned, summary, entries = outcome
        self._ended()
        self._show(planned, [entry for entry in entries if not entry.error])
        if summary.failures:
            self._say(f"Tried. {next(iter(summary.failures.values()))}.")
        else:
            self._say(
                f"Tried on {len(entries)} images: look at them (the first is shown), then run."
            )

    def _ran(self, outcome: tuple[Plan, Summary, list[Entry]]) -> None:
        planned, summary, entries = outcome
        self._finished = (planned, entries)
        self._ended()
        left = len(planned.tasks) - len(entries)
        text = f"{summary.done} done, {summary.skipped} done before, {summary.failed} failed"
        if left:
            text += f", {left} not begun: Run goes on with them"
        if summary.failures:
            text += f". First failure: {next(iter(summary.failures.values()))}"
        if planned.warning:
            text += f". {planned.warning}"
        self._say(f"{text}. See index.html and job.yaml in {planned.folder}.")

    def _failed(self, error: Exception) -> None:
        self._ended()
        self._say(f"Not done: {error}.")

    def _ended(self) -> None:
        self._timer.stop()
        self._refresh()

    def _show(self, planned: Plan, entries: list[Entry]) -> None:
        from napari_fctsfn.batch.pictures import read_picture, stem_of
        from napari_fctsfn.errors import InputError
        from napari_fctsfn.predict.images import is_rgb

        job = planned.job
        for entry in entries:
            first = entry is entries[0]  # the others would lie over it
            path = Path(entry.image)
            labels = next(name for name in entry.files if "_labels." in name)
            try:
                picture = read_picture(path, job.inputs.axes, job.inputs.channel)
                masks = read_picture(planned.folder / labels).pixels
            except InputError as error:
                self._say(f"{error}.")
                continue
            place = {} if picture.scale is None else {"scale": picture.scale}
            rgb = is_rgb(picture.pixels)
            limits = {} if rgb else {"contrast_limits": (entry.low, max(entry.high, entry.low + 1))}
            self._viewer.add_image(
                picture.pixels, name=stem_of(path), rgb=rgb, visible=first, **limits, **place
            )
            self._viewer.add_labels(masks, name=f"{stem_of(path)} labels", visible=first, **place)

    def _on_choices(self, choices: tasks.Choices) -> None:
        shown = self.form.model.currentText()
        for choice in choices.models:
            if self.form.model.findText(choice.name) < 0:
                self.form.model.addItem(choice.name)
        self.form.model.setCurrentText(shown or choices.chosen)

    def _refresh(self) -> None:
        busy = self._background.busy
        for widget in (self.form, self.run_button, self.preview_button, self.load_button):
            widget.setEnabled(not busy)
        self.progress.setVisible(busy)
        self.cancel_button.setVisible(busy)
        self.cancel_button.setEnabled(not self._stopped)
        self.results_button.setVisible(self._finished is not None and not busy)
        planned, count = self._plan, len(self._entries)
        if not busy or planned is None:
            self.progress.setRange(0, 0)
            return
        total = len(planned.pending)
        self.progress.setRange(0, 100 * max(total, 1))
        self.progress.setValue(round(100 * self._done))
        text = f"{count} of {total} images"
        if self._stopped:
            text = f"Stopping after the images under way, {text} done"
        elif self._done:
            left = (time.monotonic() - self._began) / self._done * (total - self._done)
            text += f", {_duration(left)} left"
        self._say(f"{text}.")

    def _advance(self, images: float) -> None:
        """More images are done, or parts of one; told in the background."""
        self._done += images

    def _say(self, text: str) -> None:
        self.status.setText(text)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a job", "", "Jobs (*.yaml *.yml *.json)")
        if path:
            self.load(Path(path))

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the job", "job.yaml", "Jobs (*.yaml)")
        if path:
            self.save(Path(path))


def _duration(seconds: float) -> str:
    """A time to wait, in words."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
