"""Which clicks go to which slice of an image, and the masks that come of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Click, Clicks, read_clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.predict.images import is_rgb
from napari_fctsfn.predict.postprocess import beside_others

if TYPE_CHECKING:
    from napari_fctsfn.predict import Prediction, Predictor, Settings

Index = tuple[int, ...]
"""Place of a slice on the leading axes of a stack; empty for a single picture."""

Work = dict[int, dict[Index, Clicks]]
"""Clicks of each object, by its label, in each slice."""

Step = tuple[int, Index, Clicks]
"""An object in a slice, and its clicks there."""

Watch = Callable[[list[Step]], Iterable[Step]]

Given = dict[tuple[int, Index], NDArray[np.bool_]]
"""Masks to be corrected, by label and slice."""


@dataclass(frozen=True, eq=False)
class Segmented:
    """What came of an image's clicks.

    Parameters
    ----------
    labels : array of uint8, or uint16 or uint32 for larger labels
        Shaped like the image without its colours; 0 is background. A pixel that two objects claim
        belongs to the one of the lower label.
    probability : array of float32, same shape, or None
        Foreground probability, 0..1; of several objects the largest.
    certainty : dict of int to dict of tuple of int to float
        For each object in each slice the predicted IoU, or where the model predicts none the mean
        probability inside the mask; 0..1.
    normalisation : Normalisation, optional
        The intensity range, where it is not that of the job.
    """

    labels: NDArray[Any]
    probability: NDArray[np.float32] | None
    certainty: dict[int, dict[Index, float]]
    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class Placed:
    """A click and where it belongs.

    Parameters
    ----------
    click : Click
    slice : tuple of int
        Empty for a click of a single picture, or of whichever slices are chosen.
    object : int
        Label of its object.
    """

    click: Click
    slice: Index = ()
    object: int = 1


def read_placed(path: Path) -> list[Placed]:
    """The clicks of a click file; those that name no object belong to object 1.

    Raises
    ------
    ClickFileError
        If it cannot be read.
    """
    return [
        Placed(record.click, record.slice, 1 if record.object is None else record.object)
        for record in read_clicks(path)
    ]


def arrange(image: NDArray[Any], clicks: Iterable[Placed], slices: Sequence[Index]) -> Work:
    """Bring clicks to their slices.

    Parameters
    ----------
    image : array, shape (..., rows, columns) or (..., rows, columns, 3 or 4)
    clicks : iterable of Placed
        Those without a slice go to all slices chosen, those with one only there.
    slices : sequence of tuple of int
        Slices chosen; none means all that the clicks name.

    Returns
    -------
    dict
        Clicks by label and slice, labels in ascending order.

    Raises
    ------
    InputError
        If there is no click, no slice for one, no such slice, or a click outside the image.
    """
    leading, shape = image.shape[: _planar(image)], _shape(image)
    for index in slices:
        _check(index, leading)
    everywhere = list(slices) if leading else [()]
    work: Work = {}
    for placed in clicks:
        places = [placed.slice] if placed.slice else everywhere
        if placed.slice:
            _check(placed.slice, leading)
        elif not places:
            raise InputError(
                f"the image has {_count(leading)}: say in which one a click lies (--slice, or in "
                f"the click file)"
            )
        Clicks([placed.click]).check_inside(shape)
        for index in places:
            if not slices or index in slices:
                planes = work.setdefault(placed.object, {})
                planes[index] = planes.get(index, Clicks()).append(placed.click)
    clicked = {index for planes in work.values() for index in planes}
    # Without a choice one click anywhere is enough; in a chosen slice there must be one.
    for index in slices or ([()] if not clicked else []):
        if index not in clicked:
            where = f" in slice {','.join(map(str, index))}" if index else ""
            raise InputError(
                f"there is no click{where}: give --positive ROW,COLUMN or --clicks FILE"
            )
    return dict(sorted(work.items()))


def replay(
    predictor: Predictor,
    image: NDArray[Any],
    work: Work,
    normalisation: Normalisation | None = None,
    settings: Settings | None = None,
    given: Given | None = None,
    *,
    keep_probability: bool = False,
    watch: Watch = iter,
) -> Segmented:
    """Replay the clicks of every object and slice.

    Parameters
    ----------
    predictor : Predictor
    image : array
        As for `arrange`.
    work : dict
        From `arrange`.
    normalisation : Normalisation, optional
        By default percentiles of the image.
    settings : Settings, optional
    given : dict of (int, tuple of int) to array of bool, shape (rows, columns), optional
        Masks, by label and slice, that the clicks correct.
    keep_probability : bool
        Whether the probability is wanted too; of a stack it takes four bytes a pixel.
    watch : callable
        Given the steps (label, place of the slice, clicks), gives them back one by one; it may
        show progress, and end early.

    Returns
    -------
    Segmented
    """
    planar = _planar(image)
    shape = (*image.shape[:planar], *_shape(image))
    labels = np.zeros(shape, dtype=np.min_scalar_type(max(work, default=1)))
    probability = np.zeros(shape, dtype=np.float32) if keep_probability else None
    certainty: dict[int, dict[Index, float]] = {}
    if normalisation is None:
        normalisation = usual_normalisation(image)
    image_key = object()
    steps = [(label, index, work[label][index]) for label in work for index in work[label]]
    for label, index, clicks in watch(steps):
        predictor.set_image(image[index], normalisation, key=(image_key, index))
        before = None if given is None else given.get((label, index))
        if before is None:
            last = predictor.replay(clicks, settings=settings)[-1]
        else:
            last = predictor.predict(clicks, before, settings)
        certainty.setdefault(label, {})[index] = _certainty(last)
        box: tuple[int | slice, ...] = (*index, *last.slices)
        free = labels[box] == 0
        if (settings or predictor.settings).drop_unclicked:
            mine = beside_others(last.mask, free, clicks.scaled((1.0, 1.0), last.bbox[:2]))
        else:
            mine = last.mask & free
        labels[box][mine] = label
        if probability is not None:
            np.maximum(probability[box], last.probability, out=probability[box])
    return Segmented(labels, probability, certainty)


def usual_normalisation(image: NDArray[Any]) -> Normalisation:
    """The range of an image's own values: percentiles, or that of RGB."""
    return Normalisation.for_rgb(image.dtype) if is_rgb(image) else Normalisation.from_array(image)


