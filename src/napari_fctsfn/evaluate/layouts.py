"""The paper's data sets as their owners publish them (section 4.1), known by their files.

COCO has a module of its own. torchvision's readers of VOC and COCO give classes or need pycocotools
themselves, and have none of GrabCut and Berkeley, so they are not used here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate.coco import CocoInstances, Sample
from napari_fctsfn.evaluate.datasets import ENDINGS, DataSet
from napari_fctsfn.evaluate.objectset import DataSetError, ObjectSet, read_picture

_VOID = 255
"""Of VOC: pixels on outlines and of objects that were too difficult."""

_UNKNOWN, _OBJECT = 128, 255
"""Of GrabCut: pixels on the outline, and the object."""


@dataclass(frozen=True)
class PascalVoc(DataSet):
    """Pascal VOC 2012: every instance of ``SegmentationObject``; void pixels do not count.

    Parameters
    ----------
    split : str
        Its list in ``ImageSets/Segmentation``: ``train`` (1464 images), ``val`` (1449) or
        ``trainval``.
    """

    split: str = "val"

    layout: ClassVar[str] = (
        "VOCdevkit/VOC2012 with JPEGImages/STEM.jpg, SegmentationObject/STEM.png and "
        "ImageSets/Segmentation/SPLIT.txt"
    )

    @classmethod
    def at(cls, folder: Path, split: str = "val") -> PascalVoc:
        """The data set in the folder ``VOC2012``."""
        return cls(
            folder,
            "VOC2012",
            "instances",
            licence="VOC2012: Flickr terms of use, research",
            modality="photographs",
            images_folder="JPEGImages",
            labels_folder="SegmentationObject",
            ignore=_VOID,
            split=split,
        )

    def listed(self) -> list[str]:
        """Stems of the split.

        Raises
        ------
        DataSetError
            If its list is missing or empty.
        """
        path = self.folder / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        if not path.is_file():
            raise DataSetError(f"{self.name} has no file {path}; its layout is {self.layout}")
        return self.stems(path)


@dataclass(frozen=True)
class Masks(DataSet):
    """A mask for every picture: black, white on the object, grey where nobody can tell."""

    def listed(self) -> list[str]:
        """Stems of all pictures and masks.

        Raises
        ------
        DataSetError
            If there is none.
        """
        folders = [self.folder / name for name in (self.images_folder, self.labels_folder)]
        files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        pictures = [path for path in files if path.suffix.lower() in ENDINGS]
        stems = {path.stem for path in pictures if not path.name.startswith(".")}
        if not stems:
            raise DataSetError(f"{self.folder} has no picture; its layout is {self.layout}")
        return sorted(stems)

    def labels(self, stem: str) -> NDArray[np.uint8]:
        """0 on the background, 255 on the object, 128 where the mask does not tell.

        Some of the masks are stored as grey values, some with a palette, some as RGB.

        Returns
        -------
        array of uint8, shape (rows, columns)

        Raises
        ------
        DataSetError
            If the mask is missing or unreadable.
        """
        mask: NDArray[Any] = read_picture(self._path(self.labels_folder, stem))
        grey = mask[..., 0] if mask.ndim == 3 else mask
        if grey.dtype == bool:
            grey = grey * np.uint8(_OBJECT)
        labels: NDArray[np.uint8] = np.where(grey > _UNKNOWN, _OBJECT, 0).astype(np.uint8)
        labels[grey == _UNKNOWN] = _UNKNOWN
        return labels


class GrabCut(Masks):
    """GrabCut (Rother et al. 2004): 50 pictures, one object each, outlines that do not count."""

    layout: ClassVar[str] = "data_GT/STEM.(jpg|bmp) and boundary_GT/STEM.bmp"


class Berkeley(Masks):
    """Berkeley (McGuinness and O'Connor 2010): 100 objects, a picture and a mask for each."""

    layout: ClassVar[str] = "images/STEM.jpg and masks/STEM.png"


def open_dataset(
    folder: Path, split: str | None = None, sample: Sample | None = None, band: int | None = None
) -> ObjectSet:
    """The data set in a folder, its layout known by the files there.

    Parameters
    ----------
    folder : Path
        With ``dataset.json``: our own layout, see `DataSet`. With ``VOCdevkit/VOC2012``, or a part
        of that path: `PascalVoc`. With ``annotations``: `CocoInstances`. With ``data_GT``:
        `GrabCut`. With ``images`` and ``masks``: `Berkeley`.
    split : str, optional
        Of VOC (by default ``val``) and COCO (by default ``val2017``).
    sample : {"paper", "mval"}, optional
        Of COCO; by default all objects.
    band : int, optional
        Of sets with label images, see `DataSet`; by default the set's own.

    Raises
    ------
    DataSetError
        If the folder has none of these layouts, or no such split, sample or band.
    """
    found = _open(folder, split, sample)
    if band is None:
        return found
    if not isinstance(found, DataSet):
        raise DataSetError(
            f"a band ({band}) can be left out of label images only: {folder} is COCO"
        )
    return replace(found, band=band)


def _open(folder: Path, split: str | None, sample: Sample | None) -> ObjectSet:
    known = (DataSet, PascalVoc, CocoInstances, GrabCut, Berkeley)
    layouts = "; ".join(f"{kind.__name__}: {kind.layout}" for kind in known)
    if not folder.is_dir():
        raise DataSetError(f"{folder} is no data set: there is no such folder ({layouts})")
    own = (folder / "dataset.json").exists()
    voc = None if own else _voc_root(folder)
    coco = not own and voc is None and (folder / "annotations").is_dir()
    if sample is not None and not coco:
        raise DataSetError(f"a sample ({sample}) is drawn from COCO only, which {folder} is not")
    if split is not None and not coco and voc is None:
        raise DataSetError(f"{folder} has no splits ({split}): only VOC and COCO have")
    if own:
        return DataSet.open(folder)
    if voc is not None:
        return PascalVoc.at(voc, split or "val")
    if coco:
        return CocoInstances.at(folder, split or "val2017", sample)
    if (folder / "data_GT").is_dir() or (folder / "boundary_GT").is_dir():
        return _masks(GrabCut, folder, "GrabCut", "data_GT", "boundary_GT", _UNKNOWN)
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        return _masks(Berkeley, folder, "Berkeley", "images", "masks", None)
    raise DataSetError(f"{folder} is no data set of a known layout ({layouts})")


def _voc_root(folder: Path) -> Path | None:
    """The folder ``VOC2012``, which may be `folder` itself, if it is there."""
    parts = ("JPEGImages", "SegmentationObject", "ImageSets")
    for root in (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"):
        if any((root / part).is_dir() for part in parts):
            return root
    return None


def _masks(
    kind: type[Masks], folder: Path, name: str, images: str, masks: str, ignore: int | None
) -> Masks:
    return kind(
        folder,
        name,
        "binary",
        modality="photographs",
        images_folder=images,
        labels_folder=masks,
        foreground=_OBJECT,
        ignore=ignore,
        evaluation_only=True,
    )
