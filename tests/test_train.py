"""The modern recipe: it learns, resumes exactly, refuses bad data, never leaves half a file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, label

from napari_fctsfn.evaluate import DataSetError
from napari_fctsfn.models import load_model
from napari_fctsfn.network import FCTSFN, NetworkConfig, build_network
from napari_fctsfn.network.layers import QualityHead, upsample
from napari_fctsfn.train import (
    CheckpointError,
    TrainSettings,
    modern,
    train,
    train_model,
)
from napari_fctsfn.train import mixture as mixtures
from napari_fctsfn.train.losses import boundary_weight, dice_loss, normalized_focal_loss
from napari_fctsfn.train.mixture import Mixture, Source, encased
from napari_fctsfn.train.start import WeightsError, grow

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)


def make_set(folder, kind="instances", count=3, **about):
    """A data set of bright discs on noise."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    rows, columns = np.mgrid[:80, :100]
    for index in range(count):
        labels = np.zeros((80, 100), np.uint8)
        for value, (row, column) in enumerate(rng.integers(20, 60, (2, 2)), 1):
            labels[(rows - row) ** 2 + (columns - column) ** 2 < 150] = value
        image = rng.integers(0, 80, (80, 100)) + 150 * (labels > 0)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"p{index}.png")
        Image.fromarray(labels).save(folder / "labels" / f"p{index}.png")
    values = {"name": folder.name, "kind": kind, "licence": "CC0", "modality": "discs", **about}
    (folder / "dataset.json").write_text(json.dumps(values))
    (folder / "train.txt").write_text("\n".join(f"p{index}" for index in range(count)))


def blank_labels(folder):
    """Leave no object in a data set."""
    for path in (folder / "labels").iterdir():
        Image.fromarray(np.zeros((80, 100), np.uint8)).save(path)


def read_log(settings):
    """Records of the training log."""
    lines = (settings.output / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def settings(tmp_path):
    make_set(tmp_path / "data" / "discs")
    return TrainSettings(
        data=tmp_path / "data",
        output=tmp_path / "run",
        steps=4,
        batch=2,
        size=64,
        states=2,
        mixture={"discs": 1.0},
        network=TINY,
        start="random",
        save_every=1,
    )


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_killed_training_resumes_bit_for_bit(settings, monkeypatch):
    whole = train_model(replace(settings, output=settings.output / "whole"), "m").read_bytes()
    step = modern._step

    def killed(*args):
        if args[3] == 2:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(modern, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    monkeypatch.undo()
    assert train_model(settings, "m").read_bytes() == whole
    assert [record["step"] for record in read_log(settings)] == [0, 1, 2, 3]


def test_a_training_does_not_depend_on_the_number_of_threads_that_click(settings):
    models = [
        train_model(replace(settings, output=settings.output / str(n), workers=n), "m").read_bytes()
        for n in (1, 3)
    ]
    assert models[0] == models[1]


def test_training_learns_to_find_discs(settings):
    train(replace(settings, steps=60, rate=1e-2, save_every=60))
    losses = [record["loss"] for record in read_log(settings)]
    first, last = np.mean(losses[:10]), np.mean(losses[-10:])
    assert last < 0.75 * first


def test_the_model_file_tells_its_training(settings):
    model = load_model(train_model(settings, "discs-model"))
    assert model.card.name == "discs-model"
    assert [entry.name for entry in model.card.training_data] == ["discs"]
    assert model.card.training_data[0].images == 3
    assert model.card.weights_licence == "CC BY 4.0"
    assert model.card.training["seed"] == 0


def test_a_border_band_that_is_left_out_is_a_setting(settings, monkeypatch):
    before = settings.describe()
    monkeypatch.setitem(modern.BANDS, "discs", 3)
    assert settings.describe() == {**before, "bands": {"discs": 3}}


def test_a_checkpoint_of_other_settings_is_refused(settings):
    train(settings)
    with pytest.raises(CheckpointError, match="other seed"):
        train(replace(settings, seed=1))
    with pytest.raises(CheckpointError, match="cool-down"):
        train(replace(settings, steps=40))


def test_a_damaged_checkpoint_is_refused(settings):
    train(settings)
    path = settings.output / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="move it away"):
        train(settings)


def test_a_write_that_fails_leaves_the_checkpoint_before(settings, monkeypatch):
    train(settings)
    path = settings.output / "checkpoint.safetensors"
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_fctsfn.train.checkpoint.save", full)
    monkeypatch.setattr(modern, "_resume", lambda *_: 3)
    with pytest.raises(OSError, match="No space left"):
        train(settings)
    assert path.read_bytes() == before
    assert sorted(p.name for p in settings.output.iterdir()) == [
        "checkpoint.safetensors",
        "lock",
        "log.jsonl",
    ]


def test_evaluation_only_sets_are_refused(tmp_path):
    make_set(tmp_path / "grabcut", evaluation_only=True)
    with pytest.raises(DataSetError, match="evaluation only"):
        Source(tmp_path / "grabcut")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "dataset.json").unlink(), "no data set"),
        (lambda d: (d / "dataset.json").write_text("{"), "no data set"),
        (lambda d: (d / "train.txt").write_text(""), "is empty"),
        (lambda d: (d / "train.txt").write_text("nothing"), "no file .*nothing"),
        (lambda d: (d / "labels" / "p0.png").unlink(), "no file .*p0"),
        (lambda d: [path.unlink() for path in (d / "labels").iterdir()], "p0.*p1.*p2.*layout"),
        (blank_labels, "no picture .* has an object of 30 pixels"),
        (lambda d: (d / "images" / "p0.png").write_bytes(b"x"), "p0.png cannot be read"),
        (
            lambda d: Image.fromarray(np.zeros((5, 5), np.uint8)).save(d / "labels" / "p0.png"),
            r"labels \(5, 5\)",
        ),
    ],
)
def test_training_data_that_do_not_fit_are_named(settings, spoil, message):
    spoil(settings.data / "discs")
    with pytest.raises(DataSetError, match=message):
        train(settings)


