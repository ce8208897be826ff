"""The dock "Models": what there is, choosing, keeping house, and measuring on one's own data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# napari resolves the annotation of `viewer` to know what to inject.
import napari.viewer
import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHeaderView,
    QInputDialog,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.background import Background
from napari_fctsfn.plugin.choosers import LayerChooser
from napari_fctsfn.plugin.layers import displayed_range, full_data
from napari_fctsfn.plugin.sections import Scrolling, section
from napari_fctsfn.plugin.shelf.effort import EffortChart
from napari_fctsfn.plugin.shelf.listing import Listed, Listing, describe, read_listing
from napari_fctsfn.plugin.shelf.trial import Trial
from napari_fctsfn.plugin.telling import Docked, tell_models

if TYPE_CHECKING:
    from napari_fctsfn.train.finetune import Measured, Picture

_ENDING = "Models (*.safetensors)"
_ENDINGS = f"{_ENDING};;For the BioImage Model Zoo (*.zip)"


class ModelsDock(Docked):
    """Choose, rename, delete, export and import models, and measure them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer the dock belongs to.
    parent : QWidget, optional
        Owner in Qt.

    Attributes
    ----------
    listing : Listing or None
        The models; None before they have been read.
    trial : Trial
        The last measuring of models.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.listing: Listing | None = None
        self._wanted, self._changed = "", False
        self._reader, self._background = Background(self), Background(self)
        self.trial = Trial()
        self._thrown: list[str] = []
        self.table = _table(("", "Model", "Refined from", "Pictures", "MB"), 1)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.itemSelectionChanged.connect(self._refresh)
        self.card = _text("card")
        self.card.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status = _text("status")
        self.use_button = _button("Use", "Annotate with this model from now on", self.use)
        self.rename_button = _button("Rename…", "Give one of your models a name", self._ask_name)
        self.delete_button = _button("Delete", "Undo brings it back", self.delete)
        self.restore_button = _button("Undo delete", "", self.restore)
        self.export_button = _button("Export…", "Into one file, for others", self._ask_export)
        self.import_button = _button("Import…", "A file that was exported", self._ask_import)
        self.image = LayerChooser(viewer, Image, "no image open", always=False)
        self.labels = LayerChooser(viewer, Labels, "no labels open", always=False)
        for chooser in (self.image, self.labels):
            chooser.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            chooser.chosen.connect(self._refresh)
        self.objects = QSpinBox()
        self.objects.setRange(1, 10_000)
        self.objects.setValue(30)
        self.objects.setToolTip("At most so many, drawn by chance and the same for every model")
        self.layers_button = _button(
            "Evaluate on these layers", "Click on the objects of the labels", self.try_layers
        )
        self.folder_button = _button(
            "On a folder…", "A folder with images and labels in it", self._ask_folder
        )
        self.progress = QProgressBar()
        self.cancel_button = _button("Cancel", "", self.cancel)
        self.results = _table(("Model", "Objects", "Clicks", "IoU 1", "IoU 3"), 0)
        self.effort = EffortChart()
        self._timer = QTimer(self)
        self._timer.setInterval(100)
        self._timer.timeout.connect(self._refresh_progress)
        self._lay_out()
        # After the window is shown: every file is read.
        QTimer.singleShot(0, self.list_models)
        self._refresh()

    @property
    def busy(self) -> bool:
        """Whether models are being read or measured."""
        return self._reader.busy or self._background.busy

    @property
    def selected(self) -> list[Listed]:
        """The models that are selected, from above."""
        selection: Any = self.table.selectionModel()
        rows = sorted(index.row() for index in selection.selectedRows())
        models = () if self.listing is None else self.listing.models
        return [models[row] for row in rows if row < len(models)]

    # The models

    def list_models(self, select: str = "") -> None:
        """Look at the registry again, once nothing else is read, and select a model."""
        self._wanted = select or self._wanted
        if self._reader.busy:
            self._changed = True
            return
        wanted, self._wanted, self._changed = self._wanted, "", False
        self._reader.run(read_listing, partial(self._on_listing, wanted), self._complain)

    def _on_listing(self, select: str, listing: Listing) -> None:
        if self._changed:
            self.list_models(select)
            return
        before = {model.name for model in self.selected}
        wanted = {select} if select else before or {listing.chosen}
        self.listing = listing
        self.effort.show_efforts(listing.efforts, listing.names())
        self.table.setRowCount(len(listing.models))
        self.table.clearSelection()
        for row, model in enumerate(listing.models):
            card = model.card
            pictures = 0 if card is None else sum(part.images for part in card.training_data)
            texts = (
                "●" if model.name == listing.chosen else "",
                model.name,
                listing.parent(model),
                f"{pictures}" if pictures else "",
                f"{model.size / 1e6:.1f}",
            )
            _fill(self.table, row, texts)
            if model.name in wanted:
                self._select(row)
        self._refresh()

    def _select(self, row: int) -> None:
        selection: Any = self.table.selectionModel()
        flags = selection.SelectionFlag.Select | selection.SelectionFlag.Rows
        model: Any = self.table.model()
        selection.select(model.index(row, 0), flags)

    def select(self, *names: str) -> None:
        """Select models by their names."""
        self.table.clearSelection()
        for row, model in enumerate(self.listing.models if self.listing else ()):
            if model.name in names:
                self._select(row)

    def use(self) -> None:
        """Make the selected model the one that docks and commands use."""
        from napari_fctsfn.models import choose_model

        if (name := self._one()) and self._did(partial(choose_model, name)):
            self._say(f"“{name}” is used from now on.", name)
            tell_models(self, name)

    def rename(self, new: str) -> None:
        """Give the selected model another name."""
        from napari_fctsfn.models import rename_model

        if (name := self._one()) and self._did(partial(rename_model, name, new)):
            self._say(f"“{name}” is “{new}” now.", new)
            tell_models(self)

    def delete(self) -> None:
        """Throw the selected models away; `restore` brings them back."""
        from napari_fctsfn.models import delete_model

        for model in self.selected:
            if self._did(partial(delete_model, model.name)):
                self._thrown.append(model.name)
                self._say(f"“{model.name}” is deleted; Undo delete brings it back.")
        tell_models(self)

    def restore(self) -> None:
        """Bring back the model that was deleted last."""
        from napari_fctsfn.models import restore_model

        if (name := self._restorable()) and self._did(partial(restore_model, name)):
            if name in self._thrown:
                self._thrown.remove(name)
            self._say(f"“{name}” is back.", name)
            tell_models(self)

    def export(self, path: Path) -> None:
        """Write the selected model into a file: one of this package, or one for the model zoo."""
        from napari_fctsfn.models import export_model

        def written(_: None) -> None:
            whose = (
                "a package for the BioImage Model Zoo"
                if path.suffix == ".zip"
                else "Import reads it on another machine"
            )
            self._say(f"“{name}” is in {path}: {whose}.", name)

        name = self._one()
        if name and not self._reader.busy:
            self.status.setText(f"Writing {path}…")
            self._reader.run(partial(export_model, name, path), written, self._complain)

    def import_(self, path: Path, name: str) -> None:
        """Register a model file under a name."""
        from napari_fctsfn.models import import_model

        if entry := self._did(partial(import_model, path, name)):
            self._say(f"“{entry.name}” is registered.", entry.name)
            tell_models(self)

    def _restorable(self) -> str:
        """The model that was deleted last in this dock, or else any that was; empty if none."""
        deleted = () if self.listing is None else self.listing.deleted
        return next((name for name in [*self._thrown[::-1], *deleted] if name in deleted), "")

    def _one(self) -> str:
        """The name of the selected model; empty, and a hint, if it is not one."""
        if len(self.selected) == 1:
            return self.selected[0].name
        self.status.setText("Select one model in the table first.")
        return ""

    def _did(self, act: Callable[[], Any]) -> Any:
        """What an act gives, True for nothing; False, and why, if it did not work."""
        try:
            return act() or True
        except (InputError, OSError) as error:
            self.status.setText(f"Not done: {error}.")
            return False

    def _say(self, text: str, select: str = "") -> None:
        """Say what was done, and list the models anew."""
        self.status.setText(text)
        self.list_models(select)

    def _ask_name(self) -> None:
        if len(self.selected) == 1:
            name = self.selected[0].name
            new, agreed = QInputDialog.getText(self, "Rename", "New name", text=name)
            if agreed and new != name:
                self.rename(new)

    def _ask_export(self) -> None:
        if len(self.selected) == 1:
            usual = f"{self.selected[0].name}.safetensors"
            path, _ = QFileDialog.getSaveFileName(self, "Export a model", usual, _ENDINGS)
            if path:
                self.export(Path(path))

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a model", "", _ENDING)
        if path:
            usual = Path(path).stem
            name, agreed = QInputDialog.getText(self, "Import", "Name of the model", text=usual)
            if agreed:
                self.import_(Path(path), name)

    # Measuring

    def try_layers(self) -> None:
        """Measure the selected models on the chosen image with the chosen labels."""
        image, labels = self.image.layer, self.labels.layer
        if image is None or labels is None:
            self.status.setText("Open an image and its labels first.")
            return
        data, values = full_data(image), labels.data
        shown, name = None if image.rgb else displayed_range(image), image.name

        def read() -> list[Picture]:
            from napari_fctsfn.train.finetune import pictures_of_stack

            return pictures_of_stack(name, data, np.asarray(values), shown)

        self._try(read, f"“{labels.name}”")

    def try_folder(self, folder: Path) -> None:
        """Measure the selected models on a folder with ``images`` and ``labels`` in it."""

        def read() -> list[Picture]:
            from napari_fctsfn.train.finetune import pictures_of_files

            return pictures_of_files(str(folder / "images" / "*"), str(folder / "labels" / "*"))

        self._try(read, str(folder))

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder with images and labels in it")
        if chosen:
            self.try_folder(Path(chosen))

    def cancel(self) -> None:
        """End measuring after the object under way."""
        self.trial.cancel()

    def _try(self, read: Callable[[], list[Picture]], what: str) -> None:
        if self._background.busy:
            return
        names = [model.name for model in self.selected]
        if not names:
            self.status.setText("Select the models to measure in the table first.")
            return
        self.trial = Trial()
        self.results.setRowCount(0)
        self.status.setText(f"Clicking on objects of {what} as a user would…")
        task = partial(self.trial.measure, names, read, self.objects.value())
        self._background.run(task, partial(self._on_measured, what), self._complain)
        self._timer.start()
        self._refresh()

    def _on_measured(self, what: str, found: dict[str, Measured]) -> None:
        self._timer.stop()
        fewest = min((measured.noc85 for measured in found.values()), default=0.0)
        self.results.setRowCount(len(found))
        for row, (name, measured) in enumerate(found.items()):
            texts = (
                name,
                f"{measured.objects}",
                f"{measured.noc85:.2f}",
                f"{measured.iou1:.3f}",
                f"{measured.iou3:.3f}",
            )
            _fill(self.results, row, texts, strong=measured.noc85 == fewest and len(found) > 1)
        end = " Cancelled: models not listed were not measured." if self.trial.cancelled else ""
        self.status.setText(
            f"Measured on {what}: clicks to an IoU of 85 %, and the IoU after one click and after "
            f"three.{end}"
        )
        self._refresh()

    def _complain(self, error: Exception) -> None:
        self._timer.stop()
        if self._changed:
            self.list_models()
        self._refresh()
        if not isinstance(error, InputError | OSError):
            self.status.setText(f"Not done: {type(error).__name__}: {error}.")
            raise error
        self.status.setText(f"Not done: {error}.")

    # The widget

    @property
    def waits(self) -> bool:
        """Whether something is under way or about to be."""
        return self.busy or self.listing is None

    def let_go(self) -> None:
        """Let go of the viewer and stop measuring."""
        self.trial.cancel()
        self._timer.stop()
        self._reader.forget()
        self._background.forget()
        self.image.release()
        self.labels.release()

    def _lay_out(self) -> None:
        keep = QGridLayout()
        buttons = (
            (self.use_button, self.rename_button, self.delete_button),
            (self.import_button, self.export_button, self.restore_button),
        )
        for row, line in enumerate(buttons):
            for place, button in enumerate(line):
                keep.addWidget(button, row, place)
        trial = QWidget()
        form = QFormLayout(trial)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.addRow("Image", self.image)
        form.addRow("True masks", self.labels)
        form.addRow("Objects", self.objects)
        acts = QGridLayout()
        acts.addWidget(self.layers_button, 0, 0)
        acts.addWidget(self.folder_button, 0, 1)
        acts.addWidget(self.progress, 1, 0)
        acts.addWidget(self.cancel_button, 1, 1)
        form.addRow(acts)
        form.addRow(self.results)
        content = QWidget()
        column = QVBoxLayout(content)
        column.addWidget(self.table)
        column.addLayout(keep)
        column.addWidget(self.card)
        column.addWidget(section("Evaluate the selected models", trial, expanded=True))
        column.addWidget(section("Clicks for each object so far", self.effort))
        column.addWidget(self.status)
        column.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolling(content))

    def _refresh(self) -> None:
        selected, measuring = self.selected, self._background.busy
        one = len(selected) == 1
        own = bool(selected) and not any(model.bundled for model in selected)
        self.use_button.setEnabled(one and selected[0].card is not None)
        self.export_button.setEnabled(one)
        self.rename_button.setEnabled(one and own)
        self.delete_button.setEnabled(own)
        thrown = self._restorable()
        self.restore_button.setEnabled(bool(thrown))
        self.restore_button.setToolTip(f"Bring “{thrown}” back" if thrown else "")
        self.card.setText(
            describe(self.listing, selected[0])
            if self.listing is not None and one
            else "Select a model to see its card; several to compare them."
        )
        ready = bool(selected) and not measuring
        self.folder_button.setEnabled(ready)
        self.layers_button.setEnabled(
            ready and self.image.layer is not None and self.labels.layer is not None
        )
        self.progress.setVisible(measuring)
        self.cancel_button.setVisible(measuring)
        self.results.setVisible(bool(self.results.rowCount()))
        self._refresh_progress()

    def _refresh_progress(self) -> None:
        self.progress.setMaximum(self.trial.total)
        self.progress.setValue(self.trial.done)
        left = self.trial.seconds_left
        self.progress.setFormat("%v of %m" + (f", {left:.0f} s left" if left < 1e6 else ""))


def _button(text: str, tip: str, action: Callable[[], object]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(lambda *_: action())
    return button


def _text(name: str) -> QLabel:
    label = QLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    return label


def _table(titles: tuple[str, ...], widest: int) -> QTableWidget:
    """A table that is only read; one of its columns takes what room there is."""
    table = QTableWidget(0, len(titles))
    table.setHorizontalHeaderLabels(titles)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setMinimumHeight(130)
    table.setWordWrap(False)
    numbers: Any = table.verticalHeader()
    numbers.hide()
    header: Any = table.horizontalHeader()
    header.setStyleSheet("QHeaderView::section { padding: 2px 3px; }")
    header.setMinimumSectionSize(16)
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(widest, QHeaderView.ResizeMode.Stretch)
    return table


def _fill(table: QTableWidget, row: int, texts: tuple[str, ...], strong: bool = False) -> None:
    for column, text in enumerate(texts):
        item = QTableWidgetItem(text)
        font = item.font()
        font.setBold(strong)
        item.setFont(font)
        table.setItem(row, column, item)