def planes_of(image: NDArray[Any]) -> list[Index]:
    """Places of all slices of an image, in their order."""
    return list(np.ndindex(*image.shape[: _planar(image)]))


def _certainty(prediction: Prediction) -> float:
    """The predicted IoU, or where there is none the mean probability inside the mask; 0..1."""
    if not math.isnan(prediction.quality):
        return prediction.quality
    inside = prediction.probability[prediction.mask]
    return float(inside.mean()) if inside.size else 0.0


def _planar(image: NDArray[Any]) -> int:
    """The number of leading axes."""
    leading = image.ndim - is_rgb(image) - 2
    if leading > 6:
        raise InputError(f"the image has {image.ndim} dimensions, shape {image.shape}; too many")
    return leading


def _shape(image: NDArray[Any]) -> tuple[int, int]:
    """Rows and columns."""
    first = _planar(image)
    return int(image.shape[first]), int(image.shape[first + 1])


def _count(leading: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, leading))} slices"


def _check(index: Index, leading: tuple[int, ...]) -> None:
    text = ",".join(map(str, index))
    if not leading:
        raise InputError(f"slice {text} of a single picture: leave it out")
    if len(index) != len(leading):
        raise InputError(
            f"slice {text} needs {len(leading)} number{'s' * (len(leading) > 1)}, such as "
            f"{','.join('0' * len(leading))}: the image has {_count(leading)}"
        )
    if not all(0 <= number < extent for number, extent in zip(index, leading, strict=True)):
        raise InputError(f"there is no slice {text}: the image has {_count(leading)}, from 0 on")
