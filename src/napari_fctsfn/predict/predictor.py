"""The predictor: clicks in, mask out. Everything in this project predicts through it."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_fctsfn.clicks import Clicks, interaction_maps
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel, load_model, resolve_model
from napari_fctsfn.network import ImageFeatures
from napari_fctsfn.predict import windows
from napari_fctsfn.predict.changes import change_near, obeyed, onward, steadied
from napari_fctsfn.predict.consistency import Adjustment
from napari_fctsfn.predict.engine import CELL, Engine, choose_device, resize
from napari_fctsfn.predict.looks import Look, most_believed
from napari_fctsfn.predict.normalisation import Normalisation, as_rgb
from napari_fctsfn.predict.postprocess import drop_unclicked, fill_small_holes
from napari_fctsfn.predict.prediction import Prediction
from napari_fctsfn.predict.region import Region
from napari_fctsfn.predict.settings import Settings
from napari_fctsfn.predict.windows import Box, Window

_LOOKS = 3
"""The first click is looked at in at most so many windows, each inside the one before."""

_GLANCE_SIZE = 192
"""Longest side of the network input of a glance."""

_REACH = 4
"""Pixels of the network's input about a contradicted click that may change for it alone."""

_NEARER = 0.7
"""A further look is worth its time if the scale of the last one is at most this part of its own."""

_tokens = itertools.count()

T = TypeVar("T")


@dataclass(frozen=True)
class _Slice:
    pixels: Any
    shape: tuple[int, int]
    normalisation: Normalisation
    key: Hashable

    def read(self, box: Box) -> NDArray[np.float32]:
        """Normalised pixels of a box, (rows, columns) or (rows, columns, 3), 0..1."""
        part = np.asarray(self.pixels[box[0] : box[2], box[1] : box[3]])
        return self.normalisation.apply(part[..., :3] if part.ndim == 3 else part)


