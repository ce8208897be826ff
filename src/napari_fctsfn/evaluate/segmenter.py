"""What is evaluated: anything that turns an image and clicks into a mask."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.predict import Settings


class Segmentation(Protocol):
    """The answer to clicks."""

    def full_mask(self) -> NDArray[np.bool_]:
        """True on the object, shape (rows, columns) of the image."""


class Segmenter(Protocol):
    """A way from an image and clicks to a mask, as `Predictor` and the rivals are.

    Attributes
    ----------
    settings : Settings
        Used where a call of `predict` brings none.
    sha256 : str
        Tells two segmenters apart: 64 hexadecimal digits.
    """

    settings: Settings
    sha256: str

    def set_image(self, image: Any, *, key: Hashable | None = None) -> None:
        """Choose the image that is clicked on, (rows, columns) or (rows, columns, 3 or 4).

        The same `key` stands for the same image, for which nothing is computed twice.
        """

    def predict(
        self, clicks: Clicks, previous: Any = None, settings: Settings | None = None
    ) -> Segmentation:
        """The mask after all these clicks; `previous` is this method's answer before the last."""
