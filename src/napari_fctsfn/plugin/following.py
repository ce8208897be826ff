"""Propagation in the dock: an object followed through its stack, a slice at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.session import Plane

if TYPE_CHECKING:
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.plugin.source import ImageSource
    from napari_fctsfn.predict import Predictor
    from napari_fctsfn.stack import Direction, Step


class Following:
    """One object on its way through a stack.

    Parameters
    ----------
    site : Site
        The annotation.
    source : ImageSource
        The image.
    plane : Plane
        The slice that is shown; the others lie along `axis`.
    axis : int
        The axis to go along.
    direction : {"up", "down", "both", "between"}

    Attributes
    ----------
    label : int
        The object.
    masks : dict of Plane to array of bool
        What has been found so far.
    done, total : int
        Slices looked at, and how many there may be.
    stop : Plane or None
        Where it was unsure first, and `reason` why.

    Raises
    ------
    ValueError
        If the object is in none of the slices yet, or there is no other slice to go to.
    """

    def __init__(
        self, site: Site, source: ImageSource, plane: Plane, axis: int, direction: Direction
    ) -> None:
        session = site.session
        self.label = session.current
        self.masks: dict[Plane, NDArray[np.bool_]] = {}
        self.done = 0
        self.stop: Plane | None = None
        self.reason = ""
        self._site, self._source = site, source
        self._plane, self._axis, self._direction = plane, axis, direction
        self._length = session.shape[axis]
        self._began = time.monotonic()
        self._steps: Iterator[Step] | None = None
        along = {
            index: annotation
            for index in range(self._length)
            if (annotation := session.objects.get(self.label, {}).get(self._at(index)))
            and not annotation.mask.empty
        }
        # what was only propagated is found again, from what somebody has corrected meanwhile
        certain = {index for index, annotation in along.items() if not annotation.followed}
        self.known = {index: along[index].mask.full() for index in certain or along}
        if not self.known:
            raise ValueError(f"object {self.label} has no mask yet: click on it in a slice first")
        self.total = self._count()
        if not self.total:
            raise ValueError(f"there is no slice to go to {direction} from here")

    @property
    def seconds_left(self) -> float:
        """How long it will probably take; infinite before the first slice is done."""
        spent = time.monotonic() - self._began
        return spent / self.done * (self.total - self.done) if self.done else float("inf")

    def next(self, predictor: Predictor) -> Step | None:
        """Do the next slice; None if there is none. Runs in the background."""
        if self._steps is None:
            self._steps = self._begin(predictor)
        return next(self._steps, None)

    def take(self, step: Step) -> None:
        """Keep what came of a slice."""
        self.done += 1
        plane = self._at(step.index)
        if step.mask is not None:
            self.masks[plane] = step.mask
        elif self.stop is None:
            self.stop, self.reason = plane, step.reason

    def _begin(self, predictor: Predictor) -> Iterator[Step]:
        from napari_fctsfn.stack import Stack, stretches

        normalisation = self._site.session.normalisation

        def read(index: int) -> Any:
            return self._source.slice(self._at(index), normalisation).read()

        def key(index: int) -> Any:
            return self._source.slice(self._at(index), normalisation).key

        stack = Stack(predictor, read, normalisation, key)
        others = partial(_others, self._site, self.label)
        ways = stretches(
            stack, self.known, self._length, self._direction, lambda z: others(self._at(z))
        )
        return chain.from_iterable(ways)

    def _count(self) -> int:
        from napari_fctsfn.stack import count

        return count({self.label: sorted(self.known)}, self._length, self._direction)

    def _at(self, index: int) -> Plane:
        """The slice at a place of the axis."""
        return self._plane.at(self._axis, index)


def _others(site: Site, label: int, plane: Plane) -> NDArray[np.integer]:
    """Labels of all other objects in a slice."""
    labels = site.labels_of(plane)
    return np.where(labels == label, 0, labels)
