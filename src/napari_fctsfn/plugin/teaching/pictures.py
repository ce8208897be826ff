"""Small pictures with outlines: thumbnails of what is learned from, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPainter, QPen, QPixmap
from scipy.ndimage import binary_erosion

if TYPE_CHECKING:
    from napari_fctsfn.train.finetune import Example, Picture

OUTLINE = (255, 176, 0)
"""Colour of a mask's outline."""

TRUTH = (80, 220, 120)
"""Colour of the corrected mask's outline."""


def outlined(picture: Picture, size: int) -> NDArray[np.uint8]:
    """A picture with the outlines of its objects, some `size` to twice as many pixels wide or high.

    Returns
    -------
    array of uint8, shape (rows, columns, 3)
    """
    from napari_fctsfn.train.finetune import display_range

    step = max(1, max(picture.labels.shape) // (2 * size))
    image = np.asarray(picture.image[::step, ::step])
    unit = display_range(picture).apply(image[..., :3] if image.ndim == 3 else image)
    labels = np.where(np.isin(picture.labels, picture.objects), picture.labels, 0)[::step, ::step]
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    rgb = _rgb((unit * 255).astype(np.uint8))
    rgb[edges] = OUTLINE
    return rgb


def comparison(example: Example, after: bool, size: int) -> QPixmap:
    """An object after one click: the corrected mask in green, the model's in orange."""
    rgb = example.image.copy()
    for mask, color in (
        (example.truth, TRUTH),
        (example.after if after else example.before, OUTLINE),
    ):
        rgb[mask & ~binary_erosion(mask)] = color
    picture = scaled(pixmap(rgb), size)
    factor = picture.width() / rgb.shape[1]
    painter = QPainter(picture)
    painter.setPen(QPen(Qt.GlobalColor.white, 2))
    x, y = round((example.column + 0.5) * factor), round((example.row + 0.5) * factor)
    painter.drawLine(x - 4, y, x + 4, y)
    painter.drawLine(x, y - 4, x, y + 4)
    painter.end()
    return picture


def pixmap(rgb: NDArray[np.uint8]) -> QPixmap:
    """RGB, shape (rows, columns, 3), as Qt draws it."""
    rgb = np.ascontiguousarray(rgb)
    rows, columns = rgb.shape[:2]
    # A copy: the image does not own the array's memory.
    image = QImage(rgb.tobytes(), columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()
    return QPixmap.fromImage(image)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image.copy()


def scaled(picture: QPixmap, size: int) -> QPixmap:
    """A picture at most `size` pixels wide and high."""
    return picture.scaled(
        size,
        size,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