class Predictor:
    """Segments an object of a slice from clicks.

    Parameters
    ----------
    model : LoadedModel
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    settings : Settings, optional
        Used where a call brings none.

    Examples
    --------
    >>> from napari_fctsfn import Click, Clicks, Predictor  # doctest: +SKIP
    >>> predictor = Predictor.from_pretrained("default")  # doctest: +SKIP
    >>> predictor.set_image(image)  # doctest: +SKIP
    >>> predictor.predict(Clicks([Click(120, 80)])).full_mask()  # doctest: +SKIP
    """

    def __init__(
        self, model: LoadedModel, device: str = "auto", settings: Settings | None = None
    ) -> None:
        self.card = model.card
        self.sha256 = model.sha256
        self.settings = settings or Settings()
        self._engine = Engine(model.network, choose_device(device), model.card.input_size)
        self._slice: _Slice | None = None
        self._lock = threading.RLock()

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str] = "default", device: str = "auto"
    ) -> Predictor:
        """Load a model by its name in the registry, or from a file.

        Raises
        ------
        ModelError
            If there is no such model or its file is damaged.
        InputError
            If the device is not available.
        """
        return cls(load_model(resolve_model(name)), device)

    @property
    def device(self) -> torch.device:
        """The device in use now."""
        return self._engine.device

    def set_image(
        self,
        image: Any,
        normalisation: Normalisation | None = None,
        key: Hashable | None = None,
    ) -> None:
        """Choose the slice that is clicked on; nothing is computed yet.

        Parameters
        ----------
        image : array, shape (rows, columns) or (rows, columns, 3 or 4)
            Grey, or RGB(A) of which A is ignored; any real dtype. Only the windows that are looked
            at are read, so lazy arrays stay lazy.
        normalisation : Normalisation, optional
            The display range; by default percentiles of the image.
        key : hashable, optional
            Stands for the content of this slice: features are found again under the same key, also
            after other slices. Without a key they are forgotten with the next slice.

        Raises
        ------
        InputError
            If the image has another shape, no pixel, or values that are not real numbers.
        """
        if not hasattr(image, "dtype"):
            image = np.asarray(image)
        shape = tuple(image.shape)
        rgb = len(shape) == 3 and shape[2] in (3, 4)
        if not (len(shape) == 2 or rgb) or 0 in shape:
            raise InputError(
                f"an image of shape {shape} cannot be segmented: give one slice of shape "
                f"(rows, columns), or (rows, columns, 3) for RGB, with at least one pixel"
            )
        if normalisation is None:
            normalisation = (
                Normalisation.for_rgb(image.dtype) if rgb else Normalisation.from_array(image)
            )
        if key is None:
            key = ("unnamed", next(_tokens))
        with self._lock:
            self._slice = _Slice(image, (int(shape[0]), int(shape[1])), normalisation, key)

    def warm_up(self) -> None:
        """Compute the features that a first click in the slice needs, ahead of it.

        Raises
        ------
        RuntimeError
            If no image was set.
        """
        with self._lock:
            current = self._current()
            if max(current.shape) <= windows.CONTEXT:
                box = (0, 0, *current.shape)
                self._fitting(
                    lambda: self._features(current, [Window.over(box, self._engine.input_size)])
                )

    def predict(
        self,
        clicks: Clicks,
        previous: Prediction | NDArray[np.bool_] | None = None,
        settings: Settings | None = None,
        keep: bool = False,
        adjustment: Adjustment | None = None,
    ) -> Prediction:
        """The mask after the last of `clicks`, given the mask before it.

        Parameters
        ----------
        clicks : Clicks
            All clicks on the object so far, in coordinates of the slice.
        previous : Prediction or array of bool, shape (rows, columns), optional
            The mask before the last click, or any mask to be corrected. Only the probability of
            a prediction is known: the next one is drawn to it (`Settings.steady`), and changes it
            in the direction of the click alone (`Settings.consistent`).
        settings : Settings, optional
        keep : bool
            Whether the previous mask was drawn with care, so that it may change only where the
            change hangs together with the last click.
        adjustment : Adjustment, optional
            From `adapt`, for a mask like the one it was made with; needs a previous mask, and
            takes the place of obeying contradicted clicks.

        Returns
        -------
        Prediction
            A pure function of image, clicks, `previous`, settings, `keep` and `adjustment`. Empty,
            with a quality that is not a number, where no click is on the object and no mask was
            there: clicks on the background alone say what it is not.

        Raises
        ------
        RuntimeError
            If no image was set.
        InputError
            If there is no click, a click lies outside the slice, or the mask has another shape.
        """
        settings = settings or self.settings
        with self._lock:
            current = self._current()
            if not len(clicks):
                raise InputError("there is no click to segment from: give at least one")
            clicks.check_inside(current.shape)
            before = _as_region(previous, current.shape)
            seen = previous if isinstance(previous, Prediction) else None
            if seen is not None and not seen.probability.any():
                seen = None  # nothing that could be drawn to
            prediction = self._fitting(
                lambda: self._predict(current, clicks, before, seen, settings, adjustment)
            )
        return _kept(prediction, before, clicks) if keep else prediction

    def adapt(
        self,
        examples: Sequence[tuple[Clicks, NDArray[np.bool_]]],
        truth: NDArray[np.bool_],
        settings: Settings | None = None,
    ) -> Adjustment:
        """What makes predictions come nearest to a mask that is known in the slice that is set.

        Parameters
        ----------
        examples : sequence of (Clicks, array of bool, shape (rows, columns))
            Clicks and previous masks that should lead to the known mask; at least one.
        truth : array of bool, shape (rows, columns)
        settings : Settings, optional

        Returns
        -------
        Adjustment
            To be given to `predict`, also in other slices. The network's weights stay as they are.

        Raises
        ------
        RuntimeError
            If no image was set.
        InputError
            If a mask has another shape.
        """
        settings = settings or self.settings
        with self._lock:
            current = self._current()
            known = _as_region(truth, current.shape)

            def fitted() -> Adjustment:
                looks, shown = [], []
                for clicks, previous in examples:
                    before = _as_region(previous, current.shape)
                    window = self._window(current, clicks, before, settings)
                    maps = self._maps(window, clicks, before)
                    looks.append((self._features(current, [window]), maps))
                    shown.append(_shown(known, window))
                return self._engine.fit(looks, shown)

            return self._fitting(fitted)

    @property
    def input_size(self) -> int:
        """Longest side of what the network sees, in pixels."""
        return self._engine.input_size

    def describe(self, box: Box) -> NDArray[np.float32]:
        """What the network knows of a part of the slice before anybody has clicked.

        Parameters
        ----------
        box : (int, int, int, int)
            First row, first column, row after the last, column after the last.

        Returns
        -------
        array of float32, shape (rows, columns, channels)
            Features of the image stream, those of several depths side by side, for cells of four
            pixels of the network's input. They are kept like those of windows that are clicked in.

        Raises
        ------
        RuntimeError
            If no image was set.
        """
        with self._lock:
            current = self._current()

            def described() -> NDArray[np.float32]:
                window = Window.over(box, self._engine.input_size)
                size = (math.ceil(window.rows / CELL), math.ceil(window.columns / CELL))
                return self._engine.describe(self._features(current, [window]), size)

            return self._fitting(described)

    def finish(
        self,
        prediction: Prediction,
        clicks: Clicks,
        settings: Settings,
        kept: Prediction | NDArray[np.bool_] | None = None,
    ) -> Prediction:
        """What `predict` has seen, made into a mask under other settings; no network is run.

        Parameters
        ----------
        prediction : Prediction
            Of the slice that is set.
        clicks : Clicks
            Those that it was predicted from.
        settings : Settings
            Only how a probability becomes a mask is taken from them.
        kept : Prediction or array of bool, shape (rows, columns), optional
            The mask before the last click, if it was drawn with care (`keep` of `predict`).

        Returns
        -------
        Prediction
            The same probability with another mask.

        Raises
        ------
        RuntimeError
            If no image was set.
        InputError
            If the prediction or the mask is of a slice of another shape.
        """
        with self._lock:
            current = self._current()
            if prediction.shape != current.shape:
                raise InputError(
                    f"the prediction is of a slice of shape {prediction.shape}, the slice that is "
                    f"set has shape {current.shape}"
                )
            before = _as_region(kept, current.shape)
            box, probability = prediction.bbox, prediction.probability
            if settings.consistent:
                window = Window.over(box, self._engine.input_size)
                local = clicks.scaled((1.0, 1.0), (box[0], box[1]))
                probability = _obeyed(probability, local, window, settings)
            mask = self._postprocess(current, probability, box, clicks, settings)
        return _kept(replace(prediction, mask=mask), before, clicks)

    def replay(
        self,
        clicks: Clicks,
        previous: Prediction | NDArray[np.bool_] | None = None,
        settings: Settings | None = None,
    ) -> list[Prediction]:
        """The predictions after each click, made one after the other as a user would.

        Parameters
        ----------
        clicks : Clicks
        previous : Prediction or array of bool, optional
            The mask before the first click.
        settings : Settings, optional

        Returns
        -------
        list of Prediction
            As many as there are clicks; each is the previous mask of the next.
        """
        steps: list[Prediction] = []
        for count in range(1, len(clicks) + 1):
            previous = self.predict(clicks[:count], previous, settings)
            steps.append(previous)
        return steps

    def _fitting(self, compute: Callable[[], T]) -> T:
        """What `compute` gives, tried again with less where memory runs out."""
        while True:
            try:
                return compute()
            except torch.OutOfMemoryError:
                if not self._engine.give_way():
                    raise

    def _current(self) -> _Slice:
        if self._slice is None:
            raise RuntimeError("no image is set: call set_image before predict")
        return self._slice

    def _predict(
        self,
        current: _Slice,
        clicks: Clicks,
        before: Region | None,
        seen: Prediction | None,
        settings: Settings,
        adjustment: Adjustment | None,
    ) -> Prediction:
        window = self._window(current, clicks, before, settings)
        if before is None and not clicks.positive:
            return _nothing(window, current.shape)
        look = self._look(current, window, clicks, before, settings, adjustment)
        if before is None and settings.zoom:
            look = self._glance(current, look, clicks, settings)
            look = self._search(current, look, clicks, settings)
        box, probability = look.window.box, look.probability
        local = clicks.scaled((1.0, 1.0), (box[0], box[1]))
        if seen is not None:
            probability = steadied(probability, box, seen, local[-1], settings.steady)
        if settings.consistent and adjustment is None:
            probability = _obeyed(probability, local, look.window, settings)
            if seen is not None:
                probability = onward(probability, box, seen, local[-1])
        mask = self._postprocess(current, probability, box, clicks, settings)
        return Prediction(mask, probability, box, current.shape, look.quality)

    def _window(
        self, current: _Slice, clicks: Clicks, before: Region | None, settings: Settings
    ) -> Window:
        """What is looked at first."""
        size = self._engine.input_size
        if before is None or not settings.zoom:
            return windows.overview(current.shape, clicks, size)
        return windows.around(current.shape, windows.bounds(clicks, before.box), size)

    def _glance(self, current: _Slice, look: Look, clicks: Clicks, settings: Settings) -> Look:
        """The first look at everything, or a glance around the click if it is believed more.

        Small things in a large view are seen too coarsely; the glances show them nearer.
        """
        if len(clicks.positive) != 1:
            return look
        row, column = clicks.positive.pixels()[0]
        point = (int(row), int(column), int(row) + 1, int(column) + 1)
        across = [*windows.sides(look.window), *([2 * settings.extent] if settings.extent else [])]
        glances = [windows.beside(current.shape, point, side, _GLANCE_SIZE) for side in across]
        different = {each.box: each for each in glances if each.box != look.window.box}
        alike: dict[tuple[int, int], list[Window]] = {}
        for each in different.values():
            alike.setdefault((each.rows, each.columns), []).append(each)
        # Those of one size are looked at together, which costs less than one after the other.
        together = [self._looks(current, group, clicks, None, settings) for group in alike.values()]
        looks = [look, *itertools.chain(*together)]
        return most_believed(looks, settings.threshold, settings.extent)

    def _search(self, current: _Slice, look: Look, clicks: Clicks, settings: Settings) -> Look:
        """The closest look that the object deserves, after a first look."""
        size = self._engine.input_size
        glance = max(look.window.rows, look.window.columns) < size
        for _ in range(_LOOKS - 1):
            seen = look.seen(settings.threshold)
            box = windows.bounds(clicks, None if seen is None else seen.box)
            nearer = windows.around(current.shape, box, size)
            # A closer look is worth its time if it shows the object much larger.
            if max(nearer.factor) * _NEARER < max(look.window.factor) and not glance:
                break
            glance = False
            look = self._look(current, nearer, clicks, seen, settings)
        return look

    def _features(
        self, current: _Slice, shown: Sequence[Window], mirrored: bool = False
    ) -> ImageFeatures:
        """Features of windows of one size, encoded together."""

        def image() -> Tensor:
            sized = [window_image(current.read(each.box), each) for each in shown]
            return torch.cat([each.flip(3) for each in sized] if mirrored else sized)

        key = (current.key, current.normalisation, tuple(shown), mirrored)
        return self._engine.features(key, image)

    def _look(
        self,
        current: _Slice,
        window: Window,
        clicks: Clicks,
        before: Region | None,
        settings: Settings,
        adjustment: Adjustment | None = None,
    ) -> Look:
        """Look at a window."""
        (look,) = self._looks(current, [window], clicks, before, settings, adjustment)
        return look

    def _looks(
        self,
        current: _Slice,
        shown: Sequence[Window],
        clicks: Clicks,
        before: Region | None,
        settings: Settings,
        adjustment: Adjustment | None = None,
    ) -> list[Look]:
        """Look at windows of one size, and at their mirror images too if the settings say so."""
        maps = torch.cat([self._maps(each, clicks, before) for each in shown])
        seen = [
            self._engine.look(
                self._features(current, shown, mirrored),
                maps.flip(3) if mirrored else maps,
                settings.consistent,
                adjustment,
            )
            for mirrored in ([False, True] if settings.flip else [False])
        ]
        looks = []
        for i, window in enumerate(shown):
            probability, quality = seen[0][i]
            if settings.flip:
                probability = (probability + seen[1][i][0].flip(1)) / 2
            full = resize(probability[None, None], (window.height, window.width))[0, 0]
            looks.append(Look(window, full.clamp(0, 1).numpy(), quality))
        return looks

    def _maps(self, window: Window, clicks: Clicks, before: Region | None) -> Tensor:
        """Interaction maps and previous mask of a window, (1, 2 or 3, rows, columns)."""
        size = (window.rows, window.columns)
        maps = torch.from_numpy(interaction_maps(window.project(clicks), size))[None]
        if not self._engine.takes_previous:
            return maps
        return torch.cat([maps, (_shown(before, window) > 0.5).float()], dim=1)

    def _postprocess(
        self,
        current: _Slice,
        probability: NDArray[np.float32],
        box: Box,
        clicks: Clicks,
        settings: Settings,
    ) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = probability > settings.threshold
        local = clicks.scaled((1.0, 1.0), (box[0], box[1]))
        if settings.graph_cut:
            from napari_fctsfn.predict.graphcut import refine

            image = as_rgb(current.read(box))
            centred = _centred(probability, settings.threshold)
            mask = refine(centred, image, local, settings.graph_cut_strength)
        if settings.drop_unclicked:
            mask = drop_unclicked(mask, local)
        if settings.fill_holes:
            mask = fill_small_holes(mask, local)
        return mask


