"""Learning from corrections: a few corrected pictures make a model that needs fewer clicks."""

from napari_fctsfn.train.finetune.learner import PARTS, Parts, Rates
from napari_fctsfn.train.finetune.measure import Measured, measure
from napari_fctsfn.train.finetune.pictures import (
    Picture,
    picture_of,
    pictures_of_dataset,
    pictures_of_files,
    pictures_of_session,
    pictures_of_stack,
    usable,
)
from napari_fctsfn.train.finetune.tune import (
    FineTuned,
    FineTuneError,
    FineTuneSettings,
    Progress,
    check_room,
    fine_tune,
    register,
)

__all__ = [
    "PARTS",
    "FineTuneError",
    "FineTuneSettings",
    "FineTuned",
    "Measured",
    "Parts",
    "Picture",
    "Progress",
    "Rates",
    "check_room",
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
