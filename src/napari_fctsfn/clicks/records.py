"""A click as a click file holds it, and what every kind of click file agrees on."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fctsfn.clicks.click import Click
from napari_fctsfn.errors import InputError

MOST_CLICKS = 50_000
"""So many clicks fit into the largest file, however long their numbers are."""

FARTHEST = 2**31
"""No coordinate, slice or label is as large."""

MOST_AXES = 8
"""Leading axes that a slice may have."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 60


class ClickFileError(InputError):
    """A click file that cannot be read or written; the message names place, value and remedy."""


@dataclass(frozen=True)
class ClickRecord:
    """A click as a file holds it.

    Parameters
    ----------
    click : Click
        Row, column and kind.
    slice : tuple of int
        Place of its slice on the leading axes of a stack; empty for a single picture, or where the
        slice is chosen elsewhere.
    object : int, optional
        Label of its object, from 1.
    """

    click: Click
    slice: tuple[int, ...] = ()
    object: int | None = None


def make_record(
    row: float, column: float, positive: bool, index: list[int], label: int | None, place: str
) -> ClickRecord:
    """A record of values from a file; `place` says in an error where they come from."""
    # Here, because integers of JSON may be too large to become a float.
    for number in (row, column):
        if not abs(number) < FARTHEST:
            raise ClickFileError(
                f"{place}: coordinate {shown(number)} is out of range; give one below {FARTHEST}"
            )
    record = ClickRecord(Click(float(row), float(column), positive), tuple(index), label)
    check_record(record, place)
    return record


def check_record(record: ClickRecord, place: str) -> None:
    """Raise if a file cannot hold the record; `place` says in the error which one it is."""
    for number in (record.click.row, record.click.column):
        if not abs(number) < FARTHEST:
            raise ClickFileError(f"{place}: coordinate {number:g} is out of range; remove it")
    if len(record.slice) > MOST_AXES or not all(0 <= n < FARTHEST for n in record.slice):
        raise ClickFileError(
            f"{place}: slice {shown(list(record.slice))} is out of range; give at most "
            f"{MOST_AXES} numbers from 0 to {FARTHEST - 1}"
        )
    if record.object is not None and not 1 <= record.object < FARTHEST:
        raise ClickFileError(
            f"{place}: object must be from 1 to {FARTHEST - 1}, not {shown(record.object)}"
        )


def check_count(count: int, path: Path) -> None:
    """Raise if a file cannot hold so many clicks."""
    if count > MOST_CLICKS:
        raise ClickFileError(f"{path} holds at most {MOST_CLICKS} clicks, not {count}; divide it")


def repeated(names: Iterable[str]) -> str | None:
    """The first name that appears more than once; in linear time, however many there are."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def shown(value: Any) -> str:
    """A value as an error shows it: short and on one line."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python refuses to write out very long integers
        return f"a number of {value.bit_length()} bits"
