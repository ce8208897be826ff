"""The training as published: stages, schedules, examples, early stopping, several processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare

from napari_fctsfn.clicks import Click, Clicks, interaction_maps
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import DataSetError
from napari_fctsfn.models import load_model
from napari_fctsfn.network import build_network, paper_config
from napari_fctsfn.train import CheckpointError, PaperSettings, paper, train_paper_model
from napari_fctsfn.train.distributed import Processes
from napari_fctsfn.train.geometry import crop, follow, look, moved, resize, see
from napari_fctsfn.train.loop import training_mode
from napari_fctsfn.train.losses import softmax_loss
from napari_fctsfn.train.paper import EarlyStopping, trained_part
from napari_fctsfn.train.samples import PAIRS, Samples, on_side, validation_part
from napari_fctsfn.train.start import WeightsError

BLOCKS = ((1, 4), (1, 4), (1, 6), (1, 6), (1, 512))
"""VGG16, but thin; fc6 needs the 512."""

SHAPE = (60, 80)
LIKELY = 1e-4


def make_set(folder, count=6, **about):
    """Pictures with two discs each, the second one touching the border now and then."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for index in range(count):
        labels = np.zeros(SHAPE, np.uint8)
        for value, (row, column) in enumerate(rng.integers(12, 48, (2, 2)), 1):
            labels[(rows - row) ** 2 + (columns - column - 15 * value + 20) ** 2 < 100] = value
        labels[:3] = 255 if "ignore" in about else 0
        image = rng.integers(0, 80, SHAPE) + 150 * (labels == 1) + 100 * (labels == 2)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"p{index}.png")
        Image.fromarray(labels).save(folder / "labels" / f"p{index}.png")
    values = {"name": folder.name, "kind": "instances", "licence": "CC0", "modality": "discs"}
    (folder / "dataset.json").write_text(json.dumps(values | about))
    (folder / "train.txt").write_text("\n".join(f"p{index}" for index in range(count)))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def thin(monkeypatch):
    monkeypatch.setattr("napari_fctsfn.network.vgg16.BLOCKS", BLOCKS)
    monkeypatch.setattr("napari_fctsfn.train.start.BLOCKS", BLOCKS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_set(folder / "discs")
    return folder


def stage(data, output, name="tslfn32", **given):
    """Settings of a stage of a thin network, with rates at which it moves in a few steps."""
    given = {"steps": 4, "rate": 1e-5, "input": "28x64", "start": "random"} | given
    given = {"fusion_channels": 8, "save_every": 1, "validate_every": 2} | given
    return PaperSettings.of(name, data=data, output=output, set="discs", **given)


@pytest.fixture(scope="module")
def chain(data, tmp_path_factory):
    """The models of all four stages, each started from the one before."""
    folder = tmp_path_factory.mktemp("chain")
    models = {}
    start = "random"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_fctsfn.network.vgg16.BLOCKS", BLOCKS)
        torch.set_num_threads(1)
        for name in paper.STAGES:
            settings = stage(data, folder / name, name, start=start)
            models[name] = train_paper_model(settings, name)
            start = str(models[name])
    return models


def read_log(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


# -- stages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", paper.STAGES)
def test_a_killed_stage_resumes_bit_for_bit(data, chain, tmp_path, monkeypatch, name):
    stages = list(paper.STAGES)
    before = stages[stages.index(name) - 1]
    start = "random" if name == "tslfn32" else str(chain[before])
    settings = stage(data, tmp_path, name, start=start)
    learn = paper._Training._learn

    def killed(training, step, examples):
        if step == 2:
            raise KeyboardInterrupt
        return learn(training, step, examples)

    monkeypatch.setattr(paper._Training, "_learn", killed)
    with pytest.raises(KeyboardInterrupt):
        train_paper_model(settings, name)
    monkeypatch.setattr(paper._Training, "_learn", learn)
    again = train_paper_model(settings, name)
    assert again.read_bytes() == chain[name].read_bytes()
    checkpoints = [path.parent / "checkpoint.safetensors" for path in (again, chain[name])]
    one, other = (load_file(path) for path in checkpoints)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert [record["step"] for record in read_log(tmp_path)] == [0, 1, 2, 3]
    assert ["validation_iou" in record for record in read_log(tmp_path)] == [False, True] * 2


def test_a_kill_between_checkpoints_leaves_no_trace(data, chain, tmp_path, monkeypatch):
    settings = stage(data, tmp_path, save_every=2)
    learn = paper._Training._learn

    def killed(training, step, examples):
        if step == 3:
            raise KeyboardInterrupt
        return learn(training, step, examples)

    monkeypatch.setattr(paper._Training, "_learn", killed)
    with pytest.raises(KeyboardInterrupt):
        train_paper_model(settings, "tslfn32")
    assert [record["step"] for record in read_log(tmp_path)] == [0, 1, 2]
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    for name in ("checkpoint.safetensors", "log.jsonl"):
        (tmp_path / f".{name}.{'0' * 32}.part").write_bytes(b"half")
    monkeypatch.setattr(paper._Training, "_learn", learn)
    again = train_paper_model(settings, "tslfn32")
    assert again.read_bytes() == chain["tslfn32"].read_bytes()
    assert [record["step"] for record in read_log(tmp_path)] == [0, 1, 2, 3]
    assert not list(tmp_path.glob(".*"))


def test_each_stage_moves_its_weights_and_msrn_the_refiner_alone(chain):
    for before, after in pairwise(paper.STAGES):
        started = load_model(chain[before]).network.state_dict()
        ended = load_file(chain[after].parent / "checkpoint.safetensors")
        same = {key for key in started if torch.equal(started[key], ended[f"network/{key}"])}
        if after == "msrn":
            assert same == started.keys()
        else:
            assert not {key for key in same if key.endswith(".weight")}
    model = load_model(chain["msrn"]).network.state_dict()
    assert all(torch.equal(value, model[key]) for key, value in started.items())
    assert all(key.startswith("refiner.") for key in model.keys() - started.keys())
    assert float(model["refiner.norms.0.running_mean"].abs().sum()) > 0


def test_the_frozen_tslfn_gets_no_gradient(data, chain, tmp_path):
    settings = stage(data, tmp_path, "msrn", start=str(chain["tslfn8"]))
    training = paper._Training(settings, Processes())
    training._resume()
    training.wrapped = training.network
    training._learn(0, training._draw(0))
    for name, parameter in training.network.named_parameters():
        assert (parameter.grad is not None) == name.startswith("refiner.")
    (group,) = training.optimizer.param_groups
    assert group["nesterov"]
    assert (group["momentum"], group["weight_decay"]) == (0.99, 5e-4)


@pytest.mark.parametrize("backbone", ["vgg16", "lite"])
def test_msrn_trains_exactly_what_the_tslfn_does_not_have(backbone):
    with torch.device("meta"):
        network = build_network(paper_config("fctsfn", backbone, 8))
        tslfn = build_network(paper_config("tslfn-8s", backbone, 8)).state_dict()
    own = {id(parameter) for parameter in trained_part(network, "msrn").parameters()}
    trained = {name for name, parameter in network.named_parameters() if id(parameter) in own}
    assert trained == {name for name, _ in network.named_parameters()} - tslfn.keys()


def test_what_begins_pretrained_keeps_its_statistics_and_has_a_rate_of_its_own(tmp_path):
    for variant in ("ssfcn", "tslfn-3", "tslfn-5"):
        given = {"variant": variant, "backbone": "lite", "optimizer": "adamw"}
        settings = PaperSettings.of("tslfn8", data=tmp_path, output=tmp_path, start="x", **given)
        with torch.device("meta"):
            network = build_network(settings.network)
        (both,) = paper._optimizer(network, settings, pretrained=False).param_groups
        assert both["base"] == 1e-3
        pretrained, new = paper._optimizer(network, settings, pretrained=True).param_groups
        assert (pretrained["base"], new["base"]) == (2e-4, 1e-3)
        assert sum(p.numel() for p in pretrained["params"]) > 2.9e6
        training_mode(network)
        modes = {n: m.training for n, m in network.named_modules() if "BatchNorm" in str(type(m))}
        assert {mode for name, mode in modes.items() if "backbone" in name or "tail" in name} == {
            False
        }
        assert modes["fusion.blocks32.0.norm1"]


@pytest.mark.parametrize(
    ("name", "step", "rate"),
    [
        ("tslfn32", 0, 1.9e-5),
        ("tslfn32", 599_999, 1.9e-5),
        ("tslfn16", 0, 1.9e-7),
        ("tslfn8", 949_999, 1.9e-9),
        ("msrn", 9_999, 7.7e-4),
        ("msrn", 10_000, 7.7e-5),
        ("msrn", 19_999, 7.7e-5),
        ("msrn", 20_000, 7.7e-6),
    ],
)
def test_rates_are_the_published_ones(tmp_path, name, step, rate):
    settings = PaperSettings.of(name, data=tmp_path, output=tmp_path, start="somewhere")
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.0}])
    paper.set_rates(optimizer, step, settings)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_adamw_warms_up_and_cools_down(tmp_path):
    given = {"optimizer": "adamw", "steps": 1000, "start": "random"}
    settings = PaperSettings.of("tslfn32", data=tmp_path, output=tmp_path, **given)
    rates = []
    for step in (0, 199, 700, 850, 999):
        optimizer = SimpleNamespace(param_groups=[{"base": 1.0}])
        paper.set_rates(optimizer, step, settings)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1 / 200, 1, 1, 0.5, 0.02])


