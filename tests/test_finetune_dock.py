"""The Fine-tune dock in the real napari window, with a small model and a real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import tifffile
import torch
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.models import ModelCard, chosen_model, list_models, load_model, register_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.plugin import FineTuneDock
from napari_fctsfn.plugin.teaching.dock import _next_name, _summary
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.session import ImageIdentity, Journal, Plane, Session
from napari_fctsfn.train.finetune.job import Result

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    card = ModelCard(
        name="tiny",
        version="0",
        architecture=TINY.to_dict(),
        input_size=64,
        weights_licence="CC BY 4.0",
    )
    return register_model("tiny", build_network(TINY).eval(), card)


@pytest.fixture
def dock(make_napari_viewer_proxy, model, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    viewer = make_napari_viewer_proxy()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    labels = np.zeros((5, 64, 64), np.int32)
    for plane in range(5):
        row, column = rng.integers(20, 44, 2)
        labels[plane][(rows - row) ** 2 + (columns - column) ** 2 < 100] = 1
    image = rng.integers(0, 60, labels.shape) + 160 * labels
    viewer.add_image(image.astype(np.uint8), name="discs")
    viewer.add_labels(labels, name="corrected")
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Fine-tune")
    assert isinstance(dock, FineTuneDock)
    dock.list_models()
    dock.base.setCurrentText("tiny")
    dock.minutes.setValue(0.5)
    yield dock
    dock.release()


def added(dock):
    dock.add_layers()
    assert dock.wait_idle()
    return dock


def until(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.005)


def own_models():
    return [entry.name for entry in list_models() if not entry.bundled]


def test_pictures_are_shown_and_can_be_left_out(dock):
    assert not dock.start_button.isEnabled()
    added(dock)
    assert len(dock.chosen) == dock.thumbnails.count() == 5
    assert not dock.thumbnails.item(0).icon().isNull()
    dock.thumbnails.item(1).setCheckState(Qt.CheckState.Unchecked)
    assert [picture.name for picture in dock.chosen] == ["discs 0", "discs 2", "discs 3", "discs 4"]
    assert "4 objects in 4 pictures" in dock.start_button.text()


def test_what_is_added_again_replaces_what_was_there(dock):
    added(dock)
    dock.thumbnails.item(1).setCheckState(Qt.CheckState.Unchecked)
    dock.labels.layer.data[4] = 0
    dock.labels.layer.data[0, :12, :12] = 7
    added(dock)
    assert [picture.name for picture in dock.pictures] == [f"discs {n}" for n in range(4)]
    assert dock.thumbnails.count() == 4
    assert dock.pictures[0].objects == (1, 7)
    assert [picture.name for picture in dock.chosen] == ["discs 0", "discs 2", "discs 3"]


def test_a_session_that_is_open_is_added(dock, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    session = Session(image.shape, Normalisation(0, 255))
    path = tmp_path / "one.tif"
    tifffile.imwrite(path, image)
    identity = ImageIdentity.of("one", image, source=str(path))
    labels = np.zeros(image.shape, np.uint16)
    with Journal.create(tmp_path / "session", session, identity, labels):
        plane = Plane((None, None))
        session.edit_clicks(plane, Clicks([Click(20.0, 20.0)]))
        mask = np.zeros(image.shape, bool)
        mask[10:30, 10:30] = True
        job = session.job(lambda _: labels)
        session.resolve(job, mask, labels, "m").apply(labels)
        dock.add_session(tmp_path / "session")
        assert dock.wait_idle()
    assert [picture.name for picture in dock.chosen] == ["one"]
    assert dock.pictures[0].truth(1).sum() == 400


def test_a_full_disk_is_said_before_the_training(dock, monkeypatch, capsys):
    added(dock)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert not dock.start()
    assert "make room first" in capsys.readouterr().out
    assert not dock.teaching.busy


def test_names_go_on_with_numbers(model):
    assert _next_name("tiny") == "tiny-2"
    register_model("tiny-2", build_network(TINY).eval(), load_model(model.path).card)
    assert _next_name("tiny") == _next_name("tiny-2") == "tiny-3"
    assert len(_next_name(64 * "x")) <= 64


def test_the_name_that_is_offered_is_free_and_a_typed_one_stays(dock, model):
    register_model("mine", build_network(TINY).eval(), load_model(model.path).card)
    dock.list_models()
    assert dock.name.text() == "mine-2"
    dock.name.clear()
    QTest.keyClicks(dock.name, "tiny")
    dock.list_models()
    assert dock.name.text() == "tiny"


def test_a_training_from_start_to_the_next_image(dock, tmp_path):
    added(dock)
    dock.name.setText("mine")
    assert dock.start()
    assert dock.teaching.busy
    assert not dock.start_button.isVisible()
    until(lambda: len(dock.chart.losses) > 1 or not dock.teaching.busy)
    dock.teaching.cancel()
    assert dock.wait_idle(240_000), dock.status.text()
    assert dock.chart.losses, dock.status.text()
    assert "Clicks to 85 %" in dock.status.text()
    assert own_models() == ["tiny"], "nothing is registered before the user says so"
    assert dock.compared.layout().count() >= 4
    assert dock.discard_button.isEnabled()
    viewer = dock.image._viewer
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    (first,) = viewer.open(str(tmp_path / "a.tif"), plugin="napari")
    _, annotate = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    assert annotate.wait_idle()
    annotate.image.choose(first)
    assert dock.go_on(), dock.status.text()
    assert annotate.wait_idle()
    assert own_models() == ["mine", "tiny"]
    assert chosen_model() == "mine"
    assert annotate.annotator.site.image.source.path == str(tmp_path / "b.tif")
    assert annotate.annotator.assistant.model[0] == "mine"
    assert not first.visible
    annotate.release()
    card = load_model(list_models()[-2].path).card
    assert card.name == "mine"
    assert card.training["base"] == "tiny"
    assert dock.base.findText("mine") >= 0
    assert dock.name.text() == "mine-2", "the next one needs another name"
    assert dock.teaching._folder is None, "nothing stays of the job"


def test_pause_holds_on_cancel_ends_and_a_killed_process_changes_nothing(dock):
    added(dock)
    assert dock.start()
    until(lambda: dock.status.text() != "Starting …")
    dock.pause_button.setChecked(True)
    assert dock.teaching.paused
    dock.pause_button.setChecked(False)
    process = dock.teaching._process
    if sys.platform != "win32":
        assert os.getpriority(os.PRIO_PROCESS, process.processId()) > os.getpriority(
            os.PRIO_PROCESS, 0
        )
    os.kill(process.processId(), signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    assert dock.wait_idle()
    assert "ended unexpectedly" in dock.status.text()
    assert own_models() == ["tiny"]
    assert dock.start()
    assert dock.teaching._process is None, "the job is still being written"
    dock.teaching.cancel()
    assert dock.wait_idle(120_000)
    assert "cancelled" in dock.status.text()
    assert own_models() == ["tiny"]


def test_a_taken_name_and_missing_layers_are_said(dock):
    dock.name.setText("tiny")
    assert not dock.start()
    dock.labels.choose(None)


def result(**changes):
    measured = {"noc85": 4.0, "iou1": 0.5, "iou3": 0.6, "objects": 3}
    values = {
        "base": "tiny",
        "improved": True,
        "cancelled": False,
        "before": measured,
        "after": {**measured, "noc85": 2.0},
        "generic_before": measured,
        "generic_after": measured,
        "notes": ["a note"],
        "examples": [],
    }
    return Result.model_validate(json.loads(json.dumps(values | changes)))


def test_a_model_that_is_worse_is_not_offered_as_better():
    better = _summary(result())
    assert "no better" not in better
    assert "4.0 before, 2.0 after" in better
    assert "A note." in better
    assert "It is no better" in _summary(result(improved=False))
    assert "nothing to measure on" in _summary(result(before=None, after=None, improved=False))
