"""Clicks become masks: what the session waits for, predicted in the background."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error

from napari_fctsfn.plugin import tasks

if TYPE_CHECKING:
    from napari_fctsfn.plugin.bench import Bench
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.session import Replay


class Predicting:
    """Predicts the steps that wait, in their order.

    Parameters
    ----------
    bench : Bench
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def give(self) -> bool:
        """Predict the step that waits first; return whether there is one."""
        bench, site = self._bench, self._bench.site
        if site is None or not site.session.busy:
            return False
        bench.observe(site)
        if (replay := site.session.job(site.labels_of)) is None:
            return False
        piece = bench.source.slice(replay.plane, site.session.normalisation)
        bench.assistant.run(
            partial(tasks.predict, piece=piece, replay=replay),
            partial(self._predicted, site),
            partial(self._not_predicted, site, replay),
        )
        return True

    def _predicted(self, site: Site, answer: tasks.Answer) -> None:
        if site is self._bench.sound():
            self._bench.observe(site)
            labels = site.labels_of(answer.replay.plane)
            patch = site.session.resolve(
                answer.replay, answer.mask, labels, answer.model, answer.box
            )
            if patch is not None:
                site.write(patch)
            self._bench.last = answer

    def _not_predicted(self, site: Site, replay: Replay, error: Exception) -> None:
        show_error(f"The last click was taken back, because no mask could be predicted: {error}")
        if site is self._bench.sound() and site.session.job(site.labels_of) == replay:
            site.session.drop()
            site.show_object()
