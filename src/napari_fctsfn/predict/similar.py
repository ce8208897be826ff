"""More objects like those that were accepted: found in the image's features, then clicked on.

Everything about the image is computed once for a window; how an accepted object differs from its
surroundings in these features tells where there may be others. Each such place gets a click, and
the mask that the predictor makes of it is proposed if it is about as large as the accepted ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.feature import peak_local_max
from skimage.transform import resize

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.predict.changes import attached
from napari_fctsfn.predict.postprocess import drop_unclicked
from napari_fctsfn.predict.predictor import Predictor
from napari_fctsfn.predict.region import Region
from napari_fctsfn.predict.settings import Settings
from napari_fctsfn.predict.windows import Box

LARGEST = 4096
"""Rows and columns of a slice that is searched, at most."""

_SEEN = 80
"""An object is this many pixels long in the network's input, if the slice can be shown so."""

_SIDES = (64, 2048)
"""Least and largest side of a window, in pixels of the slice."""

_STEP = 0.75
"""From window to window, in parts of its side."""

_AREAS = (0.4, 2.5)
"""A proposed mask may be so much smaller than the smallest and larger than the largest accepted."""

_ANYWHERE = 0.1
"""Weight of background elsewhere, where there may be objects, against that around the accepted."""

_OTHERS = 12
"""Windows without an accepted object from which background is learned, about."""

_ROUNDS = 3
"""What looks like an object is taken out of the background, and the difference found anew."""

