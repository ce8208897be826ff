"""Click-to-mask annotation in napari with a two-stream late-fusion network.

Importing the package costs next to nothing: torch, napari and Qt are loaded by what needs
them, when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fctsfn.clicks import Click, Clicks
    from napari_fctsfn.predict import Normalisation, Prediction, Predictor, Settings

__version__ = "0.1.0"

__all__ = [
    "Click",
    "Clicks",
    "Normalisation",
    "Prediction",
    "Predictor",
    "Settings",
    "__version__",
]

_ROOM_OF = {
    "Click": "napari_fctsfn.clicks",
    "Clicks": "napari_fctsfn.clicks",
    "Normalisation": "napari_fctsfn.predict",
    "Prediction": "napari_fctsfn.predict",
    "Predictor": "napari_fctsfn.predict",
    "Settings": "napari_fctsfn.predict",
}


def __getattr__(name: str) -> object:
    """Import a public name's room the first time the name is used."""
    if name not in _ROOM_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(_ROOM_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, whether or not they have been used yet."""
    return sorted({*globals(), *__all__})
