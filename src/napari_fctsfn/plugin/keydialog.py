"""The dialog in which keys are chosen."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QKeySequenceEdit,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.keys import ACTIONS, check_keys, choose_keys, chosen_keys, from_qt, to_qt


class KeyDialog(QDialog):
    """A field for the key of each action; refused keys are said, and the dialog stays.

    Parameters
    ----------
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys of the Annotate dock")
        self.fields: dict[str, QKeySequenceEdit] = {}
        fields = QWidget()
        form = QFormLayout(fields)
        for name, action in ACTIONS.items():
            field = self.fields[name] = QKeySequenceEdit()
            field.setClearButtonEnabled(True)
            field.setMinimumWidth(170)
            if hasattr(field, "setMaximumSequenceLength"):
                field.setMaximumSequenceLength(1)
            form.addRow(action.title, field)
        self._show(chosen_keys())
        self.reason = QLabel("Click into a field and press the key. Keys work while you annotate.")
        self.reason.setWordWrap(True)
        area = QScrollArea()
        area.setWidget(fields)
        area.setWidgetResizable(True)
        standard = QDialogButtonBox.StandardButton
        buttons: Any = QDialogButtonBox(standard.Save | standard.Cancel | standard.RestoreDefaults)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        buttons.button(standard.RestoreDefaults).clicked.connect(
            lambda: self._show({name: action.key for name, action in ACTIONS.items()})
        )
        column = QVBoxLayout(self)
        column.addWidget(self.reason)
        column.addWidget(area)
        column.addWidget(buttons)
        self.resize(560, 620)

    @property
    def keys(self) -> dict[str, str]:
        """What is in the fields, as napari writes keys."""
        return {name: from_qt(field.keySequence()) for name, field in self.fields.items()}

    def accept(self) -> None:
        """Remember the keys, or say why they cannot be."""
        try:
            check_keys(self.keys)
            choose_keys(self.keys)
        except (InputError, OSError) as error:
            self.reason.setText(f"Not saved: {error}.")
            return
        super().accept()

    def _show(self, keys: dict[str, str]) -> None:
        for name, field in self.fields.items():
            field.setKeySequence(to_qt(keys[name]))
