"""The segmenter that a name stands for."""

from __future__ import annotations

from napari_fctsfn.evaluate.rivals import RIVALS, load_rival
from napari_fctsfn.evaluate.segmenter import Segmenter
from napari_fctsfn.models import list_models
from napari_fctsfn.predict import Predictor


def load_segmenter(name: str, device: str = "auto") -> Segmenter:
    """A model or a classical method, in this process or in one that is started.

    Parameters
    ----------
    name : str
        The name of a model, the path of a model file, or one of `RIVALS`.
    device : str
        Of a model; the classical methods compute on the processor.

    Raises
    ------
    InputError
        If there is none of that name, or it needs what is not installed.
    """
    registered = any(entry.name == name for entry in list_models())
    if name in RIVALS and not registered:
        return load_rival(name)
    return Predictor.from_pretrained(name, device)
