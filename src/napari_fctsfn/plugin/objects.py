"""The table of objects in the dock, and what can be done with those that are chosen in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (  # type: ignore[attr-defined]
    QAbstractTableModel,
    QModelIndex,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QFont, QIcon, QKeySequence, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QMenu,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.plugin.keys import native
from napari_fctsfn.session import Note

if TYPE_CHECKING:
    from napari_fctsfn.plugin.annotate import Annotator
    from napari_fctsfn.session import Mask, Session

_Role = Qt.ItemDataRole


@lru_cache(maxsize=1 << 16)
def _area(mask: Mask) -> int:
    return int(mask.inner().sum())


@dataclass(frozen=True)
class Row:
    """One object as the table shows it.

    Parameters
    ----------
    label : int
    note : Note
    slices, area, clicks : int
        In how many slices it is annotated, with how many pixels and clicks in all of them.
    """

    label: int
    note: Note
    slices: int
    area: int
    clicks: int


def rows(session: Session) -> list[Row]:
    """The objects of a session, by label."""
    return [
        Row(
            label,
            session.note(label),
            len(planes),
            sum(_area(annotation.mask) for annotation in planes.values()),
            sum(len(annotation.clicks) for annotation in planes.values()),
        )
        for label, planes in sorted(session.objects.items())
    ]


@dataclass(frozen=True)
class _Column:
    """A column: its title, what it shows, and what the annotator may write there."""

    title: str
    tip: str
    show: Callable[[Row], Any]
    write: str = ""
    checked: bool = False


COLUMNS = (
    _Column("#", "Label in the Labels layer", lambda row: row.label),
    _Column("Name", "Double-click to name the object", lambda row: row.note.name, "name"),
    _Column("Class", "Double-click to say what it is", lambda row: row.note.category, "category"),
    _Column("Slices", "Slices in which it is annotated", lambda row: row.slices),
    _Column("Pixels", "Pixels in all slices", lambda row: row.area),
    _Column("Clicks", "Clicks in all slices", lambda row: row.clicks),
    _Column("✓", "Reviewed", lambda row: row.note.reviewed, "reviewed", checked=True),
)


_SLICES = 3
"""The column that says nothing about a single slice."""

_SWATCH = 16
"""Pixels of the sides of an object's patch of colour."""

_TAKE_UP_TIP = (
    "Go on with the chosen object, or make one of the label picked in the active Labels layer."
)


_NAMED = {
    "take_up": "Take up",
    "show": "Show",
    "merge": "Merge",
    "delete": "Delete",
    "reviewed": "Reviewed",
    "protect": "Protect",
    "hide": "Hide",
    "classify": "Class…",
    "colour": "Colour…",
}
"""Entries of the menu that are actions of their own for keys and commands, by their names there."""


