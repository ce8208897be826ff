"""The Models dock in the real napari window, with small models."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QApplication

from napari_fctsfn.models import (
    ModelCard,
    choose_model,
    chosen_model,
    list_models,
    load_model,
    register_model,
    resolve_model,
)
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.plugin import ModelsDock
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.train.finetune import measure, pictures_of_stack, usable
from napari_fctsfn.train.finetune.split import Item

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)


def make_model(name: str, seed: int, parent: str | None = None) -> Path:
    torch.manual_seed(seed)
    card = ModelCard(
        name=name,
        version="0",
        architecture=TINY.to_dict(),
        input_size=64,
        weights_licence="CC BY 4.0",
        parent=parent,
        description="small & quick",
    )
    return register_model(name, build_network(TINY).eval(), card).path


def picture(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    labels = np.zeros((64, 64), np.uint8)
    for value, (row, column) in enumerate([(15, 15), (45, 20), (30, 48)], 1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 < 80] = value
    return (rng.integers(0, 60, labels.shape) + 160 * (labels > 0)).astype(np.uint8), labels


@pytest.fixture
def dock(make_napari_viewer_proxy):
    first = load_model(make_model("first", 1))
    make_model("second", 2, first.sha256)
    viewer = make_napari_viewer_proxy()
    image, labels = picture()
    viewer.add_image(image, name="discs")
    viewer.add_labels(labels, name="true")
    _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Models")
    assert isinstance(dock, ModelsDock)
    assert dock.wait_idle()
    yield dock
    dock.release()


def names(dock):
    return [model.name for model in dock.listing.models]


def cells(table):
    return [
        [table.item(row, column).text() for column in range(table.columnCount())]
        for row in range(table.rowCount())
    ]


def test_models_are_listed_with_their_cards(dock):
    assert {"default", "photo", "first", "second"} == set(names(dock))
    listed = {row[1]: row for row in cells(dock.table)}
    assert [name for name, row in listed.items() if row[0]] == [chosen_model()]
    assert listed["second"][2] == "first"
    dock.select("second")
    assert "small &amp; quick" in dock.card.text()
    assert "Refined from: first" in dock.card.text()
    assert "CC BY 4.0" in dock.card.text()
    dock.select("default")
    assert "clicks to 85 % IoU: " in dock.card.text()
    clicks = load_model(resolve_model("default")).card.metrics["grabcut/ritm/noc85"]
    assert f"grabcut {clicks:.1f}" in dock.card.text()
    assert not dock.delete_button.isEnabled()
    assert not dock.rename_button.isEnabled()


def test_a_damaged_model_is_listed_with_its_reason(dock):
    resolve_model("first").write_bytes(b"damaged")
    dock.list_models()
    assert dock.wait_idle()
    dock.select("first")
    assert "first.safetensors" in dock.card.text()
    assert not dock.use_button.isEnabled()
    assert dock.delete_button.isEnabled()


def test_a_model_is_chosen_renamed_deleted_and_brought_back(dock, tmp_path):
    dock.select("first")
    dock.use_button.click()
    assert dock.wait_idle()
    assert chosen_model() == "first"
    assert cells(dock.table)[names(dock).index("first")][0] == "●"
    before = resolve_model("first").read_bytes()
    dock.rename("second")
    assert "exists already" in dock.status.text()
    dock.rename("mine")
    assert dock.wait_idle()
    assert chosen_model() == "mine"
    assert [model.name for model in dock.selected] == ["mine"]
    dock.select("second")
    dock.delete()
    assert dock.wait_idle()
    dock.select("mine")
    dock.delete()
    assert dock.wait_idle()
    assert not [entry for entry in list_models() if not entry.bundled]
    assert chosen_model() == "default"
    dock.restore_button.click()
    assert dock.wait_idle()
    assert resolve_model("mine").read_bytes() == before
    dock.restore_button.click()
    assert dock.wait_idle()
    assert {"mine", "second"} < set(names(dock))
    assert not dock.restore_button.isEnabled()


def test_a_model_goes_out_and_comes_in_as_one_file(dock, tmp_path):
    dock.select("first")
    dock.export(tmp_path / "out.safetensors")
    assert dock.wait_idle()
    dock.export(tmp_path / "out.safetensors")
    assert dock.wait_idle()
    assert "is there already" in dock.status.text()
    dock.select("first")
    dock.delete()
    assert dock.wait_idle()
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 30)
    dock.import_(tmp_path / "broken.safetensors", "broken")
    assert "Not done" in dock.status.text()
    dock.import_(tmp_path / "out.safetensors", "second")
    assert "exists already" in dock.status.text()
    dock.import_(tmp_path / "out.safetensors", "again")
    assert dock.wait_idle()
    assert [model.name for model in dock.selected] == ["again"]


def test_every_model_that_is_deleted_leaves_the_list(dock):
    for number, name in enumerate("abcd"):
        make_model(name, 10 + number)
    dock.list_models()
    assert dock.wait_idle()
    dock.select("a", "b", "c", "d")
    assert len(dock.selected) == 4
    dock.delete()
    assert dock.wait_idle()
    names = [model.name for model in dock.listing.models]
    assert names == [entry.name for entry in list_models()]
    assert not {"a", "b", "c", "d"} & set(names)
    assert set(dock.listing.deleted) == {"a", "b", "c", "d"}


def test_a_model_that_is_renamed_goes_on_annotating(make_napari_viewer_proxy):
    make_model("mine", 1)
    choose_model("mine")
    viewer = make_napari_viewer_proxy()
    viewer.add_image(np.zeros((40, 40), np.uint8))
    _, annotate = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    _, models = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Models")
    _, tuning = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Fine-tune")
    docks = annotate, models, tuning
    assert all(each.wait_idle() for each in docks)
    assert annotate.start()
    models.select("mine")
    models.rename("nuclei")
    assert all(each.wait_idle() for each in docks)
    assert chosen_model() == "nuclei"
    assert annotate.model.currentText() == tuning.base.currentText() == "nuclei"
    assert annotate.annotator.assistant.model[0] == "nuclei"
    for each in docks:
        each.release()


def test_docks_are_tabs_beside_each_other(dock):
    viewer = dock.image._viewer
    first, _ = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Models")
    second, other = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Fine-tune")
    QApplication.processEvents()
    assert dock.window().tabifiedDockWidgets(second) == [first]
    other.release()


def test_docks_that_come_together_are_all_tabs_with_short_names(make_napari_viewer_proxy):
    window = make_napari_viewer_proxy().window
    added = [
        window.add_plugin_dock_widget("napari-fctsfn", name)
        for name in ("Annotate", "Fine-tune", "Batch", "Models")
    ]
    assert all(dock.wait_idle() for _, dock in added)
    frames = [frame for frame, _ in added]
    assert set(frames[0].window().tabifiedDockWidgets(frames[0])) == set(frames[1:])
    assert [frame.windowTitle() for frame in frames] == ["Annotate", "Fine-tune", "Batch", "Models"]


@pytest.mark.parametrize("folder", [False, True])
def test_models_are_measured_as_evaluation_counts(dock, tmp_path, folder):
    image, labels = picture()
    dock.select("first", "second")
    dock.objects.setValue(1)
    if folder:
        for name, pixels in (("images", image), ("labels", labels)):
            (tmp_path / name).mkdir()
            iio.imwrite(tmp_path / name / "a.png", pixels)
        dock.try_folder(tmp_path)
    else:
        dock.layers_button.click()
    assert dock.wait_idle()
    shown = Normalisation.from_array(image)
    pictures, _ = usable(pictures_of_stack("discs", image, labels, shown))
    chosen = sorted(np.random.default_rng(0).permutation(3)[:1].tolist())
    items = [Item(0, pictures[0].objects[number]) for number in chosen]
    expected = []
    for name in ("first", "second"):
        found = measure(Predictor.from_pretrained(resolve_model(name)), pictures, items)
        expected.append([name, "1", f"{found.noc85:.2f}", f"{found.iou1:.3f}", f"{found.iou3:.3f}"])
    assert cells(dock.results) == expected
    assert "Measured on" in dock.status.text()


def test_measuring_is_cancelled_and_bad_labels_are_said(dock):
    dock.select("first")
    dock.layers_button.click()
    dock.cancel_button.click()
    assert dock.wait_idle()
    assert dock.results.rowCount() == 0
    assert "Cancelled" in dock.status.text()
    dock.labels.layer.data = np.zeros((64, 64), np.uint8)
    dock.layers_button.click()
    assert dock.wait_idle()
    assert dock.status.text().startswith("Not done")
    dock.select()
    assert not dock.layers_button.isEnabled()


def test_other_docks_hear_of_what_was_done(dock, make_napari_viewer_proxy):
    viewer = dock.image._viewer
    _, annotate = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Annotate")
    _, teach = viewer.window.add_plugin_dock_widget("napari-fctsfn", "Fine-tune")
    assert annotate.wait_idle()
    QApplication.processEvents()
    dock.select("second")
    dock.use()
    assert dock.wait_idle()
    assert annotate.model.currentText() == "second"
    assert annotate.wait_idle()
    dock.rename("other")
    assert dock.wait_idle()
    for box in (annotate.model, teach.base):
        listed = [box.itemText(number) for number in range(box.count())]
        assert "other" in listed
        assert "second" not in listed
    annotate.release()
    teach.release()
