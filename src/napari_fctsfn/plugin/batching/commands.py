"""Commands for menus, palette and other plugins.

napari gives the viewer; other callers give it themselves::

    npe2.PluginManager.instance().commands.execute("napari-fctsfn.refine_labels", (viewer,))

Every command that computes uses one thread, as every batch front end does, shows its progress, can
be cancelled in napari's activity dock, and gives back the layer that it has added: annotated as an
object, since napari adds again whatever is annotated as a layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

# napari injects the viewer by this annotation
import napari.viewer
import numpy as np
from napari.layers import Image, Labels, Layer, Points
from napari.utils import cancelable_progress
from napari.utils.notifications import show_warning
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog

from napari_fctsfn import batch
from napari_fctsfn.batch.outputs import write_labels
from napari_fctsfn.batch.pictures import Picture
from napari_fctsfn.batch.sources import from_labels
from napari_fctsfn.batch.task import load_predictor
from napari_fctsfn.batch.work import Given, Placed, Step, Work, arrange, replay, usual_normalisation
from napari_fctsfn.clicks import Click
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import chosen_model
from napari_fctsfn.plugin.layers import full_data, image_shape, new_labels, shown_plane
from napari_fctsfn.predict.engine import one_thread

_KINDS = {".ome.tif": "ome-tiff", ".zarr": "ome-zarr", ".png": "png", ".tif": "tiff"}


def segment_slice(viewer: napari.viewer.Viewer = None, image: Any = None) -> object:
    """Segment the slice that is shown from the points in the Points layers above its image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : Image, optional
        By default the active image, or the only one.

    Raises
    ------
    InputError
        If there is no viewer, no image or no point in this slice.
    """
    viewer = _viewer(viewer)
    image = _layer(viewer, Image, image)
    plane = shown_plane(viewer, image, image_shape(image))
    leading = image.ndim - 2
    if plane is None or plane.axes != (leading, leading + 1):
        raise InputError(f"{image.name!r} does not show a slice of its last two axes: turn it back")
    index = tuple(plane.key[:leading])
    here = [placed for placed in _points(viewer, image) if placed.slice == index]
    if not here:
        raise InputError(f"no point lies in this slice of {image.name!r}: add a Points layer above")
    pixels = np.asarray(full_data(image))
    return _add(viewer, image, _replayed(pixels, arrange(pixels, here, [])))


def propagate_labels(
    viewer: napari.viewer.Viewer = None, image: Any = None, labels: Any = None
) -> object:
    """Follow the objects of a Labels layer from the slices that have labels into the others.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image, labels : layers, optional
        By default the active ones, or the only ones.

    Raises
    ------
    InputError
        If one is missing, they do not fit, or there is no stack.
    """
    from napari_fctsfn.stack import Stack, annotated, propagate

    viewer, image, labels = _pair(viewer, image, labels)
    found = np.array(labels.data)
    if found.ndim != 3:
        raise InputError(f"{image.name!r} has {image.ndim} dimensions: propagation needs a stack")
    slices = [n for n in range(len(found)) if found[n].any()]
    if not slices:
        raise InputError(f"{labels.name!r} is empty: annotate a slice first")
    pixels = np.asarray(full_data(image))
    now = object()  # what is annotated may change until the next time
    stack = Stack(
        load_predictor(chosen_model()),
        pixels.__getitem__,
        usual_normalisation(pixels),
        lambda n: (now, n),
    )
    with one_thread():
        steps = propagate(stack, found, annotated(found, slices), "both")
        with cancelable_progress(total=0, desc="propagate") as bar:
            for _ in steps:
                bar.update()
                if bar.is_canceled:
                    break
    return _add(viewer, image, found)


def refine_labels(
    viewer: napari.viewer.Viewer = None, image: Any = None, labels: Any = None
) -> object:
    """Refine every object of a Labels layer in every slice; the layer itself stays.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image, labels : layers, optional
        By default the active ones, or the only ones.

    Raises
    ------
    InputError
        If one is missing, they do not fit, or there is no object.
    """
    viewer, image, labels = _pair(viewer, image, labels)
    pixels = np.asarray(full_data(image))
    work, given = from_labels(np.asarray(labels.data), pixels, refine=True)
    if not work:
        raise InputError(f"{labels.name!r} is empty: there is nothing to refine")
    return _add(viewer, image, _replayed(pixels, work, given))


def batch_layers(viewer: napari.viewer.Viewer = None) -> object:
    """Segment every open image from the points in the Points layers directly above it.

    Raises
    ------
    InputError
        If there is no viewer, or no image with points.
    """
    viewer = _viewer(viewer)
    clicked = []
    for image in [layer for layer in viewer.layers if isinstance(layer, Image)]:
        placed = list(_points(viewer, image))
        if placed:
            pixels = np.asarray(full_data(image))
            clicked.append((image, pixels, arrange(pixels, placed, [])))
    if not clicked:
        raise InputError("no open image has points: add a Points layer above each image")
    return [_add(viewer, image, _replayed(pixels, work)) for image, pixels, work in clicked]


def run_job(viewer: napari.viewer.Viewer = None, path: Any = None) -> batch.Summary | None:
    """Run a job file, as ``napari-fctsfn batch`` does.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Asked for the file where there is no `path`.
    path : path, optional

    Returns
    -------
    Summary or None
        None if no file was chosen.

    Raises
    ------
    InputError
        If there is neither path nor viewer, or the job is wrong.
    """
    if path is None:
        _viewer(viewer, "give the path of a job file, or a viewer to ask for one")
        path, _ = QFileDialog.getOpenFileName(None, "Run a job", "", "Jobs (*.yaml *.yml *.json)")
        if not path:
            return None
    return _run(batch.read_job(path), Path(path).resolve().parent)


def batch_folder(
    viewer: napari.viewer.Viewer = None, folder: Any = None, pattern: str = "*.tif"
) -> Any:
    """Segment all images of a folder from their click files, into its subfolder ``results``.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where there is no `folder`, the Batch dock opens in it.
    folder : path, optional
    pattern : str
        Which files are images.

    Returns
    -------
    Summary, or the dock

    Raises
    ------
    InputError
        If there is neither folder nor viewer, or no image.
    """
    if folder is None:
        viewer = _viewer(viewer, "give a folder, or a viewer to choose one in")
        return viewer.window.add_plugin_dock_widget("napari-fctsfn", "Batch")[1]
    document = {
        "version": 1,
        "inputs": {"images": [pattern]},
        "clicks": {"from": "files"},
        "model": {"name": chosen_model()},
        "outputs": {"folder": "results"},
    }
    return _run(batch.parse_job(document), Path(folder))


def export_labels(
    viewer: napari.viewer.Viewer = None, labels: Any = None, path: Any = None
) -> Path | None:
    """Write a Labels layer with the size of its pixels.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    labels : Labels, optional
        By default the active one, or the only one.
    path : path, optional
        Ends in ``.tif``, ``.ome.tif``, ``.zarr`` or ``.png``; without it a dialog asks.

    Returns
    -------
    Path or None
        What was written; None if no file was chosen.

    Raises
    ------
    InputError
        If there is no labels layer, a path of another ending, or a label below 0.
    """
    if labels is None:
        labels = _layer(_viewer(viewer), Labels, None)
    if path is None:
        kinds = "Labels (*.tif *.ome.tif *.zarr *.png)"
        path, _ = QFileDialog.getSaveFileName(None, "Export labels", f"{labels.name}.tif", kinds)
        if not path:
            return None
    path = Path(path)
    kind = next((kind for ending, kind in _KINDS.items() if path.name.endswith(ending)), None)
    if kind is None or not path.parent.is_dir():
        raise InputError(f"{path} is no place for labels: name .tif, .ome.tif, .zarr or .png there")
    data = np.asarray(labels.data)
    if data.min(initial=0) < 0:
        raise InputError(f"{labels.name!r} has the label {data.min()}: labels begin at 0")
    small = data.astype(np.min_scalar_type(int(data.max(initial=0))))
    unit = str(labels.units[-1]).removesuffix("s")
    unit = "" if unit == "pixel" else unit
    scale = tuple(map(float, labels.scale)) if unit or any(labels.scale != 1) else None
    write_labels(path, kind, small, Picture(small, "tzyx"[-small.ndim :], scale, unit))
    return path


def _run(job: batch.Job, base: Path) -> batch.Summary:
    planned = batch.plan(job, base)
    if planned.warning:
        show_warning(f"{planned.warning}.")
    entries = []
    with cancelable_progress(total=len(planned.pending), desc="batch") as bar:
        for entry in batch.execute(planned, stop=lambda: bool(bar.is_canceled)):
            entries.append(entry)
            bar.update()
    return batch.finish(planned, entries, bar.format_dict["elapsed"] or 0.0)


def _watch(steps: list[Step]) -> Iterable[Step]:
    return cancelable_progress(steps, desc="segment")


def _replayed(pixels: NDArray[Any], work: Work, given: Given | None = None) -> NDArray[Any]:
    predictor = load_predictor(chosen_model())
    with one_thread():
        return replay(predictor, pixels, work, given=given, watch=_watch).labels


def _points(viewer: Any, image: Image) -> Iterable[Placed]:
    """Points of the Points layers that lie above an image and below the next one."""
    number = 0
    layers = list(viewer.layers)
    for layer in layers[layers.index(image) + 1 :]:
        if isinstance(layer, Image):
            return
        if not isinstance(layer, Points) or layer.ndim != image.ndim:
            continue
        features = layer.features
        for n, point in enumerate(layer.data):
            place = [float(x) for x in image.world_to_data(layer.data_to_world(point))]
            number += 1
            positive = "polarity" not in features or str(features["polarity"].iloc[n]) != "negative"
            label = int(features["object"].iloc[n]) if "object" in features else number
            index = tuple(int(np.floor(x + 0.5)) for x in place[:-2])
            yield Placed(Click(place[-2], place[-1], positive), index, label)


def _add(viewer: Any, image: Image, labels: NDArray[Any]) -> Labels:
    return viewer.add_layer(new_labels(image, labels))


def _viewer(viewer: Any, remedy: str = "give viewer, or call it from napari's palette") -> Any:
    if viewer is None:
        raise InputError(f"there is no viewer: {remedy}")
    return viewer


def _pair(viewer: Any, image: Any, labels: Any) -> tuple[Any, Any, Any]:
    viewer = _viewer(viewer)
    labels = _layer(viewer, Labels, labels)
    image = _layer(viewer, Image, image)
    if tuple(labels.data.shape) != image_shape(image):
        raise InputError(
            f"{labels.name!r} has shape {tuple(labels.data.shape)} and {image.name!r} "
            f"{image_shape(image)}: choose layers of one shape"
        )
    return viewer, image, labels


def _layer(viewer: Any, kind: type[Layer], given: Any) -> Any:
    """The layer given, the active one of a kind, or the only selected or open one."""
    if given is not None:
        return given
    selection = [layer for layer in viewer.layers.selection if isinstance(layer, kind)]
    every = [layer for layer in viewer.layers if isinstance(layer, kind)]
    for candidates in (selection, every):
        if len(candidates) == 1:
            return candidates[0]
    name = kind.__name__
    if every:
        raise InputError(f"{len(every)} {name} layers are open: select the one that is meant")
    raise InputError(f"no {name} layer is open: open one first")
