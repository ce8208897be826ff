"""Data sets of label images, and their own layout: folders, ``dataset.json`` and lists."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_fctsfn.evaluate.objectset import (
    DataSetError,
    ObjectReference,
    ObjectSet,
    Scene,
    read_picture,
)
from napari_fctsfn.predict.images import ImageFileError, read_labels

__all__ = ["ENDINGS", "DataSet", "DataSetError", "Kind", "ObjectReference"]

Kind = Literal["instances", "regions", "parts", "binary"]

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Of image files, also in capitals."""


@dataclass(frozen=True)
class DataSet(ObjectSet):
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
    band : int
        Background pixels so near an object, in pixels, do not count either: the width of a border
        band that is drawn as background.
    evaluation_only : bool
        Whether training on it is forbidden.
    stacks : tuple of (str, str)
        Name of each stack, and the pattern of its slices' stems; pictures that no pattern
        matches are no slices.
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
    band: int = 0
    evaluation_only: bool = False
    stacks: tuple[tuple[str, str], ...] = ()

    layout: ClassVar[str] = "dataset.json, images/STEM.(png|jpg|tif), labels/STEM.png"

    @classmethod
    def open(cls, folder: Path) -> DataSet:
        """The data set in a folder.

        Raises
        ------
        DataSetError
            If ``dataset.json`` is missing or not valid.
        """
        path = folder / "dataset.json"
        if not path.is_file():
            raise DataSetError(
                f"{folder} is no data set: there is no file {path}; its layout is {cls.layout}"
            )
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataSetError(f"{folder} is no data set: {path.name}: {error}") from None
        if not isinstance(about, dict) or about.get("kind") not in get_args(Kind):
            raise DataSetError(f"{path} must name its kind, one of: {', '.join(get_args(Kind))}")
        numbers = {
            key: about[key]
            for key in ("background", "foreground", "ignore", "band")
            if about.get(key) is not None
        }
        if not all(type(value) is int for value in numbers.values()):
            raise DataSetError(f"{path}: {numbers} must be whole numbers")
        if numbers.get("band", 0) < 0:
            raise DataSetError(f"{path}: a band of {numbers['band']} pixels must be 0 or more")
        if about["kind"] == "binary" and "foreground" not in numbers:
            raise DataSetError(f"{path}: a set of kind 'binary' must name its 'foreground' value")
        name = str(about.get("name", folder.name))
        stacks = about.get("stacks") or ({name: "*"} if about.get("stack") else {})
        if not isinstance(stacks, dict) or not all(isinstance(p, str) for p in stacks.values()):
            raise DataSetError(
                f"{path}: stacks must give a pattern of stems for each name, not {stacks!r}"
            )
        return cls(
            folder,
            name,
            about["kind"],
            str(about.get("licence", "")),
            str(about.get("modality", "")),
            str(about.get("images", "images")),
            str(about.get("labels", "labels")),
            evaluation_only=bool(about.get("evaluation_only", False)),
            stacks=tuple(stacks.items()),
            **numbers,
        )

    def stack(self, stem: str) -> str:
        """Name of the stack that a picture is a slice of, in the order of stems; or nothing."""
        return next((name for name, pattern in self.stacks if fnmatchcase(stem, pattern)), "")

    def image(self, stem: str) -> NDArray[Any]:
        """Picture of a stem, (rows, columns) or (rows, columns, 3 or 4).

        Raises
        ------
        DataSetError
            If it is missing, unreadable or no single picture.
        """
        return read_picture(self._path(self.images_folder, stem))

    def labels(self, stem: str) -> NDArray[Any]:
        """Label image of a stem, (rows, columns), whole numbers.

        Raises
        ------
        DataSetError
            If it is missing, unreadable or no label image.
        """
        try:
            return read_labels(self._path(self.labels_folder, stem))
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
        """Values of the objects in a label image, ascending.

        Raises
        ------
        DataSetError
            If one is negative.
        """
        values = {int(value) for value in np.unique(labels)} - {self.ignore}
        if (lowest := min(values - {self.background}, default=0)) < 0:
            raise DataSetError(
                f"a label image of {self.name} has the value {lowest}, which is no object: name it "
                f"as 'ignore' or 'background' in dataset.json"
            )
        if self.kind == "binary":
            values &= {self.foreground}
        return sorted(values - {self.background})

    def ignored(self, labels: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Pixels of a label image that do not count; None if all do."""
        ignored = None if self.ignore is None else labels == self.ignore
        if not self.band or not (values := self.values(labels)):
            return ignored
        outside = ~np.isin(labels, values)
        near: NDArray[np.bool_] = outside & (distance_transform_edt(outside) <= self.band)
        return near if ignored is None else near | ignored

    def scene(self, stem: str) -> Scene:
        """Picture and objects of a stem; raises as `pair` does."""
        image, labels = self.pair(stem)
        return Scene(image, partial(np.equal, labels), self.ignored(labels))

    def values_of(self, stem: str) -> list[int]:
        """Values of the objects of a stem, ascending; raises as `labels` does."""
        return self.values(self.labels(stem))

    def missing(self, stem: str) -> list[str]:
        """Which of a stem's two files is not there."""
        folders = (self.images_folder, self.labels_folder)
        return [self._expected(name, stem) for name in folders if self._find(name, stem) is None]

    def listed(self) -> list[str]:
        """Nothing: this layout keeps its lists in files of any name.

        Raises
        ------
        DataSetError
            Always.
        """
        raise DataSetError(f"{self.name} has no list of its own: name one with --list")

    def _find(self, folder: str, stem: str) -> Path | None:
        # No pattern: a stem may hold brackets and dots.
        endings = [case for ending in ENDINGS for case in (ending, ending.upper())]
        paths = (self.folder / folder / f"{stem}{ending}" for ending in endings)
        try:
            return next((path for path in paths if path.is_file()), None)
        except (OSError, ValueError):  # a name that no file can have
            return None

    def _expected(self, folder: str, stem: str) -> str:
        return f"{self.folder / folder / stem}({'|'.join(ENDINGS)})"

    def _path(self, folder: str, stem: str) -> Path:
        path = self._find(folder, stem)
        if path is None:
            raise DataSetError(f"{self.name} has no file {self._expected(folder, stem)}")
        return path