def window_image(pixels: NDArray[np.float32], window: Window) -> Tensor:
    """What the network sees of a window, before it is padded.

    Parameters
    ----------
    pixels : array of float32, shape (rows, columns) or (rows, columns, 3)
        Normalised pixels of the window's box, 0..1.
    window : Window

    Returns
    -------
    Tensor of float32, shape (1, 3, window.rows, window.columns)
        A view of one channel where the pixels are grey.
    """
    whole = torch.from_numpy(pixels)
    channels = whole[None] if whole.ndim == 2 else whole.permute(2, 0, 1)
    sized = resize(channels[None], (window.rows, window.columns))
    return sized.clamp(0, 1).expand(-1, 3, -1, -1)


def _nothing(window: Window, shape: tuple[int, int]) -> Prediction:
    """An empty mask of a slice."""
    seen = np.zeros((window.height, window.width), dtype=np.float32)
    return Prediction(seen > 0, seen, window.box, shape, math.nan)


def _shown(region: Region | None, window: Window) -> Tensor:
    """A mask as a window shows it: (1, 1, rows, columns) of float32, 0..1; None is empty."""
    if region is None:
        return torch.zeros(1, 1, window.rows, window.columns)
    pixels = torch.from_numpy(region.within(window.box).astype(np.float32))
    return resize(pixels[None, None], (window.rows, window.columns))


