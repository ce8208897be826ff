"""The bundled model in the real napari window, on the bundled pictures, clicked as a user would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.plugin import samples
from napari_fctsfn.predict import Predictor
from napari_fctsfn.predict.postprocess import beside_others
from napari_fctsfn.session import open_session, rebuild

TRUTH = Path(__file__).parent / "data"
CLICKS = 3
SMALLEST = 64
"""Pixels of the smallest object that counts, as in the validation lists."""

EACH = 14
"""Objects of each picture: the first so many by their number."""


def truth_of(picture: str) -> tuple[np.ndarray, list[int]]:
    """True labels of a picture and the numbers of the objects that are annotated."""
    labels = np.asarray(iio.imread(TRUTH / f"{picture}_labels.png"))
    sizes = np.bincount(labels.ravel())
    return labels, [i for i in range(1, len(sizes)) if sizes[i] >= SMALLEST][:EACH]


def annotate(dock: Any, truth: np.ndarray) -> list[np.ndarray]:
    """Click three times on an object; the labels after each click."""
    site, states = dock.annotator.site, []
    label, clicks = site.session.current, Clicks()
    for _ in range(CLICKS):
        free = (site.labels.data == 0) | (site.labels.data == label)
        click = next_click(site.labels.data == label, truth & free, clicks)
        if click is None:
            break
        clicks = clicks.append(click)
        layer = site.prompts.positive if click.positive else site.prompts.negative
        layer.add([click.row, click.column])
        assert dock.wait_idle(120_000)
        states.append(site.labels.data.copy())
    return states


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((mask & truth).sum() / (mask | truth).sum())


def undo_and_redo_all(annotator: Any, states: list[np.ndarray]) -> None:
    """Every step back and forth; `states` are the labels at the start and after each step."""
    labels = annotator.site.labels
    for state in states[-2::-1]:
        annotator.undo()
        assert (labels.data == state).all()
    assert not annotator.session.history.can_undo
    for state in states[1:]:
        annotator.redo()
        assert (labels.data == state).all()


def headless(session: Any, image: np.ndarray, predictor: Predictor) -> np.ndarray:
    """The masks of a session's clicks as a script without session and window would make them."""
    labels = np.zeros(image.shape, np.uint16)
    predictor.set_image(image, session.normalisation)
    for label, planes in session.objects.items():
        (annotation,) = planes.values()
        settings = replace(predictor.settings, extent=annotation.extent)
        mask = predictor.replay(annotation.clicks, settings=settings)[-1].full_mask()
        labels[beside_others(mask, labels == 0, annotation.clicks)] = label
    return labels


def reopened(folder: Path, image: np.ndarray, predictor: Predictor) -> np.ndarray:
    """The masks that a session gives that is read back from its folder."""
    labels = np.zeros(image.shape, np.uint16)
    opened = open_session(folder)
    opened.journal.close()
    session = opened.session
    rebuild(session.objects, lambda _: image, session.normalisation, predictor, labels)
    return labels


@pytest.mark.timeout(900)
def test_live_undone_reopened_and_headless_masks_are_equal_and_good(
    make_napari_viewer_proxy: Any, record_property: Any
) -> None:
    scores = []
    for picture in ("nuclei", "chloroplasts"):
        viewer = make_napari_viewer_proxy()
        image = samples.picture(picture)
        viewer.add_image(image, name=picture)
        _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
        assert dock.wait_idle(300_000)
        dock.model.setCurrentText("default")
        assert dock.wait_idle(300_000)
        assert dock.start()
        annotator, labels = dock.annotator, dock.annotator.site.labels
        truth, numbers = truth_of(picture)
        states = [labels.data.copy()]
        for number in numbers:
            if annotator.session.objects:
                annotator.next_object()
                assert dock.wait_idle()
                states.append(labels.data.copy())
            states += annotate(dock, truth == number)
            scores.append(overlap(labels.data == annotator.session.current, truth == number))
        undo_and_redo_all(annotator, states)
        session, folder = annotator.session, annotator.site.journal.folder
        dock.release()

        predictor = Predictor.from_pretrained("default")
        assert (reopened(folder, image, predictor) == states[-1]).all()
        assert (headless(session, image, predictor) == states[-1]).all()
        models = {a.model for planes in session.objects.values() for a in planes.values()}
        assert models == {predictor.sha256}
    record_property("mean IoU", float(np.mean(scores)))
    assert len(scores) >= 20
    assert np.mean(scores) >= 0.75, [round(score, 2) for score in scores]
