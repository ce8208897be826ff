"""What an evaluation found, object by object: its summary and its table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.decidability import CHOICES, measured
from napari_fctsfn.evaluate.metrics import Interval, clustered_interval, number_of_clicks
from napari_fctsfn.evaluate.objectset import ObjectReference

REPORTED_CLICKS = (1, 3, 5, 10, 20)
"""Mean IoU is reported after so many clicks."""

_HARM = 0.02
"""A click that lowers the IoU by more than this has done harm."""


class ResultsError(InputError):
    """Results that cannot be read or compared; the message names the folder and the remedy."""


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
    decidability : mapping of str to float or None
        See `object_decidability`; empty if it was not measured.
    """

    reference: ObjectReference
    area: int
    ious: tuple[float, ...]
    seconds: float
    clicks: int
    decidability: Mapping[str, float | None] = field(default_factory=dict)


def measures(result: ObjectResult) -> dict[str, float | None]:
    """What is averaged over objects: NoC, IoU after the reported clicks, decidability.

    The names are those of `summarise`, and ``free_choice_5`` and the like; None where the index is
    not defined.
    """
    counts = {
        f"noc{percent}": float(number_of_clicks(result.ious, percent / 100)[0])
        for percent in (85, 90)
    }
    ious = {
        f"miou{count}": result.ious[count - 1]
        for count in REPORTED_CLICKS
        if count <= len(result.ious)
    }
    return {**counts, **ious, **result.decidability}


def summarise(results: Sequence[ObjectResult], max_clicks: int) -> dict[str, Any]:
    """Means over objects: NoC, share not reached, IoU after k clicks, seconds per click.

    ``intervals`` holds 95 % intervals of the means, clustered by picture, which say little where
    there are few ``pictures`` and are None where there is one; ``harmful`` is the share of clicks
    that lower the IoU by more than 0.02; ``decidability``, if it was measured, for every setting
    and number of clicks mean, its interval, median, and the objects left out because the index is
    not defined for them.
    """
    summary: dict[str, Any] = {}
    pictures = [result.reference.stem for result in results]
    intervals: dict[str, Interval] = {}
    for percent in (85, 90):
        counts = [number_of_clicks(result.ious, percent / 100) for result in results]
        summary[f"noc{percent}"] = float(np.mean([count for count, _ in counts]))
        noc = [count for count, _ in counts]
        intervals[f"noc{percent}"] = clustered_interval(noc, pictures)
        summary[f"unreached{percent}"] = float(np.mean([not reached for _, reached in counts]))
    for count in REPORTED_CLICKS:
        summary[f"miou{count}"] = None
        if count <= max_clicks:
            ious = [result.ious[count - 1] for result in results]
            summary[f"miou{count}"] = float(np.mean(ious))
            intervals[f"miou{count}"] = clustered_interval(ious, pictures)
    steps = np.concatenate([np.diff(result.ious[: result.clicks]) for result in results])
    summary["harmful"] = float(np.mean(steps < -_HARM)) if len(steps) else 0.0
    summary["intervals"] = intervals
    if results[0].decidability:
        summary["decidability"] = {
            choice: {
                str(count): _decidability(results, f"{choice}_{count}")
                for count in measured(choice)
            }
            for choice in CHOICES
        }
    clicks = sum(result.clicks for result in results)
    summary["seconds_per_click"] = sum(result.seconds for result in results) / max(clicks, 1)
    summary["objects"] = len(results)
    summary["pictures"] = len(set(pictures))
    return summary


def _decidability(results: Sequence[ObjectResult], name: str) -> dict[str, Any]:
    found = [(result.decidability[name], result.reference.stem) for result in results]
    kept = [(value, stem) for value, stem in found if value is not None]
    values, pictures = [value for value, _ in kept], [stem for _, stem in kept]
    return {
        "mean": float(np.mean(values)) if values else None,
        "interval": clustered_interval(values, pictures) if values else None,
        "median": float(np.median(values)) if values else None,
        "left_out": len(found) - len(kept),
    }


def write_results(
    folder: Path, results: Sequence[ObjectResult], summary: dict[str, Any], max_clicks: int
) -> None:
    """Write ``objects.csv`` and ``summary.json`` into a folder, which is made if missing.

    IoU and decidability are written with all their digits; an index that is not defined is left
    empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    indices = list(results[0].decidability)
    header = ["stem", "object", "area", "noc85", "noc90", "clicks", "seconds"]
    writer.writerow(header + [f"iou_{count}" for count in range(1, max_clicks + 1)] + indices)
    for result in results:
        counts = [number_of_clicks(result.ious, t)[0] for t in (0.85, 0.9)]
        row = [result.reference.stem, result.reference.value, result.area, *counts, result.clicks]
        index = [result.decidability[name] for name in indices]
        writer.writerow([*row, f"{result.seconds:.4f}", *result.ious, *index])
    with replace_file(folder / "objects.csv") as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
    with replace_file(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def read_results(folder: Path) -> tuple[list[ObjectResult], dict[str, Any]]:
    """The objects and the summary that `write_results` left in a folder.

    Raises
    ------
    ResultsError
        If they are missing or damaged.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        with (folder / "objects.csv").open(encoding="utf-8", newline="") as file:
            results = [_result(row) for row in csv.DictReader(file, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ResultsError(f"{folder} holds no results of an evaluation ({reason})") from None
    if not results or not isinstance(summary, dict):
        raise ResultsError(f"{folder} holds no results of an evaluation: they are empty")
    return results, summary


def _result(row: dict[str, str]) -> ObjectResult:
    ious = tuple(float(text) for name, text in row.items() if name.startswith("iou_"))
    names = [f"{choice}_{count}" for choice in CHOICES for count in measured(choice)]
    return ObjectResult(
        ObjectReference(row["stem"], int(row["object"])),
        int(row["area"]),
        ious,
        float(row["seconds"]),
        int(row["clicks"]),
        {name: float(row[name]) if row[name] else None for name in names if name in row},
    )
