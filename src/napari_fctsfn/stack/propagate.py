"""An object followed from slice to slice, as far as the model is sure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shifted
from skimage.registration import phase_cross_correlation

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.predict import Adjustment, Normalisation, Prediction, Predictor
from napari_fctsfn.predict.prediction import mask_box
from napari_fctsfn.stack.guide import guide_clicks
from napari_fctsfn.stack.trust import Trust, cut, signed_distance, weigh, wrong_masks

if TYPE_CHECKING:
    from collections.abc import Hashable


_MARGIN = 1.0
"""The slices are matched in the object's box, widened by so many of its sides on either side."""

_LARGEST_SHIFT = 0.5
"""In parts of the object's side; a larger one is not believed."""


@dataclass(frozen=True)
class Rule:
    """When a mask is accepted as that of the same object in the next slice.

    Parameters
    ----------
    overlap : float
        Least IoU with the mask before, moved along.
    growth : float
        The area changes by this factor at most, either way.
    certainty : float
        Least mean probability inside the mask, as the network alone sees it, in parts of what it is
        in the slice where the object is known.
    """

    overlap: float = 0.5
    growth: float = 2.0
    certainty: float = 0.7

    def refusal(self, mask: NDArray[np.bool_], before: NDArray[np.bool_], sure: float) -> str:
        """Why the mask is not accepted, in a few words; empty if it is."""
        area, old = int(mask.sum()), int(before.sum())
        if not area:
            return "nothing found"
        common = int((mask & before).sum())
        overlap = common / (area + old - common)
        if overlap < self.overlap:
            return f"overlap with the slice before {overlap:.2f}"
        if not 1 / self.growth <= area / old <= self.growth:
            return f"area times {area / old:.2f}"
        if sure < self.certainty:
            return f"mean probability {sure:.2f}"
        return ""


@dataclass(frozen=True)
class Step:
    """What came of one slice.

    Parameters
    ----------
    index : int
        The slice.
    mask : array of bool, shape (rows, columns), or None
        The object's; None where propagation stops.
    score : float
        How sure it is, 0..1: mean probability inside the mask, as for `Rule`, times its IoU with
        the slice before.
    reason : str
        Why it stops; empty if it goes on.
    """

    index: int
    mask: NDArray[np.bool_] | None
    score: float
    reason: str = ""


@dataclass(frozen=True)
class Look:
    """A slice between two was looked at from one of them: what comes of it is not known yet.

    Parameters
    ----------
    index : int
        The slice.
    """

    index: int


_LEAST_SURE = 0.3
"""A network that is less sure of a known object, on the mean, has no say in what is sure."""

_TRUSTED = Trust()
"""Nothing but the network counts."""


@dataclass(frozen=True)
class _Learnt:
    """What a slice where the object is known has taught about it."""

    adjustment: Adjustment | None = None
    trust: Trust = _TRUSTED
    sure: float = 1.0


