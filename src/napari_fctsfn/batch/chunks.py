"""Images larger than memory: segmented chunk by chunk with a halo, and put together without seams.

Every object belongs to the chunk in whose core its first click lies, and is segmented in that
chunk's region, which is the core and a halo around it. Where objects of several chunks claim a
pixel the lower label has it, as in a single picture, so the result is the same in whatever order
and wherever chunks are done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn._files import replace_file
from napari_fctsfn.batch.job import FromFiles, FromMasks, FromSeeds, FromTable, Job
from napari_fctsfn.batch.pictures import Picture, read_picture, stem_of
from napari_fctsfn.batch.sources import (
    beside,
    check_labels,
    check_values,
    click_file,
    from_file,
    from_labels,
    from_table,
    nothing_found,
    seeds,
)
from napari_fctsfn.batch.work import Given, Index, Segmented, Work, planes_of, replay
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats import boxes_of
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.predict.images import is_rgb

Window = tuple[slice, slice]

_FOLDER = ".chunks"
"""In the output folder: what chunks have come to, until their image is done."""


@dataclass(frozen=True)
class Chunk:
    """A part of an image.

    Parameters
    ----------
    number : int
        Its place among the chunks of the image: slice by slice, row by row.
    index : tuple of int
        Place of its slice.
    core : tuple of two slice
        Rows and columns; the cores of a slice cover it without overlap.
    region : tuple of two slice
        The core and its halo, within the slice.
    """

    number: int
    index: Index
    core: Window
    region: Window

    def owns(self, row: float, column: float) -> bool:
        """Whether a place lies in the core."""
        rows, columns = self.core
        # pixel centres are whole numbers, so a pixel begins half before
        down, right = row + 0.5, column + 0.5
        return bool(rows.start <= down < rows.stop and columns.start <= right < columns.stop)


@dataclass(frozen=True, eq=False)
class Piece:
    """What came of a chunk.

    Parameters
    ----------
    labels : array of uint, shape of the region
        Labels of the image, or if `numbered` is False 1, 2, ... in the order of their seeds.
    probability : array of float32, same shape, or None
    clicks : dict of int to Clicks
        By label, at their places in the image.
    certainty : dict of int to float
    seen : list of int
        Labels of given masks that reach into the region.
    numbered : bool
    """

    labels: NDArray[Any]
    probability: NDArray[np.float32] | None
    clicks: dict[int, Clicks]
    certainty: dict[int, float]
    seen: list[int]
    numbered: bool


def chunks_of(image: Any, size: int, halo: int) -> list[Chunk]:
    """The chunks of an image, slice by slice, row by row.

    Parameters
    ----------
    image : array-like, shape (..., rows, columns) or (..., rows, columns, 3 or 4)
    size : int
        Rows and columns of a core.
    halo : int
        Pixels around a core.
    """
    planes = planes_of(image)
    rows, columns = image.shape[len(planes[0]) : len(planes[0]) + 2]
    found: list[Chunk] = []
    for index in planes:
        for top in range(0, rows, size):
            for left in range(0, columns, size):
                core = slice(top, min(top + size, rows)), slice(left, min(left + size, columns))
                region = (
                    slice(max(top - halo, 0), min(top + size + halo, rows)),
                    slice(max(left - halo, 0), min(left + size + halo, columns)),
                )
                found.append(Chunk(len(found), index, core, region))
    return found


def segment_chunk(
    job: Job,
    base: Path,
    image: Path,
    pixels: Any,
    chunk: Chunk,
    normalisation: Normalisation,
    predictor: Predictor,
) -> Piece:
    """Segment the objects that belong to a chunk.

    Raises
    ------
    InputError
        If there are no clicks on the image, or they do not fit.
    """
    source, settings = job.clicks, predictor.settings
    region = pixels[(*chunk.index, *chunk.region)]
    given: Given | None = None
    seen: list[int] = []
    match source:
        case FromFiles():
            mine = _mine(chunk, from_file(click_file(source, base, image), pixels))
        case FromTable():
            mine = _mine(chunk, from_table(source, base, image, pixels))
        case FromSeeds():
            if not settings.extent:
                settings = replace(settings, extent=2 * source.radius)
            top, left = (window.start for window in chunk.region)
            places = [
                place
                for place in seeds(source, region, normalisation)
                if chunk.owns(place[0] + top, place[1] + left)
            ]
            mine = {n: {(): Clicks([Click(*p)])} for n, p in enumerate(places, 1)}
        case FromMasks():
            path = beside(source.path, base, image)
            labels = read_picture(path, lazy=True).pixels
            check_labels(path, labels, pixels)
            window: Any = (*chunk.index, *chunk.region)
            cut = labels[window]
            check_values(path, cut)
            seen = np.unique(cut[cut != 0]).tolist()
            owned = _owned(chunk, cut, labels.shape[-2:])
            mine, given = from_labels(owned, region, refine=source.use == "refine")
        case _:
            raise AssertionError(f"{source} is not done by chunks")
    found = replay(
        predictor,
        region,
        mine,
        normalisation,
        settings,
        given,
        keep_probability=job.outputs.probability,
    )
    top, left = (window.start for window in chunk.region)
    return Piece(
        found.labels,
        found.probability,
        {label: _moved(planes[()], top, left) for label, planes in mine.items()},
        {label: planes[()] for label, planes in found.certainty.items()},
        seen,
        not isinstance(source, FromSeeds),
    )


def _mine(chunk: Chunk, work: Work) -> Work:
    """The objects whose first click lies in the core, with clicks counted from the region's corner.

    Raises
    ------
    InputError
        If an object has clicks beyond the region.
    """
    rows, columns = chunk.region
    mine: Work = {}
    for label, planes in work.items():
        clicks = planes.get(chunk.index)
        if clicks is None or not chunk.owns(clicks[0].row, clicks[0].column):
            continue
        moved = _moved(clicks, -rows.start, -columns.start)
        try:
            moved.check_inside((rows.stop - rows.start, columns.stop - columns.start))
        except InputError:
            raise InputError(
                f"the clicks on object {label} reach beyond the halo of its chunk: make "
                f"inputs.halo larger"
            ) from None
        mine[label] = {(): moved}
    return mine


def _moved(clicks: Clicks, down: float, right: float) -> Clicks:
    return Clicks(
        [Click(click.row + down, click.column + right, click.positive) for click in clicks]
    )


def _owned(chunk: Chunk, labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Only those masks in a region that have their middle in the core.

    Raises
    ------
    InputError
        If one goes on beyond the region.
    """
    kept = np.zeros_like(labels)
    top, left = (window.start for window in chunk.region)
    for label, box in boxes_of(labels):
        row, column = ((window.start + window.stop - 1) / 2 for window in box)
        if chunk.owns(row + top, column + left):
            if _is_cut(box, chunk, shape):
                raise InputError(_too_large(label))
            kept[box][labels[box] == label] = label
    return kept


