"""COCO: instances from ``annotations/instances_SPLIT.json``."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from napari_fctsfn.evaluate.objectset import (
    DataSetError,
    ObjectReference,
    ObjectSet,
    Scene,
    read_picture,
)

Sample = Literal["paper", "mval"]
"""``paper``: 20 images of each category (section 4.1). ``mval``: 10 objects of each category, as in
the COCO MVal of Sofiiuk et al. (2020)."""
SAMPLES: tuple[Sample, ...] = get_args(Sample)

_PAPER_IMAGES, _MVAL_OBJECTS = 20, 10


class _Runs(BaseModel):
    """A run-length encoded mask, column by column, as numbers or in COCO's own letters."""

    size: tuple[int, int]
    counts: list[int] | str


class _Annotation(BaseModel):
    id: int
    image_id: int
    category_id: int = Field(ge=0)
    iscrowd: int = 0
    segmentation: list[list[FiniteFloat]] | _Runs = Field(description="polygons, or runs")


class _Image(BaseModel):
    id: int
    file_name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class CocoInstances(ObjectSet):
    """Objects of a split of COCO; crowds are no objects.

    Instances may overlap, hence each has a mask of its own.

    Parameters
    ----------
    folder : Path
    name : str
    split : str
    sample : {"paper", "mval"}, optional
        Which objects stand for the set where no list is given; by default all.
    images : dict
        What the file says about each stem's image.
    annotations : dict
        Of each stem its annotations by their numbers, crowds left out.
    """

    folder: Path
    name: str
    split: str
    sample: Sample | None = None
    images: dict[str, _Image] = field(default_factory=dict, repr=False)
    annotations: dict[str, dict[int, _Annotation]] = field(default_factory=dict, repr=False)

    layout: ClassVar[str] = "annotations/instances_SPLIT.json and SPLIT/FILE.jpg"

    @classmethod
    def at(
        cls, folder: Path, split: str = "val2017", sample: Sample | None = None
    ) -> CocoInstances:
        """The data set in a folder.

        Raises
        ------
        DataSetError
            If pycocotools is not installed, or the file with the annotations is missing or damaged.
        """
        if find_spec("pycocotools") is None:
            raise DataSetError("masks of COCO need pycocotools: pip install 'napari-fctsfn[coco]'")
        path = folder / "annotations" / f"instances_{split}.json"
        if not path.is_file():
            raise DataSetError(f"COCO has no file {path}; its layout is {cls.layout}")
        try:
            file = _File.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise DataSetError(f"{path} is damaged: {place}: {first['msg']}") from None
        images = {image.id: image for image in file.images}
        annotations: dict[str, dict[int, _Annotation]] = {
            Path(image.file_name).stem: {} for image in file.images
        }
        for item in file.annotations:
            if item.image_id not in images:
                raise DataSetError(
                    f"{path} is damaged: annotation {item.id} is of image {item.image_id}, "
                    f"which it does not name"
                )
            if not item.iscrowd:
                annotations[Path(images[item.image_id].file_name).stem][item.id] = item
        stems = {Path(image.file_name).stem: image for image in file.images}
        return cls(folder, f"COCO {split}", split, sample, stems, annotations)

    def listed(self) -> list[str]:
        """Stems of all images of the split, sorted."""
        return sorted(self.images)

    def values_of(self, stem: str) -> list[int]:
        """Numbers of a stem's annotations that cover at least one pixel, ascending.

        Raises
        ------
        DataSetError
            If an annotation is damaged.
        """
        return [value for value in sorted(self.annotations[stem]) if self.mask(stem, value).any()]

    def missing(self, stem: str) -> list[str]:
        """The image of a stem if it is not there."""
        path = self._path(stem)
        return [] if stem in self.images and path.is_file() else [str(path)]

    def scene(self, stem: str) -> Scene:
        """Picture and objects of a stem.

        Raises
        ------
        DataSetError
            If the image is missing or unreadable, or not of the size that its annotations have.
        """
        image, about = read_picture(self._path(stem)), self.images[stem]
        if image.shape[:2] != (about.height, about.width):
            raise DataSetError(
                f"{stem} of {self.name}: the image has shape {image.shape[:2]}, its annotations "
                f"{(about.height, about.width)}; they must be equal"
            )
        return Scene(image, partial(self.mask, stem))

    def mask(self, stem: str, value: int) -> NDArray[np.bool_]:
        """Mask of an object, shape (rows, columns) of its image.

        Raises
        ------
        DataSetError
            If the annotation is damaged.
        """
        from pycocotools import mask as coco

        about = self.images[stem]
        rows, columns = about.height, about.width
        shapes = self.annotations[stem][value].segmentation
        if isinstance(shapes, list):
            # Less than three corners enclose nothing; four numbers would be taken for a box.
            polygons = [corners for corners in shapes if len(corners) >= 6]
            if not polygons:
                return np.zeros((rows, columns), dtype=bool)
            runs = coco.merge(coco.frPyObjects(polygons, rows, columns))
        else:
            whole = isinstance(shapes.counts, str) or sum(shapes.counts) == rows * columns
            if shapes.size != (rows, columns) or not whole:
                raise self._damaged(stem, value)
            runs = {"size": [rows, columns], "counts": shapes.counts}
            if isinstance(shapes.counts, list):
                runs = coco.frPyObjects(runs, rows, columns)
        with warnings.catch_warnings():
            # pycocotools 2.0.11 makes its array in a way that numpy 2 warns of.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                mask: NDArray[np.bool_] = coco.decode(runs).astype(bool)
            except ValueError:
                raise self._damaged(stem, value) from None
        # Where runs end too early pycocotools leaves the rest of the mask as memory was.
        if np.count_nonzero(mask) != coco.area(runs):
            raise self._damaged(stem, value)
        return mask

    def _chosen(self, seed: int) -> list[ObjectReference]:
        if self.sample is None:
            return super()._chosen(seed)
        found: list[ObjectReference] = []
        of_category: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for stem, items in sorted(self.annotations.items()):
            for value, item in sorted(items.items()):
                of_category[item.category_id][stem].append(value)
        for category, stems in sorted(of_category.items()):
            rng = np.random.default_rng([seed, category])
            if self.sample == "paper":
                drawn = rng.permutation(list(stems))[:_PAPER_IMAGES]
                shown = [ObjectReference(str(stem), n) for stem in drawn for n in stems[stem]]
                found += filter(self._visible, shown)
            else:
                every = [ObjectReference(stem, n) for stem in stems for n in stems[stem]]
                shuffled = (every[index] for index in rng.permutation(len(every)))
                found += islice(filter(self._visible, shuffled), _MVAL_OBJECTS)
        self.require({reference.stem: "" for reference in found})
        return sorted(found, key=lambda item: (item.stem, item.value))

    def _damaged(self, stem: str, value: int) -> DataSetError:
        about = self.images[stem]
        return DataSetError(
            f"annotation {value} of {stem} of {self.name} is damaged: its runs do not fill an "
            f"image of {about.height} x {about.width} pixels"
        )

    def _visible(self, item: ObjectReference) -> bool:
        return bool(self.mask(item.stem, item.value).any())

    def _path(self, stem: str) -> Path:
        about = self.images.get(stem)
        name = f"{stem}.jpg" if about is None else about.file_name
        return self.folder / self.split / name
