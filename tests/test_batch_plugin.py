"""Batch in napari: the dock and the commands give what the shell gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import npe2
import numpy as np
import pytest
import tifffile
import torch
import yaml
from napari.components import ViewerModel
from typer.testing import CliRunner

from napari_fctsfn import batch
from napari_fctsfn.batch.pictures import read_picture
from napari_fctsfn.batch.task import load_predictor
from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, ClickRecord, write_clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import ModelCard, resolve_model, save_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.plugin.batching import commands
from napari_fctsfn.plugin.batching.form import JobForm

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)
PLACES = [(10, 15), (30, 40), (20, 50)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four pictures with click files, and a tiny model that is the one chosen."""
    torch.manual_seed(3)
    path = tmp_path / "tiny.safetensors"
    card = ModelCard(
        name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64
    )
    save_model(path, build_network(TINY).eval(), card)
    monkeypatch.setattr(commands, "chosen_model", lambda: str(path))
    rng = np.random.default_rng(0)
    for number in range(4):
        iio.imwrite(tmp_path / f"p{number}.png", rng.integers(0, 255, (40, 60)).astype(np.uint8))
        clicks = [ClickRecord(Click(r, c), object=n) for n, (r, c) in enumerate(PLACES, 1)]
        write_clicks(tmp_path / f"p{number}_clicks.json", clicks)
    return tmp_path


