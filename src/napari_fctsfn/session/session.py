"""The annotator's document: objects, their clicks and masks, and the history of both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.session.annotation import Annotation, Replay, plan
from napari_fctsfn.session.editing import ObjectEditing
from napari_fctsfn.session.history import ClickEdit, Command, Edit, Intent, Refine, Select
from napari_fctsfn.session.ledger import Labels, LabelsOf, SessionError
from napari_fctsfn.session.masks import Box, Mask
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.prompts import DrawnBox
from napari_fctsfn.session.refinement import Refinement

_FEWEST_ALIKE, _MOST_ALIKE = 3, 5
"""So many objects accepted before say how large the next one is likely to be."""


class Session(ObjectEditing):
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
    channels : Channels, optional
        What the network sees of an image with an axis of channels, along which `shape` has one
        place; the range is then 0 to 1.

    Attributes
    ----------
    current : int
        Label of the object being annotated.
    revision : int
        Grows with every change of the objects, of what is said about them, or of `current`.
    journal : callable or None
        Gets every `Entry` as soon as it is done; nothing that still waits for a prediction.
    """

    @property
    def has_slices(self) -> bool:
        """Whether the image is a stack: more than two axes have more than one place."""
        return sum(size > 1 for size in self.shape) > 2

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

    def add_prompt(self, plane: Plane, more: Clicks, box: DrawnBox | None = None) -> None:
        """Ask for several clicks of the current object at once, as one step.

        Parameters
        ----------
        plane : Plane
            The slice.
        more : Clicks
            They follow on those it has.
        box : (float, float, float, float), optional
            A box that they stand for, as `clip_box` gives it: the mask is made anew from there.

        Raises
        ------
        ValueError
            If the slice or a click lies outside the image.
        SessionError
            If the object is protected.
        """
        plane.check_inside(self.shape)
        more.check_inside(plane.shape(self.shape))
        self._check_open([self.current])
        clicks = Clicks((*self.clicks(self.current, plane), *more))
        self.history.ask(ClickEdit(self.current, plane, clicks, box))

    def refine(self, plane: Plane | None, refinement: Refinement) -> None:
        """Make masks in another way from now on, that of the current object in a slice too.

        No difference is no step. A protected object stays as it is.
        """
        if refinement == self.refinement:
            return
        label = self.current
        shown = None if self.note(label).protected else plane
        self.history.ask(Refine(label, shown, self.refinement, refinement))

    def imagine(
        self, plane: Plane, clicks: Clicks | None = None, refinement: Refinement | None = None
    ) -> Replay:
        """What the current object would be in a slice, without asking for it.

        Parameters
        ----------
        plane : Plane
            The slice.
        clicks : Clicks, optional
            In place of those it has.
        refinement : Refinement, optional
            In place of the present one.
        """
        before = self._objects.get(self.current, {}).get(plane)
        empty = Mask.of(np.zeros((0, 0), dtype=bool), plane.shape(self.shape))
        existing = empty if before is None else before.mask
        if clicks is None:
            clicks = Clicks() if before is None else before.clicks
        how = refinement or self.refinement
        return plan(self.current, plane, before, clicks, existing, None, how)

    def next_object(self) -> int:
        """Go on to the next free label and return it.

        Raises
        ------
        SessionError
            If the current object has nothing yet, or no label is left.
        """
        label = self.current
        clicked = any(len(self.clicks(label, plane).positive) for plane in self.planes(label))
        begun = any(
            annotation.given is not None or not annotation.mask.empty
            for annotation in self._objects.get(label, {}).values()
        )
        # what waits for its mask may yet find something
        if not begun and not (clicked and self.busy):
            raise SessionError(
                f"object {label} has no pixels: undo its clicks, or click where no finished object "
                f"is"
                if clicked
                else f"click on object {label} before going on to the next"
            )
        self.select(self._free_label())
        return self.current

    def select(self, label: int) -> None:
        """Go on with another object: its further clicks are clicks of the current object.

        Its masks are made as they were; those of a new object as those of the newest.

        Raises
        ------
        SessionError
            If there can be no such label.
        """
        self._check_label(label)
        if label != self.current:
            after = self._refinement_of(label)
            self.history.ask(Select(self.current, label, self.refinement, after))
            self.current = label
            self.revision += 1

    def _refinement_of(self, label: int) -> Refinement:
        """How masks of an object are made: as they were, those of a new one as the newest's."""
        made = {
            number: annotation.refinement
            for number, planes in self._objects.items()
            for annotation in planes.values()
            if len(annotation.clicks) > annotation.base
        }
        if self._objects.get(label):
            return made.get(label, self.refinement)
        newest = max(made, default=0)
        return made[newest] if newest > self.current else self.refinement

    def job(self, labels_of: LabelsOf) -> Replay | None:
        """The replay to predict next; None if nothing waits.

        Parameters
        ----------
        labels_of : callable
            Gives the labels of a slice, array of int, shape (rows, columns).
        """
        if (waiting := self._waiting()) is None:
            return None
        intent, plane = waiting
        labels = labels_of(plane)
        self._glimpse(plane, labels)
        existing = self._mask(plane, [intent.label], labels)
        before = self._objects.get(intent.label, {}).get(plane)
        if isinstance(intent, ClickEdit):
            clicks, box, how = intent.clicks, intent.box, self._refinement
        else:
            # `_go_on` has left none that remakes nothing
            clicks, box, how = Clicks() if before is None else before.clicks, None, intent.after
        extent = self._usual_extent(intent.label, plane)
        return plan(intent.label, plane, before, clicks, existing, box, how, extent)

    def _waiting(self) -> tuple[ClickEdit | Refine, Plane] | None:
        """The step that waits first for a prediction, and its slice; all before it is done."""
        self._go_on()
        intent = self.history.pending[0] if self.history.pending else None
        if intent is None or isinstance(intent, Select) or intent.plane is None:
            return None
        return intent, intent.plane

    def _usual_extent(self, label: int, plane: Plane) -> float:
        """Median longest side of the objects accepted last, in slices of the same axes.

        0 if there are fewer than three.
        """
        sides: list[int] = []
        for other in sorted(self._objects, reverse=True):
            boxes = [
                annotation.mask.box
                for where, annotation in self._objects[other].items()
                if where.axes == plane.axes and not annotation.mask.empty
            ]
            if other != label and boxes:
                sides.append(max(max(b[2] - b[0], b[3] - b[1]) for b in boxes))
            if len(sides) == _MOST_ALIKE:
                break
        return float(np.median(sides)) if len(sides) >= _FEWEST_ALIKE else 0.0

    def resolve(
        self,
        replay: Replay,
        mask: NDArray[np.bool_] | None,
        labels: Labels,
        model: str,
        within: Box | None = None,
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
        within : (int, int, int, int), optional
            A box outside which the mask is known to be empty; found if it is not given.

        Returns
        -------
        Patch or None
            What to write into the labels; None if no label changes.
        """
        waiting = self._waiting()
        if waiting is None or waiting[1] != replay.plane or self.job(lambda _: labels) != replay:
            return None
        shape = labels.shape[0], labels.shape[1]
        if mask is None:
            mask = np.zeros(shape, dtype=bool) if replay.given is None else replay.given.full()
            within = (0, 0, 0, 0) if replay.given is None else replay.given.box
        own, patch = self._written(replay, mask, labels, within)
        annotation = Annotation(
            replay.clicks,
            own,
            replay.given,
            replay.base,
            model,
            replay.box,
            replay.refinement,
            replay.extent,
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
