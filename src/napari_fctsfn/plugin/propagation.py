"""Propagation from the dock: started, fed to the background, cancelled, written as one step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning

from napari_fctsfn.plugin.following import Following
from napari_fctsfn.plugin.layers import slider_axis

if TYPE_CHECKING:
    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.session import Plane
    from napari_fctsfn.stack import Direction


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
        self.following: Following | None = None

    def start(self, direction: Direction) -> None:
        """Follow the current object, until it is done, unsure or cancelled."""
        bench = self._bench
        if (site := bench.sound()) is None or self.following is not None:
            return
        plane = bench.source.plane()
        if plane is None:
            show_warning(f"No propagation: {bench.source.why_no_slice()}.")
            return
        bench.observe(site)
        axis = slider_axis(bench.viewer, plane, site.session.shape)
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
        clicked = {index for index, annotation in along.items() if len(annotation.clicks)}
        queue = [plane.at(axis, index) for index in worst_first(along, clicked)]
        seen = self._looked_at[1] if self._looked_at[0] == label else set()
        left = [each for each in queue if each not in seen]
        if not left:
            self._looked_at = (label, set())
            bench.tell(f"Object {label}: you have looked at every slice without a click.")
            return
        self._looked_at = (label, seen | {left[0]})
        site.show(left[0])
        bench.tell(
            f"Object {label}, slice {left[0].index[axis]}: of those left the farthest from your "
            f"clicks. Click where its mask is wrong; {len(left) - 1} more to look at."
        )

    def cancel(self) -> None:
        """End it; what it has found so far stays, as one step."""
        if self.following is not None:
            self._end(self.following, "cancelled")

    def forget(self) -> None:
        """End it and drop what it has found."""
        self.following = None

    def give(self) -> bool:
        """Do the next slice; return whether there is one."""
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
        show_error(f"The propagation ended at an error: {error}")
        if following is self.following:
            self._end(following, "ended at an error")

    def _end(self, following: Following, how: str) -> None:
        """Write what was found, as one step, and go where it was unsure."""
        bench = self._bench
        self.following = None
        if (site := bench.sound()) is None or bench.assistant.replayer is None:
            return
        annotated = site.session.objects.get(following.label, {})
        masks = {
            plane: mask
            for plane, mask in following.masks.items()
            if plane not in annotated or annotated[plane].followed
        }
        sha256 = bench.assistant.replayer.predictor.sha256
        bench.do(lambda s: s.session.propagate(following.label, masks, s.labels_of, sha256))
        found = f"Object {following.label}: {len(masks)} slices found"
        said = f"{found}{', ' + how if how else ''}. Undo takes them back."
        if following.stop is not None:
            site.show(following.stop)
            said += f" It was unsure here ({following.reason}): click, and go on from here."
        elif masks:
            said += " Doubtful slice shows where to look first."
        bench.tell(said)