@pytest.mark.parametrize("kind", ["instances", "regions", "parts"])
def test_crops_hold_an_object_and_depend_on_the_seed_alone(tmp_path, kind):
    make_set(tmp_path / "a", kind)
    mixture = Mixture(tmp_path, {"a": 1.0}, 64)
    for seed in range(20):
        crop = mixture.draw(np.random.default_rng(seed))
        again = mixture.draw(np.random.default_rng(seed))
        assert crop.truth.sum() >= 12
        assert not (crop.truth & ~crop.valid).any()
        assert 0 <= float(crop.image.min()) <= float(crop.image.max()) <= 1
        assert torch.equal(crop.image, again.image)
        assert np.array_equal(crop.truth, again.truth)


@pytest.mark.parametrize("level", [20, 128, 235])
def test_what_is_laid_around_an_object_leaves_it_as_it_was(level):
    rows, columns = np.mgrid[:96, :96]
    truth = (rows - 40) ** 2 + (columns - 50) ** 2 < 144
    image = torch.full((3, 96, 96), 100.0)
    image[:, torch.from_numpy(truth)] = float(level)
    away = distance_transform_edt(~truth)
    for seed in range(30):
        seen = encased(image, truth, np.random.default_rng(seed))
        assert torch.equal(seen, encased(image, truth, np.random.default_rng(seed)))
        assert seen.dtype == torch.float32
        assert 0 <= float(seen.min()) <= float(seen.max()) <= 255
        assert torch.equal(seen[0], seen[2])
        changed = np.abs(seen[0].numpy() - image[0].numpy()) > 0.5
        assert changed.any()
        assert not changed[binary_erosion(truth, iterations=6)].any()
        assert not changed[away > 50].any()
        # One thing that lies around the object and touches it.
        assert label(changed | truth)[1] == 1
        assert np.abs(seen[0].numpy()[changed & (away > 2)] - level).max() > 20


