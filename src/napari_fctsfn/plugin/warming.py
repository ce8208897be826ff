"""What the first click in a slice needs, computed ahead of it: here, then in the neighbours."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.background import single_shot

if TYPE_CHECKING:
    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.session import Plane

_SETTLE_MS = 150
"""A slice is warmed up once the sliders have rested for so long."""

_REMEMBERED = 12
"""So many slices are taken for warm; the predictor keeps the features of more."""


class Warming:
    """Warms up the slice that is shown, and then the one after it and the one before.

    Parameters
    ----------
    bench : Bench
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._warmed: deque[object] = deque(maxlen=_REMEMBERED)
        self._settle = single_shot(bench, _SETTLE_MS, bench.pump)

    @property
    def waits(self) -> bool:
        """Whether the sliders have moved a moment ago."""
        return self._settle.isActive()

    def later(self) -> None:
        """Look again at what is shown, once the sliders rest."""
        self._settle.start()

    def stop(self) -> None:
        """Look no more."""
        self._settle.stop()

    def give(self) -> bool:
        """Warm up the slice that is shown or a neighbour; return whether there is one to do."""
        bench = self._bench
        plane = bench.source.plane()
        if plane is None or self.waits:
            return False
        session = bench.session
        normalisation = bench.source.normalisation() if session is None else session.normalisation
        for each in (plane, *self._neighbours(plane)):
            piece = bench.source.slice(each, normalisation)
            wanted = (piece.key, normalisation, bench.assistant.replayer)
            if wanted not in self._warmed:
                self._warmed.append(wanted)
                bench.assistant.run(partial(tasks.warm_up, piece=piece), _nothing, _not_warm)
                return True
        return False

    def _neighbours(self, plane: Plane) -> list[Plane]:
        """The next and the previous slice along the slider that was moved last."""
        dims, shape = self._bench.viewer.dims, self._bench.source.shape
        axis = dims.last_used - (dims.ndim - len(plane.index))
        place = plane.index[axis] if 0 <= axis < len(plane.index) else None
        if place is None:
            return []
        return [plane.at(axis, n) for n in (place + 1, place - 1) if 0 <= n < shape[axis]]


def _nothing(_value: object) -> None:
    """A slice is warmed up: the assistant says that it is free."""


def _not_warm(error: Exception) -> None:
    show_error(f"The slice that is shown cannot be prepared: {error}")
