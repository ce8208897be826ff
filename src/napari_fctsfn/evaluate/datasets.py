"""Data sets in one layout: ``images/``, ``labels/``, ``dataset.json`` and lists of objects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.predict.images import ImageFileError, is_rgb, read_image, read_labels

Kind = Literal["instances", "regions", "parts", "binary"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


class DataSetError(InputError):
    """A data set that cannot be used; the message names the place and the remedy."""


@dataclass(frozen=True)
class ObjectReference:
    """One object of a data set.

    Parameters
    ----------
    stem : str
        Name of its image without the ending.
    value : int
        Its value in the label image.
    """

    stem: str
    value: int


@dataclass(frozen=True)
class DataSet:
    """A folder with pictures and label images.

    Parameters
    ----------
    folder : Path
    name : str
    kind : {"instances", "regions", "parts", "binary"}
        What the values of a label image are: separate objects, a partition, named parts (each
        value one object), or one object of value `foreground`.
    licence, modality : str
        As stated by the data set.
    images_folder, labels_folder : str
        Names of its two folders.
    background : int
        The value that is no object.
    foreground : int, optional
        The object's value, of ``binary``.
    ignore : int, optional
        The value of pixels that do not count.
    evaluation_only : bool
        Whether training on it is forbidden.
    """

    folder: Path
    name: str
    kind: Kind
    licence: str = ""
    modality: str = ""
    images_folder: str = "images"
    labels_folder: str = "labels"
    background: int = 0
    foreground: int | None = None
    ignore: int | None = None
    evaluation_only: bool = False

    @classmethod
    def open(cls, folder: Path) -> DataSet:
        """The data set in a folder.

        Raises
        ------
        DataSetError
            If ``dataset.json`` is missing or not valid.
        """
        path = folder / "dataset.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataSetError(f"{folder} is no data set: {path.name}: {error}") from None
        if not isinstance(about, dict) or about.get("kind") not in get_args(Kind):
            raise DataSetError(f"{path} must name its kind, one of: {', '.join(get_args(Kind))}")
        numbers = {
            key: about[key]
            for key in ("background", "foreground", "ignore")
            if about.get(key) is not None
        }
        if not all(type(value) is int for value in numbers.values()):
            raise DataSetError(f"{path}: {numbers} must be whole numbers")
        if about["kind"] == "binary" and "foreground" not in numbers:
            raise DataSetError(f"{path}: a set of kind 'binary' must name its 'foreground' value")
        return cls(
            folder,
            str(about.get("name", folder.name)),
            about["kind"],
            str(about.get("licence", "")),
            str(about.get("modality", "")),
            str(about.get("images", "images")),
            str(about.get("labels", "labels")),
            evaluation_only=bool(about.get("evaluation_only", False)),
            **numbers,
        )

    def image(self, stem: str) -> NDArray[Any]:
        """Picture of a stem, (rows, columns) or (rows, columns, 3 or 4).

        Raises
        ------
        DataSetError
            If it is missing, unreadable or no single picture.
        """
        path = self._path(self.images_folder, stem)
        image = _read(path)
        if image.ndim != 2 and not (image.ndim == 3 and is_rgb(image)):
            raise DataSetError(f"{path} is no single picture: its shape is {image.shape}")
        return image

    def labels(self, stem: str) -> NDArray[Any]:
        """Label image of a stem, (rows, columns), whole numbers.

        Raises
        ------
        DataSetError
            If it is missing, unreadable or no label image.
        """
        path = self._path(self.labels_folder, stem)
        try:
            return read_labels(path)
        except ImageFileError as error:
            raise DataSetError(str(error)) from None

    def pair(self, stem: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Picture and label image of a stem.

        Raises
        ------
        DataSetError
            If one is missing or unreadable, or their sizes differ.
        """
        image, labels = self.image(stem), self.labels(stem)
        if image.shape[:2] != labels.shape:
            raise DataSetError(
                f"{stem} of {self.name}: the image has shape {image.shape[:2]}, its labels "
                f"{labels.shape}; they must be equal"
            )
        return image, labels

    def values(self, labels: NDArray[Any]) -> list[int]:
        """Values of the objects in a label image, ascending."""
        values = {int(value) for value in np.unique(labels)} - {self.ignore}
        if self.kind == "binary":
            values &= {self.foreground}
        return sorted(values - {self.background})

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Pixels of a label image that do not count; None if all do."""
        return None if self.ignore is None else labels == self.ignore

    def stems(self, list_file: Path) -> list[str]:
        """Stems of a list file, each once, in order.

        Raises
        ------
        DataSetError
            If the list is missing or empty.
        """
        return list(dict.fromkeys(stem for _, stem, _ in self._lines(list_file)))

    def objects(
        self, list_file: Path, limit: int | None = None, seed: int = 0
    ) -> list[ObjectReference]:
        """Objects that a list file names.

        Parameters
        ----------
        list_file : Path
            Lines ``STEM`` (all objects of the image) or ``STEM VALUE`` (one), mixed freely; a
            name that does not exist as it is, is looked for in the data set's folder.
        limit : int, optional
            At most so many, a random sample that depends on the list and `seed` alone.
        seed : int

        Returns
        -------
        list of ObjectReference
            In the order of the list, without repetitions.

        Raises
        ------
        DataSetError
            If the list is missing, empty, malformed, or names what is not there.
        """
        found: dict[ObjectReference, None] = {}
        known: dict[str, list[int]] = {}
        for place, stem, value in self._lines(list_file):
            if stem not in known:
                self._path(self.images_folder, stem, place)
                self._path(self.labels_folder, stem, place)
                known[stem] = self.values(self.labels(stem))
            if value is not None and value not in known[stem]:
                there = ", ".join(map(str, known[stem][:20])) or "none"
                raise DataSetError(
                    f"{place}: {stem} of {self.name} has no object {value}; its objects are {there}"
                )
            values = known[stem] if value is None else [value]
            found.update(dict.fromkeys(ObjectReference(stem, value) for value in values))
        objects = list(found)
        if not objects:
            raise DataSetError(f"the images that {list_file} names have no object")
        if limit is not None and limit < len(objects):
            chosen = np.random.default_rng(seed).permutation(len(objects))[:limit]
            objects = [objects[index] for index in sorted(chosen)]
        return objects

    def check(self, objects: Iterable[ObjectReference]) -> None:
        """Read every picture of `objects` once, before hours go into the first of them.

        Raises
        ------
        DataSetError
            As `pair` does.
        """
        for stem in dict.fromkeys(reference.stem for reference in objects):
            self.pair(stem)

    def _lines(self, list_file: Path) -> list[tuple[str, str, int | None]]:
        """Place, stem and, if there is one, value of every line that is not blank."""
        path = list_file if list_file.exists() else self.folder / list_file
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataSetError(f"the list {list_file} cannot be read: {error}") from None
        found: list[tuple[str, str, int | None]] = []
        for number, line in enumerate(lines, 1):
            stem, *rest = line.rsplit(maxsplit=1) or [""]
            # A stem may have blanks in it, and then its end may look like a value.
            if not rest or self._find(self.labels_folder, line.strip()) is not None:
                stem, rest = line.strip(), []
            if rest and not (rest[0].isdecimal() and len(rest[0]) < 20):
                raise DataSetError(
                    f"{path}, line {number}: {line.strip()!r} is neither STEM nor STEM ID"
                )
            if stem:
                found.append((f"{path}, line {number}", stem, int(rest[0]) if rest else None))
        if not found:
            raise DataSetError(f"the list {path} is empty: give lines STEM or STEM ID")
        return found

    def _find(self, folder: str, stem: str) -> Path | None:
        # No pattern: a stem may hold brackets and dots.
        paths = (self.folder / folder / f"{stem}{ending}" for ending in _ENDINGS)
        try:
            return next((path for path in paths if path.is_file()), None)
        except (OSError, ValueError):  # a name that no file can have
            return None

    def _path(self, folder: str, stem: str, place: str = "") -> Path:
        path = self._find(folder, stem)
        if path is None:
            where = f"{place}: " if place else ""
            endings = "|".join(_ENDINGS)
            raise DataSetError(
                f"{where}{self.name} has no file {self.folder / folder / stem}({endings})"
            )
        return path


def _read(path: Path) -> NDArray[Any]:
    try:
        return read_image(path)
    except ImageFileError as error:
        raise DataSetError(str(error)) from None
