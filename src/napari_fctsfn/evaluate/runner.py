"""A simulated user clicks on the objects of a data set; what it takes is written down."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import Protocol, next_click
from napari_fctsfn.evaluate.decidability import User, object_decidability
from napari_fctsfn.evaluate.metrics import iou
from napari_fctsfn.evaluate.objectset import DataSetError, ObjectReference, ObjectSet
from napari_fctsfn.evaluate.results import ObjectResult
from napari_fctsfn.evaluate.segmenter import Segmentation, Segmenter
from napari_fctsfn.predict import Settings

PostProcessing = Literal["none", "paper", "default"]


def protocol_settings(
    settings: Settings, protocol: Protocol, post: PostProcessing | None = None
) -> Settings:
    """How a protocol turns the probability into the mask that is scored.

    Parameters
    ----------
    settings : Settings
        The predictor's own.
    protocol : {"ritm", "fctsfn"}
        ``ritm``: probability above 0.49 and nothing else. ``fctsfn``: as `Settings.published`.
    post : {"none", "paper", "default"}, optional
        Overrides the protocol. ``none``: as ``ritm``. ``paper``: as ``fctsfn``. ``default``: as the
        predictor does it for its users.
    """
    if post is None:
        post = "none" if protocol == "ritm" else "paper"
    if post == "default":
        return settings
    return settings.raw() if post == "none" else settings.published()


def evaluate_objects(
    predictor: Segmenter,
    dataset: ObjectSet,
    objects: Sequence[ObjectReference],
    protocol: Protocol,
    max_clicks: int = 20,
    settings: Settings | None = None,
    jitter: float = 0.0,
    seed: int = 0,
    decidability: bool = False,
) -> Iterator[ObjectResult]:
    """Click on each object until `max_clicks` clicks are made; every object runs all clicks.

    Parameters
    ----------
    predictor : Segmenter
        A `Predictor`, or another method such as a `Rival`.
    dataset : ObjectSet
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
    decidability : bool
        Whether to measure the decidability index too; see `object_decidability`.

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
        scene = dataset.scene(stem)
        for reference in group:
            truth = scene.truth(reference.value)
            if not truth.any():
                raise DataSetError(
                    f"{stem} of {dataset.name} has no object {reference.value}: "
                    f"it has the objects {dataset.values_of(stem)[:10]}"
                )
            predictor.set_image(scene.image, key=(dataset.name, stem))
            user = partial(
                next_click,
                protocol=protocol,
                ignore=scene.ignore,
                jitter=jitter,
                rng=np.random.default_rng([seed, crc32(stem.encode()), reference.value]),
            )
            result = _click(predictor, reference, truth, scene.ignore, user, max_clicks, settings)
            if decidability:
                found = object_decidability(predictor, truth, user, settings, scene.ignore)
                result = replace(result, decidability=found)
            yield result


def _click(
    predictor: Segmenter,
    reference: ObjectReference,
    truth: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
    user: User,
    max_clicks: int,
    settings: Settings,
) -> ObjectResult:
    clicks, seconds = Clicks(), 0.0
    ious: list[float] = []
    previous: Segmentation | None = None
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
