"""Models measured on somebody's own objects, in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fctsfn.train.finetune import Measured, Picture


class Trial:
    """Clicks of a simulated user, with one model after the other; once.

    Attributes
    ----------
    done, total : int
        Objects clicked on, with all models together.
    cancelled : bool
        Whether it was ended before all were done.
    """

    def __init__(self) -> None:
        self.done = self.total = 0
        self.cancelled = False
        self._began = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """How long it will probably take; infinite before the first object is done."""
        spent = time.monotonic() - self._began
        return spent / self.done * (self.total - self.done) if self.done else float("inf")

    def cancel(self) -> None:
        """End after the object under way; models that are measured by then are told."""
        self.cancelled = True

    def measure(
        self, names: Sequence[str], read: Callable[[], list[Picture]], most: int
    ) -> dict[str, Measured]:
        """Measure models on the same objects.

        Parameters
        ----------
        names : sequence of str
            Of models in the registry.
        read : callable
            Gives the pictures.
        most : int
            Objects at most, drawn with seed 0.

        Returns
        -------
        dict of str to Measured
            By name; without those that were not begun or ended early.

        Raises
        ------
        InputError
            If there is no object, or a model or picture cannot be read.
        """
        from napari_fctsfn.models import resolve_model
        from napari_fctsfn.predict import Predictor
        from napari_fctsfn.train.finetune import measure, usable
        from napari_fctsfn.train.finetune.split import Item

        pictures, _ = usable(read())
        every = [Item(n, value) for n, p in enumerate(pictures) for value in p.objects]
        chosen = sorted(np.random.default_rng(0).permutation(len(every))[:most].tolist())
        items = [every[number] for number in chosen]
        self.total, self._began = len(items) * len(names), time.monotonic()
        found: dict[str, Measured] = {}
        for number, name in enumerate(names):
            predictor = Predictor.from_pretrained(resolve_model(name))
            begun = number * len(items)
            self.done = begun
            measured = measure(predictor, pictures, items, self._proceed)
            if measured is None:
                break
            self.done = begun + len(items)
            found[name] = measured
        return found

    def _proceed(self) -> bool:
        """Asked before each object."""
        self.done += 1
        return not self.cancelled
