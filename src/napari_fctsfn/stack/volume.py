"""Objects of a labelled stack, propagated from the slices in which they are annotated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.stack.propagate import Look, Rule, Stack, Step

Direction = Literal["up", "down", "both", "between"]
"""To higher slices, to lower ones, both and between, or only between annotated slices."""


@dataclass
class Outcome:
    """What came of one object.

    Parameters
    ----------
    label : int
    accepted : list of int
        Slices that got a mask.
    stopped_at : list of int
        Slices where it was no longer sure; somebody should look at them.
    reasons : list of str
        Why, for each of them.
    scores : dict of int to float
        How sure it was of each slice with a mask, 0..1.
    """

    label: int
    accepted: list[int] = field(default_factory=list)
    stopped_at: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def worst(self) -> int | None:
        """The accepted slice of which it was least sure."""
        return min(self.scores, key=self.scores.__getitem__) if self.scores else None


def annotated(
    labels: NDArray[np.integer[Any]], slices: Iterable[int], objects: Sequence[int] | None = None
) -> dict[int, list[int]]:
    """The slices in which each object is annotated.

    Parameters
    ----------
    labels : array of int, shape (slices, rows, columns)
    slices : iterable of int
        Those that are annotated; others do not count.
    objects : sequence of int, optional
        The objects wanted; by default all.

    Returns
    -------
    dict of int to list of int
        Ascending slices by label.

    Raises
    ------
    InputError
        If there is no such slice, none is annotated, or an object is in none of them.
    """
    chosen = sorted(set(slices))
    for index in chosen:
        if not 0 <= index < len(labels):
            raise InputError(f"there is no slice {index}: the stack has {len(labels)}, from 0 on")
    found: dict[int, list[int]] = {}
    for index in chosen:
        for label in np.unique(labels[index]).tolist():
            if label and (objects is None or label in objects):
                found.setdefault(label, []).append(index)
    for label in objects or []:
        if label not in found:
            raise InputError(
                f"object {label} is in none of the slices {', '.join(map(str, chosen))}: name "
                f"slices in which it is annotated"
            )
    if not found:
        raise InputError(
            f"no object is annotated in the slices {', '.join(map(str, chosen))}: their labels "
            f"are all 0"
        )
    return dict(sorted(found.items()))


def propagate(
    stack: Stack,
    labels: NDArray[np.integer[Any]],
    known: dict[int, list[int]],
    direction: Direction = "both",
    rule: Rule | None = None,
) -> Iterator[tuple[Outcome, Step]]:
    """Follow objects through a stack and write their masks.

    Pixels of other objects are never overwritten, and slices in which an object is annotated stay
    as they are.

    Parameters
    ----------
    stack : Stack
    labels : array of int, shape (slices, rows, columns)
        Written in place as slices are done.
    known : dict of int to list of int
        From `annotated`.
    direction : {"up", "down", "both", "between"}
    rule : Rule, optional
        When a mask is accepted.

    Yields
    ------
    (Outcome, Step)
        The object's outcome so far, and its newest step.
    """
    for label, slices in known.items():
        outcome = Outcome(label)
        masks = {index: labels[index] == label for index in slices}
        others = partial(_others, labels, label)
        for steps in stretches(stack, masks, len(labels), direction, others, rule):
            for step in steps:
                if isinstance(step, Look):
                    continue
                if step.mask is None:
                    outcome.stopped_at.append(step.index)
                    outcome.reasons.append(step.reason)
                else:
                    view = labels[step.index]
                    view[(view == label) & ~step.mask] = 0
                    view[step.mask & (view == 0)] = label
                    outcome.accepted.append(step.index)
                    outcome.scores[step.index] = step.score
                yield outcome, step


def stretches(
    stack: Stack,
    masks: dict[int, NDArray[np.bool_]],
    length: int,
    direction: Direction,
    others: Callable[[int], NDArray[np.integer[Any]]],
    rule: Rule | None = None,
) -> Iterator[Iterator[Look | Step]]:
    """The stretches of slices to go through, each with its own beginning.

    Parameters
    ----------
    stack : Stack
    masks : dict of int to array of bool, shape (rows, columns)
        The object in the slices where it is known; at least one, none empty.
    length : int
        Slices of the stack.
    direction : {"up", "down", "both", "between"}
    others : callable
        Gives the labels of other objects in a slice, array of int, shape (rows, columns).
    rule : Rule, optional
        When a mask is accepted.

    Yields
    ------
    iterator of Look or Step
        The steps of one stretch, as `Stack.follow` and `Stack.between` give them.
    """
    slices = sorted(masks)
    first, last = slices[0], slices[-1]

    def follow(start: int, indices: Sequence[int]) -> Iterator[Step]:
        return stack.follow(masks[start], start, indices, others, rule)

    if direction in ("down", "both"):
        yield follow(first, range(first)[::-1])
    for one, two in pairwise(slices):
        inner = range(one + 1, two)
        if direction == "up":
            yield follow(one, inner)
        elif direction == "down":
            yield follow(two, inner[::-1])
        else:
            yield stack.between((one, masks[one]), (two, masks[two]), others, rule)
    if direction in ("up", "both"):
        yield follow(last, range(last + 1, length))


def count(known: dict[int, list[int]], length: int, direction: Direction) -> int:
    """How many slices `propagate` may have to do."""
    total = 0
    for slices in known.values():
        total += sum(b - a - 1 for a, b in pairwise(slices))
        if direction in ("down", "both"):
            total += slices[0]
        if direction in ("up", "both"):
            total += length - 1 - slices[-1]
    return total


def report(outcomes: Iterable[Outcome], seconds: float) -> dict[str, Any]:
    """What a propagation did, as plain values: in all, and for each object."""
    outcomes = list(outcomes)
    accepted = sum(len(outcome.accepted) for outcome in outcomes)
    done = accepted + sum(len(outcome.stopped_at) for outcome in outcomes)
    return {
        "accepted": accepted,
        "stopped_at": sorted({index for outcome in outcomes for index in outcome.stopped_at}),
        "slices_per_second": done / max(seconds, 1e-9),
        "seconds": seconds,
        "objects": [
            {
                "object": outcome.label,
                "accepted": sorted(outcome.accepted),
                "stopped_at": outcome.stopped_at,
                "reasons": outcome.reasons,
                "worst_slice": outcome.worst,
                "scores": {str(n): round(s, 4) for n, s in sorted(outcome.scores.items())},
            }
            for outcome in outcomes
        ],
    }


def _others(labels: NDArray[np.integer[Any]], label: int, index: int) -> NDArray[np.integer[Any]]:
    """Labels of all other objects in a slice."""
    view = labels[index]
    return np.where(view == label, 0, view)
