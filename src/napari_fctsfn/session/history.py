"""What the annotator did, in order: done, asked for, and taken back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.session.annotation import Annotation, Note
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.prompts import DrawnBox
from napari_fctsfn.session.refinement import Refinement


@dataclass(frozen=True, slots=True)
class ClickEdit:
    """The clicks of an object in a slice become others; with a box its mask is made from there."""

    label: int
    plane: Plane
    clicks: Clicks
    box: DrawnBox | None = None


@dataclass(frozen=True, slots=True)
class Refine:
    """Masks are made in another way from now on, that of the object in the slice too."""

    label: int
    plane: Plane | None
    before: Refinement
    after: Refinement


@dataclass(frozen=True, slots=True)
class Select:
    """The annotator goes on to another object, new or finished before, and to its refinement."""

    previous: int
    label: int
    before: Refinement
    after: Refinement


OperationKind = Literal[
    "brush", "delete", "merge", "renumber", "describe", "propagate", "adopt", "accept"
]


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that needs no prediction.

    Parameters
    ----------
    kind : {"brush", "delete", "merge", "renumber", "describe", "propagate", "adopt", "accept"}
    labels : tuple of int
        The objects concerned.
    plane : Plane or None
        The slice, where it is one.
    """

    kind: OperationKind
    labels: tuple[int, ...]
    plane: Plane | None = None


Intent = ClickEdit | Refine | Select
"""What the annotator asked for and what may wait for a prediction."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An object's annotation in a slice before and after a command; None: there is none."""

    label: int
    plane: Plane
    before: Annotation | None
    after: Annotation | None


@dataclass(frozen=True, slots=True)
class NoteEdit:
    """What is said about an object before and after a command."""

    label: int
    before: Note
    after: Note


@dataclass(frozen=True, slots=True)
class Command:
    """Something that was done, with all that is needed to take it back without predicting.

    Parameters
    ----------
    action : ClickEdit, Refine, Select or Operation
        What the annotator wanted.
    edits : tuple of Edit
    notes : tuple of NoteEdit
    patches : tuple of Patch
        What it wrote into the labels, each slice at most once.
    current : (int, int) or None
        The object at work before and after; None if it stays.
    time : float
        When it was done, in seconds since 1970.
    """

    action: ClickEdit | Refine | Select | Operation
    edits: tuple[Edit, ...] = ()
    notes: tuple[NoteEdit, ...] = ()
    patches: tuple[Patch, ...] = ()
    current: tuple[int, int] | None = None
    time: float = 0.0

    @property
    def nbytes(self) -> int:
        """Roughly the bytes it takes."""
        return (
            500
            + sum(patch.nbytes for patch in self.patches)
            + sum(edit.after.nbytes for edit in self.edits if edit.after is not None)
        )


@dataclass(slots=True)
class History:
    """One line of commands: those done, then those waiting for a prediction, then those undone.

    Parameters
    ----------
    max_bytes : int
        Memory for what is done; beyond it the oldest commands can no longer be undone.
    """

    max_bytes: int = 256 << 20
    pending: deque[Intent] = field(default_factory=deque)
    _done: deque[Command] = field(default_factory=deque)
    _undone: list[Command | Intent] = field(default_factory=list)
    _bytes: int = 0

    def __iter__(self) -> Iterator[Command]:
        return iter(self._done)

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self.pending or self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return bool(self._undone)

    @property
    def newest(self) -> Command | Intent | None:
        """What `undo` would take back; None if there is nothing."""
        return next((entries[-1] for entries in (self.pending, self._done) if entries), None)

    def ask(self, intent: Intent) -> None:
        """Append what the annotator asked for; what was undone before is gone."""
        self._undone.clear()
        self.pending.append(intent)

    def add(self, command: Command) -> None:
        """Append a command behind those done and before those that wait."""
        self._done.append(command)
        self._bytes += command.nbytes
        while self._bytes > self.max_bytes and len(self._done) > 1:
            self._bytes -= self._done.popleft().nbytes

    def forget_undone(self) -> None:
        """Make redo impossible: the labels are no longer those it would start from."""
        self._undone.clear()

    def undo(self) -> Command | Intent | None:
        """Take back the newest entry and hand it over; one that waits first; None if empty."""
        entry: Command | Intent
        if self.pending:
            entry = self.pending.pop()
        elif self._done:
            entry = self._done.pop()
            self._bytes -= entry.nbytes
        else:
            return None
        self._undone.append(entry)
        return entry

    def take_back(self) -> Command | None:
        """Hand over the newest command that is done, and forget it and what was undone."""
        self._undone.clear()
        if not self._done:
            return None
        command = self._done.pop()
        self._bytes -= command.nbytes
        return command

    def redo(self) -> Command | Intent | None:
        """Do the entry that was undone last again and hand it over; None if there is none."""
        if not self._undone:
            return None
        entry = self._undone.pop()
        if isinstance(entry, Command):
            self.add(entry)
        else:
            self.pending.append(entry)
        return entry