def _is_cut(box: Window, chunk: Chunk, shape: tuple[int, ...]) -> bool:
    """Whether a box within a region touches a side of it that is not a side of the image."""
    return any(
        (inner.start == 0 and whole.start > 0)
        or (inner.stop == whole.stop - whole.start and whole.stop < extent)
        for inner, whole, extent in zip(box, chunk.region, shape, strict=True)
    )


def _too_large(label: int) -> str:
    return (
        f"the mask of object {label} is too large for its chunks: make inputs.chunk or "
        f"inputs.halo larger"
    )


def piece_path(folder: Path, image: Path, number: int, key: str) -> Path:
    """Where a piece is kept until its image is done.

    Parameters
    ----------
    folder : Path
        Of the outputs.
    image : Path
    number : int
        Of the chunk.
    key : str
        Of the image, so that a changed image or job finds no old pieces.
    """
    return folder / _FOLDER / stem_of(image) / f"{number}-{key[:32]}.npz"


def write_piece(path: Path, piece: Piece) -> None:
    """Write a piece, whole or not at all."""
    document = {
        "clicks": {
            label: [[c.row, c.column, c.positive] for c in clicks]
            for label, clicks in piece.clicks.items()
        },
        "certainty": piece.certainty,
        "seen": piece.seen,
        "numbered": piece.numbered,
    }
    arrays: dict[str, NDArray[Any]] = {"labels": piece.labels}
    if piece.probability is not None:
        arrays["probability"] = piece.probability
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, document=text, **arrays)


def read_piece(path: Path) -> Piece:
    """Read a piece.

    Raises
    ------
    OSError, ValueError, KeyError, BadZipFile
        If it is missing or no piece.
    """
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        document = json.loads(file["document"].tobytes())
        return Piece(
            file["labels"],
            file.get("probability"),
            {
                int(label): Clicks([Click(*click) for click in clicks])
                for label, clicks in document["clicks"].items()
            },
            {int(label): value for label, value in document["certainty"].items()},
            document["seen"],
            document["numbered"],
        )


