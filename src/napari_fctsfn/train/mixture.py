"""Training crops: a weighted mixture of data sets, objects, windows and appearances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    center_of_mass,
    distance_transform_edt,
    gaussian_filter,
)
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.datasets import DataSet, DataSetError

MIXTURES: dict[str, dict[str, float]] = {
    "photo": {"voc_subset": 0.5, "coco_mval": 0.25, "bsds_regions": 0.25},
    "default": {
        "voc_subset": 0.15,
        "bsds_regions": 0.07,
        "coco_mval": 0.10,
        "dsb2018": 0.15,
        "isbi2012_em": 0.10,
        "usgra": 0.12,
        "axon_sem": 0.08,
        "chloroplast_em": 0.06,
        "wbc": 0.05,
        "pfc_neurons": 0.03,
        "spine_mr": 0.09,
    },
    "open": {
        "dsb2018": 0.4,
        "usgra": 0.2,
        "axon_sem": 0.12,
        "chloroplast_em": 0.12,
        "pfc_neurons": 0.08,
        "spine_mr": 0.08,
    },
}
"""Share of each data set in the crops, by the name of the mixture.

``open`` holds sets under CC0, MIT and CC BY alone.
"""

BANDS = {"voc_subset": 4}
"""Width in pixels of a set's border band that its labels call background (`DataSet.band`).

