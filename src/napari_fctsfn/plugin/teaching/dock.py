"""The Fine-tune dock: what is on it and where, and what its buttons do."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

# napari injects the viewer by this annotation, which it looks up when it makes the widget
import napari.viewer
import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info, show_warning
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.background import Background
from napari_fctsfn.plugin.choosers import LayerChooser
from napari_fctsfn.plugin.layers import displayed_range, full_data
from napari_fctsfn.plugin.sections import Scrolling
from napari_fctsfn.plugin.teaching.chart import Chart
from napari_fctsfn.plugin.teaching.pictures import comparison, outlined, pixmap, scaled
from napari_fctsfn.plugin.teaching.process import Teaching
from napari_fctsfn.plugin.telling import Docked, next_image, tell_models

if TYPE_CHECKING:
    from napari_fctsfn.train.finetune import Picture
    from napari_fctsfn.train.finetune.job import Result

_THUMBNAIL = 76
_COMPARED = 112
_STEM = 58
"""Letters of a name that are kept where a number follows; a name has at most 64."""

_STAGES = {
    "before": "Measuring the base",
    "looking": "Clicking on your objects",
    "learning": "Learning",
    "after": "Measuring the new model",
}


class FineTuneDock(Docked):
    """Teach a model your corrected masks.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer the dock belongs to.
    parent : QWidget, optional
        Owner in Qt.

    Attributes
    ----------
    pictures : list of Picture
        All that was added; those whose thumbnail is ticked are learned from.
    teaching : Teaching
        The process that learns.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.pictures: list[Picture] = []
        self._origins: list[Any] = []
        self.teaching = Teaching(self)
        self.teaching.progressed.connect(self._on_progress)
        self.teaching.finished.connect(self._on_finished)
        self._background = Background(self)
        self._job: Path | None = None
        self.image = LayerChooser(viewer, Image, "no image open", always=False)
        self.labels = LayerChooser(viewer, Labels, "no labels open", always=False)
        self.add_button = QPushButton("Add these layers")
        self.add_button.clicked.connect(self.add_layers)
        self.more_button = self._more()
        self.thumbnails = _Gallery()
        self.thumbnails.itemChanged.connect(self._refresh)
        self.base = QComboBox()
        self.name = QLineEdit("mine")
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.5, 600)
        self.minutes.setDecimals(1)
        self.minutes.setValue(3)
        self.minutes.setSuffix(" minutes")
        self.onward = QCheckBox("If it is better, use it and open the next image")
        self.onward.setToolTip(
            "The next file of the annotated image's folder, in the Annotate dock of this window"
        )
        self.start_button = QPushButton("Fine-tune")
        self.start_button.clicked.connect(self.start)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.pause_button = QPushButton("Pause")
        self.pause_button.setCheckable(True)
        self.pause_button.toggled.connect(self._pause)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("End now; the best so far is measured and offered")
        self.cancel_button.clicked.connect(self.teaching.cancel)
        self.chart = Chart()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.compared = QWidget()
        self._grid = QGridLayout(self.compared)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self.use_button = QPushButton("Use")
        self.use_button.setToolTip("Register the new model and annotate with it")
        self.use_button.clicked.connect(partial(self._take, True))
        self.keep_button = QPushButton("Keep both")
        self.keep_button.clicked.connect(partial(self._take, False))
        self.discard_button = QPushButton("Discard")
        self.discard_button.clicked.connect(self.discard)
        self._lay_out()
        # After the window is shown: the card of every model is read.
        QTimer.singleShot(0, self.list_models)
        self._refresh()

    def _more(self) -> QToolButton:
        button = QToolButton()
        button.setText("Add …")
        button.setStyleSheet("QToolButton { padding-right: 14px; }")  # room for the arrow
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        menu.addAction("a session …", self._ask_session)
        menu.addAction("a folder with images and labels …", self._ask_folder)
        button.setMenu(menu)
        return button

    # What is learned from

    def add_layers(self) -> None:
        """Add the chosen image with the chosen labels, slice by slice."""
        image, labels = self.image.layer, self.labels.layer
        if image is None or labels is None:
            show_warning("Open an image and its corrected labels first.")
            return
        data, values = full_data(image), labels.data
        shown = None if image.rgb else displayed_range(image)
        name = image.name

        def read() -> list[Picture]:
            from napari_fctsfn.train.finetune import pictures_of_stack

            return pictures_of_stack(name, data, np.asarray(values), shown)

        self._add(read, (image, labels))

    def add_session(self, folder: Path) -> None:
        """Add the annotated slices of a session."""
        from napari_fctsfn.train.finetune import pictures_of_session

        self._add(partial(pictures_of_session, folder), folder)

    def add_folder(self, folder: Path) -> None:
        """Add the pictures of a folder with ``images`` and ``labels`` in it."""

        def read() -> list[Picture]:
            from napari_fctsfn.train.finetune import pictures_of_files

            return pictures_of_files(str(folder / "images" / "*"), str(folder / "labels" / "*"))

        self._add(read, folder)

    def _ask_session(self) -> None:
        from napari_fctsfn.session.folders import sessions_directory

        chosen = QFileDialog.getExistingDirectory(
            self, "Folder of a session", str(sessions_directory())
        )
        if chosen:
            self.add_session(Path(chosen))

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder with images and labels in it")
        if chosen:
            self.add_folder(Path(chosen))

    def _add(self, read: Callable[[], list[Picture]], origin: Any) -> None:
        """Read pictures in the background; they replace what was added of that origin before."""
        if self._background.busy:
            show_warning("Pictures are being read already.")
            return

        def task() -> tuple[list[Picture], list[NDArray[np.uint8]], list[str]]:
            from napari_fctsfn.train.finetune import usable

            pictures, notes = usable(read())
            return pictures, [outlined(picture, _THUMBNAIL) for picture in pictures], notes

        self._background.run(task, partial(self._on_read, origin), self._complain)
        self._refresh()

    def _on_read(
        self, origin: Any, found: tuple[list[Picture], list[NDArray[np.uint8]], list[str]]
    ) -> None:
        pictures, small, notes = found
        self.thumbnails.blockSignals(True)
        unticked = set()
        for number in reversed(range(len(self.pictures))):
            if self._origins[number] == origin:
                if not self.thumbnails.ticked(number):
                    unticked.add(self.pictures[number].name)
                self.thumbnails.takeItem(number)
                del self.pictures[number], self._origins[number]
        for picture, rgb in zip(pictures, small, strict=True):
            self.pictures.append(picture)
            self._origins.append(origin)
            self.thumbnails.show_picture(picture, rgb, picture.name not in unticked)
        self.thumbnails.blockSignals(False)
        if notes:
            show_info("; ".join(notes) + ".")
        self._refresh()

    def _complain(self, error: Exception) -> None:
        if not isinstance(error, InputError | OSError):
            raise error
        show_error(str(error))
        self._refresh()

    @property
    def chosen(self) -> list[Picture]:
        """The pictures whose thumbnail is ticked."""
        return [
            picture
            for number, picture in enumerate(self.pictures)
            if self.thumbnails.ticked(number)
        ]

    # Learning

    def list_models(self) -> None:
        """List the models to start from; a name that nobody has typed is one that is free."""
        from napari_fctsfn.models import chosen_model, list_models

        before = self.base.currentText()
        names = [entry.name for entry in list_models()]
        self.base.clear()
        self.base.addItems(names)
        self.base.setCurrentText(before if before in names else chosen_model())
        if self.name.text() in names and not self.name.isModified():
            self.name.setText(_next_name(self.name.text()))

    def start(self) -> bool:
        """Begin to learn; return whether that worked."""
        from napari_fctsfn.models import check_new_name, resolve_model
        from napari_fctsfn.train.finetune import FineTuneSettings, check_room

        try:
            check_new_name(self.name.text())
            check_room(resolve_model(self.base.currentText()))
        except (InputError, OSError) as error:
            show_warning(f"{error}.")
            return False
        self.discard()
        self.chart.clear()
        settings = FineTuneSettings(minutes=self.minutes.value())
        self.teaching.start(self.base.currentText(), self.chosen, settings)
        self.status.setText("Starting …")
        self._refresh()
        return True

    def _pause(self, paused: bool) -> None:
        self.teaching.pause(paused)
        self.pause_button.setText("Go on" if paused else "Pause")

    def _on_progress(self, told: dict[str, Any]) -> None:
        seconds = told["seconds_left"]
        self.progress.setValue(round(1000 * told["done"]))
        self.progress.setFormat(f"%p %, {seconds:.0f} s left")
        self.status.setText(_STAGES[told["stage"]])
        self.chart.add(told["step"], told["loss"], told["iou"])

    def _on_finished(self, folder: Path | None) -> None:
        self.pause_button.setChecked(False)
        if folder is None:
            self.status.setText(f"Nothing was changed: {self.teaching.problem}")
        else:
            from napari_fctsfn.train.finetune.job import read_result

            result, examples = read_result(folder)
            self._job = folder
            self.status.setText(_summary(result))
            self._show_examples(examples)
            self.use_button.setVisible(result.improved)
            self.keep_button.setText("Keep both" if result.improved else "Keep it anyway")
            if result.improved and self.onward.isChecked():
                self.go_on()
        self._refresh()

    def go_on(self) -> bool:
        """Use the new model, and open the next image with it; return whether that worked."""
        summary = self.status.text()
        if not self._take(True):
            return False
        self.status.setText(f"{summary}\n{self.status.text()}")
        if not next_image(self):
            self.status.setText(f"{self.status.text()} No next image was opened.")
            return False
        return True

    def _show_examples(self, examples: list[Any]) -> None:
        for column, title in enumerate(("before, one click", "after, one click")):
            self._grid.addWidget(QLabel(title), 0, column)
        for row, example in enumerate(examples, 1):
            for column in (0, 1):
                label = QLabel()
                label.setPixmap(comparison(example, bool(column), _COMPARED))
                label.setToolTip(f"{example.name}: green is your mask, orange the model's")
                self._grid.addWidget(label, row, column)

    # Afterwards

    def discard(self) -> None:
        """Drop the model that was learned last."""
        self._job = None
        self.teaching.clean()
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()
        self._refresh()

    def _take(self, use: bool) -> bool:
        from napari_fctsfn.models import ModelError, choose_model
        from napari_fctsfn.train.finetune.job import take_model

        if self._job is None:
            return False
        try:
            entry = take_model(self._job, self.name.text())
            if use:
                choose_model(entry.name)
        except (ModelError, OSError) as error:
            show_error(f"The model is not registered yet: {error}")
            return False
        self.name.setModified(False)
        self.list_models()
        tell_models(self, entry.name if use else "")
        show_info(f"“{entry.name}” is registered.")
        self.discard()
        self.status.setText(f"“{entry.name}” is registered.")
        return True

    @property
    def waits(self) -> bool:
        """Whether something is under way or about to be."""
        return self.teaching.busy or self._background.busy

    def let_go(self) -> None:
        """Let go of the viewer, end the process."""
        self.image.release()
        self.labels.release()
        self._background.forget()
        self.teaching.close()

    def _lay_out(self) -> None:
        for box in (self.image, self.labels, self.base):
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.addRow("Image", self.image)
        form.addRow("Corrected masks", self.labels)
        form.addRow("", _row(self.add_button, self.more_button))
        settings = QFormLayout()
        settings.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        settings.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        settings.addRow("Start from", self.base)
        settings.addRow("New model", self.name)
        settings.addRow("Time", self.minutes)
        self.running = QWidget()
        running = QVBoxLayout(self.running)
        running.setContentsMargins(0, 0, 0, 0)
        running.addWidget(self.progress)
        running.addLayout(_row(self.pause_button, self.cancel_button))
        self.choice = QWidget()
        choice = QHBoxLayout(self.choice)
        choice.setContentsMargins(0, 0, 0, 0)
        for button in (self.use_button, self.keep_button, self.discard_button):
            choice.addWidget(button)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setSpacing(8)
        column.addLayout(form)
        column.addWidget(self.thumbnails)
        column.addLayout(settings)
        column.addWidget(self.onward)
        column.addWidget(self.start_button)
        column.addWidget(self.running)
        column.addWidget(self.chart)
        column.addWidget(self.status)
        column.addWidget(self.choice)
        column.addWidget(self.compared)
        column.addStretch(1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(Scrolling(inner))

    def _refresh(self, _item: Any = None) -> None:
        busy, offered = self.teaching.busy, self._job is not None
        objects = sum(len(picture.objects) for picture in self.chosen)
        self.add_button.setEnabled(not self._background.busy)
        self.thumbnails.setVisible(bool(self.pictures))
        self.start_button.setVisible(not busy)
        self.start_button.setEnabled(objects > 0)
        self.start_button.setText(
            f"Fine-tune on {_counted(objects, 'object')} in {_counted(len(self.chosen), 'picture')}"
            if objects
            else "Add corrected pictures first"
        )
        self.running.setVisible(busy)
        self.chart.setVisible(busy or offered or bool(self.chart.losses))
        self.choice.setVisible(offered)
        self.compared.setVisible(offered)


class _Gallery(QListWidget):
    """Thumbnails with a tick each."""

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setIconSize(QSize(_THUMBNAIL, _THUMBNAIL))
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setMovement(QListWidget.Movement.Static)
        self.setSelectionMode(QListWidget.SelectionMode.NoSelection)
        self.setUniformItemSizes(True)
        self.setFixedHeight(2 * (_THUMBNAIL + 30))
        self.setToolTip("Untick pictures whose masks are not right")

    def ticked(self, number: int) -> bool:
        """Whether the picture of this number is ticked."""
        item = self.item(number)
        return item is not None and item.checkState() == Qt.CheckState.Checked

    def show_picture(self, picture: Picture, rgb: NDArray[np.uint8], ticked: bool) -> None:
        """Add a picture as it looks small."""
        item = QListWidgetItem(QIcon(scaled(pixmap(rgb), _THUMBNAIL)), picture.name[-12:])
        item.setToolTip(f"{picture.name}: {_counted(len(picture.objects), 'object')}")
        item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
        item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        self.addItem(item)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _counted(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _next_name(name: str) -> str:
    """A name for the next model: with the first number from 2 that is free."""
    from napari_fctsfn.models import list_models

    taken = {entry.name for entry in list_models()}
    stem = re.sub(r"-\d+$", "", name)[:_STEM]
    return next(new for n in count(2) if (new := f"{stem}-{n}") not in taken)


def _summary(result: Result) -> str:
    """What the new model is worth, in a few lines."""
    lines = []
    before, after = result.measured("before"), result.measured("after")
    if before is None or after is None:
        lines.append("There was nothing to measure on: the new model is not known to be better.")
    else:
        better = "" if result.improved else "It is no better. "
        lines.append(
            f"{better}Clicks to 85 % on {_counted(round(after.objects), 'held-out object')}: "
            f"{before.noc85:.1f} before, {after.noc85:.1f} after."
        )
    generic = result.measured("generic_before"), result.measured("generic_after")
    lines.append(f"On photographs and others: {generic[0].noc85:.1f} and {generic[1].noc85:.1f}.")
    lines += [f"{note[0].upper()}{note[1:]}." for note in result.notes]
    return "\n".join(lines)
