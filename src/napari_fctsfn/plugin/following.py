"""Propagation in the dock: an object followed through its stack, a slice at a time."""

from __future__ import annotations

import time
from collections import Counter
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
    from napari_fctsfn.stack import Direction, Look, Step


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
    site : Site
        The annotation.
    label : int
        The object.
    model : str
        SHA-256 of the model file; empty before the first slice.
    masks : dict of Plane to array of bool
        What has been found so far.
    total : int
        How many slices there may be.
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
        self.site, self._slice = site, source.slices(session.normalisation)
        self.label, self.model = session.current, ""
        self.masks: dict[Plane, NDArray[np.bool_]] = {}
        self.stop: Plane | None = None
        self.reason = ""
        self._plane, self._axis, self._direction = plane, axis, direction
        self._length = session.shape[axis]
        self._began = time.monotonic()
        self._steps: Iterator[Look | Step] | None = None
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
        self.total = self._count(direction)
        if not self.total:
            raise ValueError(f"there is no slice to go to {direction} from here")
        # slices between two that are known are looked at from both
        self._looked: Counter[int] = Counter()
        self._twice = range(0)
        self._looks = self.total
        if direction in ("both", "between"):
            self._twice = range(min(self.known), max(self.known))
            self._looks += self._count("between")

    @property
    def done(self) -> int:
        """How many slices have been looked at; a look from one of two sides is half a slice."""
        return int(sum(looks / self._worth(index) for index, looks in self._looked.items()))

    @property
    def seconds_left(self) -> float:
        """How long it will probably take; infinite before the first look at a slice."""
        spent, looked = time.monotonic() - self._began, self._looked.total()
        return spent / looked * (self._looks - looked) if looked else float("inf")

    def next(self, predictor: Predictor) -> Look | Step | None:
        """Look at the next slice; None if there is none. Runs in the background."""
        if self._steps is None:
            self._steps = self._begin(predictor)
        return next(self._steps, None)

    def take(self, step: Look | Step) -> None:
        """Keep what came of a slice, if it is known yet."""
        from napari_fctsfn.stack import Look

        if isinstance(step, Look):
            self._looked[step.index] += 1
            return
        # neither side need have reached it
        self._looked[step.index] = self._worth(step.index)
        plane = self._at(step.index)
        if step.mask is not None:
            self.masks[plane] = step.mask
        elif self.stop is None:
            self.stop, self.reason = plane, step.reason

    def _begin(self, predictor: Predictor) -> Iterator[Look | Step]:
        from napari_fctsfn.stack import Stack, stretches

        self.model = predictor.sha256
        normalisation = self.site.session.normalisation

        def read(index: int) -> Any:
            return self._slice(self._at(index)).read()

        def key(index: int) -> Any:
            return self._slice(self._at(index)).key

        stack = Stack(predictor, read, normalisation, key)
        others = partial(_others, self.site, self.label)
        ways = stretches(
            stack, self.known, self._length, self._direction, lambda z: others(self._at(z))
        )
        return chain.from_iterable(ways)

    def _count(self, direction: Direction) -> int:
        from napari_fctsfn.stack import count

        return count({self.label: sorted(self.known)}, self._length, direction)

    def _worth(self, index: int) -> int:
        """How many looks a slice takes."""
        return 2 if index in self._twice else 1

    def _at(self, index: int) -> Plane:
        """The slice at a place of the axis."""
        return self._plane.at(self._axis, index)


def _others(site: Site, label: int, plane: Plane) -> NDArray[np.integer]:
    """Labels of all other objects in a slice."""
    labels = site.labels_of(plane)
    return np.where(labels == label, 0, labels)