def test_only_grey_whole_objects_are_laid_into_something(tmp_path, monkeypatch):
    monkeypatch.setattr(mixtures, "_ENCASED", 1.0)
    seen = []
    monkeypatch.setattr(mixtures, "encased", lambda image, truth, rng: seen.append(truth) or image)
    make_set(tmp_path / "grey")
    make_set(tmp_path / "colour")
    for path in (tmp_path / "colour" / "images").iterdir():
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.stack([grey, grey // 2, grey], axis=-1)).save(path)
    for name, expected in (("grey", True), ("colour", False)):
        seen.clear()
        crops = [
            Mixture(tmp_path, {name: 1.0}, 64).draw(np.random.default_rng(seed))
            for seed in range(30)
        ]
        assert len(seen) >= expected * sum(not crop.close for crop in crops)
        assert bool(seen) is expected


def test_nothing_is_learned_where_labels_are_void_or_a_border_band(tmp_path):
    make_set(tmp_path / "plain")
    make_set(tmp_path / "banded", band=3)
    make_set(tmp_path / "void", ignore=2)
    for path in (tmp_path / "banded" / "labels").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(labels * (labels == 1)).save(path)
    counts = []
    for name in ("plain", "banded", "void"):
        mixture = Mixture(tmp_path, {name: 1.0}, 64)
        crops = [mixture.draw(np.random.default_rng(seed)) for seed in range(30)]
        for crop in crops:
            rim = binary_dilation(crop.truth) & ~crop.truth
            assert not (crop.truth & ~crop.valid).any()
            if name == "banded":
                assert not (rim & crop.valid).any()
            for seed in range(5):
                _, clicks = modern._begin(crop, np.random.default_rng(seed))
                assert all(crop.valid[click.pixel] for click in clicks)
        counts.append(np.mean([crop.valid.mean() for crop in crops]))
    assert counts[1] < counts[0]
    assert counts[2] < counts[0]


def test_losses_prefer_the_truth_and_leave_out_what_is_not_valid():
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    valid = torch.ones_like(truth)
    right = (truth - 0.5) * 8
    for loss in (normalized_focal_loss, dice_loss):
        assert loss(right, truth, valid) < loss(-right, truth, valid)
    spoiled = right.clone()
    spoiled[..., 0] = -50
    valid[..., 0] = 0
    for loss in (normalized_focal_loss, dice_loss):
        torch.testing.assert_close(
            loss(spoiled, truth, valid), loss(right, truth, valid), rtol=1e-6, atol=1e-7
        )


def test_a_training_out_of_time_stops_with_a_checkpoint_and_goes_on(settings):
    whole = train_model(replace(settings, output=settings.output / "whole"), "m").read_bytes()
    assert train_model(replace(settings, minutes=1e-9), "m") is None
    assert [record["step"] for record in read_log(settings)] == [0]
    assert not (settings.output / "m.safetensors").exists()
    assert train_model(settings, "m").read_bytes() == whole


def test_phase_two_starts_from_a_model_and_names_what_that_had_learned(settings):
    first = train_model(settings, "first")
    make_set(settings.data / "more", licence="all rights reserved, research")
    second = replace(
        settings,
        output=settings.output / "second",
        mixture={"more": 1.0},
        start=str(first),
        steps=1,
        rate=1e-9,
        backbone_rate=1e-9,
        network=replace(TINY, quality=True),
    )
    model = load_model(train_model(second, "second"))
    assert {entry.name: entry.share for entry in model.card.training_data} == {
        "more": 1.0,
        "discs": 0.0,
    }
    assert model.card.weights_licence == "research use only"
    assert model.card.parent == load_model(first).sha256
    before = load_model(first).network.state_dict()
    after = model.network.state_dict()
    assert set(after) > set(before)
    kernels = [key for key in before if key.endswith("conv.weight") or "interaction.weight" in key]
    assert kernels
    for key in kernels:
        torch.testing.assert_close(after[key], before[key], atol=2e-3, rtol=0)


def test_phase_two_refuses_a_model_that_is_no_part_of_the_network(settings):
    first = train_model(settings, "first")
    other = replace(TINY, fusion_channels=TINY.fusion_channels - 1)
    with pytest.raises(WeightsError, match=r"no part of this one: it has fusion\.fuse32"):
        train(replace(settings, output=settings.output / "b", start=str(first), network=other))


def test_a_network_that_grew_begins_where_the_smaller_one_left_off():
    torch.manual_seed(0)
    small = build_network(TINY)
    for norm in small.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
    small.eval()
    blocks = build_network(replace(TINY, refiner_blocks=2)).eval()
    stride = build_network(replace(TINY, stride=8)).eval()
    wider = {
        "interaction_channels": tuple(n + 3 for n in TINY.interaction_channels),
        "fusion_channels": TINY.fusion_channels + 5,
        "bottleneck_channels": tuple(n + 2 for n in TINY.bottleneck_channels),
    }
    wide = build_network(replace(TINY, **wider)).eval()
    image, maps = torch.rand(1, 3, 64, 64), 255 * torch.rand(1, small.map_channels, 64, 64)
    with torch.no_grad():
        before = small(image, maps).logit
        sooner = build_network(replace(TINY, bottleneck_channels=TINY.bottleneck_channels[:2]))
        grow(sooner.eval(), small.state_dict())
        scores = sooner(image, maps)
        assert torch.equal(scores.logit, scores.coarse)
        assert torch.equal(scores.coarse, small(image, maps).coarse)
        assert torch.equal(
            sooner.refiner.stages[1].coarser.weight, small.refiner.stages[1].coarser.weight
        )
        for grown in (blocks, stride, wide):
            assert not torch.allclose(grown(image, maps).logit, before, rtol=1e-3)
            grow(grown, small.state_dict())
        assert torch.equal(blocks(image, maps).logit, before)
        torch.testing.assert_close(wide(image, maps).logit, before, rtol=1e-4, atol=1e-4)
        # At stride 8 the coarse score is the same, but comes up to full resolution in two steps.
        features, same = stride.encode_image(image), small.encode_image(image)
        coarse = stride.fuse(features, maps).coarse
        expected = upsample(small.fuse(same, maps).coarse, tuple(coarse.shape[2:]))
        torch.testing.assert_close(coarse, expected, rtol=1e-4, atol=1e-4)


def test_the_quality_head_learns_to_tell_good_masks_from_bad():
    torch.manual_seed(0)
    head = QualityHead(4)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)

    def batch(count):
        quality = torch.rand(count, generator=generator)
        fused = torch.randn(count, 4, 8, 8, generator=generator)
        fused[:, 0] += 4 * quality[:, None, None]
        logit = torch.randn(count, 1, 32, 32, generator=generator)
        return fused, logit, quality

    for _ in range(150):
        fused, logit, quality = batch(32)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(fused, logit), quality)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fused, logit, quality = batch(200)
    fused.requires_grad_()
    predicted = head(fused, logit)
    assert np.corrcoef(predicted.sigmoid().detach(), quality)[0, 1] > 0.9
    assert not torch.autograd.grad(predicted.sum(), fused, allow_unused=True)[0]


