"""The choices of the Batch dock, to and from a job's keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)

SOURCES = {
    "files": ("Click files beside the images", "", ""),
    "seeds": ("Things that are detected", "", ""),
    "masks": ("Rough masks, to be refined", "path", "Masks"),
    "table": ("A points table (CSV)", "path", "Table"),
    "propagate": ("Annotated slices of stacks", "path", "Labels"),
    "session": ("Sessions, with another model", "folder", "Sessions"),
}
"""Kinds of clicks: what the user reads, the key that holds their path, and its name."""

_LABELS = {"tiff": "TIFF", "ome-tiff": "OME-TIFF", "ome-zarr": "OME-Zarr", "png": "PNG"}


class JobForm(QWidget):
    """Chooses images, clicks, model and outputs; keys of a job that it does not show are kept.

    Attributes
    ----------
    changed : Signal()
        Something was chosen.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._kept: dict[str, Any] = {}
        self.images, self.path, self.folder = QLineEdit(), QLineEdit(), QLineEdit()
        self.images.setPlaceholderText("folder/*.tif")
        self.slices = QLineEdit()
        self.slices.setPlaceholderText("0, 12, 30")
        self.columns = QLineEdit()
        self.columns.setPlaceholderText("row=y, column=x, image=file")
        self.columns.setToolTip(
            "The table's names for row, column, image, slice, positive and object; without them "
            "row=axis-0, column=axis-1, as napari writes points. Without object every row is an "
            "object of its own, so positive needs it"
        )
        self.source, self.model, self.labels = QComboBox(), QComboBox(), QComboBox()
        for name, (text, _, _) in SOURCES.items():
            self.source.addItem(text, name)
        for name, text in _LABELS.items():
            self.labels.addItem(text, name)
        for box in (self.source, self.model):
            box.setMinimumContentsLength(12)
            adjust = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            box.setSizeAdjustPolicy(adjust)
        self.radius = QDoubleSpinBox()
        self.radius.setRange(0.5, 10_000)
        self.radius.setValue(8)
        self.radius.setSuffix(" px")
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.addRow("Images", _beside(self.images, self._choose_images))
        self._form.addRow("Clicks", self.source)
        self._path_row = _beside(self.path, self._choose_path)
        self._form.addRow("Path", self._path_row)
        self._form.addRow("Radius", self.radius)
        self._form.addRow("Slices", self.slices)
        self._form.addRow("Columns", self.columns)
        self._form.addRow("Model", self.model)
        self._form.addRow("Results", _beside(self.folder, self._choose_folder))
        self._form.addRow("Labels", self.labels)
        for field in (self.images, self.path, self.folder, self.slices, self.columns):
            field.textChanged.connect(self.changed)
        self.source.currentIndexChanged.connect(self._on_source)
        self._on_source()

    def document(self) -> dict[str, Any]:
        """The keys of the job; paths are absolute, so that it means the same wherever it lies.

        Raises
        ------
        ValueError
            If images or results are not chosen, slices are no numbers, or columns no pairs.
        """
        patterns = [text.strip() for text in self.images.text().split(";") if text.strip()]
        if not patterns:
            raise ValueError("choose the folder of the images first")
        if not self.folder.text().strip():
            raise ValueError("choose a folder for the results first")
        name = self.source.currentData()
        before = self._kept.get("clicks", {})
        clicks = dict(before) if before.get("from") == name else {"from": name}
        key = SOURCES[name][1]
        if key:
            clicks.pop(key, None)
            if path := self.path.text().strip():
                clicks[key] = _absolute(path)
            elif name != "session":  # without a folder they are those of the dock
                raise ValueError(f"choose where the {SOURCES[name][2].lower()} are first")
        if name == "seeds":
            clicks["radius"] = self.radius.value()
        if name == "propagate":
            clicks["slices"] = _numbers(self.slices.text())
        if name == "table":
            clicks["columns"] = _pairs(self.columns.text())
        model = self._kept.get("model", {})
        chosen = self.model.currentText() or "default"
        kept = dict(model) if model.get("name") == chosen else {"name": chosen}
        results = _absolute(self.folder.text().strip())
        return {
            **self._kept,
            "version": 1,
            "inputs": {**self._kept.get("inputs", {}), "images": [_absolute(p) for p in patterns]},
            "clicks": clicks,
            "model": kept,
            "outputs": {
                **self._kept.get("outputs", {}),
                "folder": results,
                "labels": self.labels.currentData(),
            },
        }

    def show_document(self, document: dict[str, Any], base: Path) -> None:
        """Show the keys of a job whose paths are relative to a folder."""
        # batch imports torch, which is loaded by the time a job was read
        from napari_fctsfn.batch.job import is_model_path

        self._kept = document
        clicks, outputs = document["clicks"], document["outputs"]
        model = document.setdefault("model", {})
        name = model.get("name", "default")
        if is_model_path(name):
            name = model["name"] = str(base / name)
        if self.model.findText(name) < 0:
            self.model.addItem(name)
        self.model.setCurrentText(name)
        self.images.setText("; ".join(str(base / p) for p in document["inputs"]["images"]))
        self.source.setCurrentIndex(self.source.findData(clicks["from"]))
        key = SOURCES[clicks["from"]][1]
        self.path.setText(str(base / clicks[key]) if clicks.get(key) else "")
        if clicks["from"] == "files" and clicks.get("folder"):
            clicks["folder"] = str(base / clicks["folder"])
        self.radius.setValue(clicks.get("radius", self.radius.value()))
        self.slices.setText(", ".join(map(str, clicks.get("slices", ()))))
        columns = clicks.get("columns", {})
        self.columns.setText(", ".join(f"{key}={column}" for key, column in columns.items()))
        self.folder.setText(str(base / outputs["folder"]))
        self.labels.setCurrentIndex(self.labels.findData(outputs.get("labels", "tiff")))

    def _on_source(self) -> None:
        name = self.source.currentData()
        label = self._form.labelForField(self._path_row)
        if label is not None:
            label.setText(SOURCES[name][2])  # type: ignore[attr-defined]
        self.path.setPlaceholderText(
            "the Annotate dock's" if name == "session" else "{stem} is the name of the image"
        )
        for widget, shown in (
            (self._path_row, bool(SOURCES[name][1])),
            (self.radius, name == "seeds"),
            (self.slices, name == "propagate"),
            (self.columns, name == "table"),
        ):
            widget.setVisible(shown)
            if (label := self._form.labelForField(widget)) is not None:
                label.setVisible(shown)
        self.changed.emit()

    def _choose_images(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of the images")
        if folder:
            self.take_folder(Path(folder))

    def take_folder(self, folder: Path) -> None:
        """Take the images of a folder, of the kind that most of its files have."""
        endings = [p.suffix for p in folder.iterdir() if p.suffix in _IMAGES]
        ending = max(set(endings), key=endings.count) if endings else ".tif"
        self.images.setText(str(folder / f"*{ending}"))
        if not self.folder.text():
            self.folder.setText(str(folder / "results"))

    def _choose_path(self) -> None:
        if self.source.currentData() == "session":
            path = QFileDialog.getExistingDirectory(self, "Folder of the sessions")
            self.path.setText(path or self.path.text())
        elif self.source.currentData() == "table":
            path, _ = QFileDialog.getOpenFileName(self, "Points table", "", "CSV (*.csv)")
            self.path.setText(path or self.path.text())
        else:
            path = QFileDialog.getExistingDirectory(self, "Folder of the label images")
            self.path.setText(f"{path}/{{stem}}.tif" if path else self.path.text())

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the results")
        self.folder.setText(folder or self.folder.text())


_IMAGES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".zarr", ".nii", ".gz", ".dcm"}


def _beside(field: QLineEdit, choose: Callable[[], None]) -> QWidget:
    """A field with a button that opens a dialog."""
    widget, button = QWidget(), QPushButton("Choose…")
    button.clicked.connect(choose)
    row = QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(field, 1)
    row.addWidget(button)
    return widget


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111  also of patterns


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"the slices {text!r} are no numbers: write 0, 12, 30") from None


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.replace(";", ",").split(",") if part.strip()]
    if not all(key.strip() and column.strip() for key, _, column in pairs):
        raise ValueError(f"the columns {text!r} are no pairs: write row=y, column=x, image=file")
    return {key.strip(): column.strip() for key, _, column in pairs}