class Stack:
    """Slices of a stack for the predictor.

    Parameters
    ----------
    predictor : Predictor
    read : callable
        Gives a slice by its index, (rows, columns) or (rows, columns, 3 or 4); may be lazy.
    normalisation : Normalisation
        Of all slices.
    key : callable
        Gives a hashable that stands for a slice: its features are found again under it.
    """

    def __init__(
        self,
        predictor: Predictor,
        read: Callable[[int], Any],
        normalisation: Normalisation,
        key: Callable[[int], Hashable],
    ) -> None:
        self.predictor = predictor
        self._read, self._normalisation, self._key = read, normalisation, key
        # Guide clicks only roughly belong to the object: not each is worth being obeyed.
        self._settings = replace(predictor.settings, consistent=False)
        self._last: tuple[int, NDArray[np.bool_], _Learnt] | None = None

    def follow(
        self,
        mask: NDArray[np.bool_],
        start: int,
        indices: Sequence[int],
        others: Callable[[int], NDArray[np.integer]] | None = None,
        rule: Rule | None = None,
    ) -> Iterator[Step]:
        """Follow an object from a slice where it is known.

        Parameters
        ----------
        mask : array of bool, shape (rows, columns)
            The object in slice `start`; not empty.
        start : int
        indices : sequence of int
            Slices to go through, in this order, beginning next to `start`.
        others : callable, optional
            Gives the labels of other objects in a slice, array of int, shape (rows, columns).
        rule : Rule, optional
            When to go on.

        Yields
        ------
        Step
            One for each slice, until one is not accepted.
        """
        rule, previous = rule or Rule(), start
        learnt = self._learnt(start, mask) if len(indices) else _Learnt()
        for index in indices:
            moved = self._moved(mask, previous, index)
            if not moved.any():
                yield Step(index, None, 0.0, "the object has left the picture")
                return
            known = None if others is None else others(index)
            step = Step(index, None, 0.0, "")
            for single in (False, True):
                step = self._find(index, moved, known, single, rule, learnt)
                if step.mask is not None:
                    break
            yield step
            if step.mask is None:
                return
            mask, previous = step.mask, index

    def between(
        self,
        first: tuple[int, NDArray[np.bool_]],
        last: tuple[int, NDArray[np.bool_]],
        others: Callable[[int], NDArray[np.integer]] | None = None,
        rule: Rule | None = None,
    ) -> Iterator[Look | Step]:
        """Follow an object from both of two slices where it is known, and blend by distance.

        Parameters
        ----------
        first, last : (int, array of bool)
            The slices and the masks in them, in ascending order.
        others, rule
            As for `follow`.

        Yields
        ------
        Look or Step
            A look for each slice that is reached from the first, then from the last; after them
            a step for each slice between the two, ascending, without a mask where neither end
            reaches.
        """
        inner = range(first[0] + 1, last[0])
        up: dict[int, Step] = {}
        down: dict[int, Step] = {}
        for found, (start, mask), way in ((up, first, inner), (down, last, inner[::-1])):
            for step in self.follow(mask, start, way, others, rule):
                found[step.index] = step
                yield Look(step.index)
        for index in inner:
            share = (index - first[0]) / (last[0] - first[0])
            one, two = up.get(index), down.get(index)
            if one is None or one.mask is None:
                yield two or one or Step(index, None, 0.0, "the object was lost on either side")
            elif two is None or two.mask is None:
                yield one
            else:
                both = blend(one.mask, two.mask, share)
                yield Step(index, both, (1 - share) * one.score + share * two.score)

    def _find(
        self,
        index: int,
        moved: NDArray[np.bool_],
        others: NDArray[np.integer] | None,
        single: bool,
        rule: Rule,
        learnt: _Learnt,
    ) -> Step:
        """The object in a slice, given where it should be."""
        self._choose(index)
        clicks = guide_clicks(moved, others, single)
        seen = self._predict(clicks, moved, learnt.adjustment)
        weighed = learnt.trust.apply(seen.probability, cut(moved, seen.bbox))
        found = replace(seen, probability=weighed)
        found = self.predictor.finish(found, clicks, self._settings)
        mask = found.full_mask()
        if others is not None:
            mask &= others == 0
        # the mask before must not vouch for what the network does not see
        sure = min(_sure(seen.probability, found.mask) / learnt.sure, 1.0)
        reason = rule.refusal(mask, moved, sure)
        common = int((mask & moved).sum())
        score = sure * common / max(int((mask | moved).sum()), 1)
        return Step(index, None if reason else mask, score, reason)

    def _learnt(self, index: int, mask: NDArray[np.bool_]) -> _Learnt:
        """What a slice where the object is known says about it.

        The network is adjusted to find the known mask from masks that are as wrong as a
        neighbour's; how far it is believed then is learnt from others.
        """
        if self._last is not None and self._last[0] == index and (self._last[1] == mask).all():
            return self._last[2]
        self._choose(index)
        examples = [(guide_clicks(wrong), wrong) for wrong in wrong_masks(mask, seed=1)]
        adjustment = None
        if examples:
            adjustment = self.predictor.adapt(examples, mask, self._settings)
        trials = [
            (self._predict(guide_clicks(wrong), wrong, adjustment), wrong)
            for wrong in wrong_masks(mask, seed=0)
        ]
        usual = [_sure(seen.probability, cut(mask, seen.bbox)) for seen, _ in trials]
        sure = max(float(np.mean(usual)), _LEAST_SURE) if usual else 1.0
        learnt = _Learnt(adjustment, weigh(mask, trials), sure)
        self._last = index, mask.copy(), learnt
        return learnt

    def _predict(
        self, clicks: Clicks, before: NDArray[np.bool_], adjustment: Adjustment | None
    ) -> Prediction:
        return self.predictor.predict(clicks, before, self._settings, adjustment=adjustment)

    def _choose(self, index: int) -> None:
        self.predictor.set_image(self._read(index), self._normalisation, key=self._key(index))

    def _grey(self, index: int, part: tuple[slice, slice]) -> NDArray[np.float32]:
        """A part of a slice, normalised, its colours averaged."""
        pixels = np.asarray(self._read(index)[part])
        if pixels.ndim == 3:
            return np.asarray(self._normalisation.apply(pixels[..., :3]).mean(axis=2))
        return self._normalisation.apply(pixels)

    def _moved(self, mask: NDArray[np.bool_], old: int, new: int) -> NDArray[np.bool_]:
        """The mask moved as the picture around it has moved from one slice to the other."""
        box = mask_box(mask)
        if box is None:
            return mask
        side = max(box[2] - box[0], box[3] - box[1])
        margin = math.ceil(_MARGIN * side)
        top, left = max(box[0] - margin, 0), max(box[1] - margin, 0)
        around = slice(top, box[2] + margin), slice(left, box[3] + margin)
        one, two = self._grey(old, around), self._grey(new, around)
        if not (np.ptp(one) and np.ptp(two)):
            return mask
        matched: Any = phase_cross_correlation
        move, _, _ = matched(two, one, normalization=None)
        if not np.isfinite(move).all() or np.abs(move).max() > _LARGEST_SHIFT * side:
            return mask
        found: NDArray[np.bool_] = shifted(mask.astype(np.uint8), move, order=0) > 0
        return found


def _sure(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean probability inside the mask; 0 of an empty one."""
    inside = probability[mask]
    return float(inside.mean()) if inside.size else 0.0


def blend(one: NDArray[np.bool_], two: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The mask between two by their signed distances.

    Parameters
    ----------
    one, two : array of bool, shape (rows, columns)
        Not both empty.
    share : float
        0 gives the first, 1 the second.

    Returns
    -------
    array of bool, shape (rows, columns)
    """
    box = mask_box(one | two)
    if box is None:
        return one
    part = slice(box[0], box[2]), slice(box[1], box[3])
    first, second = (signed_distance(np.pad(mask[part], 1)) for mask in (one, two))
    between = np.zeros_like(one)
    between[part] = ((1 - share) * first + share * second > 0)[1:-1, 1:-1]
    return between
