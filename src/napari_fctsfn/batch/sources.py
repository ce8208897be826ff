"""Where the clicks of a job come from."""

from __future__ import annotations

import csv
import functools
import io
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_fctsfn.batch.job import (
    Columns,
    FromFiles,
    FromMasks,
    FromSeeds,
    FromSession,
    FromTable,
)
from napari_fctsfn.batch.pictures import read_picture, stem_of
from napari_fctsfn.batch.work import (
    Given,
    Index,
    Placed,
    Work,
    arrange,
    planes_of,
    read_placed,
    usual_normalisation,
)
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.records import FARTHEST
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats import boxes_of
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.session import is_session, newest_session, sessions_directory
from napari_fctsfn.stack import guide_clicks

_Rows = list[tuple[int, Mapping[str, str]]]
_Table = dict[str, _Rows]

_TRUE = {"true", "1", "1.0", "yes", "positive"}
_FALSE = {"false", "0", "0.0", "no", "negative"}


def click_file(source: FromFiles, base: Path, image: Path) -> Path:
    """The click file of an image.

    Raises
    ------
    InputError
        If there is none.
    """
    folder = image.parent if source.folder is None else base / source.folder
    names = [f"{stem_of(image)}{source.suffix}{ending}" for ending in (".json", ".csv")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{image.name} has no click file: {names[0]} or {names[1]} is not in {folder}")


def beside(pattern: str, base: Path, image: Path) -> Path:
    """The path in which ``{stem}`` stands for the stem of an image."""
    return base / pattern.replace("{stem}", stem_of(image))


def session_folder(source: FromSession, base: Path, image: Path) -> Path:
    """The folder of the session of an image.

    It is the one named; or, where a folder of sessions is named or none at all, the newest session
    of the image's file.

    Raises
    ------
    InputError
        If there is none.
    """
    if source.folder is None:
        within = sessions_directory()
    else:
        within = beside(source.folder, base, image)
        if is_session(within):
            return within
    found = newest_session(image, within)
    if found is None:
        raise InputError(f"{image.name} has no session: there is none in {within}")
    return found


def from_file(path: Path, pixels: NDArray[Any]) -> Work:
    """The clicks of a click file."""
    return arrange(pixels, read_placed(path), [])


def from_table(source: FromTable, base: Path, image: Path, pixels: NDArray[Any]) -> Work:
    """The clicks on an image in a points table.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or has no click on this image.
    """
    placed = rows_of(source, base, image)
    if not placed:
        raise InputError(
            f"{base / source.path} has no click on {image.name}: look at its column of images"
        )
    return arrange(pixels, placed, [])


def rows_of(source: FromTable, base: Path, image: Path) -> list[Placed]:
    """The clicks on an image in a points table, in its order.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or has a row that says no click.
    """
    path, columns = base / source.path, source.columns
    table = _table(path, columns)
    if columns.image is None:
        rows = table.get("", [])
    else:
        rows = [row for name in {stem_of(image), image.name} for row in table.get(name, [])]
    return list(_placed(path, columns, sorted(rows, key=operator.itemgetter(0))))


def strangers(source: FromTable, base: Path, images: Sequence[Path]) -> str:
    """What is to be said of rows of a points table that name no image of the job.

    Raises
    ------
    InputError
        If the table cannot be read or lacks a column.
    """
    path = base / source.path
    table = _table(path, source.columns)
    known = {name for image in images for name in (stem_of(image), image.name)} | {""}
    left = {name: len(rows) for name, rows in table.items() if name not in known}
    if not left:
        return ""
    return (
        f"{path.name}: {sum(left.values())} of its clicks are on images that inputs.images does "
        f"not find, such as {min(left)!r}: they are left out"
    )


def _table(path: Path, columns: Columns) -> _Table:
    """A table's rows and their line numbers, by what its column of images holds."""
    try:
        stamp = path.stat()
        return _read_table(path, columns, stamp.st_mtime_ns, stamp.st_size)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the points table {path} cannot be read: {error}") from None


@functools.lru_cache(maxsize=1)
def _read_table(path: Path, columns: Columns, _changed: int, _size: int) -> _Table:
    text = path.read_text(encoding="utf-8-sig")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    present = reader.fieldnames or []
    for role, name in columns.model_dump(exclude_none=True).items():
        if name not in present:
            raise InputError(
                f"{path} has no column {name!r} for the {role}: it has {', '.join(present)}; name "
                f"it in clicks.columns.{role}"
            )
    table: _Table = {}
    for line, row in enumerate(reader, 2):
        # a row that ends early has no text there
        table.setdefault((row[columns.image] if columns.image else "") or "", []).append(
            (line, row)
        )
    return table


def _placed(path: Path, columns: Columns, rows: _Rows) -> Iterator[Placed]:
    """The clicks that rows of a table say."""
    for number, (line, row) in enumerate(rows, 1):
        yield Placed(
            Click(
                _number(row, columns.row, path, line),
                _number(row, columns.column, path, line),
                _is_positive(row, columns.positive, path, line),
            ),
            (_whole(row, columns.slice, path, line),) if columns.slice else (),
            _whole(row, columns.object, path, line, 1) if columns.object else number,
        )


def _number(row: Mapping[str, str], name: str, path: Path, line: int) -> float:
    try:
        number = float(row[name])
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path}, line {line}: {name} is {row[name]!r} and no number")
    return number


