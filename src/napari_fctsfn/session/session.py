"""The annotator's document: objects, their clicks and masks, and the history of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.session.annotation import Annotation, Replay, plan, write
from napari_fctsfn.session.history import (
    BrushEdit,
    ClickEdit,
    Command,
    Edit,
    History,
    Intent,
    NextObject,
)
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane

if TYPE_CHECKING:
    from napari_fctsfn.predict import Normalisation

Labels = NDArray[np.integer[Any]]


class SessionError(ValueError):
    """What was asked for cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an undo or redo asks of whoever holds the labels.

    Parameters
    ----------
    plane : Plane or None
        The slice concerned; None if it concerns none.
    patch : Patch or None
        What to write; None if no label changes.
    """

    plane: Plane | None
    patch: Patch | None


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

    Attributes
    ----------
    current : int
        Label of the object being annotated.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        normalisation: Normalisation,
        highest: int = 0,
        capacity: int = 65535,
    ) -> None:
        self.shape = shape
        self.normalisation = normalisation
        self.capacity = capacity
        self.history = History()
        self._objects: dict[int, dict[Plane, Annotation]] = {}
        self._highest = highest
        self._seen: tuple[Plane, Labels] | None = None
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
        """
        plane.check_inside(self.shape)
        clicks.check_inside(plane.shape(self.shape))
        present = self.clicks(self.current, plane)
        if clicks == present:
            return
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
        label = self._free_label()
        self.history.ask(NextObject(self.current, label))
        self.current = label
        return label

    def undo(self) -> Step | None:
        """Take back the newest step; None if there is none. Predicts nothing."""
        entry = self.history.undo()
        return None if entry is None else self._take(entry, back=True)

    def redo(self) -> Step | None:
        """Do again the step that was undone last; None if there is none."""
        entry = self.history.redo()
        return None if entry is None else self._take(entry, back=False)

    # -- what the labels and the predictions do ------------------------------------------------

    def observe(self, plane: Plane, labels: Labels) -> bool:
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
        bool
            Whether there were such edits.
        """
        before = self._seen
        patch = None
        if before is not None and before[0] == plane and before[1].shape == labels.shape:
            patch = Patch.between(plane, before[1], labels)
        if before is None or before[0] != plane or patch is not None:
            self._seen = plane, labels.copy()
        if patch is None:
            return False
        self._highest = max(self._highest, *patch.labels)
        edits = []
        for label in patch.labels & self._objects.keys():
            old = self._objects[label].get(plane)
            if old is not None:
                mask = Mask.of(labels == label, (labels.shape[0], labels.shape[1]))
                new = Annotation(old.clicks, mask, mask, len(old.clicks), old.model)
                edits.append(Edit(label, plane, old, new))
        self.history.forget_undone()
        self._do(Command(BrushEdit(plane), tuple(edits), patch))
        return True

    def label_in_use(self, label: int) -> None:
        """Note that somebody else uses a label, so that no new object gets it."""
        self._highest = max(self._highest, label)

    def job(self, labels_of: Callable[[Plane], Labels]) -> Replay | None:
        """The replay to predict next; None if nothing waits.

        Parameters
        ----------
        labels_of : callable
            Gives the labels of a slice, array of int, shape (rows, columns).
        """
        pending = self.history.pending
        while pending and isinstance(pending[0], NextObject):
            self.history.add(Command(pending.popleft()))
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
        self._do(Command(intent, (edit,), patch))
        self._wrote(patch)
        return patch

    def drop(self) -> Intent | None:
        """Forget the step that waits first, because it cannot be predicted."""
        return self.history.pending.popleft() if self.history.pending else None

    def restore(self, objects: dict[int, dict[Plane, Annotation]], current: int) -> None:
        """Take over the objects of a re-opened session."""
        self._objects = objects
        self.current = current

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

    def _do(self, command: Command) -> None:
        self._set(command.edits, back=False)
        self.history.add(command)

    def _set(self, edits: tuple[Edit, ...], back: bool) -> None:
        for edit in edits:
            planes = self._objects.setdefault(edit.label, {})
            annotation = edit.before if back else edit.after
            if annotation is None:
                planes.pop(edit.plane, None)
            else:
                planes[edit.plane] = annotation

    def _take(self, entry: Command | Intent, back: bool) -> Step:
        command = entry if isinstance(entry, Command) else Command(entry)
        action = command.action
        if isinstance(action, NextObject):
            self.current = action.previous if back else action.label
            return Step(None, None)
        self._set(command.edits, back)
        patch = command.patch
        if patch is not None and back:
            patch = patch.inverse()
        self._wrote(patch)
        return Step(action.plane, patch)

    def _wrote(self, patch: Patch | None) -> None:
        """Keep what was seen in step with what our own patch does to it."""
        if patch is None or self._seen is None:
            return
        plane, labels = self._seen
        if plane == patch.plane:
            patch.apply(labels)
        elif plane.axes != patch.plane.axes:
            self._seen = None
