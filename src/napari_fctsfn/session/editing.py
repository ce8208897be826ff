"""What is done to whole objects and needs no prediction: each is one step of the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.session.annotation import Annotation, Note, Replay
from napari_fctsfn.session.history import Edit, NoteEdit
from napari_fctsfn.session.ledger import LabelsOf, Ledger, SessionError
from napari_fctsfn.session.masks import Mask, part_of
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.refinement import Refinement


class ObjectEditing(Ledger):
    """The part of `Session` that edits objects as wholes."""

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
            mask = self._mask(plane, [into, *gone], labels)
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
        if self.current not in {*present, *others}:
            # it has nothing yet, and its number may now be that of another one
            current = next(free, current)
        if not (edits or notes) and current == self.current:
            return ()
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
            What to write. Pixels that the object has in slices along other axes, in which somebody
            has clicked or painted, stay as they are.

        Raises
        ------
        SessionError
            If the object is protected, or a click still waits for its mask.
        """
        self._check_open([label])
        self._check_settled()
        known = self._objects.get(label, {})
        sections = [plane for plane, annotation in known.items() if not annotation.followed]
        edits, patches = [], []
        for plane, found in masks.items():
            mask = found.copy()
            for section in sections:
                if section.axes != plane.axes and (line := plane.crossing(section)) is not None:
                    mask[line] = labels_of(plane)[line] == label
            own, patch = self._placed(label, plane, mask, labels_of, Clicks())
            before = known.get(plane)
            clicks = Clicks() if before is None else before.clicks
            after = Annotation(clicks, own, own, len(clicks), model, followed=not clicks)
            edits.append(Edit(label, plane, before, after))
            patches += patch
        return self._operate("propagate", [label], edits, patches=tuple(patches))

    def adopt(
        self, label: int, masks: Mapping[Plane, NDArray[np.bool_]], labels_of: LabelsOf
    ) -> tuple[Patch, ...]:
        """Make masks that came from elsewhere an object, and go on with it.

        Its clicks start from these masks, which were drawn with care: a click changes them only
        where the change hangs together with it.

        Parameters
        ----------
        label : int
            The number of the object, which the session does not know yet. The labels may hold it
            already.
        masks : mapping of Plane to array of bool, shape (rows, columns)
            Pixels of other objects stay theirs.
        labels_of : callable

        Returns
        -------
        tuple of Patch
            What to write.

        Raises
        ------
        SessionError
            If there can be no such label, the session knows the object already, nothing is left of
            the masks, or a click still waits for its mask.
        """
        self._check_label(label)
        self._check_settled()
        if self._objects.get(label):
            raise SessionError(f"object {label} is one of this session already: take it up")
        edits, patches = [], []
        for plane, mask in masks.items():
            own, patch = self._placed(label, plane, mask, labels_of, Clicks())
            if not own.empty:
                edits.append(Edit(label, plane, None, Annotation(Clicks(), own, own)))
                patches += patch
        if not edits:
            raise SessionError("all pixels of that mask belong to objects of this session")
        self.label_in_use(label)
        return self._operate("adopt", [label], edits, patches=tuple(patches), current=label)

    def accept(
        self,
        plane: Plane,
        found: Iterable[tuple[Click, NDArray[np.bool_]]],
        labels_of: LabelsOf,
        model: str,
        extent: float,
        refinement: Refinement,
    ) -> tuple[Patch, ...]:
        """Make objects of what was found by one click each, as one step.

        A class that all objects of the slice have is theirs too.

        Parameters
        ----------
        plane : Plane
        found : iterable of (Click, array of bool, shape (rows, columns))
            Masks without a pixel in common; pixels of other objects stay theirs, and what they
            leave nothing of becomes none.
        labels_of : callable
        model : str
            SHA-256 of the model file.
        extent : float
            Longest side of objects like these, which the first look at each was told.
        refinement : Refinement
            How the masks were made.

        Returns
        -------
        tuple of Patch
            What to write.

        Raises
        ------
        SessionError
            If a click still waits for its mask, or there is no free label.
        InputError
            If a click lies outside the slice.
        """
        self._check_settled()
        edits, patches = [], []
        label = self._free_label()
        for click, mask in found:
            clicks = Clicks([click])
            clicks.check_inside(plane.shape(self.shape))
            self._check_label(label)
            own, patch = self._placed(label, plane, mask, labels_of, clicks)
            if own.empty:
                continue
            after = Annotation(clicks, own, model=model, refinement=refinement, extent=extent)
            edits.append(Edit(label, plane, None, after))
            patches += patch
            label += 1
        numbers = [edit.label for edit in edits]
        if not numbers:
            return ()
        classes = {self.note(n).category for n, planes in self.objects.items() if plane in planes}
        before = {number: self.note(number) for number in numbers}
        notes = [
            NoteEdit(number, note, replace(note, category=category))
            for category in (classes if len(classes) == 1 else ())
            for number, note in before.items()
            if category not in ("", note.category)
        ]
        self.label_in_use(max(numbers))
        return self._operate("accept", numbers, edits, notes, tuple(patches))

    def _placed(
        self,
        label: int,
        plane: Plane,
        mask: NDArray[np.bool_],
        labels_of: LabelsOf,
        clicks: Clicks,
    ) -> tuple[Mask, list[Patch]]:
        """What an object has in a slice once its pixels are those of a mask; how to get there."""
        labels = labels_of(plane)
        self._glimpse(plane, labels)
        replay = Replay(label, plane, clicks, None, 0, refinement=self.refinement)
        own, patch = self._written(replay, mask, labels)
        return own, [] if patch is None else [patch]

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
            self._glimpse(plane, labels)
            box = self._where(plane, numbers)
            part = part_of(labels, box)
            after = part.copy()
            for old, new in numbers.items():
                after[part == old] = new
            shape = plane.shape(self.shape)
            if (patch := Patch.between(plane, part, after, box[:2], shape)) is not None:
                patches.append(patch)
        return tuple(patches)
