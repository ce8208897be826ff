"""Which label image belongs to which picture, by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from napari_fctsfn.errors import InputError

_Words = tuple[str | int, ...]


def paired(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pictures with their label images, in the order of the pictures' names.

    One name within the other pairs them (``cell1.tif`` and ``cell1_mask.tif``), or the same numbers
    in both (``img_01.tif`` and ``mask_1.tif``); where no name tells anything, the order does.

    Parameters
    ----------
    images, masks : sequence of Path
        As many of each.

    Raises
    ------
    InputError
        If some names tell what belongs together, but not all.
    """
    images, masks = (sorted(paths, key=_in_order) for paths in (images, masks))
    some: list[list[int]] = []
    for one, every in _WAYS:
        there = _found(images, masks, one, every)
        back = _found(masks, images, one, every)
        for place, numbers in enumerate(back):
            for number in numbers:
                there[number].append(place)
        there = [sorted(set(places)) for places in there]
        if sorted(places[0] for places in there if len(places) == 1) == list(range(len(masks))):
            return [(path, masks[places[0]]) for path, places in zip(images, there, strict=True)]
        some = some or (there if any(there) else [])
    if not some:
        return list(zip(images, masks, strict=True))
    path, places = next(
        each
        for each in zip(images, some, strict=True)
        if len(each[1]) != 1 or _shared(each[1], some)
    )
    fitting = ", ".join(masks[place].name for place in places[:3]) or "none"
    raise InputError(
        f"which label image belongs to {path.name} cannot be told by its name (fitting: "
        f"{fitting}): name label images like their pictures, such as {path.stem}_mask.tif"
    )


def _shared(places: list[int], every: list[list[int]]) -> bool:
    """Whether another picture has the same label image."""
    return sum(places == other for other in every) > 1


def _words(path: Path) -> _Words:
    """Words and numbers of a name."""
    found = re.findall(r"\d+|[^\W\d_]+", path.stem.casefold())
    return tuple(int(word) if word.isdecimal() else word for word in found)


def _numbers(words: _Words) -> _Words:
    return tuple(word for word in words if isinstance(word, int))


def _runs(words: _Words) -> set[_Words]:
    """All that stands in a name without a gap."""
    ends = range(1, len(words) + 1)
    return {words[start:end] for end in ends for start in range(end)}


def _in_order(path: Path) -> tuple[list[tuple[bool, str | int]], str]:
    """Numbers by their value, and names before what they begin."""
    return [(isinstance(word, str), word) for word in _words(path)], path.name


def _found(
    ones: Sequence[Path],
    others: Sequence[Path],
    one: Callable[[_Words], Hashable],
    every: Callable[[_Words], Iterable[Hashable]],
) -> list[list[int]]:
    """Of each of some paths the places of those that have its key."""
    places: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, path in enumerate(others):
        for key in every(_words(path)):
            places[key].append(place)
    return [list(places.get(one(_words(path)), [])) for path in ones]


_WAYS: tuple[tuple[Callable[[_Words], Hashable], Callable[[_Words], Iterable[Hashable]]], ...] = (
    (
        lambda words: (words, _numbers(words)),
        lambda words: ((run, _numbers(words)) for run in _runs(words)),
    ),
    (lambda words: words, lambda words: [words[:end] for end in range(1, len(words) + 1)]),
    (lambda words: words, _runs),
    (lambda words: _numbers(words) or None, lambda words: [_numbers(words)]),
)
"""Keys of a name, and those that its partner has: one within the other, best with no other numbers,
next at its beginning; or the same numbers.
"""
