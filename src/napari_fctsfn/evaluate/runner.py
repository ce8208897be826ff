"""A simulated user clicks on the objects of a data set; what it takes is written down."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn._files import replace_file
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.simulate import Protocol, next_click
from napari_fctsfn.evaluate.datasets import DataSet, DataSetError, ObjectReference
from napari_fctsfn.evaluate.metrics import clustered_interval, iou, number_of_clicks
from napari_fctsfn.predict import Prediction, Predictor, Settings

PostProcessing = Literal["none", "default"]

REPORTED_CLICKS = (1, 3, 5, 10, 20)
"""Mean IoU is reported after so many clicks."""

_HARM = 0.02
"""A click that lowers the IoU by more than this has done harm."""


@dataclass(frozen=True)
class ObjectResult:
    """What one object took.

    Parameters
    ----------
    reference : ObjectReference
    area : int
        Its pixels.
    ious : tuple of float
        IoU after each click, 0..1.
    seconds : float
        Spent in the predictor, the image's features included.
    clicks : int
        Clicks made; fewer than `ious` if the mask became perfect.
    """

    reference: ObjectReference
    area: int
    ious: tuple[float, ...]
    seconds: float
    clicks: int


def protocol_settings(
    settings: Settings, protocol: Protocol, post: PostProcessing | None = None
) -> Settings:
    """How a protocol turns the probability into the mask that is scored.

    Parameters
    ----------
    settings : Settings
        The predictor's own.
    protocol : {"ritm", "fctsfn"}
        ``ritm``: probability above 0.49 and nothing else. ``fctsfn``: after the graph cut.
    post : {"none", "default"}, optional
        Overrides the protocol. ``none``: no post-processing. ``default``: that of `settings`, with
        the graph cut in any case for ``fctsfn``.
    """
    if post == "none" or (post is None and protocol == "ritm"):
        return settings.raw()
    return replace(settings, graph_cut=settings.graph_cut or protocol == "fctsfn")


def evaluate_objects(
    predictor: Predictor,
    dataset: DataSet,
    objects: Sequence[ObjectReference],
    protocol: Protocol,
    max_clicks: int = 20,
    settings: Settings | None = None,
    jitter: float = 0.0,
    seed: int = 0,
) -> Iterator[ObjectResult]:
    """Click on each object until `max_clicks` clicks are made; every object runs all clicks.

    Parameters
    ----------
    predictor : Predictor
    dataset : DataSet
    objects : sequence of ObjectReference
    protocol : {"ritm", "fctsfn"}
        Where the simulated user clicks; see `next_click`.
    max_clicks : int
    settings : Settings, optional
        By default those of the protocol, see `protocol_settings`.
    jitter : float
        How far off the deepest pixel clicks fall, 0..1; see `next_click`.
    seed : int
        Of the jitter.

    Yields
    ------
    ObjectResult

    Raises
    ------
    DataSetError
        If a file is missing or does not fit, or an object is not in its label image.
    """
    settings = settings or protocol_settings(predictor.settings, protocol)
    for stem, group in groupby(objects, key=lambda reference: reference.stem):
        image, labels = dataset.pair(stem)
        ignore = dataset.ignored(labels)
        for reference in group:
            truth = labels == reference.value
            if not truth.any():
                raise DataSetError(
                    f"{stem} of {dataset.name} has no object {reference.value}: "
                    f"its labels have the objects {dataset.values(labels)[:10]}"
                )
            predictor.set_image(image, key=(dataset.name, stem))
            user = partial(
                next_click,
                protocol=protocol,
                ignore=ignore,
                jitter=jitter,
                rng=np.random.default_rng([seed, crc32(stem.encode()), reference.value]),
            )
            yield _click(predictor, reference, truth, ignore, user, max_clicks, settings)


def _click(
    predictor: Predictor,
    reference: ObjectReference,
    truth: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
    user: Callable[[NDArray[np.bool_], NDArray[np.bool_], Clicks], Click | None],
    max_clicks: int,
    settings: Settings,
) -> ObjectResult:
    clicks, seconds = Clicks(), 0.0
    ious: list[float] = []
    previous: Prediction | None = None
    mask = np.zeros_like(truth)
    while len(ious) < max_clicks:
        click = user(mask, truth, clicks)
        if click is None:
            ious += [ious[-1] if ious else 0.0] * (max_clicks - len(ious))
            break
        clicks = clicks.append(click)
        began = time.perf_counter()
        previous = predictor.predict(clicks, previous, settings)
        seconds += time.perf_counter() - began
        mask = previous.full_mask()
        ious.append(iou(mask, truth, ignore))
    return ObjectResult(reference, int(truth.sum()), tuple(ious), seconds, len(clicks))


def summarise(results: Sequence[ObjectResult], max_clicks: int) -> dict[str, Any]:
    """Means over objects: NoC, share not reached, IoU after k clicks, seconds per click.

    ``intervals`` holds 95 % intervals of the means, clustered by picture; ``harmful`` is the share
    of clicks that lower the IoU by more than 0.02.
    """
    summary: dict[str, Any] = {}
    pictures = [result.reference.stem for result in results]
    intervals: dict[str, list[float]] = {}
    for percent in (85, 90):
        counts = [number_of_clicks(result.ious, percent / 100) for result in results]
        summary[f"noc{percent}"] = float(np.mean([count for count, _ in counts]))
        noc = [count for count, _ in counts]
        intervals[f"noc{percent}"] = list(clustered_interval(noc, pictures))
        summary[f"unreached{percent}"] = float(np.mean([not reached for _, reached in counts]))
    for count in REPORTED_CLICKS:
        summary[f"miou{count}"] = None
        if count <= max_clicks:
            ious = [result.ious[count - 1] for result in results]
            summary[f"miou{count}"] = float(np.mean(ious))
            intervals[f"miou{count}"] = list(clustered_interval(ious, pictures))
    steps = np.concatenate([np.diff(result.ious[: result.clicks]) for result in results])
    summary["harmful"] = float(np.mean(steps < -_HARM)) if len(steps) else 0.0
    summary["intervals"] = intervals
    clicks = sum(result.clicks for result in results)
    summary["seconds_per_click"] = sum(result.seconds for result in results) / max(clicks, 1)
    summary["objects"] = len(results)
    return summary


def write_results(
    folder: Path, results: Sequence[ObjectResult], summary: dict[str, Any], max_clicks: int
) -> None:
    """Write ``objects.csv`` and ``summary.json`` into a folder, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    header = ["stem", "object", "area", "noc85", "noc90", "clicks", "seconds"]
    writer.writerow(header + [f"iou_{count}" for count in range(1, max_clicks + 1)])
    for result in results:
        counts = [number_of_clicks(result.ious, t)[0] for t in (0.85, 0.9)]
        row = [result.reference.stem, result.reference.value, result.area, *counts, result.clicks]
        writer.writerow([*row, f"{result.seconds:.4f}", *(f"{value:.5f}" for value in result.ious)])
    with replace_file(folder / "objects.csv") as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
    with replace_file(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
