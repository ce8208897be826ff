"""The state of a session and how it changes: commands done, taken back and done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.session.annotation import Annotation, Note, Replay, owned, write
from napari_fctsfn.session.history import (
    ClickEdit,
    Command,
    Edit,
    History,
    Intent,
    NoteEdit,
    Operation,
    OperationKind,
    Refine,
    Select,
)
from napari_fctsfn.session.masks import Box, Mask, bounding_box, part_of, union
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.refinement import USUAL, Refinement

if TYPE_CHECKING:
    from napari_fctsfn.predict import Channels, Normalisation

Labels = NDArray[np.integer[Any]]
LabelsOf = Callable[[Plane], Labels]
"""Gives the labels of a slice as they are, shape (rows, columns)."""

Way = Literal["undo", "redo", "take back"]
"""A step back, forth, or back for good."""

Entry = Command | Way
"""What a journal holds: something done, or a step back or forth."""


class SessionError(InputError):
    """What was asked for cannot be done; the message says why and what to do."""


WHOLE = 1 << 24
"""Slices of up to so many pixels are compared as a whole; of larger ones only what is known to have
been painted, and the object at work."""

_TILE = 1024
"""Side of the tiles in which a large slice is copied: those without labels take no memory."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an undo or redo asks of whoever holds the labels.

    Parameters
    ----------
    plane : Plane or None
        The slice to show; None if it concerns none.
    patches : tuple of Patch
        What to write.
    action : ClickEdit, Refine, Select, Operation or None
        What was taken back or done again.
    """

    plane: Plane | None = None
    patches: tuple[Patch, ...] = ()
    action: Intent | Operation | None = None


class Ledger:
    """Objects of one image, what is said about them, and the history of both.

    The base of `Session`, which has the parameters and attributes described.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        normalisation: Normalisation,
        highest: int = 0,
        capacity: int = 65535,
        clock: Callable[[], float] = time.time,
        channels: Channels | None = None,
    ) -> None:
        self.shape = shape
        self.normalisation = normalisation
        self.channels = channels
        self.capacity = capacity
        self.history = History()
        self.journal: Callable[[Entry], None] | None = None
        self._clock = clock
        self._objects: dict[int, dict[Plane, Annotation]] = {}
        self._notes: dict[int, Note] = {}
        self._refinement = USUAL
        self._found = self._highest = highest
        self._seen: tuple[Plane, Labels] | None = None
        self._painted: list[Box] = []
        self._reach: dict[tuple[Plane, int], Box] = {}
        self.revision = 0
        self.current = 0
        self.current = self._free_label()

    @property
    def objects(self) -> dict[int, dict[Plane, Annotation]]:
        """Annotations by label and slice; objects without any are not listed. A copy."""
        return {label: dict(planes) for label, planes in self._objects.items() if planes}

    @property
    def busy(self) -> bool:
        """Whether something waits for a prediction."""
        return bool(self.history.pending)

    @property
    def refinement(self) -> Refinement:
        """How masks are made from now on."""
        for intent in reversed(self.history.pending):
            if isinstance(intent, Refine | Select):
                return intent.after
        return self._refinement

    @property
    def notes(self) -> dict[int, Note]:
        """What is said about objects, by label; those of which nothing is said are not listed."""
        return {label: note for label, note in self._notes.items() if note != Note()}

    @property
    def highest(self) -> int:
        """The largest label in use, as far as the session knows."""
        return max([self._highest, self.current, *self._objects])

    def told(self) -> tuple[dict[int, str], dict[int, str], dict[str, str]]:
        """Names and classes of objects, by label, and where their masks come from."""
        annotations = [a for planes in self._objects.values() for a in planes.values()]
        models = sorted({annotation.model for annotation in annotations if annotation.model})
        clicks = sum(len(annotation.clicks) for annotation in annotations)
        notes = {label: self.note(label) for label in self.objects}
        return (
            {label: note.name for label, note in notes.items()},
            {label: note.category for label, note in notes.items()},
            {"models": ", ".join(models), "clicks": str(clicks)},
        )

    def note(self, label: int) -> Note:
        """What is said about an object."""
        return self._notes.get(label, Note())

    def clicks(self, label: int, plane: Plane) -> Clicks:
        """Clicks of an object in a slice, those included that wait for their prediction."""
        for intent in reversed(self.history.pending):
            if isinstance(intent, ClickEdit) and (intent.label, intent.plane) == (label, plane):
                return intent.clicks
        annotation = self._objects.get(label, {}).get(plane)
        return Clicks() if annotation is None else annotation.clicks

    def planes(self, label: int) -> Iterator[Plane]:
        """Slices in which an object has clicks, those included that wait for a prediction."""
        waiting = [
            intent.plane
            for intent in self.history.pending
            if isinstance(intent, ClickEdit) and intent.label == label
        ]
        for plane in dict.fromkeys([*self._objects.get(label, {}), *waiting]):
            if len(self.clicks(label, plane)):
                yield plane

    def undo(self) -> Step | None:
        """Take back the newest step; None if there is none. Predicts nothing."""
        return self._travel("undo", self.history.undo())

    def redo(self) -> Step | None:
        """Do again the step that was undone last; None if there is none."""
        return self._travel("redo", self.history.redo())

    def follow(self, entry: Entry) -> tuple[Patch, ...]:
        """Do what a journal holds, in its order; return what to write into the labels."""
        if isinstance(entry, Command):
            if isinstance(entry.action, Operation) and entry.action.kind in (
                "brush",
                "adopt",
                "accept",
            ):
                self._highest = max(self._highest, *entry.action.labels)
            self.history.forget_undone()
            self._do(entry)
            return entry.patches
        ways = {"undo": self.undo, "redo": self.redo, "take back": self.take_back}
        step = ways[entry]()
        return () if step is None else step.patches

    def observe(self, plane: Plane, labels: Labels) -> set[int]:
        """Look at the labels of a slice before anything is done with them.

        Edits made by somebody else since the session last looked at this slice become a step of
        the history of their own, and the masks they touch the start of further clicks.

        Parameters
        ----------
        plane : Plane
            The slice.
        labels : array of int, shape (rows, columns)
            Its labels; copied. In a slice of more than 16 million pixels edits are found where
            `painted` told of them and where the current object is.

        Returns
        -------
        set of int
            Labels that lost or won pixels by such edits.
        """
        shape = labels.shape[0], labels.shape[1]
        painted, self._painted = self._painted, []
        if self._seen is None or self._seen[0] != plane or self._seen[1].shape != shape:
            self._seen = plane, _copy(labels)
            return set()
        seen = self._seen[1]
        if seen.dtype != labels.dtype:  # somebody has made room for more labels
            seen = seen.astype(labels.dtype)
            self._seen = plane, seen
        box = self._where(plane, [self.current], painted)
        patch = Patch.between(plane, part_of(seen, box), part_of(labels, box), box[:2], shape)
        if patch is None:
            return set()
        patch.apply(seen)
        return self._brushed([(patch, labels)])

    def observe_all(self, slices: Iterable[tuple[Plane, Labels, Labels]]) -> set[int]:
        """Take what somebody else has edited in any slices as one step.

        Parameters
        ----------
        slices : iterable of (Plane, array of int, array of int)
            Their labels before and now, shape (rows, columns).

        Returns
        -------
        set of int
            As `observe` does.
        """
        changed = []
        for plane, before, labels in slices:
            patch = Patch.between(plane, before, labels)
            if patch is not None:
                changed.append((patch, labels))
                self._wrote([patch])
        return self._brushed(changed) if changed else set()

    def _brushed(self, changed: Sequence[tuple[Patch, Labels]]) -> set[int]:
        """Make a step of what somebody else has edited, given the slices as they are now."""
        edits = []
        for patch, labels in changed:
            plane = patch.plane
            for label in sorted(patch.labels - {0}):
                planes = self._objects.get(label, {})
                if not planes and label <= self._found:
                    continue  # drawn before the session; `adopt` takes up all of it
                old, mask = planes.get(plane), self._mask(plane, [label], labels, [patch.box])
                if old is not None:
                    new = Annotation(old.clicks, mask, mask, len(old.clicks), old.model)
                    edits.append(Edit(label, plane, old, new))
                elif not mask.empty:
                    # a new object, or one of other slices, that somebody has drawn in this one
                    edits.append(Edit(label, plane, None, Annotation(Clicks(), mask, mask)))
        touched = set().union(*(patch.labels for patch, _ in changed)) - {0}
        self._highest = max([self._highest, *touched])
        self.history.forget_undone()
        brush = Operation("brush", tuple(sorted(touched)), changed[0][0].plane)
        patches = tuple(patch for patch, _ in changed)
        self._do(Command(brush, tuple(edits), patches=patches, time=self._clock()))
        return touched

    def painted(self, box: Box | None) -> None:
        """Note where somebody else has painted in the slice that was observed last.

        Parameters
        ----------
        box : (int, int, int, int) or None
            First row, first column, end row, end column; None for anywhere.
        """
        if box is None and self._seen is not None:
            box = (0, 0, *self._seen[1].shape[:2])
        if box is not None:
            self._painted = [union([*self._painted, box])]

    @property
    def observed(self) -> Plane | None:
        """The slice that was observed last."""
        return None if self._seen is None else self._seen[0]

    def label_in_use(self, label: int) -> None:
        """Note that somebody else uses a label, so that no new object gets it."""
        self._highest = max(self._highest, label)

    def take_back(self) -> Step | None:
        """Take back the newest step that is done, whatever waits; None if there is none.

        It cannot be done again.
        """
        return self._travel("take back", self.history.take_back())

    # -- inside --------------------------------------------------------------------------------

    def _glimpse(self, plane: Plane, labels: Labels) -> None:
        """Look at a slice that is about to change; the one that was observed stays observed."""
        if self._seen is None or self._seen[0] == plane:
            self.observe(plane, labels)

    def _where(self, plane: Plane, labels: Iterable[int], more: Iterable[Box] = ()) -> Box:
        """A box of a slice outside which it has no pixel of some labels.

        Parameters
        ----------
        plane : Plane
        labels : iterable of int
        more : iterable of (int, int, int, int)
            Boxes that it has to hold too.
        """
        rows, columns = plane.shape(self.shape)
        if rows * columns <= WHOLE:
            return 0, 0, rows, columns
        nowhere = (0, 0, 0, 0)
        return union([*(self._reach.get((plane, label), nowhere) for label in labels), *more])

    def _mask(
        self, plane: Plane, of: Iterable[int], labels: Labels, more: Iterable[Box] = ()
    ) -> Mask:
        """The pixels of a slice that have one of some labels."""
        numbers = list(of)
        box = self._where(plane, numbers, more)
        part = part_of(labels, box)
        found = part == numbers[0] if len(numbers) == 1 else np.isin(part, numbers)
        return Mask.of(found, plane.shape(self.shape), box[:2])

    def _written(
        self, replay: Replay, mask: NDArray[np.bool_], labels: Labels, within: Box | None = None
    ) -> tuple[Mask, Patch | None]:
        """What an object has in a slice once a mask is written there, and how to write it."""
        plane, shape = replay.plane, replay.plane.shape(self.shape)
        if within is None and mask.size > WHOLE:
            within = bounding_box(mask)
        pixels = [click.pixel for click in replay.clicks.positive]
        clicked = [(row, column, row + 1, column + 1) for row, column in pixels]
        box = self._where(plane, [replay.label], clicked if within is None else [within, *clicked])
        mask, part = part_of(mask, box), part_of(labels, box)
        own = owned(replay, mask, part, box[:2])
        return Mask.of(own, shape, box[:2]), write(replay, own, part, box[:2], shape)

    def _free_label(self) -> int:
        used = [label for label, planes in self._objects.items() if planes]
        waiting = [i.label for i in self.history.pending if not isinstance(i, Refine)]
        label = max([self._highest, self.current, *used, *waiting]) + 1
        if label > self.capacity:
            raise SessionError(
                f"label {label - 1} is used and the labels hold none above {self.capacity}: go on "
                "in a labels layer of a larger type"
            )
        return label

    def _check_label(self, label: int) -> None:
        if not 1 <= label <= self.capacity:
            raise SessionError(f"there is no object {label}: labels go from 1 to {self.capacity}")

    def _check_open(self, labels: Iterable[int]) -> None:
        for label in labels:
            if self.note(label).protected:
                raise SessionError(f"object {label} is protected: unprotect it to change it")

    def _go_on(self) -> None:
        """Do what waits first and needs no prediction."""
        pending = self.history.pending
        while pending and (command := self._at_once(pending[0])) is not None:
            pending.popleft()
            self.history.add(command)
            self._tell(command)

    def _at_once(self, intent: Intent) -> Command | None:
        """What comes of an intent that needs no prediction; None if it needs one."""
        if isinstance(intent, Select):
            # the annotator may have gone on since: `current` is not set again
            self._refinement = intent.after
            change = (intent.previous, intent.label)
            return Command(intent, current=change, time=self._clock())
        if isinstance(intent, Refine) and not self._remakes(intent):
            self._refinement = intent.after
            return Command(replace(intent, plane=None), time=self._clock())
        return None

    def _remakes(self, intent: Refine) -> bool:
        """Whether there is a mask that becomes another one."""
        if intent.plane is None:
            return False
        annotation = self._objects.get(intent.label, {}).get(intent.plane)
        return annotation is not None and len(annotation.clicks) > annotation.base

    def _check_settled(self) -> None:
        self._go_on()
        if self.busy:
            raise SessionError("a click still waits for its mask: try again in a moment")

    def _silence(self, labels: Iterable[int]) -> list[NoteEdit]:
        return [
            NoteEdit(label, self.note(label), Note())
            for label in labels
            if self.note(label) != Note()
        ]

    def _operate(
        self,
        kind: OperationKind,
        labels: list[int],
        edits: Iterable[Edit] = (),
        notes: Iterable[NoteEdit] = (),
        patches: tuple[Patch, ...] = (),
        current: int | None = None,
    ) -> tuple[Patch, ...]:
        """Do what needs no prediction; return what to write."""
        operation = Operation(kind, tuple(labels))
        change = None if current is None else (self.current, current)
        self.history.forget_undone()
        self._do(Command(operation, tuple(edits), tuple(notes), patches, change, self._clock()))
        self._wrote(patches)
        return patches

    def _do(self, command: Command) -> None:
        self._set(command, back=False)
        self.history.add(command)
        self._tell(command)

    def _tell(self, entry: Entry) -> None:
        if self.journal is not None:
            self.journal(entry)

    def _set(self, command: Command, back: bool) -> None:
        self.revision += 1
        self._note_reach(command)
        for edit in command.edits:
            planes = self._objects.setdefault(edit.label, {})
            annotation = edit.before if back else edit.after
            if annotation is None:
                planes.pop(edit.plane, None)
            else:
                planes[edit.plane] = annotation
        for note in command.notes:
            self._notes[note.label] = note.before if back else note.after
        if isinstance(command.action, Refine | Select):
            self._refinement = command.action.before if back else command.action.after
        if command.current is not None:
            self.current = command.current[0] if back else command.current[1]

    def _note_reach(self, command: Command) -> None:
        """Where a command may have changed pixels of its objects."""
        for patch in command.patches:
            for change in patch.changes:
                for label in {change.old, change.new} - {0}:
                    self._grow(patch.plane, label, change.pixels.box)
        for edit in command.edits:
            for known in (edit.before, edit.after):
                if known is not None:
                    self._grow(edit.plane, edit.label, known.mask.box)

    def _grow(self, plane: Plane, label: int, box: Box) -> None:
        self._reach[plane, label] = union([self._reach.get((plane, label), box), box])

    def _travel(self, way: Way, entry: Command | Intent | None) -> Step | None:
        if entry is None:
            return None
        back = way != "redo"
        action = entry.action if isinstance(entry, Command) else entry
        if not isinstance(entry, Command):
            if isinstance(action, Select):
                self.current = action.previous if back else action.label
                self.revision += 1
            return Step(None if isinstance(action, Select) else action.plane, action=action)
        self._set(entry, back)
        patches = tuple(p.inverse() for p in entry.patches) if back else entry.patches
        self._wrote(patches)
        self._tell(way)
        plane = None if isinstance(action, Select) else action.plane
        if plane is None and patches:
            plane = patches[0].plane
        return Step(plane, patches, action)

    def _wrote(self, patches: Iterable[Patch]) -> None:
        """Keep what was seen in step with what our own patches do to it."""
        if self._seen is None:
            return
        plane, labels = self._seen
        for patch in patches:
            if plane == patch.plane:
                patch.apply(labels)
            elif plane.axes != patch.plane.axes:
                patch.apply_across(plane, labels)


def _copy(labels: Labels) -> Labels:
    """A copy of a slice; of a large one without labels next to no memory is taken."""
    if labels.size <= WHOLE:
        return labels.copy()
    copy = np.zeros(labels.shape, dtype=labels.dtype)
    for row in range(0, labels.shape[0], _TILE):
        for column in range(0, labels.shape[1], _TILE):
            box = (row, column, row + _TILE, column + _TILE)
            if (tile := part_of(labels, box)).any():
                part_of(copy, box)[...] = tile
    return copy
