"""The evaluations that tables and figures need: those that are there, those that are missing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from napari_fctsfn import __version__
from napari_fctsfn.evaluate import (
    Job,
    ObjectResult,
    load_segmenter,
    protocol_settings,
    read_results,
)
from napari_fctsfn.evaluate.rivals import RIVALS
from napari_fctsfn.models import resolve_model
from napari_fctsfn.predict import Settings
from napari_fctsfn.reproduce.items import Item
from napari_fctsfn.reproduce.published import SetKey
from napari_fctsfn.reproduce.sources import Model, TestSet


@dataclass(frozen=True)
class Wanted:
    """One evaluation: a model on a test set.

    Parameters
    ----------
    network : str
        What the paper calls it.
    model : Model
    test_set : TestSet
    decidability : bool
    """

    network: str
    model: Model
    test_set: TestSet
    decidability: bool


def wanted_by(
    items: Sequence[Item],
    models: dict[str, list[Model]],
    extra: Sequence[str],
    sets: dict[SetKey, TestSet],
) -> list[Wanted]:
    """The evaluations that some items need, each once, in the order of the items.

    Figures 7 and 8 need none: their masks are made when they are drawn.
    """
    found: dict[tuple[str, SetKey], Wanted] = {}
    deep = {name for item in items if item.decidability for name in item.networks}
    for item in items:
        if item.name in ("figure-7", "figure-8"):
            continue
        for name in (*item.networks, *(extra if item.extra else ())):
            for model in models.get(name, []):
                for key, test_set in sets.items():
                    place = (model.name, key)
                    # One network may stand under two names, such as TSLFN and TSLFN_4.
                    index = name in deep or (place in found and found[place].decidability)
                    found[place] = Wanted(name, model, test_set, index)
    return list(found.values())


def deadline_after(minutes: float | None) -> float | None:
    """The monotonic time in so many minutes; None if there is no end."""
    return None if minutes is None else time.monotonic() + 60 * minutes


def is_over(deadline: float | None) -> bool:
    """Whether nothing further is begun."""
    return deadline is not None and time.monotonic() >= deadline


class Runs:
    """Evaluations in a folder, each in one of its own that its settings name.

    Parameters
    ----------
    folder : Path
    max_clicks : int
    device : str
    workers : int
        Processes.
    """

    def __init__(self, folder: Path, max_clicks: int, device: str, workers: int) -> None:
        self.folder, self.max_clicks = folder, max_clicks
        self.device, self.workers = device, workers
        self._sha256: dict[str, str] = {}

    def results(self, model: Model, test_set: TestSet) -> list[ObjectResult] | None:
        """What an evaluation found, if it is complete; with decidability indices if there are."""
        for decidability in (True, False):
            folder = self._folder(model, test_set, decidability)
            if (folder / "summary.json").exists():
                return read_results(folder)[0]
        return None

    def progress(self, model: Model, test_set: TestSet) -> str:
        """Why there is no result."""
        for decidability in (True, False):
            path = self._folder(model, test_set, decidability) / "unfinished.jsonl"
            if path.exists():
                done = max(path.read_bytes().count(b"\n") - 1, 0)
                return f"{done} of {len(test_set.objects)} objects are done"
        return "not run yet"

    def run(self, wanted: Sequence[Wanted], deadline: float | None) -> Iterator[str]:
        """Run what is missing.

        Parameters
        ----------
        wanted : sequence of Wanted
        deadline : float, optional
            As `deadline_after` gives it; no further object is begun after it.

        Yields
        ------
        str
            What was run.
        """
        segmenter, loaded = None, ""
        for want in wanted:
            there = self.results(want.model, want.test_set)
            if there is not None and (there[0].decidability or not want.decidability):
                continue
            if is_over(deadline):
                return
            want.test_set.dataset.check(want.test_set.objects)
            load = partial(load_segmenter, want.model.name, self.device)
            if segmenter is None or loaded != want.model.name:
                segmenter, loaded = load(), want.model.name
            folder = self._folder(want.model, want.test_set, want.decidability)
            yield f"{want.network} on {want.test_set.dataset.name}: {folder}"
            self._job(want.model, want.test_set, want.decidability).run(
                folder,
                segmenter,
                load,
                workers=self.workers,
                told={"model": want.model.name, "model_sha256": segmenter.sha256},
                deadline=deadline,
            )

    def _job(self, model: Model, test_set: TestSet, decidability: bool) -> Job:
        # A rival's mask is its own, whatever the settings.
        plain = Settings()
        settings = plain if model.name in RIVALS else protocol_settings(plain, "fctsfn")
        return Job(
            test_set.dataset,
            test_set.objects,
            settings,
            "fctsfn",
            self.max_clicks,
            decidability=decidability,
            device=self.device,
        )

    def _folder(self, model: Model, test_set: TestSet, decidability: bool) -> Path:
        job = self._job(model, test_set, decidability)
        objects = [(reference.stem, reference.value) for reference in job.objects]
        all_of_it = [job.about(self._digest(model)), objects, __version__]
        text = json.dumps(all_of_it, sort_keys=True)
        name = f"{Path(model.name).stem}-{sha256(text.encode()).hexdigest()[:10]}"
        return self.folder / test_set.key / name

    def _digest(self, model: Model) -> str:
        if model.name not in self._sha256:
            self._sha256[model.name] = (
                load_segmenter(model.name).sha256
                if model.name in RIVALS
                else sha256(resolve_model(model.name).read_bytes()).hexdigest()
            )
        return self._sha256[model.name]
