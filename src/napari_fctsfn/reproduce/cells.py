"""The number in a cell of a table, and how sure it is: over objects and over trainings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate import ObjectReference, ObjectResult, number_of_clicks
from napari_fctsfn.evaluate.metrics import Interval, bootstrap_means, percentiles
from napari_fctsfn.reproduce.published import THRESHOLDS, SetKey

_DRAWS = 2000

_FEWEST = 6
"""All of so many pictures on one side is less likely than 5 % by chance (sign test)."""

Values = dict[ObjectReference, float]
"""A measure by object, of one training."""


def measure(name: str, key: SetKey) -> Callable[[ObjectResult], float | None]:
    """What a measure is of an object, see `published`; None where it is not defined."""

    def found(result: ObjectResult) -> float | None:
        if name == "noc":
            return float(number_of_clicks(result.ious, THRESHOLDS[key] / 100)[0])
        if name.startswith("iou"):
            count = int(name.removeprefix("iou"))
            return result.ious[count - 1] if count <= len(result.ious) else None
        return result.decidability.get(name)

    return found


@dataclass(frozen=True, eq=False)
class Cell:
    """A mean over objects and trainings.

    Parameters
    ----------
    mean, median : float
        The median is of the objects, each with its mean over the trainings.
    interval : (float, float) or None
        95 %, by a bootstrap that draws pictures and trainings, both with replacement; None of one
        picture.
    trainings : tuple of float
        The mean of each.
    objects, left_out : int
        Objects that count, and those for which the measure is not defined in every training.
    """

    mean: float
    median: float
    interval: Interval
    trainings: tuple[float, ...]
    objects: int
    left_out: int


def cell(runs: Sequence[Sequence[ObjectResult]], name: str, key: SetKey) -> Cell | None:
    """A measure of one network on one set; None if no object has it.

    Parameters
    ----------
    runs : sequence of sequences of ObjectResult
        Results of each training on the same objects; at least one.
    name : str
        Of the measure.
    key : str
        Of the set.
    """
    values, references = _matrix(runs, name, key)
    if not references:
        return None
    draws = _draws(values, [reference.stem for reference in references], 1)
    return Cell(
        float(values.mean()),
        float(np.median(values.mean(axis=0))),
        percentiles(draws),
        tuple(float(mean) for mean in values.mean(axis=1)),
        len(references),
        len(runs[0]) - len(references),
    )


@dataclass(frozen=True)
class Gain:
    """A mean difference of two networks on the same objects.

    Parameters
    ----------
    mean : float
    interval : (float, float) or None
        95 %; None of one picture.
    pictures : int
        On which the objects are.
    """

    mean: float
    interval: Interval
    pictures: int

    @property
    def verdict(self) -> str:
        """What it says of the claim that the first one is better; few pictures say nothing."""
        if self.pictures < _FEWEST or self.interval is None:
            return f"undecided: less than {_FEWEST} pictures"
        if self.interval[0] > 0:
            return "as in the paper"
        return "the other way round" if self.interval[1] < 0 else "undecided"


def gain(
    better: Sequence[Sequence[ObjectResult]],
    worse: Sequence[Sequence[ObjectResult]],
    name: str,
    key: SetKey,
) -> Gain | None:
    """How much better one network is than another; clicks count as gained where they are saved.

    Pictures are drawn for both alike, and so are trainings, in their order, if there are as many of
    both: those of one seed belong together. None if there is no object for which the measure is
    defined in all trainings of both.
    """
    both = [*better, *worse]
    values, references = _matrix(both, name, key)
    if not references:
        return None
    pictures = [reference.stem for reference in references]
    ours, theirs = values[: len(better)], values[len(better) :]
    sign = -1.0 if name == "noc" else 1.0
    other = 1 if len(ours) == len(theirs) else 2
    draws = sign * (_draws(ours, pictures, 1) - _draws(theirs, pictures, other))
    mean = sign * float(ours.mean() - theirs.mean())
    return Gain(mean, percentiles(draws), len(set(pictures)))


def _matrix(
    runs: Sequence[Sequence[ObjectResult]], name: str, key: SetKey
) -> tuple[NDArray[np.float64], list[ObjectReference]]:
    """Values by training and object, and the objects, those left out that lack one."""
    of = measure(name, key)
    tables: list[Values] = []
    for results in runs:
        found = {result.reference: of(result) for result in results}
        tables.append({item: value for item, value in found.items() if value is not None})
    kept = [reference for reference in tables[0] if all(reference in table for table in tables)]
    matrix = np.array([[table[reference] for reference in kept] for table in tables], np.float64)
    return matrix, kept


def _draws(
    values: NDArray[np.float64], pictures: Sequence[Hashable], stream: int
) -> NDArray[np.float64]:
    """Means in draws of pictures, the same in every call, and of trainings, by `stream`."""
    means = np.array([bootstrap_means(row.tolist(), pictures, 0, _DRAWS) for row in values])
    rng = np.random.default_rng([0, stream])
    chosen = rng.integers(len(values), size=(len(values), _DRAWS))
    drawn: NDArray[np.float64] = means[chosen, np.arange(_DRAWS)].mean(axis=0)
    return drawn
