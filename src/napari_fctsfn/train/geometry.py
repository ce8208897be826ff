"""Crop rule, rotation and translation of the second stage, as one map of places (section 3.3).

A map is a matrix (3, 3) that takes homogeneous places (row, column, 1) of a network input to those
of the picture, in pixels counted from the upper left edge: the centre of the first pixel is
(0.5, 0.5). The picture is read once through the whole map, so that nothing is interpolated twice.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from napari_fctsfn.clicks.click import Click, Clicks

Matrix = NDArray[np.float64]

SMALL = 0.35
"""Objects whose bounding box takes less of the picture are cropped to."""

_MOST_TURN = np.pi / 3


def resize(shape: tuple[int, int], size: tuple[int, int]) -> Matrix:
    """A network input of `size` shows the whole picture of `shape`; its aspect is not kept."""
    return np.diag([shape[0] / size[0], shape[1] / size[1], 1.0])


def crop(truth: NDArray[np.bool_], size: tuple[int, int]) -> Matrix:
    """A network input of `size` shows a small object larger, the whole picture of a large one.

    If the bounding box takes less than 35 % of the picture, the crop is centred on the object's
    centroid. Half its height is half that of the bounding box and half the smaller of the margins
    above and below; its width likewise; what lies outside the picture is cut off.

    Parameters
    ----------
    truth : array of bool, shape (rows, columns)
        The object in the picture; must not be empty.
    size : (int, int)
    """
    low, high = _bounds(truth)
    shape = np.array(truth.shape)
    if (high - low).prod() >= SMALL * shape.prod():
        return resize((truth.shape[0], truth.shape[1]), size)
    half = (high - low) / 2 + np.minimum(low, shape - high) / 2
    centre = _centroid(truth)
    first, last = np.maximum(centre - half, 0), np.minimum(centre + half, shape)
    matrix = np.diag([*((last - first) / size), 1.0])
    matrix[:2, 2] = first
    return matrix


def moved(
    truth: NDArray[np.bool_], matrix: Matrix, size: tuple[int, int], rng: np.random.Generator
) -> Matrix:
    """A map followed by a rotation and by a translation, each with probability 0.5.

    The rotation is even in -60 to 60 degrees about the centroid of the object in the network
    input; the translation is even in a third of the smaller margin of the object's bounding box
    there, up or down and left or right. An object that is not in sight stays where it is.
    """
    if rng.random() < 0.5:
        seen = see(truth, matrix, size)
        turn = rng.uniform(-_MOST_TURN, _MOST_TURN)
        if seen.any():
            matrix = matrix @ _rotation(turn, _centroid(seen))
    if rng.random() < 0.5:
        seen = see(truth, matrix, size)
        part = rng.uniform(-1 / 3, 1 / 3, 2)
        if seen.any():
            low, high = _bounds(seen)
            matrix = matrix @ _translation(-part * np.minimum(low, np.array(size) - high))
    return matrix


def see(mask: NDArray[np.bool_], matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    """What a network input of `size` shows of a mask: the nearest pixel, False outside of it."""
    rows, columns = np.floor(_places(matrix, size)).astype(int).transpose(2, 0, 1)
    within = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    seen: NDArray[np.bool_] = within & mask[rows * within, columns * within]
    return seen


def look(image: NDArray[np.uint8], matrix: Matrix, size: tuple[int, int]) -> Tensor:
    """What a network input of `size` shows of a picture, which is reflected at its border.

    Parameters
    ----------
    image : array of uint8, shape (rows, columns, 3)
    matrix : array of float64, shape (3, 3)
    size : (int, int)

    Returns
    -------
    Tensor of float32, shape (3, *size)
        0..1, bilinear; where the picture is reduced to a half or less, of means over pixels.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
    steps = np.linalg.norm(matrix[:2, :2], axis=1)
    shrink = np.maximum(np.minimum(steps, np.array(image.shape[:2]) / 2).astype(int), 1)
    if shrink.max() > 1:
        kernel = (int(shrink[0]), int(shrink[1]))
        pixels = avg_pool2d(pixels, kernel, ceil_mode=True, count_include_pad=False)
    # With ceil_mode the last row or column of a shrunken picture may stand for a part of a block.
    covered = np.array(pixels.shape[2:]) * shrink
    grid = torch.from_numpy(_places(matrix, size) * 2 / covered - 1).float().flip(-1)[None]
    seen = grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)[0]
    return seen / 255


def follow(clicks: Clicks, matrix: Matrix) -> Clicks:
    """The clicks where a network input shows them."""
    inverse = np.linalg.inv(matrix)
    places = ((inverse @ (click.row + 0.5, click.column + 0.5, 1.0)) for click in clicks)
    return Clicks(
        Click(float(place[0] - 0.5), float(place[1] - 0.5), click.positive)
        for place, click in zip(places, clicks, strict=True)
    )


def _places(matrix: Matrix, size: tuple[int, int]) -> NDArray[np.float64]:
    """Where in the picture the centres of a network input lie, shape (*size, 2)."""
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    places: NDArray[np.float64] = grid @ matrix[:2, :2].T + matrix[:2, 2]
    return places


def _bounds(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of the bounding box: upper left, lower right."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]]) + 1


def _centroid(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = np.argwhere(mask).mean(axis=0) + 0.5
    return centre


def _rotation(turn: float, centre: NDArray[np.float64]) -> Matrix:
    cosine, sine = np.cos(turn), np.sin(turn)
    about = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    whole: Matrix = _translation(centre) @ about @ _translation(-centre)
    return whole


def _translation(by: NDArray[np.float64]) -> Matrix:
    matrix = np.eye(3)
    matrix[:2, 2] = by
    return matrix
