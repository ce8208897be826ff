"""One evaluation from its first object to its results in a folder, interrupted or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from napari_fctsfn.clicks.simulate import Protocol
from napari_fctsfn.evaluate.compare import Comparison
from napari_fctsfn.evaluate.objectset import ObjectReference, ObjectSet
from napari_fctsfn.evaluate.parallel import evaluate_here, evaluate_in_processes
from napari_fctsfn.evaluate.progress import Progress, ProgressError
from napari_fctsfn.evaluate.results import (
    ObjectResult,
    ResultsError,
    read_results,
    summarise,
    write_results,
)
from napari_fctsfn.evaluate.runner import evaluate_objects
from napari_fctsfn.evaluate.segmenter import Segmenter
from napari_fctsfn.predict import Settings


@dataclass(frozen=True)
class Job:
    """What is clicked on, by which user, with which settings.

    Parameters
    ----------
    dataset : ObjectSet
    objects : sequence of ObjectReference
    settings : Settings
    protocol, max_clicks, jitter, seed, decidability
        As in `evaluate_objects`.
    device : str
        Where a model computes.
    """

    dataset: ObjectSet
    objects: Sequence[ObjectReference]
    settings: Settings
    protocol: Protocol
    max_clicks: int = 20
    jitter: float = 0.0
    seed: int = 0
    decidability: bool = False
    device: str = "auto"

    @property
    def user(self) -> dict[str, Any]:
        """What the simulated user does."""
        return {"protocol": self.protocol, "max_clicks": self.max_clicks, "jitter": self.jitter}

    def about(self, sha256: str) -> dict[str, Any]:
        """Everything but the objects that the results of a segmenter depend on."""
        return {
            **self.user,
            "seed": self.seed,
            "model_sha256": sha256,
            "settings": asdict(self.settings),
            "dataset": self.dataset.name,
            "decidability": self.decidability,
            "device": self.device,
            **({"band": self.dataset.band} if self.dataset.band else {}),
        }

    def run(
        self,
        folder: Path,
        segmenter: Segmenter,
        load: Callable[[], Segmenter],
        *,
        workers: int = 1,
        told: Mapping[str, Any] | None = None,
        others: Comparison | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any] | None:
        """Evaluate what is not evaluated yet, and write table and summary.

        Parameters
        ----------
        folder : Path
        segmenter : Segmenter
        load : callable
            Makes the same one in another process; it can be pickled.
        workers : int
            Processes; with one the segmenter works here.
        told : mapping, optional
            What the summary says besides.
        others : Comparison, optional
            Results that these are compared with.
        deadline : float, optional
            Monotonic time after which no further object is begun.

        Returns
        -------
        dict or None
            The summary; None if time was over first, and the same call goes on.

        Raises
        ------
        ProgressError
            If another evaluation was begun or finished there.
        ResultsError
            If labels were changed since, or those of the others were not the same, or what is
            there cannot be read.
        """
        self._check_finished(folder, {**self.about(segmenter.sha256), **(told or {})})
        if others is not None:
            remedy = "evaluate both on the same labels"
            self._check_labels(others.folder, others.results, remedy)
        run = partial(
            evaluate_objects,
            dataset=self.dataset,
            settings=self.settings,
            decidability=self.decidability,
            seed=self.seed,
            **self.user,
        )
        total = len(self.objects)
        with Progress(folder, self.about(segmenter.sha256), self.objects) as progress:
            remedy = "choose another folder to evaluate the labels as they are now"
            self._check_labels(folder, progress.results, remedy)
            left = progress.left
            if left and deadline is not None and time.monotonic() > deadline:
                return None
            runs = (
                evaluate_here(segmenter, run, left)
                if workers == 1
                else evaluate_in_processes(load, run, left, workers)
            )
            for result in tqdm(runs, total=total, initial=total - len(left), unit="object"):
                progress.add(result)
                if progress.left and deadline is not None and time.monotonic() > deadline:
                    return None
            results = progress.results
            summary = {**summarise(results, self.max_clicks), **(told or {})}
            if others is not None:
                summary["difference"] = others.difference(results)
            write_results(folder, results, summary, self.max_clicks)
            progress.remove()
        return summary

    def _check_finished(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Refuse to replace the results of other options."""
        if not (folder / "summary.json").exists():
            return
        try:
            results, summary = read_results(folder)
        except ResultsError as error:
            raise ResultsError(f"{error}: choose another folder") from None
        there = {
            **summary,
            "max_clicks": len(results[0].ious),
            "decidability": bool(results[0].decidability),
            "objects": {result.reference for result in results},
        }
        here = {**about, "objects": set(self.objects)}
        # A model is known by its digest: it may have been named otherwise.
        names = (here.keys() & there.keys()) - {"model"}
        if other := sorted(name for name in names if here[name] != there[name]):
            raise ProgressError(
                f"{folder} holds the results of an evaluation with other {', '.join(other)}: "
                f"choose another folder, or remove its summary.json to replace them"
            )

    def _check_labels(self, folder: Path, known: Sequence[ObjectResult], remedy: str) -> None:
        """Refuse results of objects that had other pixels than they have now."""
        for stem, group in groupby(known, key=lambda result: result.reference.stem):
            scene = self.dataset.scene(stem)
            for result in group:
                value = result.reference.value
                if (area := int(scene.truth(value).sum())) != result.area:
                    raise ResultsError(
                        f"object {value} of {stem} has {area} pixels, and had {result.area} when "
                        f"it was evaluated in {folder}: {remedy}"
                    )
