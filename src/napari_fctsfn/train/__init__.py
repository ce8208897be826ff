"""Training: the modern recipe, polishing, and the training as published."""

from napari_fctsfn.train.checkpoint import CheckpointError
from napari_fctsfn.train.mixture import MIXTURES
from napari_fctsfn.train.modern import LAPTOP, TrainSettings, train, train_model
from napari_fctsfn.train.paper import STAGES, VARIANTS, PaperSettings, train_paper_model
from napari_fctsfn.train.polish import PolishSettings, polish_model

__all__ = [
    "LAPTOP",
    "MIXTURES",
    "STAGES",
    "VARIANTS",
    "CheckpointError",
    "PaperSettings",
    "PolishSettings",
    "TrainSettings",
    "polish_model",
    "train",
    "train_model",
    "train_paper_model",
]