@contextmanager
def assembled(
    job: Job,
    folder: Path,
    image: Path,
    picture: Picture,
    key: str,
    missing: Callable[[Chunk], Piece],
) -> Iterator[tuple[Work, Segmented]]:
    """An image's pieces put together, in files that are there until the context ends.

    Parameters
    ----------
    job : Job
    folder : Path
        Of the outputs.
    image : Path
    picture : Picture
    key : str
        Of the image.
    missing : callable
        Makes the piece of a chunk that has none yet.

    Yields
    ------
    work : dict
        The clicks.
    found : Segmented
        Labels and probability are mapped files.

    Raises
    ------
    InputError
        If nothing was found, or a mask belongs to no chunk.
    """
    size = job.inputs.chunk
    assert size is not None
    chunks = chunks_of(picture.pixels, size, job.inputs.halo)
    for chunk in chunks:
        path = piece_path(folder, image, chunk.number, key)
        try:
            read_piece(path)
        except (OSError, ValueError, KeyError, BadZipFile):
            write_piece(path, missing(chunk))

    @lru_cache(maxsize=2 * _across(chunks) + 3)
    def piece(number: int) -> Piece:
        return read_piece(piece_path(folder, image, number, key))

    work, certainty, offsets = _collected(job, chunks, piece)
    place = folder / _FOLDER / stem_of(image)
    shape = picture.pixels.shape[: picture.pixels.ndim - is_rgb(picture.pixels)]
    dtype = np.min_scalar_type(max(work, default=1))
    labels = np.lib.format.open_memmap(place / "labels.npy", "w+", dtype, shape)
    probability = None
    if job.outputs.probability:
        name = place / "probability.npy"
        probability = np.lib.format.open_memmap(name, "w+", np.dtype(np.float32), shape)
    slices: dict[Index, list[Chunk]] = {}
    for chunk in chunks:
        slices.setdefault(chunk.index, []).append(chunk)
    for chunk in chunks:
        box: Any = (*chunk.index, *chunk.core)
        for other in slices[chunk.index]:
            if not _meet(chunk.core, other.region):
                continue
            part = piece(other.number)
            here, there = _shared(chunk.core, other.region)
            _join(labels[box][here], part.labels[there], offsets[other.number])
            if probability is not None and part.probability is not None:
                ours = probability[box][here]
                np.maximum(ours, part.probability[there], out=ours)
    yield work, Segmented(labels, probability, certainty)
    del labels, probability
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # another image's pieces may be beside it
        place.parent.rmdir()


def _join(labels: NDArray[Any], others: NDArray[Any], offset: int) -> None:
    """Put the labels of a piece, and `offset` more, among those that are there already."""
    others = others.astype(labels.dtype)
    others[others != 0] += labels.dtype.type(offset)
    taken = (others != 0) & ((labels == 0) | (others < labels))
    labels[taken] = others[taken]


def _collected(
    job: Job, chunks: list[Chunk], piece: Callable[[int], Piece]
) -> tuple[Work, dict[int, dict[Index, float]], list[int]]:
    """Clicks and certainties of all pieces, and what is added to the labels of each."""
    work: Work = {}
    certainty: dict[int, dict[Index, float]] = {}
    offsets: list[int] = []
    seen: set[int] = set()
    for chunk in chunks:
        part = piece(chunk.number)
        offset = 0 if part.numbered else len(work)
        offsets.append(offset)
        seen.update(part.seen)
        for label, clicks in part.clicks.items():
            work.setdefault(label + offset, {})[chunk.index] = clicks
        for label, value in part.certainty.items():
            planes = certainty.setdefault(label + offset, {})
            planes[chunk.index] = min(value, planes.get(chunk.index, value))
    if isinstance(job.clicks, FromSeeds) and not work:
        raise nothing_found(job.clicks)
    for label in sorted(seen - set(work)):
        raise InputError(_too_large(label))
    return dict(sorted(work.items())), certainty, offsets


def _across(chunks: list[Chunk]) -> int:
    """The number of chunks beside each other."""
    return len({(chunk.core[1].start) for chunk in chunks})


def _meet(one: Window, other: Window) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def _shared(one: Window, other: Window) -> tuple[Window, Window]:
    """Where two windows overlap, counted from the corner of each."""
    starts = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
    stops = [min(a.stop, b.stop) for a, b in zip(one, other, strict=True)]

    def seen_from(window: Window) -> Window:
        rows, columns = (
            slice(start - side.start, stop - side.start)
            for start, stop, side in zip(starts, stops, window, strict=True)
        )
        return rows, columns

    return seen_from(one), seen_from(other)
