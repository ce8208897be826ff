"""A click that the mouse drags or rests on: what the mask would be, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from napari.layers import Points

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.plugin.background import single_shot

if TYPE_CHECKING:
    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.plugin.looking import Looking

_REST_MS = 300
"""The mouse has rested on a click once it has been there for so long."""


class Pointing:
    """Follows the mouse over the prompt layers of a site.

    A click that has just been made is under the mouse by itself: it is looked at only after the
    mouse has been elsewhere.

    Parameters
    ----------
    bench : Bench
    looking : Looking
        Shows what would be.
    """

    def __init__(self, bench: Bench, looking: Looking) -> None:
        self._bench, self._looking = bench, looking
        self._under: tuple[Points, int] | None = None
        self._away = False
        self._rest = single_shot(bench, _REST_MS, self._on_rest)

    @property
    def waits(self) -> bool:
        """Whether the mouse has come to a click a moment ago."""
        return self._rest.isActive()

    def begin(self) -> None:
        """Follow the mouse."""
        for layer in self._layers():
            layer.mouse_move_callbacks.append(self._on_move)
            layer.mouse_drag_callbacks.append(self._on_drag)

    def end(self) -> None:
        """Follow it no more."""
        self._rest.stop()
        for layer in self._layers():
            layer.mouse_move_callbacks.remove(self._on_move)
            layer.mouse_drag_callbacks.remove(self._on_drag)

    def leave(self) -> None:
        """The clicks are others now: forget what was pointed at."""
        self._under, self._away = None, False
        self._rest.stop()
        self._looking.forget()

    def _layers(self) -> tuple[Points, ...]:
        return () if self._bench.site is None else self._bench.site.prompts.layers

    def _on_move(self, layer: Points, event: Any) -> None:
        index = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        if index is None:
            self.leave()
            self._away = True
        elif self._away and (layer, index) != self._under:
            self._under = layer, index
            self._rest.start()

    def _on_rest(self) -> None:
        bench, under = self._bench, self._under
        plane = bench.source.plane()
        if bench.site is None or under is None or plane is None or bench.site.session.busy:
            return
        prompts = bench.site.prompts
        left, all_ = prompts.read(under).get(plane, Clicks()), prompts.read().get(plane)
        if all_ is not None and len(left) < len(all_):
            self._looking.imagine("without", plane, left)

    def _on_drag(self, layer: Points, event: Any) -> Iterator[None]:
        self.leave()
        yield
        while event.type == "mouse_move":
            self._drag(layer)
            yield
        self._looking.forget()

    def _drag(self, layer: Points) -> None:
        """Show the mask with a click where it is now, on its way."""
        bench, plane = self._bench, self._bench.source.plane()
        if bench.site is None or plane is None or layer.mode != "select":
            return
        session = bench.site.session
        clicks, known = bench.site.prompts.read().get(plane), session.clicks(session.current, plane)
        if clicks is None or len(clicks) != len(known) or clicks == known:
            return
        try:
            clicks.check_inside(plane.shape(session.shape))
        except ValueError:
            self._looking.forget()
        else:
            self._looking.imagine("drag", plane, clicks)
