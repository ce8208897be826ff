"""The benchmark verb, and the peers that it times: they must do what they are timed for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fctsfn.benchmark import Timing, peers, plot, speed
from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.evaluate import iou
from napari_fctsfn.models import ModelCard, save_model
from napari_fctsfn.network import NetworkConfig, build_network

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)
KEYS = {
    *("size", "image_ms", "click_ms", "click_p95_ms", "first_mask_ms", "peak_mb", "device"),
    "model",
}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    card = ModelCard(
        name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64
    )
    path = tmp_path / "tiny.safetensors"
    save_model(path, build_network(TINY).eval(), card)
    return path


@pytest.mark.parametrize("name", ["random walker", "graph cut"])
def test_a_peer_finds_a_disc(name):
    rows, columns = np.mgrid[:64, :80]
    truth = (rows - 30) ** 2 + (columns - 45) ** 2 < 200
    image = np.random.default_rng(0).poisson(300 + 900 * truth).astype(np.uint16)
    peer = peers.make(name, "cpu")
    peer.set_image(image)
    alone = peer.predict(Clicks([Click(30, 45)]))
    assert iou(alone, truth) > 0.9
    both = peer.predict(Clicks([Click(30, 45), Click(5, 5, positive=False)]))
    assert iou(both, truth) > 0.9


@pytest.mark.parametrize("size", [16, 100, 300])
def test_the_pictures_hold_what_their_masks_say(size):
    image, masks = speed.cells(size, 1)
    assert image.shape == (size, size)
    assert image.dtype == np.uint16
    for mask in masks:
        assert mask.any()
        assert image[mask].mean() > 2 * 300


@pytest.mark.parametrize("size", [16, 32])
def test_small_pictures_are_clicked_on_as_often(size):
    class Right:
        """Finds the object whole at the first click, so that no click is left to make."""

        def set_image(self, image):
            self.masks = speed.cells(size, 0)[1]

        def predict(self, clicks):
            return next(mask for mask in self.masks if mask[clicks[0].pixel])

    times = speed._session(Right(), size, 0, 10)
    assert len(times["click"]) == 9 * len(times["first"])


def test_a_task_is_timed_in_a_process_of_its_own(model, tmp_path):
    path = tmp_path / "figures.json"
    arguments = ["--sizes", "64", "--model", str(model), "--sessions", "1", "--threads", "1"]
    result = CliRunner().invoke(app, ["benchmark", *arguments, "--json", str(path)])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(path.read_text())["results"]
    assert set(row) == KEYS
    assert (row["size"], row["device"], row["model"]) == (64, "cpu", str(model))
    assert 0 < row["click_ms"] <= row["click_p95_ms"]
    assert row["image_ms"] < row["first_mask_ms"]
    assert 50 < row["peak_mb"] < 5000


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("sizes", [(256, 512), (512,)])
def test_the_plot_is_written(tmp_path, suffix, sizes):
    timings = [
        Timing(size, size / 10, size / 20, size / 15, size / 5, None, "cpu", name)
        for name in ("default", "random walker")
        for size in sizes
    ]
    path = tmp_path / f"plot.{suffix}"
    plot(timings, path)
    start = path.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "big"), "--sizes big: give numbers from 16"),
        (("--sizes", "256,8"), "--sizes 256,8: give numbers from 16"),
        (("--sessions", "0"), "--sessions 0"),
        (("--threads", "0"), "--threads 0"),
        (("--model", "none"), "unknown model 'none'"),
        (("--device", "warp"), "device 'warp' is not available"),
        (("--json", "nowhere/f.json"), "there is no folder nowhere"),
        (("--plot", "f.txt"), "--plot f.txt: give a name ending in .png"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(arguments, message):
    result = CliRunner().invoke(app, ["benchmark", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
