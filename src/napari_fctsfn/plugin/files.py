"""What napari's File menu reads and writes through this plugin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_fctsfn import __version__
from napari_fctsfn.formats import About, write_coco, write_ome_tiff, write_ome_zarr, write_rois
from napari_fctsfn.plugin.keeping import METADATA

LayerData = tuple[Any, dict[str, Any], str]


def session_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """A reader for the ``session.json`` of a session's folder; None for any other path.

    Nothing else is claimed: napari asks which plugin shall open what several of them claim.
    """
    if isinstance(path, str) and Path(path).name == "session.json":
        return read_session
    return None


def read_session(path: str) -> list[LayerData]:
    """The labels of a session; chosen under *Masks go to*, *Start* on its image goes on with it.

    Parameters
    ----------
    path : str
        Of ``session.json`` in its folder.

    Returns
    -------
    list of (data, dict, str)
        One labels layer.

    Raises
    ------
    SessionError
        If it cannot be opened.
    """
    from napari_fctsfn.session import open_session, read_header

    folder = Path(path).parent
    name = read_header(folder).image.name
    opened = open_session(folder)
    opened.journal.close()
    metadata = {METADATA: str(folder.resolve())}
    return [(opened.labels, {"name": f"{name} masks", "metadata": metadata}, "labels")]


def save_ome_tiff(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer as OME-TIFF, with its scale."""
    write_ome_tiff(Path(path), _array(data), _about(meta))
    return [path]


def save_ome_zarr(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer as OME-Zarr, with its scale."""
    write_ome_zarr(Path(path), _array(data), _about(meta))
    return [path]


def save_coco(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer as COCO JSON."""
    write_coco(Path(path), _array(data), _about(meta))
    return [path]


def save_rois(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer as a zip of ImageJ ROIs."""
    write_rois(Path(path), _array(data), _about(meta))
    return [path]


def _array(data: Any) -> Any:
    return np.asarray(data)


def _about(meta: dict[str, Any]) -> About:
    units = {str(unit) for unit in meta.get("units") or ()}
    unit = units.pop() if len(units) == 1 else "pixel"
    return About(
        str(meta.get("name", "")),
        tuple(float(size) for size in meta.get("scale", ())),
        unit,
        provenance={"program": f"napari-fctsfn {__version__}"},
    )