The labels of ``voc_subset`` end one to two pixels inside the objects (docs/quality.md, "The border
band").
"""

_SMALLEST_OBJECT = 30
"""Objects of fewer pixels in the picture are not trained on."""

_CLOSE = 0.15
"""Share of the crops that show only a part of the object, around a place on its border."""

_ENCASED = 0.15
"""Share of the crops of whole objects in grey pictures where something is laid around the object.

Cords lie in fluid, nuclei in cytoplasm, axons in myelin: the thing that is clicked on is meant, not
what holds it.
"""


@dataclass(frozen=True)
class Crop:
    """One training example.

    Parameters
    ----------
    image : Tensor of float32, shape (3, size, size)
        RGB, 0..1.
    truth : array of bool, shape (size, size)
        The object; never empty.
    valid : array of bool, shape (size, size)
        False where the window reaches beyond the picture and where the labels do not say what is
        there; left out of the loss.
    close : bool
        Whether it shows a part of the object, as a window around a correction does.
    """

    image: Tensor
    truth: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    close: bool = False


@dataclass(frozen=True)
class _Picture:
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    ignored: NDArray[np.bool_] | None
    ids: NDArray[np.int32]
    grey: bool
    low: float
    high: float


class Source:
    """The training part of a data set, read once and kept in memory.

    Parameters
    ----------
    folder : Path
        A data set with a list ``train.txt``.
    band : int
        See `DataSet`.

    Raises
    ------
    DataSetError
        If something is missing, or the set is for evaluation only.
    """

    def __init__(self, folder: Path, band: int = 0) -> None:
        dataset = DataSet.open(folder)
        self.dataset = replace(dataset, band=max(dataset.band, band))
        if self.dataset.evaluation_only:
            raise DataSetError(f"{folder} is for evaluation only: leave it out of the mixture")
        self.stems = self.dataset.stems(folder / "train.txt")
        self.dataset.require(dict.fromkeys(self.stems, ""))
        self._pictures: dict[str, _Picture] = {}

    def picture(self, stem: str) -> _Picture:
        """A picture with its labels.

        Raises
        ------
        DataSetError
            If a file is missing or unreadable, or the shapes differ.
        """
        if stem not in self._pictures:
            self._pictures[stem] = self._read(stem)
        return self._pictures[stem]

    def _read(self, stem: str) -> _Picture:
        pixels, values = self.dataset.pair(stem)
        image, labels = eight_bit(pixels), values.astype(np.int32)
        ids = self.dataset.values(labels)
        counts = np.bincount(labels.ravel(), minlength=max(ids, default=0) + 1)
        low, high = np.percentile(image[::4, ::4], (0.5, 99.8))
        return _Picture(
            image,
            labels,
            self.dataset.ignored(labels),
            np.array([value for value in ids if counts[value] >= _SMALLEST_OBJECT], dtype=np.int32),
            bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()),
            float(low),
            float(max(high, low + 1)),
        )

    def truth(self, picture: _Picture, rng: np.random.Generator) -> NDArray[np.bool_] | None:
        """One object of the picture; None if it has none that is large enough.

        Raises
        ------
        DataSetError
            If no picture of the whole list has one.
        """
        if not len(picture.ids):
            seen = list(self._pictures.values())
            if len(seen) == len(set(self.stems)) and not any(len(each.ids) for each in seen):
                raise DataSetError(
                    f"no picture in the list train.txt of {self.dataset.name} has an object of "
                    f"{_SMALLEST_OBJECT} pixels or more: check its labels"
                )
            return None
        mask: NDArray[np.bool_] = picture.labels == rng.choice(picture.ids)
        if self.dataset.kind == "parts" and rng.random() < 0.33:
            mask = picture.labels > 0
        if self.dataset.kind == "regions":
            for _ in range(rng.choice(3, p=(0.5, 0.3, 0.2))):
                rim = binary_dilation(mask, iterations=2) & ~mask
                if not rim.any():
                    break
                grown = mask | (picture.labels == rng.choice(picture.labels[rim]))
                if grown.mean() < 0.6:
                    mask = grown
        return mask


def eight_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB of 8 bits; a picture of more bits is stretched over its range."""
    if image.dtype != np.uint8:
        low, high = np.percentile(image, (0.1, 99.9))
        image = np.clip((image - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    rgb: NDArray[np.uint8] = image[..., :3]
    return rgb


class Mixture:
    """Draws crops from several data sets.

    Parameters
    ----------
    root : Path
        Folder of the data sets.
    shares : mapping of str to float
        Share of each data set, by folder name; they need not sum to one.
    size : int
        Rows and columns of a crop, a multiple of 32.
    """

    def __init__(self, root: Path, shares: Mapping[str, float], size: int) -> None:
        if not shares or min(shares.values()) <= 0:
            raise InputError(f"the mixture {dict(shares)} needs positive shares")
        self.sources = [Source(root / name, BANDS.get(name, 0)) for name in shares]
        self.shares = np.array(list(shares.values())) / sum(shares.values())
        self.size = size

    def draw(self, rng: np.random.Generator) -> Crop:
        """One random crop with a visible object."""
        while True:
            source = self.sources[rng.choice(len(self.sources), p=self.shares)]
            picture = source.picture(source.stems[rng.integers(len(source.stems))])
            mask = source.truth(picture, rng)
            if mask is None:
                continue
            crop = self._crop(picture, mask, source.dataset.modality == "photographs", rng)
            if crop.truth.sum() >= 12:
                return crop

    def _crop(
        self,
        picture: _Picture,
        mask: NDArray[np.bool_],
        photograph: bool,
        rng: np.random.Generator,
    ) -> Crop:
        rows, columns = np.nonzero(mask)
        centre = np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        shape = np.array(mask.shape)
        close = bool(rng.random() < _CLOSE and extent > self.size / 4)
        if close:
            low = np.array([rows.min(), columns.min()])
            tight = mask[low[0] : rows.max() + 1, low[1] : columns.max() + 1]
            border = np.argwhere(tight & ~binary_erosion(tight))
            centre = low + border[rng.integers(len(border))] + rng.uniform(-0.1, 0.1, 2) * extent
            side = max(extent * rng.uniform(0.25, 0.8), self.size / 4)
        elif rng.random() < 0.2:
            side = float(shape.max())
            centre = (shape - 1) / 2
        else:
            side = max(extent * np.exp(rng.uniform(np.log(1.15), np.log(6))), self.size / 6)
            side = min(side, 1.2 * shape.max())
            centre = centre + rng.uniform(-0.5, 0.5, 2) * max(side - 0.8 * extent, 0)
            half = np.minimum(side, shape) / 2
            centre = np.clip(centre, half - 0.5, shape - half - 0.5)
        turn = rng.uniform(-0.5, 0.5) * (rng.random() < 0.35)
        if not photograph:
            turn += rng.integers(4) * np.pi / 2
        flip = np.array([1.0 if photograph else rng.choice((-1.0, 1.0)), rng.choice((-1.0, 1.0))])
        stretch = np.exp(rng.uniform(-0.15, 0.15, 2))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = rotation * (flip * stretch * side / 2)[None, :]
        image, truth, valid = _resample(picture, mask, centre, matrix, self.size, side)
        if picture.grey and truth.any() and not close and rng.random() < _ENCASED:
            image = encased(image, truth, rng)
        return Crop(_appearance(image, picture, photograph, rng), truth, valid, close)


def _resample(
    picture: _Picture,
    mask: NDArray[np.bool_],
    centre: NDArray[np.float64],
    matrix: NDArray[np.float64],
    size: int,
    side: float,
) -> tuple[Tensor, NDArray[np.bool_], NDArray[np.bool_]]:
    """Affine window: image (3, size, size) 0..255, mask, and where something is known."""
    reach = np.abs(matrix).sum(axis=1) + 4
    start = np.maximum(np.floor(centre - reach), 0).astype(int)
    stop = np.minimum(np.ceil(centre + reach) + 1, mask.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    pixels = torch.from_numpy(picture.image[part].copy()).permute(2, 0, 1).float()[None]
    planes = [mask] if picture.ignored is None else [mask, picture.ignored]
    areas = torch.from_numpy(np.stack([plane[part] for plane in planes])).float()[None]
    shrink = int(min(side / size, *(n / 2 for n in pixels.shape[2:])))
    shape = np.array(pixels.shape[2:])
    if shrink > 1:
        pixels = avg_pool2d(pixels, shrink, ceil_mode=True, count_include_pad=False)
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1) @ matrix.T + centre - start
    normal = (grid + 0.5) * 2 / shape - 1
    inside = torch.from_numpy(np.abs(normal).max(-1) <= 1)
    # With ceil_mode the last row or column of a shrunken picture may stand for a part of a block.
    covered = np.array(pixels.shape[2:]) * max(shrink, 1)
    points = torch.from_numpy((grid + 0.5) * 2 / covered - 1).float().flip(-1)[None]
    exact = torch.from_numpy(normal).float().flip(-1)[None]
    image = grid_sample(pixels, points, padding_mode="reflection", align_corners=False)[0]
    truth, *ignored = grid_sample(areas, exact, mode="bilinear", align_corners=False)[0] > 0.5
    known = inside & ~ignored[0] if ignored else inside
    return image, (truth & known).numpy(), known.numpy()


def encased(image: Tensor, truth: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    """A picture in which something of another brightness lies around the object.

    Parameters
    ----------
    image : Tensor of float32, shape (3, size, size)
        Grey, 0..255.
    truth : array of bool, shape (size, size)
        The object; never empty.
    rng : numpy.random.Generator
        Of how wide it is and where it is widest, how bright, how soft, and how much is seen
        through it.

    Returns
    -------
    Tensor of float32, shape (3, size, size)
    """
    width = np.sqrt(truth.sum() / np.pi) * np.exp(rng.uniform(np.log(0.2), np.log(1.2)))
    centre = center_of_mass(truth)
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    bearing = np.arctan2(rows - centre[0], columns - centre[1])
    for turns in (1, 2, 3):  # Wider towards one side, then oval, then three-cornered.
        turned = np.cos(turns * bearing + rng.uniform(-np.pi, np.pi))
        width = width * (1 + rng.uniform(0, 0.8 / turns) * turned)
    away = distance_transform_edt(~truth)
    case = gaussian_filter(((away > 0) & (away <= width)).astype(np.float32), rng.uniform(0.3, 1.5))
    level = float(image[0][torch.from_numpy(truth)].median())
    end = 255.0 if rng.random() > level / 255 else 0.0
    tone = level + (end - level) * rng.uniform(0.4, 1.0)
    through = rng.uniform(0.0, 0.3)
    return image + torch.from_numpy(case) * (1 - through) * (tone - image)


def _appearance(
    image: Tensor, picture: _Picture, photograph: bool, rng: np.random.Generator
) -> Tensor:
    """What a display range, a camera or a microscope might have made of the picture, 0..1."""
    low, high = (picture.low, picture.high) if picture.grey else (0.0, 255.0)
    span = high - low
    low += span * rng.uniform(-0.1, 0.1) * (rng.random() < 0.5)
    span *= np.exp(rng.uniform(-0.3, 0.3) * (rng.random() < 0.5))
    image = ((image - low) / span).clamp(0, 1)
    if rng.random() < 0.4:
        image = image ** float(np.exp(rng.uniform(-0.6, 0.6)))
    if not picture.grey:
        if rng.random() < 0.4:
            gain = torch.from_numpy(np.exp(rng.uniform(-0.2, 0.2, (3, 1, 1)))).float()
            image = image * gain
        if rng.random() < 0.15:
            image = image.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < (0.03 if photograph else 0.2):
        image = 1 - image
    if rng.random() < 0.15:
        image = avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    if rng.random() < 0.25:
        noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
        if picture.grey:
            noise = noise[:1]
        counts = float(rng.uniform(30, 400))
        image = image + noise * (image.clamp(min=0.01) / counts).sqrt()
    return image.clamp(0, 1)
