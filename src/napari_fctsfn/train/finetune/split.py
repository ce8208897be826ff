"""What is learned from and what is held out: never two pictures of the same thing on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_fctsfn.predict.engine import resize
from napari_fctsfn.train.finetune.pictures import Picture

_HASH = 16
"""A perceptual hash has so many rows and columns of bits."""

_NEAR = 20
"""Pictures are near-duplicates if at most so many of the 256 bits differ."""

_ALIKE = 0.8
"""And if their thumbnails correlate by at least so much."""

_TINY = 1e-6

_HELD_OUT = 0.2
"""Part of the pictures that is held out."""

FEWEST = 5
"""Of fewer different pictures every one is held out once (cross-validation)."""


@dataclass(frozen=True)
class Item:
    """An object of a picture: the picture's place in a list, and the object's value."""

    picture: int
    value: int


@dataclass(frozen=True)
class Fold:
    """Objects to learn from, and others to measure on."""

    train: tuple[Item, ...]
    held: tuple[Item, ...]


def _thumbnail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = image[..., :3].mean(axis=2) if image.ndim == 3 else image
    whole = torch.from_numpy(grey.astype(np.float32))[None, None]
    small: NDArray[np.float32] = resize(whole, (_HASH, _HASH + 1))[0, 0].numpy()
    return small


def near_duplicates(pictures: Sequence[Picture]) -> list[list[int]]:
    """Groups of pictures that show the same.

    Returns
    -------
    list of list of int
        Places in `pictures`; every picture is in one group, groups in the order of their first.
    """
    # pixels that are no numbers are alike in nothing, and would be so for whole thumbnails
    thumbnails = np.array([_thumbnail(_finite(picture.image)) for picture in pictures])
    # a perceptual (difference) hash: whether brightness grows from column to column
    hashes = (np.diff(thumbnails, axis=2) > 0).reshape(len(pictures), -1)
    small = thumbnails.reshape(len(pictures), -1)
    small -= small.mean(axis=1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + _TINY
    # on a flat ground most bits are zero, whatever is on it and where
    pairs = [
        (i, int(j))
        for i in range(len(pictures))
        for j in np.flatnonzero(
            ((hashes[i + 1 :] != hashes[i]).sum(axis=1) <= _NEAR)
            & (small[i + 1 :] @ small[i] >= _ALIKE)
        )
        + i
        + 1
    ]
    return _joined(len(pictures), pairs)


def _finite(image: NDArray[Any]) -> NDArray[Any]:
    """A picture with 0 where its values are no finite numbers."""
    return np.nan_to_num(image, nan=0, posinf=0, neginf=0) if image.dtype.kind == "f" else image


def _joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of the numbers below `count` in which all pairs are together."""
    group = list(range(count))
    for i, j in pairs:
        old, new = group[j], group[i]
        group = [new if member == old else member for member in group]
    return [[i for i, g in enumerate(group) if g == name] for name in dict.fromkeys(group)]


def _with_stacks(pictures: Sequence[Picture], groups: list[list[int]]) -> list[list[int]]:
    """Groups that are joined where slices of one stack are in them."""
    pairs = [(group[0], place) for group in groups for place in group[1:]]
    first: dict[tuple[str, str], int] = {}
    for place, picture in enumerate(pictures):
        if picture.stack:
            pairs.append((first.setdefault(_stack(picture), place), place))
    return _joined(len(pictures), pairs)


def _stack(picture: Picture) -> tuple[str, str]:
    """Stacks of two sources may have one name."""
    return picture.source, picture.stack


def split(pictures: Sequence[Picture], seed: int) -> tuple[list[Fold], list[str]]:
    """Which objects are learned from and which are held out.

    From five different pictures up a fifth of them, at least one, is held out; where all are slices
    of one stack, the last of them, else a stack counts as one picture. Of two to four pictures
    there are two folds, each held out once. Of one picture the objects are in two folds. Of one
    object nothing can be held out.

    Parameters
    ----------
    pictures : sequence of Picture
        From `usable`.
    seed : int

    Returns
    -------
    list of Fold
        One or two; none if nothing can be held out.
    list of str
        What the user should know of it.
    """
    groups = near_duplicates(pictures)
    said = []
    if len(groups) < len(pictures):
        twins = next(group for group in groups if len(group) > 1)
        said.append(
            f"{pictures[twins[0]].name} and {pictures[twins[1]].name} show nearly the same: "
            f"near-duplicates stay on one side of the split"
        )
    rng = np.random.default_rng([seed, 5])
    stacked = all(p.stack and _stack(p) == _stack(pictures[0]) for p in pictures)
    if not stacked:
        groups = _with_stacks(pictures, groups)
    order = list(range(len(groups))) if stacked else [int(g) for g in rng.permutation(len(groups))]

    def items(chosen: Sequence[int]) -> tuple[Item, ...]:
        places = sorted(place for g in chosen for place in groups[g])
        return tuple(Item(place, value) for place in places for value in pictures[place].objects)

    if len(groups) >= FEWEST:
        count = max(1, round(_HELD_OUT * len(groups)))
        return [Fold(items(order[:-count]), items(order[-count:]))], said
    if len(groups) > 1:
        half = (len(groups) + 1) // 2
        first, second = items(order[:half]), items(order[half:])
        what = "pictures or stacks" if any(p.stack for p in pictures) else "pictures"
        said.append(f"{len(groups)} different {what} are few: each is held out once")
        return [Fold(first, second), Fold(second, first)], said
    every = items(order)
    if len(every) < 2:
        said.append("one object is too little to hold anything out")
        return [], said
    said.append("there is one picture only: half of its objects is held out, then the other half")
    shuffled = [every[int(i)] for i in rng.permutation(len(every))]
    half = (len(every) + 1) // 2
    first, second = tuple(shuffled[:half]), tuple(shuffled[half:])
    return [Fold(first, second), Fold(second, first)], said
