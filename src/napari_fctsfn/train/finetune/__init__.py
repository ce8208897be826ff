"""Learning from corrections: a few corrected pictures make a model that needs fewer clicks."""

from napari_fctsfn.train.finetune.clock import Progress
from napari_fctsfn.train.finetune.learner import PARTS, Parts, Rates
from napari_fctsfn.train.finetune.measure import Example, Measured, measure
from napari_fctsfn.train.finetune.outcome import (
    FineTuned,
    FineTuneError,
    check_room,
    register,
)
from napari_fctsfn.train.finetune.pictures import (
    Picture,
    display_range,
    picture_of,
    pictures_of_dataset,
    pictures_of_files,
    pictures_of_session,
    pictures_of_stack,
    usable,
)
from napari_fctsfn.train.finetune.tune import FineTuneSettings, fine_tune

__all__ = [
    "PARTS",
    "Example",
    "FineTuneError",
    "FineTuneSettings",
    "FineTuned",
    "Measured",
    "Parts",
    "Picture",
    "Progress",
    "Rates",
    "check_room",
    "display_range",
    "fine_tune",
    "measure",
    "picture_of",
    "pictures_of_dataset",
    "pictures_of_files",
    "pictures_of_session",
    "pictures_of_stack",
    "register",
    "usable",
]
