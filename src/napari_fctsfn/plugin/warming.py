"""What the first click in a slice needs, computed ahead of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.background import Background, single_shot

if TYPE_CHECKING:
    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.session import Plane

_SETTLE_MS = 150
"""A slice is warmed up once the sliders have rested for so long."""

_REST_MS = 300
"""Its neighbours follow once they have rested for so long."""


class Warming:
    """Warms up the slice that is shown, and then its neighbours.

    Whatever is clicked goes first. A neighbour is read in a thread of its own, since reading a lazy
    image may take long, and only then computed, which takes some tens of milliseconds: a click
    waits no longer than that. Both are dropped when the sliders move on.

    Parameters
    ----------
    bench : Bench
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._warmed: object = None
        self._settle = single_shot(bench, _SETTLE_MS, bench.pump)
        self._rest = single_shot(bench, _REST_MS, self._look_ahead)
        self._reader = Background(bench)
        self._ahead: list[Plane] = []
        self._read: tuple[tasks.Slice, Any] | None = None

    @property
    def waits(self) -> bool:
        """Whether the sliders have moved a moment ago, or neighbours are still to come."""
        timers = self._settle.isActive() or self._rest.isActive()
        return timers or self._reader.busy or self._read is not None

    def later(self) -> None:
        """Look again at what is shown, once the sliders rest."""
        self._ahead, self._read = [], None
        self._reader.forget()
        self._settle.start()
        plane = self._bench.source.plane()
        if plane is not None and self._bench.source.neighbours(plane):
            self._rest.start()

    def stop(self) -> None:
        """Look no more."""
        self._ahead, self._read = [], None
        self._reader.forget()
        self._settle.stop()
        self._rest.stop()

    def give(self) -> bool:
        """Warm up the slice that is shown, or a neighbour; return whether there is one."""
        bench = self._bench
        plane = bench.source.plane()
        if plane is None or self._settle.isActive():
            return False
        piece = self._piece(plane)
        wanted = (piece.key, piece.normalisation, bench.assistant.replayer)
        if wanted != self._warmed:
            self._warmed = wanted
            bench.assistant.run(partial(tasks.warm_up, piece=piece), _nothing, _not_warm)
            return True
        if self._read is not None:
            (piece, pixels), self._read = self._read, None
            task = partial(tasks.warm_up_pixels, piece=piece, pixels=pixels)
            bench.assistant.run(task, _nothing, _nothing)
            return True
        if self._ahead and not self._reader.busy:
            piece = self._piece(self._ahead.pop(0))
            task = partial(tasks.read_ahead, piece)
            self._reader.run(task, partial(self._on_read, piece), _nothing)
        return False

    def _piece(self, plane: Plane) -> tasks.Slice:
        bench, session = self._bench, self._bench.session
        normalisation = bench.source.normalisation() if session is None else session.normalisation
        return bench.source.slice(plane, normalisation)

    def _look_ahead(self) -> None:
        plane = self._bench.source.plane()
        self._ahead = [] if plane is None else self._bench.source.neighbours(plane)
        self._bench.pump()

    def _on_read(self, piece: tasks.Slice, pixels: Any) -> None:
        self._read = None if pixels is None else (piece, pixels)
        self._bench.pump()


def _nothing(_value: object) -> None:
    """Warmed up, or not: a neighbour that cannot be read is told of when it is shown."""


def _not_warm(error: Exception) -> None:
    show_error(f"The slice that is shown cannot be prepared: {error}")