def _obeyed(
    probability: NDArray[np.float32], local: Clicks, window: Window, settings: Settings
) -> NDArray[np.float32]:
    """What a window shows, on the right side of the threshold at every click."""
    return obeyed(probability, local, settings.threshold, _REACH / max(window.factor))


def _kept(prediction: Prediction, before: Region | None, clicks: Clicks) -> Prediction:
    """A prediction that changes a mask drawn with care only near the last click."""
    if before is None:
        return prediction
    box = prediction.bbox
    (last,) = clicks[len(clicks) - 1 :].scaled((1.0, 1.0), (box[0], box[1]))
    return replace(prediction, mask=change_near(before.within(box), prediction.mask, last))


def _centred(probability: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """The probability with its odds rescaled so that `threshold` becomes one half."""
    if threshold == 0.5:
        return probability
    foreground = probability * np.float32(1 - threshold)
    background = (1 - probability) * np.float32(threshold)
    return (foreground / (foreground + background)).astype(np.float32, copy=False)


def _as_region(
    previous: Prediction | NDArray[np.bool_] | None, shape: tuple[int, int]
) -> Region | None:
    if previous is None:
        return None
    if isinstance(previous, Prediction):
        found, mask, box = previous.shape, previous.mask, previous.bbox
    else:
        mask = np.asarray(previous).astype(bool)
        found, box = mask.shape, (0, 0, *shape)
    if tuple(found) != shape:
        raise InputError(f"the previous mask has shape {tuple(found)}, the slice has shape {shape}")
    return Region.of(mask, box)