def test_what_the_paper_says_is_the_default(tmp_path):
    def of(name):
        return PaperSettings.of(name, data=tmp_path, output=tmp_path, start="s")

    first, last = of("tslfn32"), of("msrn")
    assert (first.batch, first.size, first.augment, first.patience) == (1, None, False, 0)
    assert (last.batch, last.size, last.augment, last.patience) == (3, (240, 320), True, 5)
    assert last.validate_every == 1000
    assert [of(name).network.stride for name in paper.STAGES] == [32, 16, 8, 8]
    assert last.network == paper_config("fctsfn")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stage": "tslfn4"}, "stage 'tslfn4' is unknown; choose tslfn32 or"),
        ({"stage": "tslfn16"}, "starts from the model of the stage tslfn32: name it with --start"),
        ({"stage": "tslfn32"}, "starts from a file with VGG16's weights"),
        ({"start": "imagenet"}, "starts from a file with VGG16's weights"),
        ({"stage": "msrn", "start": "random"}, "trains no TSLFN"),
        ({"stage": "msrn", "start": "m", "variant": "tslfn-3"}, "which tslfn-3 does not have"),
        ({"stage": "msrn", "start": "m", "variant": "ssfcn"}, "is for tslfn-4 of a vgg16 network"),
        ({"variant": "fctsfn", "start": "m"}, "unknown variant 'fctsfn'; known: ssfcn"),
        ({"backbone": "resnet", "start": "m"}, "unknown backbone 'resnet'"),
        ({"optimizer": "adam", "start": "m"}, "unknown optimizer 'adam'"),
        ({"backbone_rate": 1e-4, "start": "m"}, "sgd has one rate"),
        ({"batch": 2, "start": "m"}, "native size cannot share a batch of 2"),
        ({"input": "8x8", "start": "m"}, "longer side must be from 64 to 4096"),
        ({"input": "big", "start": "m"}, "neither native nor ROWSxCOLUMNS"),
        ({"fusion_channels": 0, "start": "m"}, "channels must be"),
        ({"patience": -1, "start": "m"}, "patience must be at least 0"),
        ({"validate_every": 0, "start": "m"}, "validate_every must be at least 1"),
        ({"rate": 0.0, "start": "m"}, "rate must be above zero"),
        ({"seed": -1, "start": "m"}, "seed must be at least 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, given, message):
    name = given.pop("stage", "tslfn32")
    with pytest.raises(ValueError, match=message):
        PaperSettings.of(name, data=tmp_path, output=tmp_path, **given)


def test_a_stage_refuses_another_networks_weights(data, chain, tmp_path):
    start = str(chain["tslfn32"])
    with pytest.raises(WeightsError, match=r"tslfn32 has no fusion\.score_pool"):
        train_paper_model(stage(data, tmp_path, "msrn", start=start), "m")
    with pytest.raises(WeightsError, match="no part of this one"):
        train_paper_model(stage(data, tmp_path, "tslfn16", start=start, variant="tslfn-3"), "m")
    with pytest.raises(InputError, match="unknown model 'nothing'"):
        train_paper_model(stage(data, tmp_path, "tslfn16", start="nothing"), "m")


def test_a_stage_starts_from_a_file_of_vgg16s_weights(data, tmp_path):
    generator = torch.Generator().manual_seed(1)
    weights, inputs = {}, 3
    for block, (_, width) in enumerate(BLOCKS, 1):
        kernel = torch.randn(width, inputs, 3, 3, generator=generator) * 0.1
        weights |= {f"conv{block}_1.weight": kernel, f"conv{block}_1.bias": torch.ones(width)}
        inputs = width
    save_file(weights, tmp_path / "vgg.safetensors", {"source": "VGG16, tuned on\nedges"})
    start = str(tmp_path / "vgg.safetensors")
    training = paper._Training(stage(data, tmp_path, start=start), Processes())
    own = training.network.state_dict()
    kernel = weights["conv1_1.weight"]
    assert torch.equal(own["image_stream.blocks.0.0.weight"], kernel)
    mean = kernel.mean(dim=1, keepdim=True).expand(-1, 2, -1, -1)
    assert torch.equal(own["interaction_stream.blocks.0.0.weight"], mean)
    assert training._describe()["start"] == "vgg.safetensors"
    assert training.origin == "vgg.safetensors (VGG16, tuned on edges)"
    first = train_paper_model(stage(data, tmp_path / "32", start=start), "t32")
    second = stage(data, tmp_path / "16", "tslfn16", start=str(first))
    card = load_model(train_paper_model(second, "t16")).card
    assert card.training["start"] == "t32.safetensors"
    assert card.training["origin"] == training.origin
    with pytest.raises(WeightsError, match="not from VGG16's weights"):
        train_paper_model(stage(data, tmp_path, "msrn", start=start), "m")


def test_any_pyramid_is_trained_and_what_begins_randomly_learns_its_statistics(data, tmp_path):
    given = {"backbone": "lite", "image_model": "test_resnet", "optimizer": "adamw", "steps": 1}
    settings = stage(data, tmp_path, rate=1e-3, backbone_rate=1e-3, **given)
    model = load_model(train_paper_model(settings, "m"))
    assert model.card.architecture["image_model"] == "test_resnet"
    seen = model.network.image_stream.backbone.get_submodule("bn1").num_batches_tracked
    assert int(seen) == 1
    with pytest.raises(WeightsError, match="image stream is test_resnet: start from random"):
        train_paper_model(replace(settings, output=tmp_path / "b", start="imagenet"), "m")
    for name, reason in (("nothing", "timm knows no image model"), ("test_vit", "at strides")):
        with pytest.raises(ValueError, match=reason):
            replace(settings, image_model=name)
    with pytest.raises(ValueError, match="for lite networks only"):
        stage(data, tmp_path, image_model="test_resnet")


def test_a_checkpoint_of_another_training_says_what_differs(data, chain, tmp_path):
    settings = stage(data, chain["tslfn32"].parent)
    with pytest.raises(CheckpointError, match=r"another network: it differs in .*fusion\.conv4"):
        train_paper_model(replace(settings, variant="tslfn-3"), "m")
    with pytest.raises(CheckpointError, match="made with other seed"):
        train_paper_model(replace(settings, seed=1), "m")
    assert train_paper_model(settings, "tslfn32") == chain["tslfn32"]


def test_the_card_tells_stage_data_and_parent(chain):
    model = load_model(chain["msrn"])
    card = model.card
    assert card.training["recipe"] == "paper"
    assert (card.training["stage"], card.training["start"]) == ("msrn", "tslfn8.safetensors")
    assert card.parent == load_model(chain["tslfn8"]).sha256
    assert card.training["origin"] == "random"
    assert [(entry.name, entry.images) for entry in card.training_data] == [("discs", 5)]
    assert 0 <= card.metrics["validation_iou"] <= 1
    assert card.weights_licence == "CC BY 4.0"


def test_a_stage_learns_discs(data, tmp_path):
    given = {"optimizer": "adamw", "steps": 60, "rate": 1e-2, "backbone_rate": 3e-3, "batch": 2}
    train_paper_model(stage(data, tmp_path, **given, validate_every=60, save_every=60), "m")
    losses = [record["loss"] for record in read_log(tmp_path)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_stage_out_of_time_stops_with_a_checkpoint(data, chain, tmp_path):
    settings = stage(data, tmp_path)
    assert train_paper_model(replace(settings, minutes=1e-9), "m") is None
    assert [record["step"] for record in read_log(tmp_path)] == [0]
    name = "tslfn32"
    assert train_paper_model(settings, name).read_bytes() == chain[name].read_bytes()


def test_bf16_trains_too(data, chain, tmp_path):
    settings = stage(data, tmp_path, steps=2, precision="bf16")
    assert train_paper_model(settings, "m").is_file()
    losses = [
        [r["loss"] for r in read_log(path)[:2]] for path in (tmp_path, chain["tslfn32"].parent)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


# -- early stopping --------------------------------------------------------------------------------


def test_patience_counts_validations_without_improvement():
    stopping = EarlyStopping(3)
    curve = [0.2, 0.5, 0.5, 0.4, 0.6, 0.1, 0.6, 0.59, 0.9]
    improved = []
    for accuracy in curve:
        improved.append(stopping.improved(accuracy))
        if stopping.over:
            break
    assert improved == [True, True, False, False, True, False, False, False]
    assert stopping.best == 0.6
    never = EarlyStopping(0)
    assert [never.improved(x) for x in (0.5, 0.4, 0.3)] == [True, False, False]
    assert not never.over


def test_a_stage_stops_early_and_keeps_the_best_weights(data, chain, tmp_path, monkeypatch):
    curve, seen = iter([0.1, 0.7, 0.6, 0.65, 0.9]), []

    def validate(training):
        seen.append({k: v.clone() for k, v in training.network.state_dict().items()})
        return next(curve)

    monkeypatch.setattr(paper._Training, "_validate", validate)
    settings = stage(data, tmp_path, "msrn", start=str(chain["tslfn8"]), steps=50)
    settings = replace(settings, validate_every=1, patience=2, batch=1)
    path = train_paper_model(settings, "m")
    assert len(seen) == len(read_log(tmp_path)) == 4
    model = load_model(path)
    assert model.card.metrics == {"validation_iou": 0.7}
    kept, best = model.network.state_dict(), seen[1]
    for key, value in best.items():
        assert torch.equal(kept[key], value.half().float() if value.is_floating_point() else value)
    before = path.read_bytes()
    path.unlink()
    assert train_paper_model(settings, "m").read_bytes() == before
    assert len(seen) == 4


# -- examples --------------------------------------------------------------------------------------


def test_a_steps_examples_depend_on_seed_and_step_alone(data, tmp_path):
    def examples(**given):
        training = paper._Training(stage(data, tmp_path, **given, augment=True), Processes())
        return [example for step in (0, 7) for example in training._draw(step)]

    one = examples()
    for other in (examples(variant="ssfcn"), examples(name="tslfn8"), examples(optimizer="adamw")):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.image, b.image)
            assert torch.equal(a.maps, b.maps)
            assert torch.equal(a.truth, b.truth)
    assert not torch.equal(one[0].image, examples(seed=1)[0].image)


def test_processes_draw_other_examples_as_one_with_a_larger_batch(data, tmp_path):
    settings = stage(data, tmp_path)
    both = paper._Training(replace(settings, batch=2), Processes())._draw(3)
    for rank in (0, 1):
        (mine,) = paper._Training(settings, Processes(rank, 2))._draw(3)
        assert torch.equal(mine.maps, both[rank].maps)
    assert not torch.equal(both[0].maps, both[1].maps)


def test_an_epoch_has_every_set_of_clicks_once(data):
    samples = Samples(data / "discs", (32, 32), augment=False, seed=3)
    assert len(samples.training) == 10
    for epoch in (0, 1):
        assert sorted(samples._order(epoch)) == list(range(10 * PAIRS))
    assert not (samples._order(0) == samples._order(1)).all()
    drawn = [samples.draw(number) for number in range(2 * 10 * PAIRS)]
    sets = [[example.clicks for example in drawn[k : k + 150]] for k in (0, 150)]
    assert set(sets[0]) == set(sets[1])
    assert len(set(sets[0])) > 100


def test_validation_pictures_are_the_lists_own(data):
    assert [len(validation_part(n)) for n in (1464, 3000, 585, 10, 2)] == [200, 200, 80, 1, 1]
    assert len(set(validation_part(1464))) == 200
    one, other = (Samples(data / "discs", None, augment=True, seed=seed) for seed in (0, 1))
    assert one.validation == other.validation
    assert len(one.validation) == 1
    assert {o.stem for o in one.validation}.isdisjoint(o.stem for o in one.training)
    first, second = one.validate(0), other.validate(0)
    assert first.clicks == second.clicks
    assert first.image.shape == (3, 64, 96)


@pytest.mark.parametrize("augment", [False, True])
def test_examples_are_consistent(tmp_path, augment):
    make_set(tmp_path / "discs", ignore=255)
    samples = Samples(tmp_path / "discs", (45, 60), augment, seed=0)
    assert all(reference.value in (1, 2) for reference in samples.training)
    hidden = 0
    for number in range(40):
        example = samples.draw(number)
        image, truth, valid = example.image, example.truth[0] > 0, example.valid[0] > 0
        assert image.shape == (3, 64, 64)
        assert valid.shape == truth.shape == (64, 64)
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        assert not valid[45:].any()
        assert not valid[:, 60:].any()
        assert not (truth & ~valid).any()
        assert len(example.clicks.positive) >= 1
        for click in example.clicks:
            assert max(click.pixel[0] - 44, click.pixel[1] - 59) <= 0
            assert not click.positive or truth[click.pixel] or not valid[click.pixel]
            assert click.positive or not truth[click.pixel]
        maps = interaction_maps(example.clicks, (64, 64))
        assert torch.equal(example.maps, torch.from_numpy(maps))
        # 0 says "here is a click": nothing may look like one that is none.
        assert int((example.maps == 0).sum()) == len({c.pixel for c in example.clicks})
        hidden += int((~valid[:45, :60]).sum())
    assert hidden > 0


def test_pictures_of_native_size_are_not_resampled(data):
    samples = Samples(data / "discs", None, augment=False, seed=0)
    example = samples.draw(0)
    _, place = divmod(int(samples._order(0)[0]), PAIRS)
    reference = samples.training[int(samples._order(0)[0]) // PAIRS]
    assert place < PAIRS
    image, labels = samples.dataset.pair(reference.stem)
    shown = example.image[0, : SHAPE[0], : SHAPE[1]].numpy()
    grey = image if image.ndim == 2 else image[..., 0]
    np.testing.assert_allclose(shown, grey / 255, atol=1e-4)
    truth = example.truth[0, : SHAPE[0], : SHAPE[1]].numpy()
    np.testing.assert_array_equal(truth, labels == reference.value)
    # Below, the picture is continued by its reflection.
    below, above = example.image[0, 60:, :80], example.image[0, 56:60, :80].flip(0)
    np.testing.assert_allclose(below, above, atol=1e-4)


@pytest.mark.parametrize(
    ("about", "count", "message"),
    [
        ({"evaluation_only": True}, 3, "evaluation only"),
        ({}, 1, "1 pictures with objects"),
        ({"background": 1, "ignore": 2}, 2, "pictures with objects"),
    ],
)
def test_sets_that_cannot_be_trained_on_are_refused(tmp_path, about, count, message):
    make_set(tmp_path / "discs", count)
    path = tmp_path / "discs" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    if "ignore" in about:
        for label in (tmp_path / "discs" / "labels").iterdir():
            Image.fromarray(np.full(SHAPE, 1, np.uint8)).save(label)
    with pytest.raises(DataSetError, match=message):
        Samples(tmp_path / "discs", None, augment=False, seed=0)


def make_voc(root, count):
    """Pascal VOC 2012 as it is published, with as many training pictures."""
    make_set(root / "discs", count, ignore=255)
    voc = root / "VOCdevkit" / "VOC2012"
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, source in (("JPEGImages", "images"), ("SegmentationObject", "labels")):
        (root / "discs" / source).rename(voc / name)
    stems = (root / "discs" / "train.txt").read_text()
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text(stems)
    return voc


def test_voc_is_trained_on_as_it_is_published(tmp_path):
    voc = make_voc(tmp_path, 6)
    settings = stage(tmp_path, tmp_path / "run", steps=2)
    model = load_model(train_paper_model(replace(settings, set="VOCdevkit"), "m"))
    ((learned),) = model.card.training_data
    assert (learned.name, learned.images) == ("VOC2012", 5)
    assert "Flickr" in learned.licence
    samples = Samples(voc, None, augment=False, seed=0)
    assert samples.pictures == 5
    assert not samples.draw(0).valid[0, :3].any()  # void


def test_training_files_that_are_missing_are_named_with_the_layout(tmp_path):
    make_set(tmp_path / "discs", 14)
    for number in range(14):
        (tmp_path / "discs" / "images" / f"p{number}.png").unlink()
    with pytest.raises(DataSetError) as error:
        Samples(tmp_path / "discs", None, augment=False, seed=0)
    text = str(error.value)
    assert [number for number in range(14) if f"/p{number}(" in text] == list(range(10))
    assert "and 4 more; its layout is dataset.json, images/STEM." in text
    (tmp_path / "discs" / "dataset.json").unlink()
    with pytest.raises(DataSetError, match=r"dataset\.json, images/STEM.*JPEGImages/STEM\.jpg"):
        Samples(tmp_path / "discs", None, augment=False, seed=0)


def test_what_has_no_labels_of_all_objects_at_once_is_not_trained_on(tmp_path):
    (tmp_path / "annotations").mkdir()
    text = json.dumps({"images": [], "annotations": []})
    (tmp_path / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(DataSetError, match="cannot be trained on: Pascal VOC can, or"):
        Samples(tmp_path, None, augment=False, seed=0)


def test_what_is_not_valid_has_no_part_in_the_loss():
    generator = torch.Generator().manual_seed(0)
    logit = torch.randn(2, 1, 6, 8, generator=generator, requires_grad=True)
    truth = (torch.rand(2, 1, 6, 8, generator=generator) > 0.5).float()
    valid = (torch.rand(2, 1, 6, 8, generator=generator) > 0.3).float()
    valid[1] = 0
    loss = softmax_loss(logit, truth, valid)
    both = torch.cat([torch.zeros_like(logit), logit], dim=1)
    expected = torch.nn.functional.cross_entropy(both, truth[:, 0].long(), reduction="none")
    loss.sum().backward()
    torch.testing.assert_close(loss.detach()[0], expected.detach()[0][valid[0, 0] > 0].mean())
    assert float(loss.detach()[1]) == 0
    assert (logit.grad[valid == 0] == 0).all()
    assert (logit.grad[0][valid[0] == 1] != 0).all()


# -- geometry --------------------------------------------------------------------------------------


def mirrored(place, length):
    """A pixel beyond the border, reflected, by stepping."""
    while not 0 <= place < length:
        place = -1 - place if place < 0 else 2 * length - 1 - place
    return place


def looked(image, matrix, size):
    """Bilinear reading, place by place."""
    result = np.zeros((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            r, c, _ = matrix @ (row + 0.5, column + 0.5, 1) - 0.5
            top, left = int(np.floor(r)), int(np.floor(c))
            for down in (0, 1):
                for right in (0, 1):
                    weight = abs(1 - down - (r - top)) * abs(1 - right - (c - left))
                    y = mirrored(top + down, image.shape[0])
                    x = mirrored(left + right, image.shape[1])
                    result[row, column] += weight * image[y, x]
    return result.transpose(2, 0, 1) / 255


def box(row, column, height, width, shape=(40, 60)):
    mask = np.zeros(shape, bool)
    mask[row : row + height, column : column + width] = True
    return mask


def test_pictures_are_read_as_place_by_place():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    mask = rng.random((9, 12)) > 0.5
    size = (7, 10)
    for _ in range(10):
        matrix = moved(mask, crop(box(3, 4, 2, 3, (9, 12)), size), size, rng)
        np.testing.assert_allclose(
            look(image, matrix, size), looked(image, matrix, size), atol=1e-5
        )
        for row, column in np.ndindex(size):
            r, c = np.floor((matrix @ (row + 0.5, column + 0.5, 1))[:2]).astype(int)
            there = 0 <= r < 9 and 0 <= c < 12 and mask[r, c]
            assert see(mask, matrix, size)[row, column] == there


def test_a_picture_that_is_much_reduced_is_averaged():
    image = np.zeros((64, 66, 3), np.uint8)
    image[::2, ::2] = 240
    seen = look(image, resize((64, 66), (8, 8)), (8, 8))
    np.testing.assert_allclose(seen, 60 / 255, atol=0.02)


@pytest.mark.parametrize(
    ("mask", "first", "last"),
    [
        (box(10, 20, 6, 9), (5, 10), (21, 39)),
        (box(0, 0, 6, 9), (0, 0), (6, 9)),
        (box(30, 50, 10, 5), (30, 47.5), (40, 57.5)),
        (box(2, 2, 30, 28), (0, 0), (40, 60)),
        (box(2, 2, 30, 27), (1, 1), (33, 30)),
    ],
)
def test_the_crop_rule(mask, first, last):
    matrix = crop(mask, (240, 320))
    np.testing.assert_allclose((matrix @ (0, 0, 1))[:2], first)
    np.testing.assert_allclose((matrix @ (240, 320, 1))[:2], last)


def test_the_crop_is_centred_on_the_centroid_not_on_the_box():
    mask = box(10, 20, 2, 20) | box(10, 20, 10, 2)
    rows, columns = np.nonzero(mask)
    matrix = crop(mask, (24, 32))
    centre = (matrix @ (12, 16, 1))[:2]
    np.testing.assert_allclose(centre, [rows.mean() + 0.5, columns.mean() + 0.5])
    half = (matrix @ (24, 32, 1))[:2] - centre
    np.testing.assert_allclose(half, [10 / 2 + 10 / 2, 20 / 2 + 20 / 2])


def test_clicks_go_where_their_pixels_go():
    rng = np.random.default_rng(1)
    mask = box(12, 20, 10, 14)
    size = (48, 64)
    for _ in range(20):
        matrix = moved(mask, crop(mask, size), size, rng)
        clicks = Clicks([Click(int(r), int(c)) for r, c in rng.integers(5, 35, (6, 2))])
        for click, gone in zip(clicks, follow(clicks, matrix), strict=True):
            only = box(int(click.row), int(click.column), 1, 1)
            seen = np.argwhere(see(only, matrix, size))
            if len(seen) and 1 <= gone.row <= size[0] - 3 and 1 <= gone.column <= size[1] - 3:
                assert np.abs(seen.mean(axis=0) - (gone.row, gone.column)).max() < 1
        shown = on_side(follow(clicks, matrix), see(mask, matrix, size))
        assert all(see(mask, matrix, size)[click.pixel] == click.positive for click in shown)


def test_rotations_and_translations_are_as_often_and_as_far_as_published():
    rng = np.random.default_rng(2)
    mask = box(12, 20, 11, 15)
    whole = np.eye(3)
    kinds, turns, shifts = np.zeros((2, 2)), [], []
    for _ in range(600):
        matrix = moved(mask, whole, mask.shape, rng)
        turn = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
        centre = (np.linalg.inv(matrix) @ (17.5, 27.5, 1))[:2]
        shift = centre - (17.5, 27.5)
        turned, shifted = abs(turn) > 1e-9, np.abs(shift).max() > 1e-9
        kinds[int(turned), int(shifted)] += 1
        if turned:
            turns.append(turn)
        if shifted and not turned:
            shifts.append(shift)
    assert chisquare(kinds.ravel()).pvalue > LIKELY
    assert chisquare(np.histogram(turns, 6, (-60, 60))[0]).pvalue > LIKELY
    assert 55 < np.abs(turns).max() <= 60
    # The smaller margins of the box are 12 rows and 20 columns.
    for axis, most in enumerate((4, 20 / 3)):
        found = np.array(shifts)[:, axis]
        assert 0.9 * most < np.abs(found).max() <= most
        assert chisquare(np.histogram(found, 4, (-most, most))[0]).pvalue > LIKELY


# -- log and processes -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_numbers_of_the_log(data, tmp_path):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    half = replace(stage(data, tmp_path, steps=4), tensorboard=True, minutes=1e-9)
    assert train_paper_model(half, "m") is None  # one step, and the rest in a second run
    train_paper_model(replace(half, minutes=None), "m")
    written = {
        (value.tag, event.step): value.tensor.float_val[0]
        for path in (tmp_path / "tensorboard").iterdir()
        for event in loading.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
    told = {
        (name, record["step"]): value
        for record in read_log(tmp_path)
        for name, value in record.items()
        if name != "step"
    }
    assert len(told) > 4 * 3
    assert written == pytest.approx(told)


def test_tensorboard_is_asked_for(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'napari-fctsfn\[tensorboard\]'"):
        train_paper_model(replace(stage(data, tmp_path), tensorboard=True), "m")


PROGRAM = """
import sys
from pathlib import Path
from napari_fctsfn.network import vgg16
vgg16.BLOCKS = {blocks!r}
import torch
torch.set_num_threads(1)
from napari_fctsfn.train import PaperSettings, train_paper_model
data, output = map(Path, sys.argv[1:])
settings = PaperSettings.of("tslfn32", data=data, output=output, **{given!r})
train_paper_model(settings, "m")
"""


def test_two_processes_are_one_with_averaged_gradients(data, tmp_path, monkeypatch):
    settings = stage(data, tmp_path / "two", rate=1e-2)
    names = ("set", "steps", "rate", "input", "start", "fusion_channels", "save_every")
    given = {name: getattr(settings, name) for name in (*names, "validate_every")}
    code = PROGRAM.format(blocks=BLOCKS, given=given)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(data), str(settings.output)],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    ends = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    assert "step" in ends[0]
    assert [record["step"] for record in read_log(settings.output)] == [0, 1, 2, 3]

    single = replace(settings, output=tmp_path / "one")
    training = paper._Training(single, Processes())
    training.wrapped = training.network
    parameters = list(training.network.parameters())
    gradients = []

    def collect(loss, *_):
        gradients.append(torch.autograd.grad(loss, parameters))

    monkeypatch.setattr(paper, "descend", collect)
    for step in range(single.steps):
        gradients.clear()
        for rank in (0, 1):
            training.processes = Processes(rank, 2)
            training._learn(step, training._draw(step))
        for parameter, one, other in zip(parameters, *gradients, strict=True):
            parameter.grad = (one + other) / 2
        training.optimizer.step()
    two = load_file(settings.output / "checkpoint.safetensors")
    start = paper._Training(single, Processes()).network.state_dict()
    for name, value in training.network.state_dict().items():
        torch.testing.assert_close(two[f"network/{name}"], value, rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, start[name])
    training.processes = Processes()
    accuracy = read_log(settings.output)[-1]["validation_iou"]
    assert training._validate() == pytest.approx(accuracy, abs=1e-4)
    with pytest.raises(CheckpointError, match="other processes"):
        train_paper_model(settings, "m")
