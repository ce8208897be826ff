"""The annotator's document: objects, their clicks and masks, and the history of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.session.annotation import Annotation, Note, Replay, plan, write
from napari_fctsfn.session.history import (
    ClickEdit,
    Command,
    Edit,
    History,
    Intent,
    NoteEdit,
    Operation,
    OperationKind,
    Select,
)
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane

if TYPE_CHECKING:
    from napari_fctsfn.predict import Normalisation

Labels = NDArray[np.integer[Any]]
LabelsOf = Callable[[Plane], Labels]
"""Gives the labels of a slice as they are, shape (rows, columns)."""

Entry = Command | Literal["undo", "redo"]
"""What a journal holds: something done, or a step back or forth."""


class SessionError(ValueError):
    """What was asked for cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an undo or redo asks of whoever holds the labels.

    Parameters
    ----------
    plane : Plane or None
        The slice to show; None if it concerns none.
    patches : tuple of Patch
        What to write.
    """

    plane: Plane | None = None
    patches: tuple[Patch, ...] = ()


class Session:
    """Objects of one image, annotated by clicks.

    The session never holds the labels. Whoever does passes the labels of a slice in and writes the
    patches that come out, each before the next call.

    Parameters
    ----------
    shape : tuple of int
        Shape of the labels, two axes or more.
    normalisation : Normalisation
        The intensity range the network sees, resolved once for the whole session.
    highest : int
        The largest label in use.
    capacity : int
        The largest label that the labels can hold.
    clock : callable
        Gives the time in seconds since 1970.

    Attributes
    ----------
    current : int
        Label of the object being annotated.
    revision : int
        Grows with every change of the objects, of what is said about them, or of `current`.
    journal : callable or None
        Gets every `Entry` as soon as it is done; nothing that still waits for a prediction.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        normalisation: Normalisation,
        highest: int = 0,
        capacity: int = 65535,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.shape = shape
        self.normalisation = normalisation
        self.capacity = capacity
        self.history = History()
        self.journal: Callable[[Entry], None] | None = None
        self._clock = clock
        self._objects: dict[int, dict[Plane, Annotation]] = {}
        self._notes: dict[int, Note] = {}
        self._highest = highest
        self._seen: tuple[Plane, Labels] | None = None
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
    def notes(self) -> dict[int, Note]:
        """What is said about objects, by label; those of which nothing is said are not listed."""
        return {label: note for label, note in self._notes.items() if note != Note()}

    @property
    def highest(self) -> int:
        """The largest label in use, as far as the session knows."""
        return max([self._highest, self.current, *self._objects])

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

    # -- what the annotator does ---------------------------------------------------------------

    def edit_clicks(self, plane: Plane, clicks: Clicks) -> None:
        """Ask for other clicks of the current object in a slice.

        Parameters
        ----------
        plane : Plane
            The slice.
        clicks : Clicks
            All its clicks, ordered. Clicks behind the present ones are taken one by one, so that
            each can be undone by itself; every other difference is one step. No difference is no
            step.

        Raises
        ------
        ValueError
            If the slice or a click lies outside the image.
        SessionError
            If the object is protected.
        """
        plane.check_inside(self.shape)
        clicks.check_inside(plane.shape(self.shape))
        present = self.clicks(self.current, plane)
        if clicks == present:
            return
        self._check_open([self.current])
        first = len(present) + 1 if clicks[: len(present)] == present else len(clicks)
        for count in range(first, len(clicks) + 1):
            self.history.ask(ClickEdit(self.current, plane, clicks[:count]))

    def next_object(self) -> int:
        """Go on to the next free label and return it.

        Raises
        ------
        SessionError
            If the current object has nothing yet, or no label is left.
        """
        label = self.current
        clicked = any(len(self.clicks(label, plane).positive) for plane in self.planes(label))
        if self._highest < label and not clicked:
            raise SessionError(f"click on object {label} before going on to the next")
        self.select(self._free_label())
        return self.current

    def select(self, label: int) -> None:
        """Go on with another object: its further clicks are clicks of the current object.

        Raises
        ------
        SessionError
            If there can be no such label.
        """
        if not 1 <= label <= self.capacity:
            raise SessionError(f"there is no object {label}: labels go from 1 to {self.capacity}")
        if label != self.current:
            self.history.ask(Select(self.current, label))
            self.current = label
            self.revision += 1

    def describe(self, notes: Mapping[int, Note]) -> None:
        """Name objects, or change anything else that is said about them, as one step."""
        edits = [
            NoteEdit(label, self.note(label), note)
            for label, note in notes.items()
            if note != self.note(label)
        ]
        if edits:
            self._operate("describe", [edit.label for edit in edits], notes=edits)

    def delete(self, labels: Iterable[int], labels_of: LabelsOf) -> tuple[Patch, ...]:
        """Delete objects with their clicks, in all slices where they are annotated.

        Parameters
        ----------
        labels : iterable of int
        labels_of : callable

        Returns
        -------
        tuple of Patch
            What to write.

        Raises
        ------
        SessionError
            If one is protected, or a click still waits for its mask.
        """
        gone = sorted(set(labels))
        self._check_open(gone)
        self._check_settled()
        edits = [
            Edit(label, plane, annotation, None)
            for label in gone
            for plane, annotation in self._objects.get(label, {}).items()
        ]
        planes = dict.fromkeys(edit.plane for edit in edits)
        patches = self._repainted(planes, labels_of, dict.fromkeys(gone, 0))
        return self._operate("delete", gone, edits, self._silence(gone), patches)

    def merge(self, into: int, others: Iterable[int], labels_of: LabelsOf) -> tuple[Patch, ...]:
        """Make several objects one, which has all their pixels and clicks.

        Parameters
        ----------
        into : int
            The object that stays.
        others : iterable of int
            The objects that become part of it.
        labels_of : callable

        Returns
        -------
        tuple of Patch
            What to write.

        Raises
        ------
        SessionError
            If one is protected, or a click still waits for its mask.
        """
        gone = sorted(set(others) - {into})
        self._check_open([into, *gone])
        self._check_settled()
        planes = dict.fromkeys(plane for label in gone for plane in self._objects.get(label, {}))
        patches = self._repainted(planes, labels_of, dict.fromkeys(gone, into))
        edits = []
        for plane in planes:
            labels = labels_of(plane)
            mask = Mask.of(np.isin(labels, [into, *gone]), plane.shape(self.shape))
            clicks = Clicks()
            for label in (into, *gone):
                if (annotation := self._objects.get(label, {}).get(plane)) is not None:
                    clicks = Clicks((*clicks, *annotation.clicks))
                    if label != into:
                        edits.append(Edit(label, plane, annotation, None))
            whole = Annotation(clicks, mask, mask, len(clicks))
            edits.append(Edit(into, plane, self._objects.get(into, {}).get(plane), whole))
        return self._operate("merge", [into, *gone], edits, self._silence(gone), patches)

    def renumber(self, labels_of: LabelsOf, taken: Iterable[int] = ()) -> tuple[Patch, ...]:
        """Number the objects from one up, without gaps, in their present order.

        Parameters
        ----------
        labels_of : callable
        taken : iterable of int
            Labels of pixels that are no object of this session; they are left out.

        Returns
        -------
        tuple of Patch
            What to write.

        Raises
        ------
        SessionError
            If an object is protected, or a click still waits for its mask.
        """
        self._check_settled()
        present = sorted(label for label, planes in self._objects.items() if planes)
        self._check_open(present)
        others = set(taken) - set(present)
        free = (number for number in range(1, self.capacity + 1) if number not in others)
        pairs = zip(present, free, strict=False)
        new = {label: number for label, number in pairs if label != number}
        old_of = {number: label for label, number in new.items()}
        edits, notes = [], []
        for number in sorted({*new, *old_of}):
            source = old_of.get(number)
            before = self._objects.get(number, {})
            after = {} if source is None else self._objects[source]
            edits += [
                Edit(number, plane, before.get(plane), after.get(plane))
                for plane in dict.fromkeys([*before, *after])
            ]
            said = Note() if source is None else self.note(source)
            if said != self.note(number):
                notes.append(NoteEdit(number, self.note(number), said))
        planes = dict.fromkeys(edit.plane for edit in edits)
        patches = self._repainted(planes, labels_of, new)
        current = new.get(self.current, self.current)
        return self._operate("renumber", list(new), edits, notes, patches, current)

    def propagate(
        self, label: int, masks: dict[Plane, NDArray[np.bool_]], labels_of: LabelsOf, model: str
    ) -> tuple[Patch, ...]:
        """Take masks of an object in many slices as one step; pixels of others stay theirs.

        Parameters
        ----------
        label : int
        masks : dict of Plane to array of bool, shape (rows, columns)
        labels_of : callable
        model : str
            SHA-256 of the model file.

        Returns
        -------
        tuple of Patch
            What to write.

        Raises
        ------
        SessionError
            If the object is protected, or a click still waits for its mask.
        """
        self._check_open([label])
        self._check_settled()
        edits, patches = [], []
        for plane, mask in masks.items():
            labels = labels_of(plane)
            before = self._objects.get(label, {}).get(plane)
            clicks = Clicks() if before is None else before.clicks
            patch = write(Replay(label, plane, clicks, None, 0), mask, labels)
            after = labels.copy()
            if patch is not None:
                patch.apply(after)
                patches.append(patch)
            own = Mask.of(after == label, plane.shape(self.shape))
            edits.append(
                Edit(label, plane, before, Annotation(clicks, own, own, len(clicks), model))
            )
        return self._operate("propagate", [label], edits, patches=tuple(patches))

    def undo(self) -> Step | None:
        """Take back the newest step; None if there is none. Predicts nothing."""
        return self._travel("undo", self.history.undo())

    def redo(self) -> Step | None:
        """Do again the step that was undone last; None if there is none."""
        return self._travel("redo", self.history.redo())

    def follow(self, entry: Entry) -> tuple[Patch, ...]:
        """Do what a journal holds, in its order; return what to write into the labels."""
        if isinstance(entry, Command):
            if isinstance(entry.action, Operation) and entry.action.kind == "brush":
                self._highest = max(self._highest, *entry.action.labels)
            self.history.forget_undone()
            self._do(entry)
            return entry.patches
        step = self.undo() if entry == "undo" else self.redo()
        return () if step is None else step.patches

    # -- what the labels and the predictions do ------------------------------------------------

    def observe(self, plane: Plane, labels: Labels) -> set[int]:
        """Look at the labels of a slice before anything is done with them.

        Edits made by somebody else since the session last looked at this slice become a step of
        the history of their own, and the masks they touch the start of further clicks.

        Parameters
        ----------
        plane : Plane
            The slice.
        labels : array of int, shape (rows, columns)
            Its labels; copied.

        Returns
        -------
        set of int
            Labels that lost or won pixels by such edits.
        """
        before = self._seen
        patch = None
        if before is not None and before[0] == plane and before[1].shape == labels.shape:
            patch = Patch.between(plane, before[1], labels)
        if before is None or before[0] != plane or patch is not None:
            self._seen = plane, labels.copy()
        if patch is None:
            return set()
        self._highest = max(self._highest, *patch.labels)
        edits = []
        for label in patch.labels & self._objects.keys():
            old = self._objects[label].get(plane)
            if old is not None:
                mask = Mask.of(labels == label, (labels.shape[0], labels.shape[1]))
                new = Annotation(old.clicks, mask, mask, len(old.clicks), old.model)
                edits.append(Edit(label, plane, old, new))
        self.history.forget_undone()
        brush = Operation("brush", tuple(sorted(patch.labels - {0})), plane)
        self._do(Command(brush, tuple(edits), patches=(patch,), time=self._clock()))
        return patch.labels - {0}

    def label_in_use(self, label: int) -> None:
        """Note that somebody else uses a label, so that no new object gets it."""
        self._highest = max(self._highest, label)

    def job(self, labels_of: LabelsOf) -> Replay | None:
        """The replay to predict next; None if nothing waits.

        Parameters
        ----------
        labels_of : callable
            Gives the labels of a slice, array of int, shape (rows, columns).
        """
        self._go_on()
        pending = self.history.pending
        intent = pending[0] if pending else None
        if not isinstance(intent, ClickEdit):
            return None
        labels = labels_of(intent.plane)
        self.observe(intent.plane, labels)
        existing = Mask.of(labels == intent.label, (labels.shape[0], labels.shape[1]))
        before = self._objects.get(intent.label, {}).get(intent.plane)
        return plan(intent.label, intent.plane, before, intent.clicks, existing)

    def resolve(
        self, replay: Replay, mask: NDArray[np.bool_] | None, labels: Labels, model: str
    ) -> Patch | None:
        """Take the mask of the replay that `job` gave and finish the step that waits for it.

        Parameters
        ----------
        replay : Replay
            What was predicted. If the clicks or the labels have changed meanwhile, so that it is
            no longer what `job` gives, nothing happens.
        mask : array of bool, shape (rows, columns), or None
            The predicted mask; None where there was nothing to predict, that is no click beyond
            the mask the replay starts from.
        labels : array of int, shape (rows, columns)
            The labels of the slice as they are.
        model : str
            SHA-256 of the model file.

        Returns
        -------
        Patch or None
            What to write into the labels; None if no label changes.
        """
        if self.job(lambda _: labels) != replay:
            return None
        shape = labels.shape[0], labels.shape[1]
        if mask is None:
            mask = np.zeros(shape, dtype=bool) if replay.given is None else replay.given.full()
        patch = write(replay, mask, labels)
        after = labels.copy()
        if patch is not None:
            patch.apply(after)
        annotation = Annotation(
            replay.clicks,
            Mask.of(after == replay.label, shape),
            replay.given,
            replay.base,
            model,
        )
        before = self._objects.get(replay.label, {}).get(replay.plane)
        edit = Edit(replay.label, replay.plane, before, annotation)
        intent = self.history.pending.popleft()
        patches = () if patch is None else (patch,)
        self._do(Command(intent, (edit,), patches=patches, time=self._clock()))
        self._wrote(patches)
        return patch

    def drop(self) -> Intent | None:
        """Forget the step that waits first, because it cannot be predicted."""
        return self.history.pending.popleft() if self.history.pending else None

    # -- inside --------------------------------------------------------------------------------

    def _free_label(self) -> int:
        used = [label for label, planes in self._objects.items() if planes]
        waiting = [intent.label for intent in self.history.pending]
        label = max([self._highest, self.current, *used, *waiting]) + 1
        if label > self.capacity:
            raise SessionError(
                f"the labels hold numbers up to {self.capacity} and all are used: go on in a "
                "labels layer of a larger type"
            )
        return label

    def _check_open(self, labels: Iterable[int]) -> None:
        for label in labels:
            if self.note(label).protected:
                raise SessionError(f"object {label} is protected: unprotect it to change it")

    def _go_on(self) -> None:
        """Do what waits first and needs no prediction."""
        pending = self.history.pending
        while pending and isinstance(select := pending[0], Select):
            # the annotator may have gone on since: `current` is not set again
            pending.popleft()
            change = (select.previous, select.label)
            command = Command(select, current=change, time=self._clock())
            self.history.add(command)
            self._tell(command)

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

    def _repainted(
        self,
        planes: Iterable[Plane],
        labels_of: LabelsOf,
        numbers: dict[int, int],
    ) -> tuple[Patch, ...]:
        """Patches that give labels other numbers, 0 to delete them."""
        patches = []
        for plane in planes:
            labels = labels_of(plane)
            self.observe(plane, labels)
            after = labels.copy()
            for old, new in numbers.items():
                after[labels == old] = new
            if (patch := Patch.between(plane, labels, after)) is not None:
                patches.append(patch)
        return tuple(patches)

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
        for edit in command.edits:
            planes = self._objects.setdefault(edit.label, {})
            annotation = edit.before if back else edit.after
            if annotation is None:
                planes.pop(edit.plane, None)
            else:
                planes[edit.plane] = annotation
        for note in command.notes:
            self._notes[note.label] = note.before if back else note.after
        if command.current is not None:
            self.current = command.current[0] if back else command.current[1]

    def _travel(self, way: Literal["undo", "redo"], entry: Command | Intent | None) -> Step | None:
        if entry is None:
            return None
        back = way == "undo"
        action = entry.action if isinstance(entry, Command) else entry
        if not isinstance(entry, Command):
            if isinstance(action, Select):
                self.current = action.previous if back else action.label
                self.revision += 1
            return Step(action.plane if isinstance(action, ClickEdit) else None)
        self._set(entry, back)
        patches = tuple(p.inverse() for p in entry.patches) if back else entry.patches
        self._wrote(patches)
        self._tell(way)
        plane = None if isinstance(action, Select) else action.plane
        if plane is None and patches:
            plane = patches[0].plane
        return Step(plane, patches)

    def _wrote(self, patches: Iterable[Patch]) -> None:
        """Keep what was seen in step with what our own patches do to it."""
        for patch in patches:
            if self._seen is None:
                return
            plane, labels = self._seen
            if plane == patch.plane:
                patch.apply(labels)
            elif plane.axes != patch.plane.axes:
                self._seen = None
