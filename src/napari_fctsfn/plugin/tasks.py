"""What runs in the background: loading a model, warming it up, predicting.

These functions touch neither layers nor Qt. torch is imported here, that is in the worker.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari_fctsfn.predict import Channels, Normalisation, Prediction
    from napari_fctsfn.predict.windows import Box
    from napari_fctsfn.session import Plane, Replay, Replayer


@dataclass(frozen=True)
class ModelChoice:
    """A model the user can choose.

    Parameters
    ----------
    name : str
        Its name in the registry.
    licence : str
        What its weights may be used for, or why it cannot be used.
    """

    name: str
    licence: str


@dataclass(frozen=True)
class Choices:
    """All that can be chosen on this machine."""

    models: tuple[ModelChoice, ...]
    chosen: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Slice:
    """A slice of an image for the predictor.

    Parameters
    ----------
    data : array, nD
        The image at full resolution, which may be lazy.
    plane : Plane
        The slice.
    normalisation : Normalisation
        Its intensity range.
    key : hashable
        Names the content of the slice.
    channels : Channels, optional
        What the network sees of an image with an axis of channels.
    """

    data: Any
    plane: Plane
    normalisation: Normalisation
    key: Hashable
    channels: Channels | None = None

    def read(self) -> Any:
        """The slice, (rows, columns) or (rows, columns, 3 or 4); lazy unless it is in memory."""
        if isinstance(self.data, np.ndarray) and self.channels is None:
            return self.data[self.plane.key]
        from napari_fctsfn.predict import SliceView

        return SliceView(self.data, self.plane.key, self.channels)


@dataclass(frozen=True)
class Answer:
    """A predicted mask.

    Parameters
    ----------
    replay : Replay
        What was asked for.
    mask : array of bool, shape (rows, columns), or None
        None where there was nothing to predict.
    prediction : Prediction or None
        What it was made from.
    seconds : float
        Time it took.
    device : str
        Where it was computed.
    model : str
        SHA-256 of the model file.
    box : (int, int, int, int) or None
        First row, first column, end row and end column of the window outside which it is empty.
    """

    replay: Replay
    mask: NDArray[np.bool_] | None
    prediction: Prediction | None
    seconds: float
    device: str
    model: str
    box: Box | None = None


def list_model_choices() -> tuple[ModelChoice, ...]:
    """Models with their weights licences."""
    from napari_fctsfn.models import ModelError, list_models, read_card

    models = []
    for entry in list_models():
        try:
            licence = read_card(entry.path).weights_licence
        except (ModelError, OSError) as error:
            licence = f"cannot be used: {error}"
        models.append(ModelChoice(entry.name, licence))
    return tuple(models)


def list_choices() -> Choices:
    """Models with their weights licences, and devices."""
    import torch

    from napari_fctsfn.models import chosen_model

    devices = ["auto", "cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return Choices(list_model_choices(), chosen_model(), tuple(devices))


def load_replayer(name: str, device: str) -> Replayer:
    """Load a model.

    Raises
    ------
    ModelError
        If there is no such model or its file is damaged.
    ValueError
        If the device is not there.
    """
    from napari_fctsfn.predict import Predictor
    from napari_fctsfn.session import Replayer

    return Replayer(Predictor.from_pretrained(name, device))


def warm_up(replayer: Replayer, piece: Slice) -> None:
    """Compute what the first click in a slice needs."""
    replayer.predictor.set_image(piece.read(), piece.normalisation, key=piece.key)
    replayer.predictor.warm_up()


def read_ahead(piece: Slice) -> Any:
    """The pixels of a slice in memory; None if it is so large that nothing is computed ahead."""
    from napari_fctsfn.predict.windows import CONTEXT

    view = piece.read()
    return None if max(view.shape[:2]) > CONTEXT else np.array(view)


def warm_up_pixels(replayer: Replayer, piece: Slice, pixels: Any) -> None:
    """Compute what the first click in a slice needs, from its pixels."""
    replayer.predictor.set_image(pixels, piece.normalisation, key=piece.key)
    replayer.predictor.warm_up()


def predict(replayer: Replayer, piece: Slice, replay: Replay) -> Answer:
    """Predict the mask of a replay."""
    begin = time.perf_counter()
    prediction = replayer.predict(replay, piece.read(), piece.normalisation, piece.key)
    mask = None if prediction is None else prediction.full_mask()
    box = None if prediction is None else prediction.bbox
    seconds = time.perf_counter() - begin
    predictor = replayer.predictor
    return Answer(replay, mask, prediction, seconds, str(predictor.device), predictor.sha256, box)
