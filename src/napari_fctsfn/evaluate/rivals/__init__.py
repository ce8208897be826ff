"""Interactive segmentation before deep networks, for comparison (paper, table 7).

Each method is one module and says in its docstring whose it is and what it needs.
"""

from __future__ import annotations

from importlib.util import find_spec

from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.rivals.grabcut import GrabCut
from napari_fctsfn.evaluate.rivals.graphcut import GraphCut
from napari_fctsfn.evaluate.rivals.growcut import GrowCut
from napari_fctsfn.evaluate.rivals.matting import GeodesicMatting
from napari_fctsfn.evaluate.rivals.rival import Rival
from napari_fctsfn.evaluate.rivals.stars import EuclideanStars, GeodesicStars
from napari_fctsfn.evaluate.rivals.walker import RandomWalker

__all__ = ["RIVALS", "Rival", "load_rival"]

RIVALS: dict[str, type[Rival]] = {
    "gc": GraphCut,
    "gm": GeodesicMatting,
    "rw": RandomWalker,
    "esc": EuclideanStars,
    "gsc": GeodesicStars,
    "grabcut": GrabCut,
    "growcut": GrowCut,
}
"""The methods by the names that ``evaluate --model`` knows."""


def load_rival(name: str) -> Rival:
    """A classical method by its name.

    Parameters
    ----------
    name : str
        One of `RIVALS`.

    Returns
    -------
    Rival
        As it is measured in the documentation.

    Raises
    ------
    InputError
        If there is none of that name, or the package that it needs is not installed.
    """
    if name not in RIVALS:
        raise InputError(f"unknown method {name!r}; known are {', '.join(RIVALS)}")
    rival = RIVALS[name]
    for module, package in rival.needs.items():
        if find_spec(module) is None:
            raise InputError(f"the method {name} needs {package}: pip install {package}")
    return rival()
