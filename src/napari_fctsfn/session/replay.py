"""From clicks to masks: the one place where a session predicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.session.annotation import Annotation, Replay, owned, write
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.prompts import DrawnBox, box_mask
from napari_fctsfn.session.refinement import USUAL

if TYPE_CHECKING:
    from napari_fctsfn.predict import Normalisation, Prediction, Predictor

_Key = tuple[Hashable, Clicks, Mask | None, int, DrawnBox | None, float]


class Replayer:
    """Predicts replays, each from the longest beginning that it still remembers.

    Appending a click predicts once; moving or deleting click i predicts from click i on; going back
    to clicks seen before predicts nothing. What is remembered never changes a mask, since a
    prediction depends on nothing but the image, the clicks, the one before and the settings.

    Parameters
    ----------
    predictor : Predictor
        Used by one thread at a time.
    max_bytes : int
        Memory for predictions; the least recently used go first.
    """

    def __init__(self, predictor: Predictor, max_bytes: int = 64 << 20) -> None:
        self.predictor = predictor
        self.max_bytes = max_bytes
        self._known: OrderedDict[_Key, Prediction] = OrderedDict()
        self._bytes = 0

    def predict(
        self,
        replay: Replay,
        image: NDArray[Any],
        normalisation: Normalisation | None,
        key: Hashable,
    ) -> Prediction | None:
        """Predict the mask of a replay.

        Parameters
        ----------
        replay : Replay
            Clicks and the mask they start from.
        image : array, shape (rows, columns) or (rows, columns, 3 or 4)
            The slice, grey or RGB(A), any real dtype.
        normalisation : Normalisation or None
            Its intensity range; None lets the predictor find one.
        key : hashable
            Names the slice; another image must have another key.

        Returns
        -------
        Prediction or None
            None if there is no click beyond the given mask.
        """
        self.predictor.set_image(image, normalisation, key=key)
        shape = int(image.shape[0]), int(image.shape[1])
        count = len(replay.clicks)
        key = key, normalisation
        prediction = self._after(replay, count, shape, key)
        if prediction is None or replay.refinement == USUAL:
            return prediction
        drawn = replay.given is not None
        return self.predictor.finish(
            prediction,
            replay.clicks,
            replay.refinement.applied(self.predictor.settings),
            self._before(replay, count, shape, key) if drawn else None,
        )

    def _after(
        self, replay: Replay, count: int, shape: tuple[int, int], key: Hashable
    ) -> Prediction | None:
        """The prediction after so many clicks; None if the replay starts later."""
        done, prediction = count, None
        while done > replay.base and prediction is None:
            prediction = self._recall(self._key(replay, done, key))
            if prediction is None:
                done -= 1
        previous = prediction or _start(replay, shape)
        for number in range(done + 1, count + 1):
            # What somebody has drawn may change at the click and nowhere else.
            prediction = self.predictor.predict(
                replay.clicks[:number],
                previous,
                replace(self.predictor.settings, extent=replay.extent),
                keep=replay.given is not None,
            )
            self._remember(self._key(replay, number, key), prediction)
            previous = prediction
        return prediction

    def _before(
        self, replay: Replay, count: int, shape: tuple[int, int], key: Hashable
    ) -> Prediction | NDArray[np.bool_] | None:
        """What the prediction after so many clicks followed on."""
        return self._after(replay, count - 1, shape, key) or _start(replay, shape)

    @staticmethod
    def _key(replay: Replay, count: int, key: Hashable) -> _Key:
        start = replay.given, replay.base, replay.box, replay.extent
        return key, replay.clicks[:count], *start

    def _recall(self, key: _Key) -> Prediction | None:
        prediction = self._known.get(key)
        if prediction is not None:
            self._known.move_to_end(key)
        return prediction

    def _remember(self, key: _Key, prediction: Prediction) -> None:
        self._known[key] = prediction
        self._bytes += _nbytes(prediction)
        while self._bytes > self.max_bytes and len(self._known) > 1:
            self._bytes -= _nbytes(self._known.popitem(last=False)[1])


def _start(replay: Replay, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The mask that a replay starts from."""
    if replay.given is not None:
        return replay.given.full()
    return None if replay.box is None else box_mask(replay.box, shape)


def _nbytes(prediction: Prediction) -> int:
    return prediction.mask.nbytes + prediction.probability.nbytes


def rebuild(
    objects: dict[int, dict[Plane, Annotation]],
    image_of: Callable[[Plane], Any],
    normalisation: Normalisation | None,
    predictor: Predictor,
    labels: NDArray[np.integer[Any]],
) -> None:
    """Make the masks of a session again from its clicks.

    Parameters
    ----------
    objects : dict
        Annotations by label and slice, as `Session.objects` gives them.
    image_of : callable
        Gives the image of a slice, grey (rows, columns) or RGB(A) (rows, columns, 3 or 4); it may
        be lazy.
    normalisation : Normalisation or None
        The session's intensity range.
    predictor : Predictor
        The model.
    labels : array of int, two axes or more
        Written in place, objects in the order of their labels.
    """
    replayer = Replayer(predictor)
    # another image may have been predicted with the same predictor before
    image_key = object()
    for label, planes in sorted(objects.items()):
        for plane, annotation in planes.items():
            replay = Replay(
                label,
                plane,
                annotation.clicks,
                annotation.given,
                annotation.base,
                annotation.box,
                annotation.refinement,
                annotation.extent,
            )
            key = (image_key, plane)
            prediction = replayer.predict(replay, image_of(plane), normalisation, key)
            if prediction is not None:
                mask = prediction.full_mask()
            elif annotation.given is not None:
                mask = annotation.given.full()
            else:
                continue
            view = labels[plane.key]
            patch = write(replay, owned(replay, mask, view), view)
            if patch is not None:
                patch.apply(view)
