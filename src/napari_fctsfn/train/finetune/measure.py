"""How many clicks a model needs on some objects, as `evaluate` counts them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import iou, number_of_clicks
from napari_fctsfn.predict import Prediction, Predictor
from napari_fctsfn.predict.normalisation import as_rgb
from napari_fctsfn.train.finetune.pictures import Picture, display_range
from napari_fctsfn.train.finetune.split import Item

MOST_CLICKS = 20
_REACHED = 0.85
_NOTICEABLE = 0.005
"""A smaller difference of mean IoU is none."""

_FEWEST = 2
_SHOWN = 3
"""So many clicks are made in any case, since the IoU after them is told."""


@dataclass(frozen=True)
class Measured:
    """Means over objects.

    Parameters
    ----------
    noc85 : float
        Clicks to an IoU of 85 %, 20 where it is not reached.
    iou1, iou3 : float
        IoU after one click and after three, 0..1.
    objects : int
    """

    noc85: float
    iou1: float
    iou3: float
    objects: int

    @classmethod
    def pooled(cls, parts: Sequence[Measured]) -> Measured:
        """The means over all objects of some measurements."""
        total = sum(part.objects for part in parts)

        def mean(name: str) -> float:
            values = (getattr(part, name) * part.objects for part in parts)
            return float(sum(values)) / max(total, 1)

        return cls(mean("noc85"), mean("iou1"), mean("iou3"), total)

    def better_than(self, other: Measured) -> bool:
        """Fewer clicks, or as many and a noticeably larger IoU after one click and three."""
        if abs(self.noc85 - other.noc85) > 1e-9:
            return self.noc85 < other.noc85
        return self.iou1 + self.iou3 > other.iou1 + other.iou3 + 2 * _NOTICEABLE

    def metrics(self, prefix: str) -> dict[str, float]:
        """For a model card."""
        return {f"{prefix}_{name}": round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Example:
    """What one click gives before and after, around an object that was held out.

    Parameters
    ----------
    name : str
        Of the picture.
    image : array of uint8, shape (rows, columns, 3)
    truth, before, after : array of bool, shape (rows, columns)
    row, column : int
        Where the click is.
    """

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    row: int
    column: int


def example(base: Predictor, tuned: Predictor, picture: Picture, value: int) -> Example:
    """Click once on an object with both models.

    Parameters
    ----------
    base, tuned : Predictor
    picture : Picture
    value : int
        The object.
    """
    truth = picture.truth(value)
    click = next_click(np.zeros_like(truth), truth, Clicks(), ignore=picture.ignore)
    assert click is not None
    masks = []
    for predictor in (base, tuned):
        predictor.set_image(picture.image, picture.normalisation)
        masks.append(predictor.predict(Clicks([click])).full_mask())
    rows, columns = np.nonzero(truth)
    reach = max(int(np.ptp(rows)), int(np.ptp(columns)), 24)
    top, left = max(int(rows.min()) - reach // 2, 0), max(int(columns.min()) - reach // 2, 0)
    box = (
        slice(top, int(rows.max()) + reach // 2 + 1),
        slice(left, int(columns.max()) + reach // 2 + 1),
    )
    unit = display_range(picture).apply(as_rgb(picture.image)[box])
    row, column = click.pixel
    return Example(
        picture.name,
        (unit * 255).astype(np.uint8),
        truth[box],
        masks[0][box],
        masks[1][box],
        row - top,
        column - left,
    )


def measure(
    predictor: Predictor,
    pictures: Sequence[Picture],
    items: Sequence[Item],
    proceed: Callable[[], bool] = lambda: True,
    seconds: float = math.inf,
) -> Measured | None:
    """Click on objects as the protocol ``ritm`` has it, on the raw mask, to an IoU of 85 %.

    Parameters
    ----------
    predictor : Predictor
    pictures : sequence of Picture
    items : sequence of Item
        Objects of the pictures; at least one.
    proceed : callable
        Asked before each object; False ends.
    seconds : float
        After so long no further object is begun, if two are done.

    Returns
    -------
    Measured or None
        None if it was ended.
    """
    settings = predictor.settings.raw()
    clicks_made: list[int] = []
    first: list[float] = []
    third: list[float] = []
    end = time.monotonic() + seconds
    for item in items:
        if not proceed():
            return None
        if len(first) >= _FEWEST and time.monotonic() > end:
            break
        picture = pictures[item.picture]
        truth = picture.truth(item.value)
        predictor.set_image(picture.image, picture.normalisation, key=id(picture))
        clicks, mask = Clicks(), np.zeros_like(truth)
        previous: Prediction | None = None
        ious: list[float] = []
        while len(ious) < MOST_CLICKS and (len(ious) < _SHOWN or max(ious) < _REACHED):
            click = next_click(mask, truth, clicks, ignore=picture.ignore)
            if click is None:
                ious.append(ious[-1])
                continue
            clicks = clicks.append(click)
            previous = predictor.predict(clicks, previous, settings)
            mask = previous.full_mask()
            ious.append(iou(mask, truth, picture.ignore))
        reached, found = number_of_clicks(ious, _REACHED)
        clicks_made.append(reached if found else MOST_CLICKS)
        first.append(ious[0])
        third.append(ious[_SHOWN - 1])
    return Measured(
        float(np.mean(clicks_made)), float(np.mean(first)), float(np.mean(third)), len(first)
    )