@pytest.mark.parametrize("width", [1, 3])
def test_the_boundary_counts_more_within_its_band(width):
    truth = torch.zeros(1, 1, 20, 20)
    truth[0, 0, 5:15, 6:16] = 1
    weight = boundary_weight(truth, 3.0, width)[0, 0].numpy()
    rows, columns = np.mgrid[:20, :20]
    inside = np.minimum.reduce([rows - 5, 14 - rows, columns - 6, 15 - columns])
    expected = np.where((inside >= -width) & (inside < width), 3.0, 1.0)
    assert (weight == expected).all()


def test_late_steps_begin_with_clicks_on_errors_that_no_gradient_sees(settings, monkeypatch):
    calls = []
    click = FCTSFN.click

    def spy(network, features, maps):
        calls.append((torch.is_grad_enabled(), int((maps[:, :2] == 0).sum())))
        return click(network, features, maps)

    monkeypatch.setattr(FCTSFN, "click", spy)
    train(replace(settings, late=1.0, steps=1))
    with_gradient = [enabled for enabled, _ in calls]
    assert with_gradient == sorted(with_gradient)
    assert with_gradient.count(True) == settings.states
    assert 1 <= with_gradient.count(False) <= 12
    assert calls[-1][1] > calls[0][1]
    calls.clear()
    train(replace(settings, output=settings.output / "early", late=0.0, steps=3))
    assert all(enabled for enabled, _ in calls)


def test_a_second_training_in_the_same_folder_is_refused(settings, monkeypatch):
    step = modern._step
    refused = []

    def during(*args):
        if not refused:
            refused.append(True)
            with pytest.raises(CheckpointError, match="a training is running in"):
                train(settings)
        return step(*args)

    monkeypatch.setattr(modern, "_step", during)
    train(settings)
    assert [record["step"] for record in read_log(settings)] == [0, 1, 2, 3]
    train(replace(settings, output=settings.output / "other"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_is_for_this_recipe_too(settings):
    pytest.importorskip("tensorboard")
    train_model(replace(settings, steps=1, tensorboard=True), "m")
    (events,) = (settings.output / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()
    assert "tensorboard" not in settings.describe()


def test_another_image_stream_goes_on_from_a_model_and_is_fitted_once(settings, monkeypatch):
    first = train_model(replace(settings, output=settings.output / "first"), "first")
    network = replace(TINY, image_model="tf_efficientnet_lite1")
    started = []
    monkeypatch.setattr(modern, "_GRAFTED", 4)
    monkeypatch.setattr(modern, "load_imagenet", lambda network: started.append(network.config))
    second = replace(settings, start=str(first), network=network, minutes=1e-9)
    assert train(second) is None
    assert started == [network]
    assert [record["step"] for record in read_log(settings)] == [0]
    model = load_model(train_model(replace(second, minutes=None), "second"))
    assert started == [network]
    assert model.network.config == network
    assert model.card.parent == load_model(first).sha256
