"""Training: the modern recipe, and the training as published."""

from napari_fctsfn.train.checkpoint import CheckpointError
from napari_fctsfn.train.mixture import MIXTURES
from napari_fctsfn.train.modern import LAPTOP, TrainSettings, train, train_model
from napari_fctsfn.train.paper import STAGES, VARIANTS, PaperSettings, train_paper_model

__all__ = [
    "LAPTOP",
    "MIXTURES",
    "STAGES",
    "VARIANTS",
    "CheckpointError",
    "PaperSettings",
    "TrainSettings",
    "train",
    "train_model",
    "train_paper_model",
]