def shell(folder: Path) -> dict[str, np.ndarray]:
    """Labels as the command line makes them."""
    document = {
        "version": 1,
        "inputs": {"images": ["*.png"]},
        "clicks": {"from": "files"},
        "model": {"name": str(folder / "tiny.safetensors")},
        "outputs": {"folder": "shell"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    result = CliRunner().invoke(app, ["batch", str(folder / "job.yaml")])
    assert result.exit_code == 0, result.output
    return labels(folder / "shell")


def labels(folder: Path) -> dict[str, Any]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*_labels.tif"))}


def call(name: str, *arguments: Any, **named: Any) -> Any:
    """What another plugin does."""
    manager = npe2.PluginManager.instance()
    manager.discover()
    return manager.commands.execute(f"napari-fctsfn.{name}", arguments, named)


@pytest.fixture
def viewer(folder):
    model = ViewerModel()
    model.add_image(iio.imread(folder / "p0.png"), name="p0", scale=(0.5, 0.5), units="um")
    return model


def test_five_ways_give_the_same_labels(folder, make_napari_viewer_proxy, qtbot):
    distributed = pytest.importorskip("distributed")
    expected = shell(folder)
    assert len(expected) == 4
    window = make_napari_viewer_proxy()
    _, dock = window.window.add_plugin_dock_widget("napari-fctsfn", "Batch")
    assert dock.wait_idle()
    dock.run()
    assert "choose the folder of the images" in dock.status.text()
    dock.form.take_folder(folder)
    assert dock.form.images.text().endswith("*.png")
    dock.form.model.addItem(str(folder / "tiny.safetensors"))
    dock.form.model.setCurrentText(str(folder / "tiny.safetensors"))
    dock.preview()
    assert dock.wait_idle()
    assert "Tried on 3 images" in dock.status.text()
    assert [layer.name for layer in window.layers][::2] == ["p0", "p1", "p3"]
    assert not (folder / "results").exists()
    dock.save(folder / "saved.yaml")
    dock.run()
    assert dock.wait_idle()
    assert "4 done" in dock.status.text()
    assert labels(folder / "results") == expected
    window.layers.clear()
    dock.open_results()
    assert len(window.layers) == 8
    # the file that the dock saved, and the one beside its results, mean the same in the shell
    for path in (folder / "saved.yaml", folder / "results" / "job.yaml"):
        result = CliRunner().invoke(app, ["batch", str(path)])
        assert "0 done, 4 done before" in result.output
    # an opened job shows what was saved
    dock.load(folder / "job.yaml")
    assert dock.form.document()["outputs"]["folder"] == str(folder / "shell")
    dock.run()
    assert dock.wait_idle()
    assert "4 done before" in dock.status.text()
    dock.load(folder / "p0.png")
    assert "p0.png" in dock.status.text()
    (folder / "job.yaml").write_text(
        (folder / "job.yaml").read_text().replace("shell", "command"), encoding="utf-8"
    )
    assert call("run_job", path=folder / "job.yaml").done == 4
    assert labels(folder / "command") == expected
    assert call("batch_folder", folder=folder, pattern="p*.png").skipped == 4
    job = batch.read_job(folder / "job.yaml")
    planned = batch.plan(
        job.model_copy(update={"outputs": job.outputs.model_copy(update={"folder": "py"})}), folder
    )
    batch.finish(planned, list(batch.execute(planned)), 0)
    assert labels(folder / "py") == expected
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        planned = batch.plan(
            job.model_copy(update={"outputs": job.outputs.model_copy(update={"folder": "dask"})}),
            folder,
        )
        entries = list(batch.execute(planned, scheduler=cluster.scheduler_address))
    assert [entry.error for entry in entries] == [""] * 4
    assert labels(folder / "dask") == expected


def test_the_dock_is_cancelled_and_goes_on(folder, make_napari_viewer_proxy):
    window = make_napari_viewer_proxy()
    _, dock = window.window.add_plugin_dock_widget("napari-fctsfn", "Batch")
    assert dock.wait_idle()
    dock.form.take_folder(folder)
    dock.form.model.addItem(str(folder / "tiny.safetensors"))
    dock.form.model.setCurrentText(str(folder / "tiny.safetensors"))
    dock.run()
    dock.cancel()
    assert dock.wait_idle()
    assert "4 not begun" in dock.status.text()
    dock.run()
    assert dock.wait_idle()
    assert "4 done" in dock.status.text()


def test_rows_of_a_table_that_name_no_image_are_told(folder, make_napari_viewer_proxy, monkeypatch):
    table = folder / "points.csv"
    table.write_text("file,y,x\np0,10,15\np1,30,40\np2,20,50\np3,9,9\nq7,1,1\n")
    window = make_napari_viewer_proxy()
    _, dock = window.window.add_plugin_dock_widget("napari-fctsfn", "Batch")
    assert dock.wait_idle()
    dock.form.take_folder(folder)
    dock.form.model.addItem(str(folder / "tiny.safetensors"))
    dock.form.model.setCurrentText(str(folder / "tiny.safetensors"))
    dock.form.source.setCurrentIndex(dock.form.source.findData("table"))
    dock.form.path.setText(str(table))
    dock.form.columns.setText("row: y")
    dock.run()
    assert "the columns 'row: y' are no pairs" in dock.status.text()
    dock.form.columns.setText("row=y, column = x; image=file")
    dock.run()
    assert dock.wait_idle()
    assert "4 done" in dock.status.text()
    assert "points.csv: 1 of its clicks are on images" in dock.status.text()
    told: list[str] = []
    monkeypatch.setattr(commands, "show_warning", told.append)
    dock.save(folder / "job.yaml")
    assert call("run_job", path=folder / "job.yaml").skipped == 4
    assert len(told) == 1
    assert "such as 'q7': they are left out." in told[0]


def test_every_way_to_clicks_makes_a_job(folder, make_napari_viewer_proxy):
    window = make_napari_viewer_proxy()
    _, dock = window.window.add_plugin_dock_widget("napari-fctsfn", "Batch")
    assert dock.wait_idle()
    form = dock.form
    form.take_folder(folder)
    # sessions need no folder: they are those of the Annotate dock
    form.source.setCurrentIndex(form.source.findData("session"))
    assert batch.parse_job(form.document()).clicks.folder is None
    form.path.setText("rough/{stem}.tif")
    form.slices.setText("0, 2")
    form.columns.setText("row=y, column=x")
    for number in range(form.source.count()):
        form.source.setCurrentIndex(number)
        job = batch.parse_job(form.document())
        assert job.clicks.source == form.source.currentData()
        other = type(form)()
        other.show_document(job.model_dump(mode="json", by_alias=True, exclude_none=True), folder)
        assert batch.parse_job(other.document()) == job
    form.source.setCurrentIndex(form.source.findData("propagate"))
    form.slices.setText("one")
    dock.save(folder / "bad.yaml")
    assert "are no numbers" in dock.status.text()
    assert not (folder / "bad.yaml").exists()


def test_the_form_says_which_columns_go_together(folder, qtbot):
    form = JobForm()
    qtbot.addWidget(form)
    form.take_folder(folder)
    form.source.setCurrentIndex(form.source.findData("table"))
    assert "so positive needs it" in form.columns.toolTip()
    form.path.setText("points.csv")
    form.columns.setText("positive=kind")
    with pytest.raises(InputError, match="positive kind needs object too"):
        batch.parse_job(form.document())


def test_a_model_file_of_a_job_is_found_wherever_napari_was_started(folder, qtbot, monkeypatch):
    (folder / "jobs").mkdir()
    shutil.copy(resolve_model("default"), folder / "jobs" / "mine.safetensors")
    document = {
        "version": 1,
        "inputs": {"images": ["*.png"]},
        "clicks": {"from": "seeds", "radius": 5},
        "model": {"name": "mine.safetensors"},
        "outputs": {"folder": "out"},
    }
    monkeypatch.chdir("/")
    form = JobForm()
    qtbot.addWidget(form)
    form.show_document(document, folder / "jobs")
    assert form.document()["model"]["name"] == str(folder / "jobs" / "mine.safetensors")


def test_points_become_the_labels_that_the_shell_makes(folder, viewer):
    shell(folder)
    expected = tifffile.imread(folder / "shell" / "p0_labels.tif")
    viewer.add_points(np.array(PLACES), scale=(0.5, 0.5), units="um")
    found = call("segment_slice", viewer)
    assert (found.data == expected).all()
    assert found in viewer.layers
    assert (found.scale == 0.5).all()
    (again,) = call("batch_layers", viewer)
    assert (again.data == expected).all()


def test_labels_are_refined_propagated_and_exported(folder, viewer):
    rough = np.zeros((40, 60), np.uint8)
    rough[5:15, 10:25] = 3
    rough_layer = viewer.add_labels(rough, scale=(0.5, 0.5), units="um")
    refined = call("refine_labels", viewer)
    assert set(np.unique(refined.data)) <= {0, 3}
    assert (rough_layer.data == rough).all()
    path = call("export_labels", viewer, labels=rough_layer, path=folder / "out.ome.tif")
    again = read_picture(path)
    assert (again.pixels == rough).all()
    assert (again.scale, again.unit) == ((0.5, 0.5), "micrometer")
    negative = viewer.add_labels(np.array([[0, -1]], np.int16))
    with pytest.raises(InputError, match="has the label -1"):
        call("export_labels", viewer, labels=negative, path=folder / "negative.tif")
    assert not (folder / "negative.tif").exists()
    stack = ViewerModel()
    stack.add_image(np.stack([viewer.layers[0].data] * 3))
    known = np.zeros((3, 40, 60), np.uint8)
    known[1] = rough
    stack.add_labels(known)
    found = call("propagate_labels", stack)
    assert (found.data[1] == rough).all()


def test_a_second_propagation_sees_what_the_image_is_now(folder, monkeypatch):
    monkeypatch.setattr(commands, "chosen_model", lambda: "default")
    rows, columns = np.indices((64, 72))
    far = np.hypot(rows - 30, columns - 34)
    discs = [np.where(far < radius, 200, 30).astype(np.uint8) for radius in (10, 10, 13)]
    model = ViewerModel()
    image = model.add_image(np.stack(discs[:2]))
    known = model.add_labels(np.stack([discs[0] > 100, discs[0] > 300]).astype(np.uint8))
    first = call("propagate_labels", model, image=image, labels=known).data
    image.data[1] = discs[2]
    second = call("propagate_labels", model, image=image, labels=known).data
    load_predictor.cache_clear()
    anew = call("propagate_labels", model, image=image, labels=known).data
    assert (second == anew).all()
    assert (second != first).any()


@pytest.mark.parametrize(
    "name",
    [
        *("segment_slice", "propagate_labels", "refine_labels", "batch_layers"),
        *("run_job", "batch_folder", "export_labels"),
    ],
)
def test_a_command_says_what_is_missing(name, folder):
    with pytest.raises(InputError, match="there is no viewer"):
        call(name)
    if name not in ("run_job", "batch_folder"):
        with pytest.raises(InputError, match="open"):
            call(name, ViewerModel())


def test_another_plugin_calls_every_command(folder, viewer):
    """A plugin with a manifest of its own, whose command calls ours."""
    shell(folder)
    expected = tifffile.imread(folder / "shell" / "p0_labels.tif")
    points = viewer.add_points(np.array(PLACES), scale=(0.5, 0.5), units="um")
    stack = ViewerModel()
    stack.add_image(np.stack([viewer.layers[0].data] * 3))
    known = np.zeros((3, 40, 60), np.uint8)
    known[1, 5:15, 10:25] = 1
    stack.add_labels(known)
    manager = npe2.PluginManager.instance()
    manager.discover()
    called = set()
    with npe2.DynamicPlugin("another-plugin", plugin_manager=manager) as plugin:

        @plugin.contribute.command(id="another-plugin.call", title="Call")
        def forward(name, *arguments, **named):
            called.add(name)
            return call(name, *arguments, **named)

        def through(name: str, *arguments: Any, **named: Any) -> Any:
            return manager.commands.execute("another-plugin.call", (name, *arguments), named)

        found = through("segment_slice", viewer)
        assert (found.data == expected).all()
        (again,) = through("batch_layers", viewer)
        assert (again.data == expected).all()
        viewer.layers.remove(again)
        viewer.layers.remove(points)
        assert through("refine_labels", viewer, labels=found) in viewer.layers
        path = through("export_labels", viewer, labels=found, path=folder / "out.tif")
        assert (tifffile.imread(path) == expected).all()
        assert (through("propagate_labels", stack).data[1] == known[1]).all()
        assert through("run_job", path=folder / "job.yaml").skipped == 4
        assert through("batch_folder", folder=folder, pattern="p*.png").done == 4
    ours = manager.get_manifest("napari-fctsfn").contributions.commands
    assert called == {
        command.id.removeprefix("napari-fctsfn.")
        for command in ours
        if ".batching.commands:" in command.python_name
    }


def test_the_palette_injects_the_viewer(folder, make_napari_viewer_proxy):
    from napari._app_model import get_app_model

    window = make_napari_viewer_proxy()
    window.add_image(iio.imread(folder / "p0.png"))
    window.add_points(np.array(PLACES))
    get_app_model().commands.execute_command("napari-fctsfn.segment_slice").result()
    assert window.layers[-1].data.shape == (40, 60)
