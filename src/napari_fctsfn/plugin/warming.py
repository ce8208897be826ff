"""What the first click in a slice needs, computed ahead of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error

from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.background import single_shot

if TYPE_CHECKING:
    from napari_fctsfn.plugin.bench import Bench

_SETTLE_MS = 150
"""A slice is warmed up once the sliders have rested for so long."""


class Warming:
    """Warms up the slice that is shown.

    Parameters
    ----------
    bench : Bench
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._warmed: object = None
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
        """Warm up the slice that is shown; return whether that is yet to be done."""
        bench = self._bench
        plane = bench.source.plane()
        if plane is None or self.waits:
            return False
        session = bench.session
        normalisation = bench.source.normalisation() if session is None else session.normalisation
        piece = bench.source.slice(plane, normalisation)
        wanted = (piece.key, normalisation, bench.assistant.replayer)
        if wanted == self._warmed:
            return False
        self._warmed = wanted
        bench.assistant.run(partial(tasks.warm_up, piece=piece), _nothing, _not_warm)
        return True


def _nothing(_value: object) -> None:
    """A slice is warmed up: the assistant says that it is free."""


def _not_warm(error: Exception) -> None:
    show_error(f"The slice that is shown cannot be prepared: {error}")
