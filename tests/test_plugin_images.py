"""What images the dock takes, which slice and which pixels the network sees; the samples."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from in_window import click, grey
from napari.layers import Image
from npe2 import PluginManager

from napari_fctsfn.predict import Normalisation


def test_each_slice_has_its_own_clicks(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(6, 40, 50))
    labels = dock.annotator.site.labels
    viewer.dims.set_point(0, 2)
    click(dock, 2, 10, 12)
    viewer.dims.set_point(0, 4)
    click(dock, 4, 30, 30)
    assert np.flatnonzero(labels.data.any(axis=(1, 2))).tolist() == [2, 4]
    planes = dock.annotator.session.planes(1)
    assert [plane.index for plane in planes] == [(2, None, None), (4, None, None)]
    dock.annotator.undo()
    dock.annotator.undo()
    assert viewer.dims.current_step[0] == 2
    assert not labels.data.any()


def test_other_orientations_of_a_stack(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(20, 40, 50))
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 7)
    click(dock, 9, 7, 12)
    labels = dock.annotator.site.labels.data
    assert labels[:, 7].sum() == 25
    assert labels.sum() == 25


def test_the_slice_shown_is_the_slice_predicted(open_dock: Any, predictor: Any) -> None:
    stack = grey(6, 40, 50)
    viewer, dock = open_dock(stack)
    viewer.dims.set_point(0, 3)
    click(dock, 3, 10, 12)
    assert (predictor.slices[-1] == stack[3]).all()


def test_new_layers_lie_where_the_image_lies(open_dock: Any) -> None:
    place = {
        "scale": (3.0, 0.5, 0.25),
        "translate": (1.0, 2.0, 3.0),
        "rotate": np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]),
        "shear": (0.0, 0.0, 0.1),
        "affine": np.diag([1.0, 2.0, 2.0, 1.0]),
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    viewer, dock = open_dock(grey(6, 40, 50), **place)
    image, site = viewer.layers[0], dock.annotator.site
    for layer in (site.labels, *site.prompts.layers):
        for point in ([0, 0, 0], [3, 11, 7]):
            assert np.allclose(layer.data_to_world(point), image.data_to_world(point))
        assert layer.axis_labels == image.axis_labels
        assert layer.units == image.units
    image.scale = (1.0, 1.0, 1.0)
    assert np.allclose(site.labels.scale, 1)


def test_a_world_position_of_a_scaled_image_becomes_its_pixel(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(6, 40, 50), scale=(3.0, 0.5, 0.25), translate=(1, 2, 3))
    viewer.dims.set_point(0, 1 + 3 * 4)
    points = dock.annotator.site.prompts.positive
    click(dock, *points.world_to_data((1 + 3 * 4, 2 + 0.5 * 20, 3 + 0.25 * 30)))
    labels = dock.annotator.site.labels.data
    assert labels[4, 20, 30] == 1
    assert labels.sum() == 25


@pytest.mark.parametrize(
    ("data", "kwargs"),
    [
        (grey(40, 50, 3), {"rgb": True}),
        (grey(4, 40, 50, 4), {"rgb": True}),
        ([grey(40, 50), grey(20, 25)], {"multiscale": True}),
        (grey(40, 50) > 100, {}),
        (np.full((40, 50), 7.0), {}),
        (np.full((40, 50), np.nan, np.float32), {}),
    ],
    ids=["rgb", "rgba stack", "multiscale", "bool", "constant", "nan"],
)
def test_kinds_of_images(open_dock: Any, predictor: Any, data: Any, kwargs: Any) -> None:
    viewer, dock = open_dock(start=False)
    layer = viewer.add_image(data, **kwargs)
    assert dock.wait_idle()
    assert dock.start()
    click(dock, *[1] * (layer.ndim - 2), 10, 12)
    labels = dock.annotator.site.labels.data
    assert labels.sum() > 0
    assert predictor.image.shape[:2] == (40, 50)


def test_lazy_stacks_are_read_slice_by_slice(open_dock: Any) -> None:
    da = pytest.importorskip("dask.array")
    read = []

    def block(block_info: Any = None) -> np.ndarray:
        read.append(block_info[None]["chunk-location"][0])
        return grey(1, 40, 50)

    stack = da.map_blocks(block, chunks=((1,) * 8, (40,), (50,)), dtype=np.uint8)
    viewer, dock = open_dock(stack, contrast_limits=(0, 255))
    shown = viewer.dims.current_step[0]
    viewer.dims.set_point(0, 5)
    click(dock, 5, 10, 12)
    assert 5 in read
    # the first slice and the last tell which image it is; neighbours are read ahead
    assert set(read) <= {0, 7, shown - 1, shown, shown + 1, 4, 5, 6}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [(None, "percentiles"), ((0, 255), "percentiles"), ((30, 200), (30, 200))],
)
def test_the_network_sees_percentiles_until_somebody_sets_contrast(
    open_dock: Any, limits: Any, expected: Any
) -> None:
    image = np.random.default_rng(0).integers(20, 90, (40, 50)).astype(np.uint8)
    image[3, 4] = 240  # a hot pixel, that would make all others dark
    _, dock = open_dock(image, **({} if limits is None else {"contrast_limits": limits}))
    found = dock.annotator.session.normalisation
    usual = Normalisation.from_array(image)
    assert (found.low, found.high) == (
        (usual.low, usual.high) if expected == "percentiles" else expected
    )
    assert usual.high < 95


def test_a_lazy_image_is_seen_as_it_is_displayed(open_dock: Any) -> None:
    import dask.array as da

    data = np.random.default_rng(0).integers(20, 90, (3, 40, 50)).astype(np.uint16)
    _, dock = open_dock(da.from_array(data, (1, 40, 50)), contrast_limits=(0, 400))
    found = dock.annotator.session.normalisation
    assert (found.low, found.high) == (0, 400)


def test_samples_open_as_the_command_line_sees_them() -> None:
    from napari_fctsfn.plugin import samples

    for open_sample in (samples.nuclei, samples.chloroplasts, samples.chloroplast_stack):
        ((data, options, _),) = open_sample()
        seen = Normalisation.from_array(data)
        assert options["contrast_limits"] == (seen.low, seen.high)


def test_every_sample_opens_as_the_picture_it_says(make_napari_viewer_proxy: Any) -> None:
    viewer = make_napari_viewer_proxy()
    shapes = {
        "nuclei": (256, 256),
        "chloroplasts": (512, 512),
        "chloroplast_stack": (10, 256, 256),
        "stained_nuclei": (256, 320, 3),
        "cat": (300, 451, 3),
    }
    for key, shape in shapes.items():
        (layer,) = viewer.open_sample("napari-fctsfn", key)
        assert layer.data.shape == shape
        assert layer.rgb == (len(shape) == 3 and shape[-1] == 3)
        assert layer.data.std() > 10
    manifest = PluginManager.instance().get_manifest("napari-fctsfn")
    assert {sample.key for sample in manifest.contributions.sample_data} == set(shapes)


def test_samples_and_manifest(make_napari_viewer_proxy: Any) -> None:
    from npe2 import PluginManifest

    from napari_fctsfn.plugin import samples

    manifest = PluginManifest.from_distribution("napari-fctsfn")
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    viewer = make_napari_viewer_proxy()
    for function in (samples.nuclei, samples.chloroplasts):
        for data, options, kind in function():
            assert kind == "image"
            assert isinstance(viewer.add_image(data, **options), Image)
