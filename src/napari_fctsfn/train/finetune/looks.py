"""What the network sees at use, with the truth beside it: the windows that a predictor looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from napari_fctsfn.clicks import Click, Clicks, interaction_maps
from napari_fctsfn.clicks.sampling import hole_click
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.models import LoadedModel
from napari_fctsfn.predict import Adjustment, Normalisation, Prediction, Predictor, Settings
from napari_fctsfn.predict.engine import resize
from napari_fctsfn.predict.predictor import window_image
from napari_fctsfn.predict.region import Region
from napari_fctsfn.predict.windows import CONTEXT, Window
from napari_fctsfn.train.finetune.pictures import Picture, display_range

_JITTER = 0.6
"""How far off the deepest pixel the simulated user clicks."""

_FEWEST = 8
"""A window that shows less of the object is not learned from, in network-input pixels."""

_VARIED = 0.5
"""Share of the interactions on a picture that is turned, mirrored or of other contrast."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the network sees of a window, and what it should answer.

    Parameters
    ----------
    image : Tensor of float16, shape (1, 1 or 3, rows, columns)
        0..1; one channel where the picture is grey. Rows and columns as in the window.
    clicks : Clicks
        In pixels of the window as the network sees it.
    previous : array of bool, shape (rows, columns)
        The mask before the last click.
    truth : array of bool, same shape
    known : array of bool, same shape
        False where nothing is known.
    rounds : int
        Click states to learn from: where the predictor goes on to another window, only the first.
    """

    image: Tensor
    clicks: Clicks
    previous: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    rounds: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.truth.shape[0], self.truth.shape[1]


def maps_of(
    look: Look, clicks: Clicks, previous: NDArray[np.bool_], channels: int, multiple: int = 32
) -> Tensor:
    """Interaction maps and previous mask as the predictor makes them, padded.

    Returns
    -------
    Tensor of float32, shape (1, 2 or 3, rows, columns)
    """
    maps = torch.from_numpy(interaction_maps(clicks, look.size))
    if channels == 3:
        maps = torch.cat([maps, torch.from_numpy(previous.astype(np.float32))[None]])
    return padded(maps[None], multiple=multiple)


def padded(tensor: Tensor, value: float | None = None, multiple: int = 32) -> Tensor:
    """A tensor (1, channels, rows, columns) continued to multiples of 32, as the predictor does.

    With a `value`, filled with it instead.
    """
    rows, columns = tensor.shape[2:]
    extra = (0, -columns % multiple, 0, -rows % multiple)
    if value is not None:
        return pad(tensor, extra, value=value)
    return pad(tensor, extra, mode="replicate")


class Watched(Predictor):
    """A predictor that remembers what it looked at.

    Parameters
    ----------
    model : LoadedModel
    device : str
    """

    def __init__(self, model: LoadedModel, device: str) -> None:
        super().__init__(model, device, Settings(consistent=False).raw())
        self.seen: list[tuple[Window, Clicks, Region | None]] = []

    def forget(self) -> None:
        """Forget what was seen, and the features of it."""
        self.seen = []
        self._engine.cache.clear()

    def _looks(
        self,
        current: Any,
        shown: Sequence[Window],
        clicks: Clicks,
        before: Region | None,
        settings: Settings,
        adjustment: Adjustment | None = None,
    ) -> Any:
        self.seen += [(window, clicks, before) for window in shown]
        return super()._looks(current, shown, clicks, before, settings, adjustment)


def interact(
    predictor: Watched,
    picture: Picture,
    value: int,
    rng: np.random.Generator,
    clicks: int,
    vary: bool = True,
    holes: float = 0.0,
) -> list[Look]:
    """Click on an object as a user would, and keep all that the network was shown.

    Parameters
    ----------
    predictor : Watched
    picture : Picture
    value : int
        The object.
    rng : Generator
    clicks : int
        At most so many.
    vary : bool
        Whether half of the time the picture is turned, mirrored, or of another contrast.
    holes : float
        Share of the interactions that end with a background click well inside the object: it means
        a small place there, however alike the object looks all around it.

    Returns
    -------
    list of Look
        Several for the first click, one for each further.
    """
    image, truth, ignore = _scene(picture, picture.truth(value))
    if vary and rng.random() < _VARIED:
        image, truth, ignore = _varied(image, truth, ignore, rng)
    predictor.forget()
    predictor.set_image(image, Normalisation(0.0, 1.0))
    made, mask = Clicks(), np.zeros_like(truth)
    previous: Prediction | None = None
    looks: list[Look] = []

    def make(click: Click) -> None:
        nonlocal made, mask, previous
        made = made.append(click)
        previous = predictor.predict(made, previous)
        mask = previous.full_mask()
        for window, seen, before in predictor.seen:
            look = _taken(image, truth, ignore, window, seen, before)
            if look is not None:
                looks.append(look)
        predictor.seen = []

    for _ in range(clicks):
        click = next_click(mask, truth, made, ignore=ignore, jitter=_JITTER, rng=rng)
        if click is None:
            break
        make(click)
    if holes and rng.random() < holes:
        found = hole_click(mask, truth, made, rng)
        if found is not None:
            click, reach = found
            rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
            distance = np.hypot(rows - click.row, columns - click.column)
            hole = distance <= reach
            # how much of it is meant nobody knows, but for its middle
            unknown = hole & (distance > reach / 3)
            truth = truth & ~hole
            ignore = unknown if ignore is None else ignore | unknown
            make(click)
    predictor.forget()
    return looks


def wander(predictor: Watched, picture: Picture, rng: np.random.Generator) -> list[Look]:
    """Click anywhere in a part of a picture, and keep all that the network was shown.

    Parameters
    ----------
    predictor : Watched
        Its own masks stand for the truth.
    picture : Picture
    rng : Generator
    """
    rows, columns = picture.image.shape[:2]
    side = int(np.exp(rng.uniform(np.log(96), np.log(max(rows, columns)))))
    top, left = (int(rng.integers(max(n - side, 0) + 1)) for n in (rows, columns))
    image = picture.image[top : top + side, left : left + side]
    place = [int(rng.integers(n)) for n in image.shape[:2]]
    predictor.forget()
    predictor.set_image(image)
    mask = predictor.predict(Clicks([Click(place[0], place[1])])).full_mask()
    if mask.sum() < _FEWEST:
        return []
    part = Picture(picture.name, image, mask.astype(np.int64), (1,))
    return interact(predictor, part, 1, rng, 2)


def _taken(
    image: NDArray[np.float32],
    truth: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
    window: Window,
    clicks: Clicks,
    before: Region | None,
) -> Look | None:
    """A look as the network had it; None if next to nothing of the object is in it."""
    rows, columns = slice(window.box[0], window.box[2]), slice(window.box[1], window.box[3])
    size = (window.rows, window.columns)

    def sized(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        area = torch.from_numpy(mask.astype(np.float32))[None, None]
        seen: NDArray[np.bool_] = (resize(area, size)[0, 0] > 0.5).numpy()
        return seen

    object_ = sized(truth[rows, columns])
    if object_.sum() < _FEWEST:
        return None
    pixels = window_image(np.ascontiguousarray(image[rows, columns]), window)
    if image.ndim == 2:
        pixels = pixels[:, :1]
    return Look(
        pixels.half().contiguous(),
        window.project(clicks),
        np.zeros(size, dtype=bool) if before is None else sized(before.within(window.box)),
        object_,
        np.ones(size, dtype=bool) if ignore is None else ~sized(ignore[rows, columns]),
        1 if before is None else 2,
    )


def _scene(
    picture: Picture, truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Picture 0..1, object and ignored pixels; of a large picture the part around the object."""
    image = picture.image[..., :3] if picture.image.ndim == 3 else picture.image
    normalisation = display_range(picture)
    part: list[slice] = []
    for axis in (0, 1):
        places = np.flatnonzero(truth.any(axis=1 - axis))
        start = max((int(places[0]) + int(places[-1]) - CONTEXT) // 2, 0)
        start = max(min(start, truth.shape[axis] - CONTEXT), 0)
        part.append(slice(start, start + CONTEXT))
    box = tuple(part)
    ignore = None if picture.ignore is None else picture.ignore[box]
    return normalisation.apply(image[box]), truth[box], ignore


def _varied(
    image: NDArray[np.float32],
    truth: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_] | None]:
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def moved(array: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(array, turns)
        return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)

    gain, gamma = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.3, 0.3))
    image = (np.clip(moved(image) * gain, 0, 1) ** gamma).astype(np.float32)
    return image, moved(truth), None if ignore is None else moved(ignore)


def drawn(looks: Sequence[Look], rng: np.random.Generator, count: int) -> list[Look]:
    """Some looks by chance, all of them as likely; none of none."""
    if not looks:
        return []
    return [looks[int(i)] for i in rng.integers(len(looks), size=count)]
