"""Click files as tables (CSV), in the layout in which napari saves points."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from napari_fctsfn.clicks.records import (
    FARTHEST,
    MOST_AXES,
    ClickFileError,
    ClickRecord,
    check_count,
    make_record,
    repeated,
    shown,
)

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_KIND = {"positive": True, "negative": False}
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def from_csv(text: str, path: Path) -> list[ClickRecord]:
    """The records of a table; `path` is its file in errors."""
    # In quotes a field may hold a line break, so it is the reader that counts lines.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[ClickRecord] = []
    header: list[str] | None = None
    axes: list[int] = []
    try:
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if not any(field.strip() for field in row):
                continue
            if header is None:
                header = [field.strip() for field in row]
                axes = _axes(header, place)
                continue
            if len(row) != len(header):
                raise ClickFileError(
                    f"{place} has {len(row)} fields, the header has {len(header)}; they must agree"
                )
            named = dict(zip(header, row, strict=True))
            records.append(_row(named, [row[axis] for axis in axes], place))
            check_count(len(records), path)
    except csv.Error as error:
        raise ClickFileError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}); mend it there"
        ) from None
    if header is None:
        raise ClickFileError(f"{path} is empty: it needs a header with axis-0, axis-1, positive")
    return records


def _axes(header: list[str], place: str) -> list[int]:
    """Where the columns of the axes are, in the order of the axes."""
    twice = repeated(header)
    if twice is not None:
        raise ClickFileError(f"{place}: the column {shown(twice)} appears twice; keep one")
    count = sum(name.startswith("axis-") for name in header)
    wanted = [f"axis-{axis}" for axis in range(min(count, MOST_AXES + 2))]
    if not 2 <= count <= MOST_AXES + 2 or set(wanted) - set(header):
        raise ClickFileError(
            f"{place}: the header {shown(','.join(header))} needs the columns axis-0 and axis-1 "
            f"(and so on, for slices), parted by commas, as napari saves points"
        )
    if not {"positive", "polarity"} & set(header):
        raise ClickFileError(f"{place}: the column 'positive' is missing; add it, True or False")
    return [header.index(name) for name in wanted]


def _row(named: dict[str, str], coordinates: Sequence[str], place: str) -> ClickRecord:
    *index, row, column = [_number(text, "coordinate", place) for text in coordinates]
    name, known = ("positive", _TRUTH) if "positive" in named else ("polarity", _KIND)
    positive = known.get(named[name].strip().lower())
    if positive is None:
        choice = "True or False" if known is _TRUTH else "positive or negative"
        raise ClickFileError(f"{place}: {name} must be {choice}, not {shown(named[name])}")
    label = None
    if text := named.get("object", "").strip():
        label = math.floor(number := _number(text, "object", place))
        if label != number:
            raise ClickFileError(f"{place}: object must be a whole number, not {shown(text)}")
    # A point belongs to the slice in which napari shows it, as a click belongs to its pixel.
    return make_record(row, column, positive, [math.floor(x + 0.5) for x in index], label, place)


def _number(text: str, what: str, place: str) -> float:
    number = float(text) if len(text) < 400 and _NUMBER.fullmatch(text.strip()) else math.nan
    # Not a number compares as false.
    if not abs(number) < FARTHEST:
        raise ClickFileError(f"{place}: {shown(text)} is no {what}; give a number below {FARTHEST}")
    return number


def to_csv(records: Sequence[ClickRecord], path: Path) -> str:
    """The table that holds the records; `path` is its file in errors."""
    lengths = {len(record.slice) for record in records} or {0}
    if len(lengths) > 1:
        raise ClickFileError(
            f"{path}: clicks with and without slices do not fit into one CSV file; write JSON"
        )
    axes = [f"axis-{axis}" for axis in range(lengths.pop() + 2)]
    objects = any(record.object is not None for record in records)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["index", *axes, "positive", *(["object"] if objects else [])])
    for number, record in enumerate(records):
        click = record.click
        row = [number, *record.slice, float(click.row), float(click.column), bool(click.positive)]
        table.writerow([*row, *([record.object] if objects else [])])
    return stream.getvalue()
