"""Click files: JSON with a schema version, and CSV in the layout in which napari saves points.

JSON::

    {"format": "napari-fctsfn-clicks", "version": 1, "clicks": [
      {"row": 120.5, "column": 84, "positive": true},
      {"row": 60, "column": 60, "positive": false, "slice": [7], "object": 2}]}

CSV has napari's columns ``index``, ``axis-0``, ``axis-1`` and so on, the last two axes being row
and column and those before them the slice, and the columns ``positive`` and, if wanted, ``object``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_fctsfn._files import replace_file
from napari_fctsfn.clicks.records import (
    ClickFileError,
    ClickRecord,
    check_count,
    check_record,
    make_record,
    repeated,
    shown,
)
from napari_fctsfn.clicks.tables import from_csv, to_csv

__all__ = ["FORMAT", "VERSION", "ClickFileError", "ClickRecord", "read_clicks", "write_clicks"]

FORMAT = "napari-fctsfn-clicks"
VERSION = 1

_LARGEST_FILE = 16 << 20
_KEYS = ("row", "column", "positive", "slice", "object")


def read_clicks(path: str | os.PathLike[str]) -> list[ClickRecord]:
    """Read a click file.

    Parameters
    ----------
    path : path
        Ends in ``.json`` or ``.csv``.

    Returns
    -------
    list of ClickRecord
        In the order of the file, which is that in which they were made.

    Raises
    ------
    ClickFileError
        If the file is missing, too large, not text in UTF-8, or not a click file in every detail.
    """
    path = Path(path)
    is_csv = _is_csv(path)
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClickFileError(
            f"{path} is not text in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    return from_csv(text, path) if is_csv else _from_json(text, path)


def write_clicks(path: str | os.PathLike[str], records: Iterable[ClickRecord]) -> None:
    """Write a click file, whole or not at all.

    Parameters
    ----------
    path : path
        Ends in ``.json`` or ``.csv``; its folder must exist.
    records : iterable of ClickRecord
        In CSV all must have slices of the same number of axes.

    Raises
    ------
    ClickFileError
        If the file cannot be written or cannot hold the records.
    """
    path, records = Path(path), list(records)
    check_count(len(records), path)
    for number, record in enumerate(records, 1):
        check_record(record, f"{path}, click {number}")
    text = to_csv(records, path) if _is_csv(path) else _to_json(records)
    try:
        with replace_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ClickFileError(
            f"the click file {path} cannot be written: {error.strerror}; choose another place"
        ) from None


def _is_csv(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".json"}:
        raise ClickFileError(
            f"the name of the click file {path} must end in .json or .csv, not {suffix!r}"
        )
    return suffix == ".csv"


def _content(path: Path) -> bytes:
    try:
        # A pipe would be waited for without end.
        regular = stat.S_ISREG(path.stat().st_mode)
        content = b""
        if regular:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ClickFileError(
            f"the click file {path} cannot be read: {error.strerror}; check its name and place"
        ) from None
    except ValueError as error:
        raise ClickFileError(f"{str(path)!r} cannot be the name of a file: {error}") from None
    if not regular:
        raise ClickFileError(f"{path} is not a file; name a click file")
    if len(content) > _LARGEST_FILE:
        raise ClickFileError(f"{path} has more than {_LARGEST_FILE} bytes; divide it")
    return content


def _from_json(text: str, path: Path) -> list[ClickRecord]:
    document = _parsed(text, path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ClickFileError(f'{path} is no click file: it must say "format": "{FORMAT}"')
    version, entries = document.get("version"), document.get("clicks")
    if type(version) is not int or version != VERSION:
        raise ClickFileError(
            f"{path} has version {shown(version)}; this program reads version {VERSION}"
        )
    if unknown := sorted(set(document) - {"format", "version", "clicks"}):
        raise ClickFileError(f"{path}: unknown key {shown(unknown[0])}; remove it")
    if not isinstance(entries, list):
        raise ClickFileError(f"{path}: clicks must be a list, not {shown(entries)}")
    check_count(len(entries), path)
    return [_entry(entry, f"{path}, click {n}") for n, entry in enumerate(entries, 1)]


def _parsed(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = repeated(key for key, _ in pairs)
        if twice is not None:
            raise ClickFileError(f"{path}: the key {shown(twice)} appears twice; keep one")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ClickFileError(f"{path}: {constant} is no number of a click; give a finite number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except ClickFileError:
        raise
    except json.JSONDecodeError as error:
        raise ClickFileError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}); "
            f"mend it there"
        ) from None
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        reason = "lists nested too deeply" if deep else "a number with too many digits"
        raise ClickFileError(f"{path} is no click file: it has {reason}; write it again") from None


def _entry(entry: Any, place: str) -> ClickRecord:
    if not isinstance(entry, dict):
        raise ClickFileError(f"{place}: {shown(entry)} must be an object with row and column")
    for key in _KEYS[:3]:
        if key not in entry:
            raise ClickFileError(f"{place} has no {key!r}; add it")
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise ClickFileError(
            f"{place}: unknown key {shown(unknown[0])}; known are {', '.join(_KEYS)}"
        )
    row, column, positive = (entry[key] for key in _KEYS[:3])
    for key, value in (("row", row), ("column", column)):
        if type(value) not in (int, float):
            raise ClickFileError(f"{place}: {key} must be a number, not {shown(value)}")
    if type(positive) is not bool:
        raise ClickFileError(f"{place}: positive must be true or false, not {shown(positive)}")
    index, label = entry.get("slice", []), entry.get("object")
    if not isinstance(index, list) or not all(type(number) is int for number in index):
        raise ClickFileError(
            f"{place}: slice must be a list of whole numbers, such as [7], not {shown(index)}"
        )
    if label is not None and type(label) is not int:
        raise ClickFileError(f"{place}: object must be a whole number, not {shown(label)}")
    return make_record(row, column, positive, index, label, place)


def _to_json(records: Iterable[ClickRecord]) -> str:
    entries = []
    for record in records:
        click = record.click
        entry: dict[str, Any] = {
            "row": float(click.row),
            "column": float(click.column),
            "positive": bool(click.positive),
        }
        if record.slice:
            entry["slice"] = [int(number) for number in record.slice]
        if record.object is not None:
            entry["object"] = int(record.object)
        entries.append(json.dumps(entry))
    head = f'{{"format": "{FORMAT}", "version": {VERSION}, "clicks": ['
    return head + ",".join(f"\n  {entry}" for entry in entries) + "]}\n"
