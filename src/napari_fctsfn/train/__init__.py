"""Training: the modern recipe."""

from napari_fctsfn.train.checkpoint import CheckpointError
from napari_fctsfn.train.mixture import MIXTURES
from napari_fctsfn.train.modern import TrainSettings, train, train_model

__all__ = [
    "MIXTURES",
    "CheckpointError",
    "TrainSettings",
    "train",
    "train_model",
]