_RIDGE = 0.05
_STEEP = 4.0
"""Logit of a likeness that is the mean of an accepted object's."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """Something that may be another object of the kind.

    Parameters
    ----------
    click : Click
        Where it was clicked on.
    mask : array of bool, shape (rows, columns) of the box
    bbox : (int, int, int, int)
        First row, first column, row after the last, column after the last.
    score : float
        How like the accepted objects it is, 0..1: mean likeness inside the mask times its
        predicted IoU, where the network predicts one.
    """

    click: Click
    mask: NDArray[np.bool_]
    bbox: Box
    score: float


@dataclass(frozen=True)
class Progress:
    """How far it is, and the proposal that was found last, if any.

    Parameters
    ----------
    done, total : int
        Windows or, once all of these are done, places looked at.
    places : bool
        Whether it is places.
    proposal : Proposal or None
    """

    done: int
    total: int
    places: bool = False
    proposal: Proposal | None = None


def find_similar(
    predictor: Predictor,
    accepted: Sequence[Region],
    taken: NDArray[np.bool_],
    settings: Settings | None = None,
    least: float = 0.15,
) -> Iterator[Progress]:
    """Propose further objects in the slice that is set.

    Parameters
    ----------
    predictor : Predictor
    accepted : sequence of Region
        Objects of the kind that is looked for; at least one.
    taken : array of bool, shape (rows, columns)
        Pixels of all objects there are.
    settings : Settings, optional
        Of the predictor; `extent` is best that of the accepted objects.
    least : float
        Likeness that a place must have, 0..1.

    Yields
    ------
    Progress
        After each window and each place. Proposals share no pixel with each other or with `taken`.

    Raises
    ------
    InputError
        If the slice has more than 4096 rows or columns.
    """
    if max(taken.shape) > LARGEST:
        raise InputError(
            f"a slice of {taken.shape[0]} x {taken.shape[1]} pixels is too large to be searched: "
            f"crop it to {LARGEST} x {LARGEST}"
        )
    extent = float(np.median([region.extent for region in accepted]))
    settings = settings or replace(predictor.settings, extent=extent)
    boxes = _tiles(taken.shape, int(np.clip(extent * predictor.input_size / _SEEN, *_SIDES)))
    own = _together(accepted, taken.shape)
    taught = [box for box in boxes if own[_part(box)].any()]
    rest = [box for box in boxes if box not in taught]
    taught += rest[:: max(len(rest) // _OTHERS, 1)]
    looks, sample = len(taught) + len(boxes), _Sample(own, taken, extent)
    for number, box in enumerate(taught, 1):
        sample.add(box, predictor.describe(box))
        yield Progress(number, looks)
    value = np.zeros(taken.shape, np.float32)
    count = np.zeros(taken.shape, np.float32)
    judge = sample.judge()
    for number, box in enumerate(boxes, len(taught) + 1):
        part = _part(box)
        value[part] += resize(
            judge(predictor.describe(box)), value[part].shape, order=1, mode="edge"
        )
        count[part] += 1
        yield Progress(number, looks)
    like = _likeness(value / count, accepted)
    areas = [int(region.mask.sum()) for region in accepted]
    small = math.sqrt(min(areas))
    vacant = (~taken).astype(np.float32)
    # the mean of what is free nearby: what is taken already says nothing of its neighbours
    near = gaussian_filter(like * vacant, small / 5) / (gaussian_filter(vacant, small / 5) + 1e-3)
    places = peak_local_max(
        near * vacant,
        min_distance=max(int(small / 3), 1),
        threshold_abs=least,
        exclude_border=False,
    )
    taken, tried = taken.copy(), taken.copy()
    for number, (row, column) in enumerate(places, 1):
        found = None
        if not tried[row, column]:
            click = Click(float(row), float(column))
            prediction = predictor.predict(Clicks([click]), settings=settings)
            mask, part = prediction.mask, prediction.slices
            area = int(mask.sum())
            if _AREAS[0] * min(areas) <= area <= _AREAS[1] * max(areas):
                tried[part] |= mask
                free = mask & ~taken[part]
                (local,) = Clicks([click]).scaled((1.0, 1.0), prediction.bbox[:2])
                if free.sum() < area:
                    # of a mask that took in a neighbour, a rim around it would be left
                    free = attached(free, local)
                elif settings.drop_unclicked:
                    free = drop_unclicked(free, Clicks([local]))
                if free.sum() >= _AREAS[0] * min(areas):
                    taken[part] |= free
                    sure = 1.0 if math.isnan(prediction.quality) else prediction.quality
                    score = sure * float(like[part][free].mean())
                    found = Proposal(click, free, prediction.bbox, score)
        yield Progress(number, len(places), True, found)


def _together(regions: Sequence[Region], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    whole = np.zeros(shape, dtype=bool)
    for region in regions:
        whole[_part(region.box)] |= region.mask
    return whole


def _tiles(shape: tuple[int, ...], side: int) -> list[Box]:
    """Overlapping windows that cover a slice."""

    def starts(length: int) -> list[int]:
        count = max(math.ceil((length - side) / (_STEP * side)), 0)
        return [round(n * (length - side) / count) for n in range(count + 1)] if count else [0]

    rows, columns = shape[:2]
    return [
        (row, column, min(row + side, rows), min(column + side, columns))
        for row in starts(rows)
        for column in starts(columns)
    ]


def _part(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[2]), slice(box[1], box[3])


class _Sample:
    """Features inside the accepted objects and outside all."""

    def __init__(self, own: NDArray[np.bool_], taken: NDArray[np.bool_], extent: float) -> None:
        around = binary_dilation(taken, iterations=max(int(extent / 2), 2)) & ~taken
        self._own, self._taken, self._around = own, taken, around
        self._inside: list[NDArray[np.float32]] = []
        self._outside: list[NDArray[np.float32]] = []
        self._weights: list[NDArray[np.float64]] = []

    def add(self, box: Box, features: NDArray[np.float32]) -> None:
        """Take the features of a window."""
        size = (features.shape[0], features.shape[1])
        owned, others, near = (
            _shrunk(mask[_part(box)], size) for mask in (self._own, self._taken, self._around)
        )
        self._inside.append(features[owned > 0.5])
        self._outside.append(features[others < 0.1])
        self._weights.append(np.where(near[others < 0.1] > 0.5, 1.0, _ANYWHERE))

    def judge(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Gives for features how far they are on the side of the objects: Fisher's discriminant."""
        good, rest = np.concatenate(self._inside), np.concatenate(self._outside)
        weight = np.concatenate(self._weights)
        if not len(good) or not len(rest):
            return lambda features: np.full(features.shape[:2], -1, np.float32)
        every = np.concatenate([good, rest])
        middle, width = every.mean(axis=0), every.std(axis=0) + 1e-6
        good, rest = (good - middle) / width, (rest - middle) / width
        usual = weight
        for _ in range(_ROUNDS):
            direction, offset = _discriminant(good, rest, usual)
            unlike = rest @ direction + offset < 0
            if unlike.sum() < good.shape[1]:
                break
            usual = weight * unlike

        def side(features: NDArray[np.float32]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = ((features - middle) / width @ direction + offset).astype(
                np.float32
            )
            return found

        return side


def _likeness(value: NDArray[np.float32], accepted: Sequence[Region]) -> NDArray[np.float32]:
    """How like the accepted objects each pixel is, 0..1, from the side it is on."""
    mean = float(np.median([value[_part(region.box)][region.mask].mean() for region in accepted]))
    logit = np.clip(_STEEP * value / max(mean, 1e-3), -30, 30)
    like: NDArray[np.float32] = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return like


def _discriminant(
    good: NDArray[np.floating], rest: NDArray[np.floating], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Direction and offset that part two samples best, the second weighted."""
    share = weight / weight.sum()
    one, two = good.mean(axis=0), share @ rest
    spread = (good - one).T @ (good - one) / len(good) / 2
    spread += ((rest - two) * share[:, None]).T @ (rest - two) / 2
    spread += _RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    direction: NDArray[np.float64] = np.linalg.solve(spread, one - two)
    return direction, -float(direction @ (one + two)) / 2


def _shrunk(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float64]:
    """Which part of each cell of a window a mask covers."""
    shrunk: NDArray[np.float64] = resize(
        mask.astype(float), size, order=1, mode="edge", anti_aliasing=True
    )
    return shrunk
