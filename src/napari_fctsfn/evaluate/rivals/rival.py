"""What all classical methods share: the size they work at, brushes, the way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.rivals.seeds import brush, with_rim
from napari_fctsfn.predict import Settings
from napari_fctsfn.predict.normalisation import Normalisation, as_rgb

WORKING_PIXELS = 160_000
"""A larger image is made so large: that of VOC and BSDS are worked at as they are, or nearly."""


@dataclass(frozen=True, eq=False)
class RivalMask:
    """A mask of the whole image.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        True on the object.
    """

    mask: NDArray[np.bool_]

    def full_mask(self) -> NDArray[np.bool_]:
        """The mask, as a prediction gives it."""
        return self.mask


class Rival(ABC):
    """A method that knows no other picture than the one clicked on.

    An image of more than 0.16 megapixel is scaled down to that, and the mask up again. A subclass
    gives `prepare`, what does not depend on clicks, and `segment`.

    Attributes
    ----------
    settings : Settings
        Of no effect: the mask is the method's own, not cut from a probability.
    sha256 : str
        Of the class's name and its parameters.
    """

    needs: ClassVar[dict[str, str]] = {}
    """Modules that are imported only where they are used, and the packages that bring them."""

    rim: ClassVar[bool] = False
    """Whether the image's rim is background, but for the strokes on it."""

    radius: ClassVar[float] = 8.0
    """Radius of a click's brush, in pixels of the image."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.sha256 = sha256(repr(self).encode()).hexdigest()
        self._key: Hashable | None = None
        self._prepared: Any = None
        self._shape: tuple[int, int] = (0, 0)

    def set_image(self, image: Any, *, key: Hashable | None = None) -> None:
        """Compute what does not depend on clicks, unless `key` says that it is there.

        Parameters
        ----------
        image : array, shape (rows, columns) or (rows, columns, 3 or 4)
            Grey, or RGB(A) of which A is ignored; any real dtype.
        key : hashable, optional
            Stands for the content of the image.

        Raises
        ------
        InputError
            If the image has another shape, less than two rows or columns, or values that are not
            real numbers.
        """
        if key is not None and key == self._key:
            return
        pixels = np.asarray(image)
        rgb = as_rgb(pixels)
        rows, columns = rgb.shape[:2]
        if min(rows, columns) < 2:
            raise InputError(f"an image of {rows} x {columns} pixels is too small: give at least 2")
        grey = pixels.ndim == 2
        display = Normalisation.from_array(pixels) if grey else Normalisation.for_rgb(rgb.dtype)
        factor = min(1.0, (WORKING_PIXELS / (rows * columns)) ** 0.5)
        unit = display.apply(rgb)
        if factor < 1:
            size = (max(2, round(rows * factor)), max(2, round(columns * factor)))
            unit = np.asarray(_resize(unit, size), dtype=np.float32)
        self._prepared, self._key, self._shape = self.prepare(unit), key, (rows, columns)
        self._size = unit.shape[:2]

    def predict(
        self, clicks: Clicks, previous: Any = None, settings: Settings | None = None
    ) -> RivalMask:
        """The mask after all these clicks.

        Parameters
        ----------
        clicks : Clicks
            In coordinates of the image.
        previous, settings : optional
            Without effect.

        Returns
        -------
        RivalMask
            A pure function of image and clicks; the pixel under a click has its label.

        Raises
        ------
        RuntimeError
            If no image was set.
        InputError
            If there is no click, or one lies outside the image.
        """
        if self._prepared is None:
            raise RuntimeError("no image is set: call set_image before predict")
        if not len(clicks):
            raise InputError("there is no click to segment from: give at least one")
        clicks.check_inside(self._shape)
        factor = (self._size[0] / self._shape[0], self._size[1] / self._shape[1])
        seeds = brush(clicks.scaled(factor), self._size, self.radius * min(factor))
        if self.rim:
            seeds = with_rim(seeds)
        mask: NDArray[np.bool_] = np.full(self._size, (seeds > 0).any())
        if mask.any() and (not self.rim or (seeds < 0).any()):
            mask = self.segment(self._prepared, seeds)
        if self._size != self._shape:
            mask = _resize(mask.astype(np.float32), self._shape) > 0.5
        for click in clicks:
            mask[click.pixel] = click.positive
        return RivalMask(mask)

    @abstractmethod
    def prepare(self, image: NDArray[np.float32]) -> Any:
        """What the method computes before the first click.

        Parameters
        ----------
        image : array of float32, shape (rows, columns, 3)
            RGB, 0..1, at the working size.
        """

    @abstractmethod
    def segment(self, prepared: Any, seeds: NDArray[np.int8]) -> NDArray[np.bool_]:
        """The mask at the working size.

        Parameters
        ----------
        prepared
            What `prepare` gave.
        seeds : array of int8, shape (rows, columns)
            1 where the object is given, at least once; -1 where the background is; 0 elsewhere.

        Returns
        -------
        array of bool, same shape
            True on the object, everywhere as the seeds say.
        """

    def __repr__(self) -> str:
        values = {
            name: getattr(self, name)
            for name in sorted(dir(type(self)))
            if not name.startswith("_") and isinstance(getattr(type(self), name), float | int)
        }
        arguments = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"{type(self).__name__}({arguments})"


def _resize(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[Any]:
    """Bilinear, antialiased where it shrinks."""
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    sized = resize(image, size, order=1, anti_aliasing=shrinks)
    return np.asarray(sized)
