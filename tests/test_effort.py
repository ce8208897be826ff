"""Clicks of objects over time, read from the journals of sessions, open ones too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_window import click
from qtpy.QtWidgets import QApplication

from napari_fctsfn.models import resolve_model
from napari_fctsfn.plugin.shelf.effort import running_means
from napari_fctsfn.session.effort import efforts
from napari_fctsfn.session.refinement import USUAL


def test_clicks_of_each_object_are_counted_slice_by_slice(
    open_dock: Any, isolated_home: Path
) -> None:
    sessions = isolated_home / "sessions"
    assert efforts(sessions) == []
    rng = np.random.default_rng(0)
    viewer, dock = open_dock(rng.integers(0, 200, (4, 50, 60)).astype(np.uint8))
    clicks = [(0, 10, 10), (0, 12, 10), (1, 10, 10)]
    for point in clicks:
        viewer.dims.set_point(0, point[0])
        click(dock, *point)
    dock.annotator.next_object()
    click(dock, 1, 30, 30)
    dock.annotator.propagate("up")  # without a click in those slices
    assert dock.wait_idle()
    dock.annotator.next_object()
    click(dock, 1, 40, 10)
    dock.annotator.delete([3])
    # a mask of another tool, and one that was proposed and accepted, say nothing of clicks
    session, site = dock.annotator.session, dock.annotator.site
    mask = np.zeros((50, 60), dtype=bool)
    mask[5:8, 40:44] = True
    plane = dock.annotator.source.plane()
    dock.annotator.do(lambda s: session.adopt(7, {plane: mask}, s.labels_of))
    mask = np.roll(mask, 10, axis=0)
    from napari_fctsfn.clicks import Click

    dock.annotator.do(
        lambda s: session.accept(plane, [(Click(16, 41), mask)], s.labels_of, "square", 4.0, USUAL)
    )
    (sessions / "no session").mkdir()
    found = efforts(sessions)
    assert [(each.label, each.clicks, each.model) for each in found] == [
        (1, 1.5, "square"),
        (2, 1.0, "square"),
    ]
    assert found[0].time <= found[1].time
    assert {each.session for each in found} == {site.journal.folder.name}


def test_the_mean_is_that_of_ten() -> None:
    clicks = np.random.default_rng(0).integers(1, 9, 40).tolist()
    expected = [float(np.mean(clicks[max(0, n - 9) : n + 1])) for n in range(40)]
    assert running_means(clicks) == pytest.approx(expected)


def test_the_models_dock_shows_where_another_model_came_into_use(
    open_dock: Any, predictor: Any
) -> None:
    viewer, dock = open_dock(np.random.default_rng(0).integers(0, 200, (50, 60)).astype(np.uint8))
    click(dock, 10, 10)
    dock.annotator.next_object()
    import hashlib

    predictor.sha256 = hashlib.sha256(resolve_model("default").read_bytes()).hexdigest()
    for row, column in ((30, 30), (31, 31)):
        click(dock, row, column)
    _, models = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Models")
    assert models.wait_idle()
    assert [each.clicks for each in models.effort.efforts] == [1, 2]
    assert models.effort.changes == [(0, "square"), (1, "default")]
    models.effort.resize(300, 140)
    QApplication.processEvents()
    drawn = models.effort.grab().toImage()
    colors = {drawn.pixelColor(x, y).name() for x in range(300) for y in range(140)}
    assert "#e69f00" in colors
    models.release()