def _whole(row: Mapping[str, str], name: str, path: Path, line: int, least: int = 0) -> int:
    number = _number(row, name, path, line)
    if number != int(number) or not least <= number < FARTHEST:
        raise InputError(
            f"{path}, line {line}: {name} is {row[name]!r} and no whole number from {least} on"
        )
    return int(number)


def _is_positive(row: Mapping[str, str], name: str | None, path: Path, line: int) -> bool:
    if name is None:
        return True
    text = (row[name] or "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise InputError(f"{path}, line {line}: {name} is {row[name]!r}: say true or false")
    return text in _TRUE


def from_seeds(
    source: FromSeeds, pixels: NDArray[Any], normalisation: Normalisation | None
) -> Work:
    """One click on each thing that is found, slice by slice, numbered in reading order.

    Raises
    ------
    InputError
        If nothing is found.
    """
    normalisation = normalisation or usual_normalisation(pixels)
    work: Work = {}
    for index in planes_of(pixels):
        for row, column in seeds(source, pixels[index], normalisation):
            work[len(work) + 1] = {index: Clicks([Click(row, column)])}
    if not work:
        raise nothing_found(source)
    return work


def nothing_found(source: FromSeeds) -> InputError:
    """What is said where the detector finds nothing."""
    return InputError(
        f"no thing of radius {source.radius:g} was found: lower the threshold "
        f"{source.threshold:g}, or change the radius"
    )


def seeds(
    source: FromSeeds, plane: NDArray[Any], normalisation: Normalisation
) -> list[tuple[float, float]]:
    """Row and column of the things in a slice, in reading order.

    Parameters
    ----------
    source : FromSeeds
    plane : array, shape (rows, columns) or (rows, columns, 3 or 4)
    normalisation : Normalisation
    """
    from skimage.feature import blob_log, peak_local_max
    from skimage.filters import gaussian

    grey = normalisation.apply(plane)
    if grey.ndim == 3:
        grey = grey[..., :3].mean(axis=2)
    if source.dark:
        grey = 1 - grey
    found: NDArray[Any]
    if source.method == "log":
        sigma = source.radius / math.sqrt(2)
        found = blob_log(
            grey, min_sigma=sigma, max_sigma=sigma, num_sigma=1, threshold=source.threshold
        )[:, :2]
    else:
        found = peak_local_max(
            gaussian(grey, source.radius / 2),
            min_distance=max(round(source.radius), 1),
            threshold_abs=source.threshold,
            exclude_border=False,
        )
    return sorted((float(row), float(column)) for row, column in found)


def from_masks(source: FromMasks, path: Path, pixels: NDArray[Any]) -> tuple[Work, Given]:
    """Clicks that masks imply, and the masks themselves if they are to be refined.

    Raises
    ------
    InputError
        If they are of another shape, or empty.
    """
    work, given = from_labels(labels_like(path, pixels), pixels, refine=source.use == "refine")
    if not work:
        raise InputError(f"{path} has no object: all its labels are 0")
    return work, given


def from_labels(labels: NDArray[Any], pixels: NDArray[Any], *, refine: bool) -> tuple[Work, Given]:
    """Clicks on every object of a label image in every slice, and its masks to be refined.

    Parameters
    ----------
    labels : array of int, shaped like `pixels` without colours
    pixels : array
    refine : bool
        Clicks along the whole mask, which is given; otherwise one in its middle.
    """
    work: Work = {}
    given: Given = {}
    for index in planes_of(pixels):
        for label, _ in boxes_of(labels[index]):
            mask = labels[index] == label
            work.setdefault(label, {})[index] = guide_clicks(mask, single=not refine)
            if refine:
                given[label, index] = mask
    return dict(sorted(work.items())), given


def labels_like(path: Path, pixels: NDArray[Any]) -> NDArray[Any]:
    """The labels in a file, which must be shaped like an image without its colours.

    Raises
    ------
    InputError
        If they are not, or one is negative or too large.
    """
    labels: NDArray[Any] = read_picture(path).pixels
    check_labels(path, labels, pixels)
    check_values(path, labels)
    return labels


def check_values(path: Path, labels: NDArray[Any]) -> None:
    """Refuse labels that click files cannot hold.

    Raises
    ------
    InputError
        If one is negative or too large.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0:
        raise InputError(f"{path} has the label {lowest}: labels begin at 0")
    if highest >= FARTHEST:
        raise InputError(
            f"{path} has the label {highest}: labels go up to {FARTHEST - 1}, so number them anew"
        )


def check_labels(path: Path, labels: Any, pixels: Any) -> None:
    """Refuse labels that are no whole numbers or not shaped like an image without its colours.

    Raises
    ------
    InputError
        If they are not.
    """
    first: Index = planes_of(pixels)[0]
    shape = tuple(pixels.shape[: len(first) + 2])
    if labels.shape != shape or labels.dtype.kind not in "biu":
        raise InputError(
            f"{path} has shape {labels.shape} and type {labels.dtype}: labels of this image have "
            f"shape {shape} and whole numbers"
        )
