"""Propagation from the dock: started, fed to the background, cancelled, written as one step."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning

from napari_fctsfn.plugin.following import Following
from napari_fctsfn.plugin.layers import slider_axis
from napari_fctsfn.session import SessionError
from napari_fctsfn.session.history import Operation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.session import Patch, Plane, Step
    from napari_fctsfn.stack import Direction

_GONE = "Object {} is gone, and so is what was found of it."


class Propagation:
    """Follows the current object through the slices.

    Parameters
    ----------
    bench : Bench

    Attributes
    ----------
    following : Following or None
        An object on its way through the stack.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._looked_at: tuple[int, set[Plane]] = (0, set())
        self._ended: tuple[Following, str] | None = None
        self.following: Following | None = None

    def start(self, direction: Direction) -> None:
        """Follow the current object, until it is done, unsure or cancelled."""
        bench = self._bench
        if (site := bench.sound()) is None or self.following is not None:
            return
        if self._ended is not None:
            show_warning("No propagation: a click still waits for its mask: try again in a moment.")
            return
        plane = bench.source.plane()
        if plane is None:
            show_warning(f"No propagation: {bench.source.why_no_slice()}.")
            return
        bench.observe(site)
        session = site.session
        if session.note(session.current).protected:
            show_warning(
                f"No propagation: object {session.current} is protected: unprotect it to change it."
            )
            return
        axis = slider_axis(bench.viewer, plane, session.shape)
        if axis is None:
            show_warning("No propagation: the image has a single slice.")
            return
        try:
            self.following = Following(site, bench.source, plane, axis, direction)
        except ValueError as error:
            show_warning(f"No propagation: {error}.")
        bench.pump()

    def worst(self) -> None:
        """Go to the slice of the current object whose mask is most in doubt, then to the next."""
        from napari_fctsfn.stack import worst_first

        bench = self._bench
        if (site := bench.sound()) is None:
            return
        plane = bench.source.plane()
        session = site.session
        label = session.current
        if plane is None:
            show_warning(f"No slice to go to: {bench.source.why_no_slice()}.")
            return
        axis = slider_axis(bench.viewer, plane, session.shape)
        planes = session.objects.get(label, {})
        if axis is None or not planes:
            show_warning(f"No slice to go to: object {label} has no masks in a stack yet.")
            return
        along = {
            index: annotation
            for index in range(session.shape[axis])
            if (annotation := planes.get(plane.at(axis, index))) and not annotation.mask.empty
        }
        seen = self._looked_at[1] if self._looked_at[0] == label else set()
        known = {index for index, annotation in along.items() if len(annotation.clicks)}
        within = range(min(along, default=0), max(along, default=-1) + 1)
        known |= {index for index in within if plane.at(axis, index) in seen}
        left = worst_first(along, known)
        if not left:
            self._looked_at = (label, set())
            bench.tell(f"Object {label}: you have looked at every slice without a click.")
            return
        there = plane.at(axis, left[0])
        self._looked_at = (label, seen | {there})
        site.show(there)
        away = min((abs(left[0] - index) for index in known), default=0)
        slices = f"{away} slice{'' if away == 1 else 's'}"
        how = f" is {slices} from any that you clicked in or were shown" if away else ""
        bench.tell(
            f"Object {label}, slice {left[0]}{how}. Click where its mask is wrong; {len(left) - 1} "
            f"more to look at."
        )

    def cancel(self) -> None:
        """End it; what it has found so far stays, as one step."""
        if self.following is not None:
            self._end(self.following, "cancelled")

    def leave(self, labels: Iterable[int]) -> None:
        """End it as `cancel` does if it follows one of some objects, which become others."""
        if self.following is not None and self.following.label in labels:
            self.cancel()

    def lose(self, step: Step | None) -> str:
        """End it without what it has found, where its number may now be another object's.

        Parameters
        ----------
        step : Step or None
            What Undo or Redo did.

        Returns
        -------
        str
            That it ended, in a sentence; empty if it goes on.
        """
        following = self.following if self._ended is None else self._ended[0]
        if following is None:
            return ""
        action = None if step is None else step.action
        operated = isinstance(action, Operation) and (
            action.kind == "renumber" or following.label in action.labels
        )
        gone = following.label not in following.site.session.objects
        if not (operated or gone):
            return ""
        self.following, self._ended = None, None
        if gone:
            return _GONE.format(following.label)
        return "The propagation has ended, and what it found is not kept."

    def forget(self) -> None:
        """End it with the session: what it has found is written at last."""
        following = self.following if self._ended is None else self._ended[0]
        self.following, self._ended = None, None
        if following is None or (site := following.site).problem():
            return
        # the clicks that wait end with the session, too
        while site.session.busy:
            site.session.drop()
        if following.label in site.session.objects and (masks := _found(following)):
            with suppress(SessionError):
                for patch in _propagate(following, masks):
                    site.write(patch)

    def give(self) -> bool:
        """Look at the next slice, or write what was found; return whether there was anything."""
        if self._ended is not None:
            self._write()
            # what is written is a step, after which the background has its next task already
            return self._bench.assistant.busy
        following = self.following
        if following is None:
            return False
        self._bench.assistant.run(
            lambda replayer: following.next(replayer.predictor),
            partial(self._followed, following),
            partial(self._not_followed, following),
        )
        return True

    def _followed(self, following: Following, step: Any) -> None:
        if following is self.following:
            if step is None:
                self._end(following, "")
            else:
                following.take(step)

    def _not_followed(self, following: Following, error: Exception) -> None:
        if following is self.following:
            show_error(f"The propagation ended at an error: {error}")
            self._end(following, "ended at an error")

    def _end(self, following: Following, how: str) -> None:
        """Write what was found, at once or when no click waits any more."""
        self.following, self._ended = None, (following, how)
        self._write()
        if self._ended is not None:
            self._bench.tell(
                f"Object {following.label}: the propagation has ended. What it found comes after "
                f"the click that waits."
            )

    def _write(self) -> None:
        """Write what was found, as one step, and go where it was unsure, unless a click waits."""
        bench = self._bench
        site = bench.sound()  # first, since it may get here itself
        if self._ended is None or site is None or site.session.job(site.labels_of) is not None:
            return
        (following, how), self._ended = self._ended, None
        if following.label not in site.session.objects:
            bench.tell(_GONE.format(following.label))
            return
        masks = _found(following)
        said = f"Object {following.label}: {len(masks)} slices found{', ' + how if how else ''}."
        if masks:
            if not bench.do(lambda _: _propagate(following, masks)):
                bench.tell(f"Object {following.label}: what was found is not kept.")
                return
            # masks that were looked at are found anew, too
            self._looked_at = (0, set())
            said += " Undo takes them back."
        if following.stop is not None:
            site.show(following.stop)
            said += f" It was unsure here ({following.reason}): click, and go on from here."
        elif masks:
            said += " Doubtful slice shows where to look first."
        bench.tell(said)


def _found(following: Following) -> dict[Plane, NDArray[np.bool_]]:
    """The masks found in slices that nobody has clicked or painted in."""
    annotated = following.site.session.objects.get(following.label, {})
    return {
        plane: mask
        for plane, mask in following.masks.items()
        if plane not in annotated or annotated[plane].followed
    }


def _propagate(following: Following, masks: dict[Plane, NDArray[np.bool_]]) -> tuple[Patch, ...]:
    """Make masks those of the object; return what to write."""
    site = following.site
    return site.session.propagate(following.label, masks, site.labels_of, following.model)
