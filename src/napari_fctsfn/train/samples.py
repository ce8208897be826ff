"""Training and validation examples of the paper's recipe (sections 3.3 and 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_fctsfn.clicks.click import Clicks
from napari_fctsfn.clicks.maps import interaction_maps
from napari_fctsfn.clicks.xu import xu_clicks
from napari_fctsfn.evaluate.datasets import DataSet, DataSetError, ObjectReference
from napari_fctsfn.evaluate.layouts import PascalVoc, open_dataset
from napari_fctsfn.train.geometry import Matrix, crop, follow, look, moved, resize, see
from napari_fctsfn.train.mixture import eight_bit

PAIRS = 15
"""Sets of clicks on an object, each one pair of interaction maps."""

VALIDATION = 200
OF = 1464
"""So many pictures of so many are for validation; of fewer pictures the same part."""

_SMALLEST_OBJECT = 30
"""Objects of fewer pixels in the picture are left out."""

_ATTEMPTS = 10
"""Rotations and translations tried until a positive click stays in sight."""

_SPLIT_SEED = 2012
"""The split is the list's own, so that no stage or seed learns from another's validation."""


@dataclass(frozen=True)
class Example:
    """One object with clicks, as the network takes it.

    Parameters
    ----------
    image : Tensor of float32, shape (3, rows, columns)
        RGB, 0..1; rows and columns as the network needs them.
    maps : Tensor of float32, shape (2, rows, columns)
        Interaction maps, computed from the clicks where this input shows them.
    truth : Tensor of float32, shape (1, rows, columns)
        The object, 0 or 1.
    valid : Tensor of float32, shape (1, rows, columns)
        0 outside the picture, where the input was continued to a multiple of 32, and where the
        labels say nothing; left out of loss and accuracy.
    clicks : Clicks
        In the pixels of this input; each positive one on the object, each negative one off it.
    """

    image: Tensor
    maps: Tensor
    truth: Tensor
    valid: Tensor
    clicks: Clicks


class Samples:
    """The objects of a data set's training list, with 15 sets of clicks each.

    Parameters
    ----------
    folder : Path
        Pascal VOC 2012 as it is published, of which the split ``train`` is taken, or a data set
        with ``dataset.json`` and a list ``train.txt``.
    size : (int, int), optional
        Rows and columns that pictures are resized to, aspect not kept; native size if not given.
    augment : bool
        Whether training examples are cropped, rotated and translated.
    seed : int
        Of order, clicks and augmentation.
    multiple : int
        Rows and columns of a network input must be multiples of this; pictures are continued
        below and on the right.

    Raises
    ------
    DataSetError
        If something is missing, there are fewer than two pictures with objects, or the set is for
        evaluation only or has another layout.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int] | None,
        augment: bool,
        seed: int,
        multiple: int = 32,
    ) -> None:
        self.dataset, listed = _training_list(folder)
        self.size, self.augment, self.seed = size, augment, seed
        self.multiple = multiple
        pictures = {stem: objects for stem in listed if (objects := self._objects(stem))}
        if len(pictures) < 2:
            raise DataSetError(
                f"{folder} has {len(pictures)} pictures with objects in its training list; "
                f"training and validation need two"
            )
        stems = list(pictures)
        held_out = {stems[index] for index in validation_part(len(stems))}
        self.pictures = len(stems) - len(held_out)
        self.training = [o for stem in stems if stem not in held_out for o in pictures[stem]]
        choice = np.random.default_rng(_SPLIT_SEED)
        self.validation = [
            pictures[stem][choice.integers(len(pictures[stem]))]
            for stem in stems
            if stem in held_out
        ]
        # A whole epoch's order is made once, not for each example of it.
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _objects(self, stem: str) -> list[ObjectReference]:
        labels = self.dataset.labels(stem)
        values = set(self.dataset.values(labels))
        found, counts = np.unique(labels, return_counts=True)
        return [
            ObjectReference(stem, int(value))
            for value, count in zip(found, counts, strict=True)
            if value in values and count >= _SMALLEST_OBJECT
        ]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        return rng.permutation(len(self.training) * PAIRS)

    def draw(self, number: int) -> Example:
        """The training example of a running number; each epoch has every set of clicks once.

        It depends on the seed and the number alone.
        """
        epoch, place = divmod(number, len(self.training) * PAIRS)
        index, pair = divmod(int(self._order(epoch)[place]), PAIRS)
        rng = np.random.default_rng([self.seed, number, 1])
        clicks = np.random.default_rng([self.seed, index, pair, 2])
        return self._example(self.training[index], clicks, rng if self.augment else None)

    def validate(self, index: int) -> Example:
        """A validation example: one object and set of clicks of each picture, never augmented."""
        clicks = np.random.default_rng([_SPLIT_SEED, index])
        return self._example(self.validation[index], clicks, None)

    def _example(
        self,
        reference: ObjectReference,
        click_rng: np.random.Generator,
        rng: np.random.Generator | None,
    ) -> Example:
        pixels, labels = self.dataset.pair(reference.stem)
        image, truth = eight_bit(pixels), labels == reference.value
        ignored = self.dataset.ignored(labels)
        others = (
            labels == value for value in self.dataset.values(labels) if value != reference.value
        )
        clicks = xu_clicks(truth, others, click_rng, ignored)
        size = self.size or (truth.shape[0], truth.shape[1])
        for matrix in self._views(truth, size, rng):
            shown = on_side(follow(clicks, matrix), see(truth, matrix, size))
            if shown.positive:
                break
        rows, columns = (-(-n // self.multiple) * self.multiple for n in size)
        padded = (rows, columns)
        known = np.ones_like(truth) if ignored is None else ~ignored
        valid = see(known, matrix, padded)
        valid[size[0] :] = False
        valid[:, size[1] :] = False
        return Example(
            look(image, matrix, padded),
            torch.from_numpy(interaction_maps(shown, padded)),
            torch.from_numpy(see(truth, matrix, padded) & valid).float()[None],
            torch.from_numpy(valid).float()[None],
            shown,
        )

    def _views(
        self, truth: NDArray[np.bool_], size: tuple[int, int], rng: np.random.Generator | None
    ) -> Iterator[Matrix]:
        """Ways to look at a picture, the first one that shows a positive click is taken."""
        if rng is not None:
            near = crop(truth, size)
            for _ in range(_ATTEMPTS):
                yield moved(truth, near, size, rng)
        yield resize((truth.shape[0], truth.shape[1]), size)


def _training_list(folder: Path) -> tuple[DataSet, list[str]]:
    """A data set to train on, and the stems of its training list, whose files are there."""
    dataset = open_dataset(folder)
    if isinstance(dataset, PascalVoc):
        dataset = replace(dataset, split="train")
        stems = dataset.listed()
    elif not isinstance(dataset, DataSet):
        raise DataSetError(
            f"{folder} cannot be trained on: Pascal VOC can, or the layout {DataSet.layout}"
        )
    elif dataset.evaluation_only:
        raise DataSetError(f"{folder} is for evaluation only: nothing may be trained on it")
    else:
        stems = dataset.stems(folder / "train.txt")
    dataset.require(dict.fromkeys(stems, ""))
    return dataset, stems


def validation_part(pictures: int) -> NDArray[np.int64]:
    """Indices of the validation pictures in a list: 200 of 1464, as many of a longer list.

    Of a shorter list it is the same part, at least one. They depend on the list's length alone.
    """
    count = min(VALIDATION, max(1, round(pictures * VALIDATION / OF)))
    order: NDArray[np.int64] = np.random.default_rng(_SPLIT_SEED).permutation(pictures)
    return np.sort(order[:count])


def on_side(clicks: Clicks, truth: NDArray[np.bool_]) -> Clicks:
    """The clicks that are in sight and still on the side of the boundary where they were made."""
    shape = (truth.shape[0], truth.shape[1])
    return Clicks(
        click for click in clicks if click.inside(shape) and truth[click.pixel] == click.positive
    )