class ObjectModel(QAbstractTableModel):
    """Objects of the annotator's session.

    Parameters
    ----------
    annotator : Annotator
    parent : QWidget
    """

    def __init__(self, annotator: Annotator, parent: QWidget) -> None:
        super().__init__(parent)
        self._annotator = annotator
        self._seen: object = None
        self._marked: int | None = None
        self.rows: list[Row] = []

    def refresh(self) -> bool:
        """Look at the session again, if it has changed; return whether the rows are others."""
        session = self._annotator.session
        seen = None if session is None else (id(session), session.revision)
        if seen == self._seen:
            return False
        self._seen = seen
        before, now = self.rows, [] if session is None else rows(session)
        if [row.label for row in before] != [row.label for row in now]:
            self.beginResetModel()
            self.rows = now
            self.endResetModel()
            return True
        self.rows = now
        last = len(COLUMNS) - 1
        marked, self._marked = self._marked, None if session is None else session.current
        for number, (old, new) in enumerate(zip(before, now, strict=True)):
            if old != new or (marked != self._marked and new.label in (marked, self._marked)):
                self.dataChanged.emit(self.index(number, 0), self.index(number, last))
        return False

    def rowCount(self, _parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Number of objects."""
        return len(self.rows)

    def columnCount(self, _parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Number of columns."""
        return len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802 - Qt's name
        """Titles and their explanations."""
        if orientation == Qt.Orientation.Vertical:
            return None
        column = COLUMNS[section]
        return {_Role.DisplayRole: column.title, _Role.ToolTipRole: column.tip}.get(_Role(role))

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """What a cell shows."""
        row, column = self.rows[index.row()], COLUMNS[index.column()]
        value = column.show(row)
        if role in (_Role.DisplayRole, _Role.EditRole):
            return None if column.checked else value
        if role == _Role.CheckStateRole:
            checked = Qt.CheckState.Checked if value else Qt.CheckState.Unchecked
            return checked if column.checked else None
        return self._look(row, column, role)

    def _look(self, row: Row, column: _Column, role: int) -> Any:
        """Colours, font and tooltip of a cell."""
        session = self._annotator.session
        if role == _Role.DecorationRole and column is COLUMNS[0]:
            return _swatch(_color(self._annotator, row.label))
        if role == _Role.ForegroundRole and row.note.hidden:
            return QColor("gray")
        if role == _Role.ToolTipRole:
            states = ("protected", "hidden", "reviewed")
            said = [row.note.name, *(name for name in states if getattr(row.note, name))]
            return ", ".join(filter(None, said)) or column.tip
        if role == _Role.FontRole and session is not None:
            font = QFont()
            font.setBold(row.label == session.current)
            font.setItalic(row.note.protected)
            return font
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """What can be done with a cell."""
        column = COLUMNS[index.column()]
        flags = Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled
        if column.checked:
            return flags | Qt.ItemFlag.ItemIsUserCheckable
        return flags | Qt.ItemFlag.ItemIsEditable if column.write else flags

    def setData(self, index: QModelIndex, value: Any, role: int = 2) -> bool:  # noqa: N802 - Qt's name
        """Take what the annotator has written."""
        row, column = self.rows[index.row()], COLUMNS[index.column()]
        if not column.write:
            return False
        text = value.strip() if isinstance(value, str) else None
        new: Any = text if text is not None else Qt.CheckState(value) == Qt.CheckState.Checked
        self._annotator.describe([row.label], **{column.write: new})
        return True


class _View(QTableView):
    """A table in which the Delete key means something."""

    delete_pressed = Signal()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """No higher than it must be: a column that scrolls makes room for all that is asked for."""
        return QSize(super().sizeHint().width(), self.minimumHeight())

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Tell of the Delete key."""
        if event.matches(QKeySequence.StandardKey.Delete):
            self.delete_pressed.emit()
        else:
            super().keyPressEvent(event)


class ObjectTable(QWidget):
    """The table with its buttons; everything on it calls a method of the annotator.

    Parameters
    ----------
    annotator : Annotator
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, annotator: Annotator, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._annotator = annotator
        self._shown: tuple[int | None, bool] = None, False
        # once the table is as high as it will be
        self._scroll = single_shot(self, 0, self._scroll_to_chosen)
        self.model = ObjectModel(annotator, self)
        self.view = _View()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._on_menu)
        self.view.delete_pressed.connect(self._delete)
        self.view.setMinimumHeight(120)
        self.view.setWordWrap(False)
        # napari's boxes are dark on dark until they are ticked
        self.view.setStyleSheet("QTableView::indicator:unchecked { border: 1px solid gray; }")
        numbers: Any = self.view.verticalHeader()
        numbers.hide()
        header: Any = self.view.horizontalHeader()
        # as narrow as it can be, so that the dock need not be widened
        header.setStyleSheet("QHeaderView::section { padding: 2px 3px; }")
        header.setMinimumSectionSize(20)
        header.setResizeContentsPrecision(0)  # to what is visible: rows may be thousands
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.actions_of: dict[str, tuple[Callable[[], object], str]] = {
            "Take up": (
                self._take_up,
                f"{_TAKE_UP_TIP} {native('take_up_pointed')}: what is under the cursor.",
            ),
            "Show": (self._jump, "Go to the chosen object"),
            "Merge": (self._merge, "Make the chosen objects one, with the smallest number"),
            "Delete": (self._delete, "Delete the chosen objects; undo brings them back"),
            "Reviewed": (lambda: self._toggle("reviewed"), "Mark as reviewed, or not"),
            "Protect": (lambda: self._toggle("protected"), "Close to changes, or open again"),
            "Hide": (lambda: self._toggle("hidden"), "Hide, or show again"),
            "Class…": (self._classify, "Give all chosen objects a class"),
            "Colour…": (self._color, "Choose a colour"),
            "Renumber": (annotator.renumber, "Number all objects from 1 without gaps"),
            "Delete all": (
                annotator.delete_all,
                "All but protected objects; undo brings them back",
            ),
        }
        self.named = {name: self.actions_of[text][0] for name, text in _NAMED.items()}
        buttons = QHBoxLayout()
        buttons.setSpacing(2)
        for name in ("Take up", "Show", "Merge", "Delete"):
            action, tip = self.actions_of[name]
            buttons.addWidget(_button(name, tip, action))
        more = _button("More", "What else can be done with the chosen objects", None)
        more.setMenu(self._menu())
        more.setStyleSheet("QToolButton { padding-right: 14px; }")  # room for the arrow
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        buttons.addWidget(more)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.view)
        column.addLayout(buttons)

    def refresh(self) -> None:
        """Show the session as it is, with the same objects chosen as before.

        Once another object is worked on, that one is chosen.
        """
        chosen = self.chosen
        others = self.model.refresh()
        session = self._annotator.session
        current = None if session is None else session.current
        labels = [row.label for row in self.model.rows]
        shown = current, current in labels
        if current is not None and shown != self._shown:
            self.choose([current])
            self._scroll.start()
        elif others:
            self.choose(chosen)
        self._shown = shown
        self.view.setColumnHidden(_SLICES, session is not None and not session.has_slices)

    def _scroll_to_chosen(self) -> None:
        selection: Any = self.view.selectionModel()
        for index in selection.selectedRows()[:1]:
            self.view.scrollTo(index)
            # the number is bold now, and was perhaps out of sight when its column was measured
            self.view.resizeColumnToContents(0)

    @property
    def chosen(self) -> list[int]:
        """Labels of the chosen objects, ascending."""
        selection: Any = self.view.selectionModel()
        return sorted(
            self.model.rows[index.row()].label
            for index in selection.selectedRows()
            if index.row() < len(self.model.rows)
        )

    def choose(self, labels: list[int]) -> None:
        """Choose objects by their labels."""
        selection: Any = self.view.selectionModel()
        selection.clearSelection()
        flags = selection.SelectionFlag.Select | selection.SelectionFlag.Rows
        for number, row in enumerate(self.model.rows):
            if row.label in labels:
                selection.select(self.model.index(number, 0), flags)

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for name, (action, tip) in self.actions_of.items():
            entry: Any = menu.addAction(name)
            entry.setToolTip(tip)
            entry.triggered.connect(_ignoring(action))
        return menu

    def _on_menu(self, place: Any) -> None:
        inside: Any = self.view.viewport()
        self._menu().exec(inside.mapToGlobal(place))

    def _take_up(self) -> None:
        if self.chosen:
            self._annotator.take_up(self.chosen[0])
        else:
            self._annotator.take_up_picked()

    def _some(self, least: int = 1) -> list[int]:
        """Labels of the chosen objects; none, and a hint, if these are too few."""
        chosen = self.chosen
        if len(chosen) >= least:
            return chosen
        how = "two or more objects" if least > 1 else "an object"
        self._annotator.tell(f"Choose {how} in the table first (Control adds to the choice).")
        return []

    def _jump(self) -> None:
        for label in self._some()[:1]:
            self._annotator.jump(label)

    def _merge(self) -> None:
        self._annotator.merge(self._some(2))

    def _delete(self) -> None:
        self._annotator.delete(self._some())

    def _toggle(self, state: str) -> None:
        """Give all chosen objects the state that the first of them does not have."""
        notes = {row.label: row.note for row in self.model.rows}
        if chosen := self._some():
            new = not getattr(notes[chosen[0]], state)
            self._annotator.describe(chosen, **{state: new})

    def _classify(self) -> None:
        notes = {row.label: row.note for row in self.model.rows}
        if chosen := self._some():
            known = sorted({note.category for note in notes.values()} - {""})
            first = notes[chosen[0]].category
            place = known.index(first) if first else -1
            what = f"Class of {len(chosen)} object{'' if len(chosen) == 1 else 's'}:"
            name, agreed = QInputDialog.getItem(self, "Class", what, known, place)
            if agreed:
                self._annotator.describe(chosen, category=name.strip())

    def _color(self) -> None:
        if chosen := self._some():
            color = QColorDialog.getColor(_color(self._annotator, chosen[0]), self)
            if color.isValid():
                self._annotator.describe(chosen, color=color.name())


def _color(annotator: Annotator, label: int) -> QColor:
    return QColor.fromRgbF(*annotator.color(label))


def _swatch(color: QColor) -> QIcon:
    """A patch of a colour, the same in rows that are chosen, where Qt tints what is decorated."""
    patch, icon = QPixmap(_SWATCH, _SWATCH), QIcon()
    patch.fill(color)
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        icon.addPixmap(patch, mode)
    return icon


def _button(text: str, tip: str, action: Callable[[], object] | None) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    if action is not None:
        button.clicked.connect(_ignoring(action))
    return button


def _ignoring(action: Callable[[], object]) -> Callable[..., None]:
    """A slot that does not mind whether its button is checked."""

    def clicked(*_: object) -> None:
        action()

    return clicked
