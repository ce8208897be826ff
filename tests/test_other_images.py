"""Several images in one window: what is clicked on is what is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from in_window import click, grey

from napari_fctsfn.plugin.layers import camera_of


def visible(viewer: Any) -> set[str]:
    return {layer.name for layer in viewer.layers if layer.visible} - {
        "positive clicks",
        "negative clicks",
    }


def go_over(viewer: Any, dock: Any, name: str) -> None:
    viewer.layers.selection.active = viewer.layers[name]
    assert dock.wait_idle()
    dock.start_button.click()
    assert dock.wait_idle()
    assert dock.annotator.site.image.name == name


def test_going_over_to_an_image_shows_it_and_its_masks_alone(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    viewer.layers[0].name = "first"
    go_over(viewer, dock, "first")
    click(dock, 10, 12)
    own = dock.annotator.site.labels.name
    second = viewer.add_image(grey(400, 500, seed=1), name="second")
    go_over(viewer, dock, "second")
    assert visible(viewer) == {"first", "second", "second objects"}
    assert camera_of(viewer).center[-2:] == pytest.approx((199.5, 249.5))
    click(dock, 300, 400)
    zoom = camera_of(viewer).zoom
    # back again: the second one lies over it
    go_over(viewer, dock, "first")
    assert visible(viewer) == {"first", own}
    assert dock.hint.text().startswith("Hidden, since it lay over “first”: “second”.")
    assert camera_of(viewer).center[-2:] == pytest.approx((19.5, 24.5))
    assert camera_of(viewer).zoom > 5 * zoom
    assert [int(n) for n in np.unique(dock.annotator.site.labels.data)] == [0, 1]
    # a look at the other one, and Object goes on
    second.visible = True
    viewer.layers.selection.active = second
    assert dock.wait_idle()
    dock.positive_button.click()
    assert dock.wait_idle()
    assert visible(viewer) == {"first", own}
    assert dock.annotator.site.image.name == "first"


def test_a_slice_and_a_stack_are_gone_over_to_and_drawn_on(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), grey(3, 400, 500, seed=1), start=False)
    for layer, name in zip(viewer.layers, ("slice", "stack"), strict=True):
        layer.name = name
    go_over(viewer, dock, "slice")
    for name, middle in (("stack", (199.5, 249.5)), ("slice", (19.5, 24.5))):
        go_over(viewer, dock, name)
        assert camera_of(viewer).center[-2:] == pytest.approx(middle)
    viewer.layers["stack"].visible = True
    viewer.layers.selection.active = viewer.layers["stack"]
    dock.annotator.use_tool("box")
    assert dock.wait_idle()
    assert dock.annotator.tool == "box"
    assert not viewer.layers["stack"].visible
    assert camera_of(viewer).center[-2:] == pytest.approx((19.5, 24.5))


def test_images_of_one_place_keep_the_view(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    viewer.add_image(grey(40, 50, seed=1), name="second")
    camera_of(viewer).center, camera_of(viewer).zoom = (0, 5, 6), 33
    go_over(viewer, dock, "second")
    assert (camera_of(viewer).center[-2:], camera_of(viewer).zoom) == ((5, 6), 33)


def test_channels_that_are_blended_stay_with_their_masks(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), grey(40, 50, seed=1), start=False, blending="additive")
    one, two = (layer.name for layer in viewer.layers)
    go_over(viewer, dock, one)
    click(dock, 10, 12)
    go_over(viewer, dock, two)
    assert visible(viewer) == {one, two, f"{one} objects", f"{two} objects"}
    two_labels = viewer.layers[f"{two} objects"]
    # one that is seen through a little is no cover either
    viewer.layers[two].blending, viewer.layers[two].opacity = "translucent", 0.5
    go_over(viewer, dock, one)
    assert viewer.layers[two].visible
    assert two_labels.visible


def test_a_probability_on_display_is_no_other_image(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50))
    click(dock, 10, 12)
    dock.annotator.looking.show_probability(True)
    assert dock.wait_idle()
    before = visible(viewer)
    shown = next(layer for layer in viewer.layers if dock.annotator.looking.owns(layer))
    viewer.layers.selection.active = shown
    dock.positive_button.click()
    assert dock.wait_idle()
    assert visible(viewer) == before
    assert "Hidden" not in dock.hint.text()
