"""What every data set is to the evaluation, whatever its layout: pictures with objects in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.predict.images import ImageFileError, is_rgb, read_image

_NAMED = 10
"""Of files that are missing so many are named."""


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
        Its value in the label image; in COCO the number of its annotation.
    """

    stem: str
    value: int


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and where its objects are.

    Parameters
    ----------
    image : array, shape (rows, columns) or (rows, columns, 3 or 4)
        Any real dtype.
    truth : callable
        From an object's value to its mask, bool, shape (rows, columns).
    ignore : array of bool, shape (rows, columns), optional
        Pixels that do not count.
    """

    image: NDArray[Any]
    truth: Callable[[int], NDArray[np.bool_]]
    ignore: NDArray[np.bool_] | None = None


class ObjectSet(ABC):
    """Pictures, their objects, and lists of them. A subclass knows one layout of files."""

    folder: Path
    name: str
    band: int = 0
    """Width in pixels of a border band that does not count (`DataSet`)."""

    layout: ClassVar[str]
    """The files that it expects, for messages."""

    @abstractmethod
    def listed(self) -> list[str]:
        """Stems of all its pictures, or of its split.

        Raises
        ------
        DataSetError
            If it has no such list.
        """

    @abstractmethod
    def values_of(self, stem: str) -> list[int]:
        """Values of the objects of a stem, ascending.

        Raises
        ------
        DataSetError
            If its annotation is unreadable.
        """

    @abstractmethod
    def missing(self, stem: str) -> list[str]:
        """Files that a stem needs and that are not there."""

    @abstractmethod
    def scene(self, stem: str) -> Scene:
        """Picture and objects of a stem.

        Raises
        ------
        DataSetError
            If a file is missing or unreadable, or sizes differ.
        """

    def stems(self, list_file: Path) -> list[str]:
        """Stems of a list file, each once, in order.

        Raises
        ------
        DataSetError
            If the list is missing or empty.
        """
        return list(dict.fromkeys(stem for _, stem, _ in self._lines(list_file)))

    def objects(
        self, list_file: Path | None = None, limit: int | None = None, seed: int = 0
    ) -> list[ObjectReference]:
        """Objects that a list file names, or those that the data set has by nature.

        Parameters
        ----------
        list_file : Path, optional
            Lines ``STEM`` (all objects of the image) or ``STEM VALUE`` (one), mixed freely; a
            name that does not exist as it is, is looked for in the data set's folder.
        limit : int, optional
            At most so many, a random sample that depends on the objects and `seed` alone.
        seed : int

        Returns
        -------
        list of ObjectReference
            In the order of the list, without repetitions.

        Raises
        ------
        DataSetError
            If the list is missing, empty, malformed, or names what is not there; if files are
            missing, the first ten are named.
        """
        objects = self._chosen(seed) if list_file is None else self._named(list_file)
        if not objects:
            source = self.folder if list_file is None else list_file
            raise DataSetError(f"the images that {source} names have no object")
        if limit is not None and limit < len(objects):
            chosen = np.random.default_rng(seed).permutation(len(objects))[:limit]
            objects = [objects[index] for index in sorted(chosen)]
        return objects

    def check(self, objects: Iterable[ObjectReference]) -> None:
        """Read every picture of `objects` once, before hours go into the first of them.

        Raises
        ------
        DataSetError
            As `scene` does.
        """
        for stem in dict.fromkeys(reference.stem for reference in objects):
            self.scene(stem)

    def require(self, stems: Mapping[str, str]) -> None:
        """Refuse to go on without the files of some stems.

        Parameters
        ----------
        stems : mapping of str to str
            From each stem to the place that names it, which may be empty.

        Raises
        ------
        DataSetError
            Naming the first ten missing files and the layout.
        """
        missing = [(place, path) for stem, place in stems.items() for path in self.missing(stem)]
        if missing:
            place = f"{missing[0][0]}: " if missing[0][0] else ""
            named = ", ".join(path for _, path in missing[:_NAMED])
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            raise DataSetError(
                f"{place}{self.name} has no file {named}{more}; its layout is {self.layout}"
            )

    def _chosen(self, seed: int) -> list[ObjectReference]:
        """Objects where no list is given."""
        stems = self.listed()
        self.require(dict.fromkeys(stems, ""))
        return [ObjectReference(stem, value) for stem in stems for value in self.values_of(stem)]

    def _named(self, list_file: Path) -> list[ObjectReference]:
        found: dict[ObjectReference, None] = {}
        known: dict[str, list[int]] = {}
        lines = self._lines(list_file)
        self.require({stem: place for place, stem, _ in reversed(lines)})
        for place, stem, value in lines:
            if stem not in known:
                known[stem] = self.values_of(stem)
            if value is not None and value not in known[stem]:
                there = ", ".join(map(str, known[stem][:20])) or "none"
                raise DataSetError(
                    f"{place}: {stem} of {self.name} has no object {value}; its objects are {there}"
                )
            values = known[stem] if value is None else [value]
            found.update(dict.fromkeys(ObjectReference(stem, value) for value in values))
        return list(found)

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
            if not rest or not self.missing(line.strip()):
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


def read_picture(path: Path) -> NDArray[Any]:
    """A single picture from a file, (rows, columns) or (rows, columns, 3 or 4).

    Raises
    ------
    DataSetError
        If it is missing, unreadable or no single picture.
    """
    try:
        image = read_image(path)
    except ImageFileError as error:
        raise DataSetError(str(error)) from None
    if image.ndim != 2 and not (image.ndim == 3 and is_rgb(image)):
        raise DataSetError(f"{path} is no single picture: its shape is {image.shape}")
    return image
