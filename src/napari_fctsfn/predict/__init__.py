"""From clicks to a mask: the one predictor of the project."""

from napari_fctsfn.predict.consistency import Adjustment
from napari_fctsfn.predict.normalisation import Normalisation
from napari_fctsfn.predict.prediction import Prediction
from napari_fctsfn.predict.predictor import Predictor
from napari_fctsfn.predict.settings import Settings
from napari_fctsfn.predict.slices import Channels, SliceView

__all__ = [
    "Adjustment",
    "Channels",
    "Normalisation",
    "Prediction",
    "Predictor",
    "Settings",
    "SliceView",
]
