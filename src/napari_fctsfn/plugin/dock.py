"""The Annotate dock: what is on it and where. What it does is in `annotate`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

# napari injects the viewer by this annotation, which it looks up when it makes the widget
import napari.viewer
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.annotate import Annotator
from napari_fctsfn.plugin.background import single_shot
from napari_fctsfn.plugin.channels import ChannelChooser
from napari_fctsfn.plugin.choosers import LayerChooser
from napari_fctsfn.plugin.exporting import ExportButton
from napari_fctsfn.plugin.keeping import annotated, left_behind, next_file
from napari_fctsfn.plugin.keys import ACTIONS, native, tip
from napari_fctsfn.plugin.objects import ObjectTable
from napari_fctsfn.plugin.prompts import NEGATIVE_COLOR, POSITIVE_COLOR
from napari_fctsfn.plugin.refining import RefineBox
from napari_fctsfn.plugin.sections import Scrolling, section
from napari_fctsfn.plugin.status import hint, status
from napari_fctsfn.plugin.tasks import Choices, ModelChoice, list_model_choices
from napari_fctsfn.plugin.telling import Docked
from napari_fctsfn.plugin.tools import FindRow, ReopenRow, ToolRow

if TYPE_CHECKING:
    from napari_fctsfn.stack import Direction


_WAYS: dict[str, Direction] = {
    "to both ends": "both",
    "to higher slices": "up",
    "to lower slices": "down",
    "between annotated slices": "between",
}
"""Where to propagate to."""

_OPEN: WeakSet[AnnotateDock] = WeakSet()


_ANYTIME = ("start", "reopen", "next_image", "choose_keys")
"""Actions that need no session."""


class AnnotateDock(Docked):
    """Click on things of an image and get their masks in a Labels layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer the dock belongs to.
    parent : QWidget, optional
        Owner in Qt.

    Attributes
    ----------
    annotator : Annotator
        Does the work; everything on the dock calls one of its methods.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self.annotator = Annotator(viewer, self)
        self.image = LayerChooser(viewer, Image, "no image open", always=False)
        self.labels = LayerChooser(viewer, Labels, "New labels layer", always=True)
        for chooser in (self.image, self.labels):
            chooser.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.channels = ChannelChooser()
        self.model, self.device = _choice(), _choice()
        self.licence = _text("licence")
        self.start_button = QPushButton("Start")
        self.start_button.setToolTip("Annotate what is chosen above; objects that exist stay")
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip("Put the layers back that were removed, and go on")
        self.reopening = ReopenRow(self._reopen)
        self._left_behind: list[Path] = []
        self._start_when_ready = False
        # layers that are put in are active for a moment: look once all are where they belong
        self._follow = single_shot(self, 0, self._on_active)
        self.positive_button = _kind("●  Object", POSITIVE_COLOR, "white")
        self.negative_button = _kind("✕  Background", NEGATIVE_COLOR, "black")
        self.grow_button, self.shrink_button = QPushButton("Grow"), QPushButton("Shrink")
        self.next_button = QPushButton("Next object")
        self.undo_button, self.redo_button = QPushButton("Undo"), QPushButton("Redo")
        self.tools, self.refine = ToolRow(self.annotator), RefineBox(self.annotator)
        self.objects = ObjectTable(self.annotator)
        self.export_button = ExportButton(self.annotator)
        self.next_file_button = QPushButton("Next image")
        self.next_file_button.setToolTip(
            "Open the next file of the image's folder that is not annotated yet, and start on it"
        )
        self.keys_button = QPushButton("Keys…")
        self.keys_button.setToolTip("See and choose the keys of everything the dock can do")
        self.follow_button = QPushButton("Propagate")
        self.follow_button.setToolTip("Find this object in further slices of the stack")
        ways = QMenu(self.follow_button)
        for text, direction in _WAYS.items():
            ways.addAction(text, partial(self.annotator.propagate, direction))
        self.follow_button.setMenu(ways)
        self.doubt_button = QPushButton("Doubtful slice")
        self.doubt_button.setToolTip(
            "Go to the slice of this object that is farthest from any click, then to the next"
        )
        self.doubt_button.clicked.connect(self.annotator.worst_slice)
        self.similar = FindRow(self.annotator)
        self.progress = QProgressBar()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.clicked.connect(self.annotator.cancel)
        # so high that what stands below seldom moves
        self.hint, self.status = _text("hint", 3), _text("status", 2)
        self.status.setStyleSheet("font-weight: bold")
        self.annotator.actions.update(
            start=self.start,
            resume=self.resume,
            reopen=self.reopen,
            next_image=self.next_image,
            choose_keys=self.choose_keys,
            **self.objects.named,
            **self.export_button.actions_of,
        )
        _OPEN.add(self)
        self._lay_out()
        self._connect()
        self._show_keys()
        self._on_image()
        self._refresh()

    @staticmethod
    def of(viewer: Any) -> AnnotateDock | None:
        """The open dock of a viewer, or None."""
        viewer = getattr(viewer, "__wrapped__", viewer)
        for dock in list(_OPEN):
            own = dock.annotator.viewer
            if getattr(own, "__wrapped__", own) is viewer and not dock.annotator.closed:
                return dock
        return None

    def act(self, name: str) -> None:
        """Do one of `keys.ACTIONS`, as its button and its key do.

        Raises
        ------
        InputError
            If nothing is being annotated that it could be done to.
        """
        if self.annotator.session is None and name not in _ANYTIME:
            raise InputError(f"{ACTIONS[name].title}: press Start in the Annotate dock first")
        self.annotator.actions[name]()

    def choose_keys(self) -> None:
        """Let the user choose keys."""
        from napari_fctsfn.plugin.keydialog import KeyDialog

        if KeyDialog(self).exec():
            self.annotator.keys.again()
            self._show_keys()
            self._refresh()

    def _show_keys(self) -> None:
        self.next_button.setToolTip(tip("Finish this object and take a new label", "next_object"))
        self.grow_button.setToolTip(
            tip("Make all of the mask larger, and those after it", "grow_mask")
        )
        self.shrink_button.setToolTip(
            tip("Make all of the mask smaller, and those after it", "shrink_mask")
        )
        self.undo_button.setToolTip(tip("Take the last step back", "undo"))
        self.redo_button.setToolTip(tip("Do again what was taken back last", "redo"))
        for button, what in (
            (self.positive_button, "the thing itself"),
            (self.negative_button, "anything else"),
        ):
            button.setToolTip(f"Click on {what} ({native('switch_polarity')} switches)")

    def start(self) -> bool:
        """Begin with what is chosen; return whether that worked."""
        annotator = self.annotator
        if not annotator.start(self.image.layer, self.labels.layer, self.channels.choice):
            return False
        self._show_site()
        return not annotator.problem

    def resume(self) -> bool:
        """Put removed layers back and go on; return whether that worked."""
        self.annotator.resume()
        self._show_site()
        return not self.annotator.problem

    def reopen(self) -> bool:
        """Go on where the last session of the chosen image ended; return whether that worked."""
        return bool(self._left_behind) and self._reopen(self._left_behind[0])

    def _reopen(self, folder: Path) -> bool:
        if self.image.layer is None:
            return False
        worked = self.annotator.reopen(self.image.layer, folder)
        self._show_site()
        return worked

    def next_image(self) -> bool:
        """Open the next file of the image's folder and start on it; return whether there is one."""
        image, viewer = self.image.layer, self.annotator.viewer
        if image is None:
            self.annotator.tell("Open an image first.")
            return False
        try:
            path = next_file(image)
        except InputError as error:
            show_warning(f"{error}.")
            return False
        reader = image.source.reader_plugin or "napari"
        layers = viewer.open(str(path), plugin=reader, layer_type="image")
        for old in (image, self.labels.layer):
            if old is not None:
                old.visible = False
        self.image.choose(layers[0])
        self._start_when_ready = True
        self._refresh()
        return True

    @property
    def waits(self) -> bool:
        """Whether something is under way or about to be."""
        return (
            self.annotator.busy
            or self._follow.isActive()
            or self.refine.waits
            or self.export_button.busy
        )

    def let_go(self) -> None:
        """Let go of the viewer and its layers; the labels stay."""
        self._follow.stop()
        self._viewer.layers.selection.events.active.disconnect(self._follow_active)
        self.image.release()
        self.labels.release()
        self.annotator.close()

    def _lay_out(self) -> None:
        setup = QWidget()
        form = QFormLayout(setup)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.addRow("Image", self.image)
        self.channels_label = QLabel("Channels")
        form.addRow(self.channels_label, self.channels)
        form.addRow("Masks go to", self.labels)
        model = QVBoxLayout()
        model.setSpacing(4)
        model.addWidget(self.model)
        model.addWidget(self.licence)
        form.addRow("Model", model)
        form.addRow("Device", self.device)
        self.kinds = self._lay_out_work()
        content = QWidget()
        column = QVBoxLayout(content)
        column.setSpacing(8)
        self.setup = section("Image and model", setup, expanded=True)
        column.addWidget(self.setup)
        column.addWidget(self.start_button)
        column.addWidget(self.resume_button)
        column.addWidget(self.reopening)
        column.addWidget(self.status)
        column.addWidget(self.hint)
        column.addWidget(self.kinds)
        column.addWidget(self.objects, 1)
        last = QHBoxLayout()
        last.addWidget(self.export_button)
        last.addWidget(self.next_file_button)
        last.addWidget(self.keys_button)
        column.addLayout(last)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scrolling(content))

    def _lay_out_work(self) -> QFrame:
        """All that is of use while something is annotated."""
        frame = QFrame()
        grid = QGridLayout(frame)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self.tools, 0, 0, 1, 2)
        grid.addWidget(self.positive_button, 1, 0)
        grid.addWidget(self.negative_button, 1, 1)
        grid.addWidget(self.grow_button, 2, 0)
        grid.addWidget(self.shrink_button, 2, 1)
        grid.addWidget(self.next_button, 3, 0, 1, 2)
        grid.addWidget(self.undo_button, 4, 0)
        grid.addWidget(self.redo_button, 4, 1)
        grid.addWidget(self.follow_button, 5, 0)
        grid.addWidget(self.doubt_button, 5, 1)
        grid.addWidget(self.similar, 6, 0, 1, 2)
        waiting = QHBoxLayout()
        waiting.addWidget(self.progress, 1)
        waiting.addWidget(self.cancel_button)
        grid.addLayout(waiting, 7, 0, 1, 2)
        grid.addWidget(section("Mask", self.refine), 8, 0, 1, 2)
        return frame

    def _connect(self) -> None:
        annotator = self.annotator
        annotator.changed.connect(self._refresh)
        annotator.assistant.listed.connect(self._on_choices)
        self._viewer.layers.selection.events.active.connect(self._follow_active)
        self.image.chosen.connect(self._on_image)
        self.image.activated.connect(self._on_picked)
        self.labels.chosen.connect(self._refresh)
        self.model.currentIndexChanged.connect(self._on_model)
        # Only what the user picks becomes the user's choice, not what the program shows.
        self.model.textActivated.connect(self._remember_model)
        self.device.currentIndexChanged.connect(self._on_model)
        self.start_button.clicked.connect(self.start)
        self.resume_button.clicked.connect(self.resume)
        self.positive_button.clicked.connect(lambda: annotator.choose_polarity(True))
        self.negative_button.clicked.connect(lambda: annotator.choose_polarity(False))
        self.grow_button.clicked.connect(lambda: annotator.size_mask(larger=True))
        self.shrink_button.clicked.connect(lambda: annotator.size_mask(larger=False))
        self.next_button.clicked.connect(annotator.next_object)
        self.next_file_button.clicked.connect(self.next_image)
        self.keys_button.clicked.connect(self.choose_keys)
        self.undo_button.clicked.connect(annotator.undo)
        self.redo_button.clicked.connect(annotator.redo)

    def _show_site(self) -> None:
        """Choose the layers at work: the next start goes on with these labels and their clicks."""
        site = self.annotator.site
        if site is not None:
            self.setup.collapse(animate=False)
            self.image.choose(site.image)
            self.labels.choose(site.labels)
            self.channels.show_channels(site.session.channels)

    def _follow_active(self, _event: Any) -> None:
        self._follow.start()

    def _on_active(self) -> None:
        """Choose the image that the user has opened or selected, or again the one at work."""
        active, site = self._viewer.layers.selection.active, self.annotator.site
        if site is not None and active in (*site.layers, self.annotator.shaping.layer):
            self.image.choose(site.image)
        elif not self.annotator.looking.owns(active):
            self.image.choose(active)

    def _on_picked(self, _index: int) -> None:
        """Select what was picked in the list too; of the image at work, go on with the clicks."""
        site = self.annotator.site
        if site is not None and self.image.layer == site.image:
            self.annotator.choose_polarity(True)
        else:
            self._viewer.layers.selection.active = self.image.layer

    def _on_image(self) -> None:
        self.labels.choose(annotated(self.image.layer, self.labels.layers))
        self._left_behind = left_behind(self.image.layer, self.labels.layers)
        self.channels.offer(self.image.layer)
        for widget in (self.channels_label, self.channels):
            widget.setVisible(self.channels.useful)
        file = self.image.layer is not None and bool(self.image.layer.source.path)
        self.next_file_button.setVisible(file)
        self.annotator.preview(self.image.layer)
        self._refresh()

    def _on_choices(self, choices: Choices) -> None:
        for box in (self.model, self.device):
            box.blockSignals(True)
        self._add_models(choices.models)
        self.model.setCurrentText(choices.chosen)
        self.device.addItems(choices.devices)
        for box in (self.model, self.device):
            box.blockSignals(False)
        self._on_model()

    def list_models(self, use: str = "") -> None:
        """List the models anew, after one was registered, renamed or deleted; load `use`."""
        from napari_fctsfn.models import chosen_model

        before = self.model.currentText()
        self.model.blockSignals(True)
        self.model.clear()
        self._add_models(list_model_choices())
        listed = self.model.findText(before) >= 0
        # one that was renamed stays the chosen one, under its new name
        self.model.setCurrentText(use or (before if listed else chosen_model()))
        self.model.blockSignals(False)
        if self.model.currentText() != before:
            self._on_model()

    def _add_models(self, models: Iterable[ModelChoice]) -> None:
        for choice in models:
            self.model.addItem(choice.name, choice.licence)
            tip = f"Weights: {choice.licence}"
            self.model.setItemData(self.model.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)

    def _on_model(self, _index: int = 0) -> None:
        if self.model.count():
            self.annotator.assistant.use(self.model.currentText(), self.device.currentText())
        self._refresh()

    def _remember_model(self, name: str) -> None:
        # The list the name was picked from was made with this module loaded in the background.
        from napari_fctsfn.models import ModelError, choose_model

        try:
            choose_model(name)
        except (ModelError, OSError) as error:
            show_warning(f"The choice of “{name}” is not remembered: {error}")

    def _refresh_following(self) -> None:
        session = self.annotator.session
        following, finding = self.annotator.propagation.following, self.annotator.finding
        for button in (self.follow_button, self.doubt_button):
            button.setVisible(session is not None and session.has_slices)
        searching = finding.search if finding.under_way else None
        under_way = following or searching
        for widget in (self.follow_button, self.doubt_button, self.similar):
            widget.setEnabled(under_way is None)
        self.similar.refresh()
        self.progress.setVisible(under_way is not None)
        self.cancel_button.setVisible(under_way is not None)
        if under_way is not None:
            self.progress.setMaximum(under_way.total)
            self.progress.setValue(under_way.done)
            unit = "slices" if searching is None else searching.unit
            self.progress.setFormat(f"%v of %m {unit}{_left(under_way.seconds_left)}")

    def _refresh(self) -> None:
        annotator, session = self.annotator, self.annotator.session
        working = session is not None and not annotator.problem
        self.licence.setText(f"Weights: {self.model.currentData() or '…'}")
        site = annotator.site
        here = site is not None and site.image == self.image.layer
        # hidden while nothing else is chosen than what is at work
        same = here and site is not None and site.labels == self.labels.layer
        self.start_button.setVisible(not same or bool(annotator.problem))
        self.resume_button.setVisible(annotator.layers_missing)
        self.start_button.setEnabled(
            self.image.layer is not None and annotator.assistant.replayer is not None
        )
        if self._start_when_ready and self.start_button.isEnabled() and annotator.assistant.ready:
            self._start_when_ready = False
            self.start()
        kept = [] if here or self.labels.layer is not None else self._left_behind
        self.reopening.offer(kept, self.start_button.isEnabled())
        self.kinds.setEnabled(working)
        self.undo_button.setEnabled(session is not None and session.history.can_undo)
        self.redo_button.setEnabled(session is not None and session.history.can_redo)
        self.positive_button.setChecked(annotator.polarity is True)
        self.negative_button.setChecked(annotator.polarity is False)
        self.tools.refresh()
        self.refine.refresh()
        self._refresh_following()
        self.objects.setEnabled(working)
        self.export_button.setEnabled(working and not self.export_button.busy)
        self.objects.refresh()
        self.hint.setText(hint(annotator, self.image.layer, bool(kept)))
        self.status.setText(status(annotator))


def _left(seconds: float) -> str:
    """The remaining time in words."""
    if seconds == float("inf"):
        return ""
    return f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"


def _choice() -> QComboBox:
    """A drop-down list as wide as the dock."""
    box = QComboBox()
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


_PADDING = 14
"""Above and below a text in napari's style, in pixels, together."""


def _text(name: str, lines: int = 1) -> QLabel:
    """Text that wraps, at least so many lines high; its name lets screen readers find it."""
    label = QLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setAlignment(Qt.AlignmentFlag.AlignTop)
    label.setMinimumHeight(lines * label.fontMetrics().lineSpacing() + _PADDING)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    return label


def _kind(text: str, color: str, ink: str) -> QPushButton:
    """A button that chooses what is clicked on; in the colour of its points once it is chosen."""
    button = QPushButton(text)
    button.setCheckable(True)
    button.setStyleSheet(
        f"QPushButton:checked:enabled {{ background-color: {color}; color: {ink}; }}"
    )
    return button
