"""What was annotated, in the format of another program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox, QPushButton, QWidget

from napari_fctsfn import __version__, formats
from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.background import Background
from napari_fctsfn.plugin.layers import full_data

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_fctsfn.plugin.annotate import Annotator
    from napari_fctsfn.plugin.site import Site

_KINDS: dict[str, tuple[str, str, str]] = {
    "ome_tiff": ("Labels as OME-TIFF…", ".ome.tif", "OME-TIFF (*.ome.tif)"),
    "ome_zarr": ("Labels as OME-Zarr…", ".ome.zarr", "OME-Zarr (*.ome.zarr)"),
    "coco": ("Outlines and classes as COCO JSON…", ".json", "COCO JSON (*.json)"),
    "rois": ("Outlines as ImageJ ROIs…", ".zip", "ImageJ ROIs (*.zip)"),
    "csv": ("Measurements as a table…", ".csv", "Table (*.csv)"),
}


class ExportButton(QPushButton):
    """A button with a menu of formats.

    Parameters
    ----------
    annotator : Annotator
    parent : QWidget, optional
        Owner in Qt.
    """

    def __init__(self, annotator: Annotator, parent: QWidget | None = None) -> None:
        super().__init__("Export", parent)
        self._annotator = annotator
        self._background = Background(self)
        self.setToolTip("Write the objects for another program, with the size of pixels")
        menu = QMenu(self)
        self.actions_of: dict[str, Callable[[], object]] = {}
        for kind, (text, _, _) in _KINDS.items():
            self.actions_of[f"export_{kind}"] = partial(self.ask, kind)
            menu.addAction(text, partial(self.ask, kind))
        self.setMenu(menu)

    @property
    def busy(self) -> bool:
        """Whether a file is being written."""
        return self._background.busy

    def ask(self, kind: str) -> None:
        """Ask for a file and write it."""
        site = self._annotator.sound()
        if site is None:
            return
        _, ending, pattern = _KINDS[kind]
        usual = Path(f"{Path(site.image.name).stem}_labels{ending}")
        if site.image.source.path:
            usual = Path(site.image.source.path).parent / usual
        path, _ = QFileDialog.getSaveFileName(self, "Export", str(usual), pattern)
        if path:
            whole = with_ending(path, ending)
            if self._agreed(site.image, Path(path), whole):
                self.export(kind, whole)

    def export(self, kind: str, path: Path) -> None:
        """Write what is annotated now, in the background; never in place of the image.

        Parameters
        ----------
        kind : str
            ``ome_tiff``, ``ome_zarr``, ``coco``, ``rois`` or ``csv``.
        path : Path
        """
        site = self._annotator.sound()
        if site is None:
            return
        if self.busy:
            show_warning("Not exported: wait until the file before is written.")
            return
        if _comes_from(site.image, path):
            self._failed(path, InputError("it is the image itself; choose another name"))
            return
        labels, about = site.labels.data.copy(), _about(site)
        image = full_data(site.image)
        if tuple(image.shape[: labels.ndim]) != labels.shape:
            image = None  # of an image with channels the labels have one
        self.setEnabled(False)
        self._background.run(
            partial(_write, kind, path, labels, image, about),
            lambda _: self._ended(f"“{path.name}” is written to {path.parent}."),
            lambda error: self._failed(path, error),
        )

    def _agreed(self, image: Image, typed: Path, path: Path) -> bool:
        """Whether what is there may be replaced; the file dialog has asked for what was typed."""
        # what is not to be replaced at all is refused when it is written
        asked = not formats.is_export(path) if path.is_dir() else path == typed
        if asked or not path.exists() or _comes_from(image, path):
            return True
        text = f"“{path.name}” is already in {path.parent}. Replace it?"
        return QMessageBox.question(self, "Export", text) == QMessageBox.StandardButton.Yes

    def _ended(self, text: str) -> None:
        self.setEnabled(True)
        self._annotator.tell(text)

    def _failed(self, path: Path, error: Exception) -> None:
        self.setEnabled(True)
        reason = getattr(error, "strerror", None) or error
        text = f"“{path.name}” is not written to {path.parent}: {reason}."
        self._annotator.tell(text)
        show_warning(text)


def with_ending(path: str, ending: str) -> Path:
    """A path that ends as its format wants it: ``a`` and ``a.tif`` become ``a.ome.tif``."""
    if path.endswith(ending):
        return Path(path)
    last = ending.rpartition(".")[2]
    usual = {f".{last}", f".{last}f"} if last == "tif" else {f".{last}"}
    whole = Path(path)
    return Path(f"{whole.with_suffix('') if whole.suffix in usual else whole}{ending}")


def _comes_from(image: Image, path: Path) -> bool:
    """Whether an image was opened from a path, or from somewhere inside it."""
    if not image.source.path:
        return False
    source = Path(image.source.path).resolve()
    return path.resolve() in (source, *source.parents)


def _about(site: Site) -> formats.About:
    layer = site.labels
    names, classes, origin = site.session.told()
    units = {str(unit) for unit in layer.units}
    return formats.About(
        Path(site.image.source.path or site.image.name).name,
        tuple(float(size) for size in layer.scale),
        units.pop() if len(units) == 1 else "pixel",
        names,
        classes,
        {"program": f"napari-fctsfn {__version__}", **origin},
    )


def _write(kind: str, path: Path, labels: Any, image: Any, about: formats.About) -> None:
    if kind == "csv":
        text = formats.measurements(labels, None if image is None else _Planes(image), about)
        with replace_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    elif kind == "ome_zarr":
        formats.write_ome_zarr(path, labels, about, overwrite=True)
    else:
        write = {
            "ome_tiff": formats.write_ome_tiff,
            "coco": formats.write_coco,
            "rois": formats.write_rois,
        }
        write[kind](path, labels, about)


class _Planes:
    """An image that may be lazy, of which parts are arrays."""

    def __init__(self, image: Any) -> None:
        self._image = image

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self._image[index])
