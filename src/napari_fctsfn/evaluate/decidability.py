"""How much clicks weigh in a network's probability: decidability index (paper, section 4.2, eq. 2).

The responses around positive clicks are compared with those around negative ones. Three users click
on each object: ``free_choice`` as section 4.1 says, ``all_positive`` on the object only, and
``single_positive`` once on the object and then on the background only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.maps import distance_map
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.segmenter import Segmenter
from napari_fctsfn.predict import Prediction, Settings

RADIUS = 10
"""Responses at most so many pixels from a click belong to it (Euclidean distance)."""

COUNTS = (1, 5, 10)
"""The index is measured after so many clicks."""

Choice = Literal["free_choice", "all_positive", "single_positive"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

Mask = NDArray[np.bool_]
User = Callable[[Mask, Mask, Clicks], Click | None]
"""From the mask so far, the object and the clicks so far to the next click; see `next_click`."""


def measured(choice: Choice) -> tuple[int, ...]:
    """After how many clicks the index of a setting is measured.

    A single positive click alone has no negative response, hence table 1 leaves it out.
    """
    return COUNTS[1:] if choice == "single_positive" else COUNTS


def decidability_index(
    positive: NDArray[np.floating], negative: NDArray[np.floating]
) -> float | None:
    """How well two distributions of responses are separated (paper, equation 2).

    Parameters
    ----------
    positive, negative : array of float, any shape
        Foreground probabilities, 0..1.

    Returns
    -------
    float or None
        ``|mean_p - mean_n| / sqrt((variance_p + variance_n) / 2)``, in which sigma of the equation
        is the variance. None where it is not defined: a distribution is empty, or neither varies.
    """
    if not (positive.size and negative.size):
        return None
    p, n = positive.astype(np.float64), negative.astype(np.float64)
    # The variance of equal numbers is not always 0 in floating point.
    spread = sum(float(part.var()) if np.ptp(part) else 0.0 for part in (p, n))
    return float(abs(p.mean() - n.mean()) / np.sqrt(spread / 2)) if spread else None


def click_responses(
    probability: NDArray[np.float32],
    clicks: Clicks,
    truth: Mask,
    choice: Choice,
    ignore: Mask | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Responses that stand for positive and for negative clicks (paper, section 4.2).

    Parameters
    ----------
    probability : array of float32, shape (rows, columns)
        Of the network, before any post-processing.
    clicks : Clicks
        In pixels of `probability`.
    truth : array of bool, same shape
        The object.
    choice : {"free_choice", "all_positive", "single_positive"}
        With the last, the whole object stands for the positive clicks.
    ignore : array of bool, same shape, optional
        Pixels that do not count.

    Returns
    -------
    (array of float32, array of float32)
        Each pixel within the radius of a click of the kind once. Where there is no negative click,
        the whole background stands for them.
    """
    shape = (truth.shape[0], truth.shape[1])
    counted = np.ones_like(truth) if ignore is None else ~ignore

    def around(some: Clicks) -> Mask:
        near: Mask = (distance_map(some.pixels(), shape) <= RADIUS) & counted
        return near

    positive = truth & counted if choice == "single_positive" else around(clicks.positive)
    negative = around(clicks.negative) if len(clicks.negative) else ~truth & counted
    return probability[positive], probability[negative]


def object_decidability(
    predictor: Segmenter,
    truth: Mask,
    user: User,
    settings: Settings,
    ignore: Mask | None = None,
) -> dict[str, float | None]:
    """The index of one object of the image that is set, for every setting and number of clicks.

    Parameters
    ----------
    predictor : Segmenter
        One that gives a `Prediction`.
    truth : array of bool, shape (rows, columns) of the image
        The object.
    user : callable
        Where the simulated user clicks if he is free to.
    settings : Settings
        How the masks are made that he corrects. The probability measured is the network's own: one
        look at the whole image, not adjusted to the clicks, before the graph cut.
    ignore : array of bool, same shape, optional
        Pixels that do not count.

    Returns
    -------
    dict of float or None
        By names such as ``free_choice_5``; None where the index is not defined. A mask that is
        perfect before so many clicks is measured as it is.

    Raises
    ------
    InputError
        If the segmenter gives no probability.
    """
    raw = replace(settings.raw(), zoom=False, consistent=False, steady=0.0, flip=False)
    found: dict[str, float | None] = {}
    for choice in CHOICES:
        clicks, mask = Clicks(), np.zeros_like(truth)
        before = after = None
        for count in range(1, COUNTS[-1] + 1):
            click = _next(choice, user, mask, truth, clicks)
            if click is not None:
                clicks, before = clicks.append(click), after
                after = predictor.predict(clicks, before, settings)
                mask = after.full_mask()
            if count in measured(choice):
                seen = predictor.predict(clicks, before, raw)
                found[f"{choice}_{count}"] = _index(seen, clicks, truth, choice, ignore)
    return found


def _next(choice: Choice, user: User, mask: Mask, truth: Mask, clicks: Clicks) -> Click | None:
    """The next click of a user who may be forced to one side.

    Where there is no error on that side, he clicks deep inside it, away from earlier clicks.
    """
    if choice == "free_choice":
        return user(mask, truth, clicks)
    clicked = np.zeros_like(truth)
    clicked[tuple(clicks.pixels().T)] = True
    if choice == "all_positive" or not len(clicks):
        return user(mask & truth, truth, clicks) or user(clicked & truth, truth, clicks)
    return user(mask | truth, truth, clicks) or user(~clicked | truth, truth, clicks)


def _index(
    seen: object, clicks: Clicks, truth: Mask, choice: Choice, ignore: Mask | None
) -> float | None:
    if not isinstance(seen, Prediction):
        raise InputError("the decidability index needs a probability: choose a model that has one")
    # Outside its box the network has not looked, so that there is no response.
    local = clicks.scaled((1.0, 1.0), (seen.bbox[0], seen.bbox[1]))
    inside = None if ignore is None else ignore[seen.slices]
    return decidability_index(
        *click_responses(seen.probability, local, truth[seen.slices], choice, inside)
    )
