"""The command line: what it writes, and what it says when it cannot."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

import napari_fctsfn
from napari_fctsfn._directories import data_directory
from napari_fctsfn.batch import work as stacks
from napari_fctsfn.cli import app
from napari_fctsfn.cli import train as train_verb
from napari_fctsfn.clicks import Click, Clicks, read_clicks
from napari_fctsfn.models import ModelCard, choose_model, load_model, register_model, save_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.train import LAPTOP, MIXTURES, PolishSettings, TrainSettings

ROOT = Path(__file__).parents[1]
TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)
CARD = ModelCard(name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64)
SUMMARY_KEYS = {
    *("noc85", "noc90", "unreached85", "unreached90"),
    *("miou1", "miou3", "miou5", "miou10", "miou20"),
    *(
        "intervals",
        "harmful",
        "jitter",
        "band",
        "seconds_per_click",
        "objects",
        "pictures",
        "dataset",
        "model",
        "model_sha256",
        "protocol",
        "post",
        "seed",
    ),
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return build_network(TINY).eval()


@pytest.fixture
def here(tmp_path, network, monkeypatch):
    """A working folder with a model, a picture, an RGB picture and a stack."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    save_model(tmp_path / "tiny.safetensors", network, CARD)
    iio.imwrite("grey.png", rng.integers(0, 255, (40, 60)).astype(np.uint8))
    iio.imwrite("rgb.png", rng.integers(0, 255, (40, 60, 3)).astype(np.uint8))
    tifffile.imwrite("stack.tif", rng.integers(0, 4000, (5, 40, 60)).astype(np.uint16))
    tifffile.imwrite("series.tif", rng.random((2, 5, 40, 60)).astype(np.float32))
    return tmp_path


def run(*arguments: str, status: int = 0) -> str:
    """Run a verb; the standard output if it should succeed, else the one line of the error."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    if status == 0:
        return result.stdout
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


def segment(image: str, *arguments: str, status: int = 0) -> str:
    """Run ``segment`` with the tiny model on the CPU."""
    common = ("--model", "tiny.safetensors", "--device", "cpu", "--output", "mask.tif")
    return run("segment", image, *arguments, *common, status=status)


def expected(
    image: str, clicks: list[tuple[float, float, bool]], index: tuple[int, ...] = ()
) -> Any:
    """The last prediction of a replay by the predictor itself."""
    pixels = iio.imread(image) if image.endswith("png") else tifffile.imread(image)
    rgb = pixels.ndim == 3 and pixels.shape[-1] == 3
    normalisation = Normalisation.for_rgb(pixels.dtype) if rgb else Normalisation.from_array(pixels)
    predictor = Predictor(load_model(Path("tiny.safetensors")), "cpu")
    predictor.set_image(pixels[index], normalisation)
    return predictor.replay(Clicks(Click(*click) for click in clicks))[-1]


# -- segment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["grey.png", "rgb.png"])
def test_a_picture_gives_a_mask_and_a_probability_of_its_shape(here, image):
    arguments = ("--positive", "10,20", "--negative", "3.4,50.6", "--positive=30,8")
    segment(image, *arguments, "--probability", "p.tif")
    prediction = expected(image, [(10, 20, True), (3.4, 50.6, False), (30, 8, True)])
    mask, probability = tifffile.imread("mask.tif"), tifffile.imread("p.tif")
    assert mask.dtype == np.uint8
    assert (mask == prediction.full_mask()).all()
    assert probability.dtype == np.float32
    assert (probability == prediction.full_probability()).all()
    with tifffile.TiffFile("mask.tif") as file:
        assert file.pages[0].compression.name == "ADOBE_DEFLATE"


def test_the_order_of_clicks_of_both_kinds_is_kept(here):
    arrange, seen = stacks.arrange, []

    def spy(image, clicks, slices):
        seen.append([(placed.click.row, placed.click.positive) for placed in clicks])
        return arrange(image, clicks, slices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacks, "arrange", spy)
        segment("grey.png", "--negative", "1,1", "--positive", "2,2", "--negative=3,3")
        segment("grey.png", "--positive", "2,2", "--negative", "1,1", "--negative=3,3")
    assert seen[0] == [(1, False), (2, True), (3, False)]
    assert seen[1] == [(2, True), (1, False), (3, False)]


def test_chosen_slices_of_a_stack_are_segmented(here):
    segment("stack.tif", "--positive", "10,20", "--slice", "3", "--slice", "1")
    mask = tifffile.imread("mask.tif")
    assert mask.shape == (5, 40, 60)
    for index in (1, 3):
        prediction = expected("stack.tif", [(10, 20, True)], (index,))
        assert (mask[index] == prediction.full_mask()).all()
    assert not mask[[0, 2, 4]].any()


def test_a_slice_of_a_series_has_a_number_for_each_leading_axis(here):
    segment("series.tif", "--positive", "10,20", "--slice", "1,4", "--probability", "p.tif")
    prediction = expected("series.tif", [(10, 20, True)], (1, 4))
    probability = tifffile.imread("p.tif")
    assert probability.shape == (2, 5, 40, 60)
    assert (probability[1, 4] == prediction.full_probability()).all()
    assert not probability[0].any()


CLICK_FILE = {
    "format": "napari-fctsfn-clicks",
    "version": 1,
    "clicks": [
        {"row": 10, "column": 20, "positive": True, "slice": [3], "object": 300},
        {"row": 5, "column": 30, "positive": True, "slice": [1]},
        {"row": 20.5, "column": 2, "positive": False, "slice": [3], "object": 300},
    ],
}


def test_click_files_say_slices_and_objects(here):
    Path("clicks.json").write_text(json.dumps(CLICK_FILE))
    segment("stack.tif", "--clicks", "clicks.json")
    mask = tifffile.imread("mask.tif")
    assert mask.dtype == np.uint16
    third = expected("stack.tif", [(10, 20, True), (20.5, 2, False)], (3,)).full_mask()
    first = expected("stack.tif", [(5, 30, True)], (1,)).full_mask()
    assert (mask[3] == 300 * third).all()
    assert (mask[1] == first).all()
    segment("stack.tif", "--clicks", "clicks.json", "--slice", "1")
    assert not tifffile.imread("mask.tif")[3].any()


def test_click_files_in_the_layout_of_napari(here):
    Path("c.csv").write_text("index,axis-0,axis-1,positive\n0,10,20,True\n1,3.4,50.6,False\n")
    segment("grey.png", "--clicks", "c.csv", "--positive", "30,8")
    prediction = expected("grey.png", [(10, 20, True), (3.4, 50.6, False), (30, 8, True)])
    assert (tifffile.imread("mask.tif") == prediction.full_mask()).all()


def test_the_click_files_of_the_manual_can_be_read(here):
    manual = (ROOT / "docs" / "command-line.md").read_text()
    found = re.findall(r"```(json|csv)\n(.*?)```", manual, re.DOTALL)
    assert sorted(kind for kind, _ in found) == ["csv", "json"]
    for kind, text in found:
        Path(f"c.{kind}").write_text(text)
        assert len(read_clicks(Path(f"c.{kind}"))) >= 2


def test_clicks_on_the_background_alone_are_told(here):
    arguments = ["segment", "grey.png", "--negative", "3,4", "--output", "mask.tif"]
    result = CliRunner().invoke(app, [*arguments, "--model", "tiny.safetensors"])
    assert result.exit_code == 0
    assert "give a --positive one" in result.stderr


def test_the_predicted_iou_is_said_where_it_can_be_believed(here):
    assert "IoU" not in segment("grey.png", "--positive", "10,20")
    arguments = ("--model", "default", "--device", "cpu", "--output", "mask.tif")
    said = run("segment", "grey.png", "--positive", "10,20", *arguments)
    predictor = Predictor.from_pretrained("default", "cpu")
    predictor.set_image(iio.imread("grey.png"))
    quality = predictor.predict(Clicks([Click(10, 20)])).quality
    assert f"pixels, IoU about {quality:.2f}, on cpu" in said
    slices = ("--slice", "1", "--slice", "3")
    said = run("segment", "stack.tif", "--positive", "10,20", *slices, *arguments)
    assert " at worst, on cpu" in said


def test_the_first_of_two_objects_keeps_its_pixels(here):
    entries = [{"row": 10, "column": 20, "positive": True, "object": label} for label in (2, 1)]
    Path("c.json").write_text(json.dumps({**CLICK_FILE, "clicks": entries}))
    segment("grey.png", "--clicks", "c.json")
    mask = expected("grey.png", [(10, 20, True)]).full_mask()
    assert mask.any()
    assert (tifffile.imread("mask.tif") == mask).all()


def test_the_chosen_model_is_used_where_none_is_named(here, network):
    register_model("mine", network, CARD)
    choose_model("mine")
    arguments = ("--positive", "10,20", "--device", "cpu", "--output")
    run("segment", "grey.png", *arguments, "a.tif")
    run("segment", "grey.png", *arguments, "b.tif", "--model", "mine")
    assert (tifffile.imread("a.tif") == expected("grey.png", [(10, 20, True)]).full_mask()).all()
    assert Path("a.tif").read_bytes() == Path("b.tif").read_bytes()


CLICK = ("--positive", "10,20")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grey.png",), "no click: give --positive ROW,COLUMN or --clicks FILE"),
        (("stack.tif", *CLICK, "--output", "./stack.tif"), "stack.tif is the image itself"),
        (("grey.png", "--positive", "10"), "--positive '10' is no click: give ROW,COLUMN"),
        (("grey.png", "--positive", "10;20"), "'10;20' is no click"),
        (("grey.png", "--positive", "1,2,3"), "'1,2,3' is no click"),
        (("grey.png", "--negative", "nan,2"), "--negative 'nan,2' is no click"),
        (("grey.png", "--negative", "inf,2"), "'inf,2' is no click"),
        (("grey.png", "--positive", "40,20"), "row 40, column 20 is outside .* from 0 to 39"),
        (("grey.png", "--positive", "-1,20"), "row -1, column 20 is outside"),
        (("grey.png", *CLICK, "--slice", "0"), "slice 0 of a single picture"),
        (("grey.png", *CLICK, "--slice", "first"), "'first' is no slice"),
        (("stack.tif", *CLICK), "5 slices: say in which one a click lies"),
        (("stack.tif", *CLICK, "--slice", "5"), "no slice 5: the image has 5 slices, from 0 on"),
        (("stack.tif", *CLICK, "--slice", "-1"), "no slice -1"),
        (("stack.tif", *CLICK, "--slice", "1,2"), "slice 1,2 needs 1 number, such as 0"),
        (("stack.tif", "--slice", "1"), "no click in slice 1"),
        (("series.tif", *CLICK, "--slice", "1"), "needs 2 numbers, such as 0,0: .* 2 x 5 slices"),
        (("nowhere.png", *CLICK), "no image file nowhere.png"),
        (("empty.tif", *CLICK), "empty.tif is an empty file"),
        (("text.png", *CLICK), "text.png cannot be read as an image"),
        (("complex.tif", *CLICK), "complex64, not real numbers"),
        (("grey.png", *CLICK, "--clicks", "nowhere.json"), "nowhere.json"),
        (("grey.png", *CLICK, "--clicks", "text.json"), "text.json"),
        (("grey.png", "--clicks", "slices.json"), "slice 3 of a single picture"),
        (("grey.png", *CLICK, "--device", "tpu"), "device 'tpu' is not available"),
        (("grey.png", *CLICK, "--model", "unheard"), "unknown model 'unheard'; known models: "),
        (("grey.png", *CLICK, "--model", "no/where.safetensors"), "no model file no/where"),
        (("grey.png", *CLICK, "--model", "text.safetensors"), "text.safetensors is not a model"),
        (("grey.png", *CLICK, "--output", "no/mask.tif"), "no folder no; make it first"),
        (("grey.png", *CLICK, "--output", "folder"), "--output folder is a folder"),
        (("grey.png", *CLICK, "--output", "mask.png"), "give a name ending in .tif"),
        (("grey.png", *CLICK, "--probability", "no/p.tif"), "--probability no/p.tif: .* no folder"),
        (("grey.png", *CLICK, "--probability", "mask.tif"), "same file mask.tif"),
        (("grey.png", *CLICK, "--probability", "./mask.tif"), "same file mask.tif"),
        (("grey.png", *CLICK, "--unheard"), "No such option: --unheard"),
        ((*CLICK,), "Missing argument 'IMAGE'"),
    ],
)
def test_what_cannot_be_segmented_is_said_in_one_sentence(here, arguments, message):
    Path("empty.tif").touch()
    Path("folder").mkdir()
    tifffile.imwrite("complex.tif", np.zeros((7, 8), np.complex64))
    for name in ("text.png", "text.json", "text.safetensors"):
        Path(name).write_text("hello, world")
    Path("slices.json").write_text(json.dumps(CLICK_FILE))
    before = sorted(here.rglob("*"))
    common = {"--model": "tiny.safetensors", "--device": "cpu", "--output": "mask.tif"}
    defaults = [text for pair in common.items() if pair[0] not in arguments for text in pair]
    error = run("segment", *arguments, *defaults, status=2)
    assert re.search(message, error), error
    assert sorted(here.rglob("*")) == before


def test_what_cannot_be_written_is_said_before_anything_is_computed(here, monkeypatch):
    # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "sealed")
    Path("sealed").mkdir()
    arguments = ["--model", "tiny.safetensors", "--device", "cpu"]
    said = run("segment", "grey.png", *CLICK, *arguments, "--output", "sealed/m.tif", status=2)
    assert "--output sealed/m.tif: sealed cannot be written; choose another folder" in said
    said = run("train", "--data", "d", "--output", "sealed/new/run", status=2)
    assert "sealed cannot be written" in said


def test_an_unexpected_error_is_one_line_and_a_traceback_on_request(here, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("this\nwas not expected")

    monkeypatch.setattr(Predictor, "replay", broken)
    error = segment("grey.png", *CLICK, status=1)
    assert "unexpected RuntimeError: this was not expected" in error
    for arguments in (["--debug", "segment"], ["segment", "--debug"]):
        more = ["grey.png", *CLICK, "--model", "tiny.safetensors", "--output", "m.tif"]
        result = CliRunner().invoke(app, [*arguments, *more])
        assert result.exit_code == 1
        assert "Traceback" in result.stderr
        assert "in broken" in result.stderr
    assert not Path("m.tif").exists()


# -- evaluate --------------------------------------------------------------------------------------


@pytest.fixture
def dataset(here):
    folder = here / "set"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 5:25], labels[22:38, 30:55] = 1, 2
    for stem in "ab":
        iio.imwrite(folder / "images" / f"{stem}.png", 20 + 90 * labels)
        iio.imwrite(folder / "labels" / f"{stem}.png", labels)
    (folder / "dataset.json").write_text('{"name": "set", "kind": "instances"}')
    (folder / "list.txt").write_text("a\nb 2\n")
    return folder


def evaluate(*arguments: str, status: int = 0) -> str:
    """Run ``evaluate`` with the tiny model on the made data set."""
    common = {
        "--list": "set/list.txt",
        "--model": "tiny.safetensors",
        "--device": "cpu",
        "--output": "out",
    }
    defaults = [text for pair in common.items() if pair[0] not in arguments for text in pair]
    return run("evaluate", *arguments, *defaults, status=status)


def test_evaluate_writes_table_and_summary(dataset):
    evaluate("set", "--protocol", "ritm", "--max-clicks", "4", "--seed", "7", "--output", "x/y")
    summary = json.loads(Path("x/y/summary.json").read_text())
    assert set(summary) == SUMMARY_KEYS
    assert summary["objects"] == 3
    assert summary["model"] == "tiny.safetensors"
    assert summary["model_sha256"] == load_model(Path("tiny.safetensors")).sha256
    assert (summary["protocol"], summary["post"], summary["seed"]) == ("ritm", "none", 7)
    assert 0 <= summary["miou1"] <= 1
    assert summary["miou5"] is summary["miou20"] is None
    rows = Path("x/y/objects.csv").read_text().splitlines()
    assert len(rows) == 4
    assert {"stem", "area", "iou_1", "iou_4", "noc85", "noc90", "seconds"} <= set(
        rows[0].split(",")
    )
    assert [row.split(",")[:2] for row in rows[1:]] == [["a", "1"], ["a", "2"], ["b", "2"]]


@pytest.mark.parametrize(
    ("arguments", "post"),
    [
        (("--protocol", "fctsfn"), "paper"),
        (("--protocol", "fctsfn", "--post", "none"), "none"),
        (("--protocol", "ritm", "--post", "default"), "default"),
    ],
)
def test_post_overrides_the_protocol(dataset, arguments, post):
    evaluate("set", *arguments, "--max-clicks", "2", "--limit", "1")
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["post"], summary["objects"]) == (post, 1)


def test_an_evaluation_can_be_repeated(dataset):
    tables = []
    for output in ("one", "two"):
        evaluate("set", "--max-clicks", "3", "--limit", "2", "--seed", "5", "--output", output)
        rows = [row.split(",") for row in Path(output, "objects.csv").read_text().splitlines()]
        tables.append(
            [[v for v, name in zip(row, rows[0], strict=True) if name != "seconds"] for row in rows]
        )
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere is no data set"),
        (("set", "--list", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("set", "--protocol", "other"), "--protocol other is unknown; choose ritm or fctsfn"),
        (("set", "--post", "other"), "--post other is unknown; choose none or paper or default"),
        (("set", "--max-clicks", "0"), "--max-clicks 0"),
        (("set", "--max-clicks", "many"), "Invalid value for '--max-clicks'"),
        (("set", "--limit", "0"), "--limit 0"),
        (("set", "--seed", "-1"), "--seed -1"),
        (("set", "--model", "unheard"), "unknown model 'unheard'"),
        (("set", "--output", "grey.png"), "--output grey.png is a file"),
        (("set", "--device", "tpu"), "device 'tpu'"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_sentence(dataset, arguments, message):
    assert message in evaluate(*arguments, status=2)
    assert not Path("out").exists()


def test_evaluate_says_when_the_graph_cut_is_not_installed(dataset, monkeypatch):
    monkeypatch.setattr("napari_fctsfn.cli.evaluate.find_spec", lambda _name: None)
    assert "PyMaxflow" in evaluate("set", "--protocol", "fctsfn", status=2)


# -- models ----------------------------------------------------------------------------------------


def test_models_are_listed_and_described(here, network):
    register_model("mine", network, CARD)
    choose_model("mine")
    entry = Path(register_model("broken", network, CARD).path)
    entry.write_bytes(b"hello, world")
    lines = run("models", "list").splitlines()
    assert [line.split()[0] for line in lines if "mine" in line] == ["*"]
    assert any("default" in line and "bundled" in line for line in lines)
    assert any("broken" in line and "not a model file" in line for line in lines)
    card = run("models", "info", "mine")
    assert "name: mine" in card
    assert "weights licence: MIT" in card
    assert load_model(Path("tiny.safetensors")).card.name == "tiny"
    assert f"sha256: {load_model(Path('tiny.safetensors')).sha256}" in run(
        "models", "info", "tiny.safetensors"
    )


def test_the_default_says_what_its_weights_may_be_used_for():
    card = run("models", "info", "default")
    assert "weights licence: " in card
    assert card.index("dsb2018: ") < card.index("  grabcut/ritm: noc85 ")


def test_unknown_models_are_named():
    assert "unknown model 'unheard'" in run("models", "info", "unheard", status=2)


# -- train -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "plan", "least"),
    [
        ("modern", TrainSettings, {"size", "states", "precision"}),
        ("polish", PolishSettings, {"parts"}),
    ],
)
def test_train_says_the_defaults_of_the_recipe(recipe, plan, least):
    hints = get_type_hints(train_verb.train, include_extras=True)
    own = inspect.signature(train_verb.train).parameters
    said = {}
    for name, field in plan.__dataclass_fields__.items():
        text = hints[name].__metadata__[0].help if name in hints else ""
        given = re.search(r"\[([^]]+)\]$", text or "")
        for each in given[1].split("; ") if given else ():
            recipes, _, default = each.rpartition(": ")
            if not recipes or recipe in recipes.split(", "):
                said[name] = (default, str(field.default))
        assert name not in own or own[name].default in (
            field.default,
            None,
            inspect.Parameter.empty,
        )
    assert said.keys() >= {"steps", "batch", "rate", "start", "save_every"} | least
    assert all(default == real for default, real in said.values())


def test_train_hands_on_a_stage_of_the_paper(here, monkeypatch):
    asked = []

    def spy(settings, name):
        asked.append(settings)
        return settings.output / f"{name}.safetensors"

    monkeypatch.setattr("napari_fctsfn.train.train_paper_model", spy)
    Path("run").mkdir()
    arguments = "--recipe paper --data d --output run --stage msrn --start m --backbone lite"
    arguments += " --fusion-channels 8 --input 64x96 --optimizer adamw --no-augment --patience 2"
    arguments += " --image-model test_resnet"
    run("train", *arguments.split(), "--device", "auto")
    (settings,) = asked
    assert (settings.stage, settings.start, settings.variant) == ("msrn", "m", "tslfn-5")
    assert (settings.network.backbone, settings.network.fusion_channels) == ("lite", 8)
    assert settings.network.image_model == "test_resnet"
    assert (settings.size, settings.augment, settings.patience) == ((64, 96), False, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--recipe paper needs --stage tslfn32 or tslfn16"),
        ("--stage tslfn4", "stage 'tslfn4' is unknown; choose tslfn32 or"),
        ("--stage tslfn32", "starts from a file with VGG16's weights"),
        ("--stage tslfn32 --size 64", "--size is for --recipe modern"),
        ("--stage tslfn32 --start random --device tpu", "device 'tpu'"),
        ("--stage tslfn32 --start random", "is no data set"),
    ],
)
def test_train_refuses_what_is_no_stage_of_the_paper(here, arguments, message):
    Path("run").mkdir()
    common = ["--recipe", "paper", "--data", "d", "--output", "run"]
    assert message in run("train", *common, *arguments.split(), status=2)


def test_train_hands_on_what_was_asked(here, monkeypatch):
    asked = []

    def spy(settings, name):
        asked.append((settings, name))
        return settings.output / f"{name}.safetensors"

    monkeypatch.setattr("napari_fctsfn.train.train_model", spy)
    Path("run").mkdir()
    arguments = ["--recipe", "modern", "--data", "d", "--output", "run", "--steps", "7"]
    arguments += ["--seed", "3", "--share", "a=0.25", "--share", "b=1", "--start", "random"]
    arguments += ["--image-model", "tf_efficientnet_lite2"]
    out = run("train", *arguments, "--device", "auto", "--name", "mine", "--batch", "2")
    ((settings, name),) = asked
    assert name == "mine"
    assert "run/mine.safetensors" in Path(out.split(":")[0]).as_posix()
    assert (settings.steps, settings.seed, settings.batch) == (7, 3, 2)
    assert settings.mixture == {"a": 0.25, "b": 1.0}
    assert settings.start == "random"
    assert settings.device == "auto"
    assert settings.network == replace(LAPTOP, image_model="tf_efficientnet_lite2")


def test_train_hands_on_a_polishing(here, monkeypatch):
    asked = []

    def spy(settings, name):
        asked.append(settings)
        return settings.output / f"{name}.safetensors"

    monkeypatch.setattr("napari_fctsfn.train.polish_model", spy)
    Path("run").mkdir()
    arguments = "--recipe polish --data d --output run --parts adapters --share a=1 --rate 0.01"
    run("train", *arguments.split())
    arguments = "--recipe polish --data d --output run --mixture open --start m"
    run("train", *arguments.split())
    first, second = asked
    assert (first.parts, first.mixture, first.rate) == ("adapters", {"a": 1.0}, 0.01)
    assert (first.start, second.start) == ("default", "m")
    assert second.mixture == MIXTURES["open"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--size 64", "--size is for --recipe modern"),
        ("--precision bf16", "--precision is for --recipe modern or paper"),
        ("--parts head", "parts must be one of refiner, fusion"),
        ("--workers 12", "workers must be less than 12, not 12"),
        ("--start nobody", "unknown model 'nobody'"),
        ("--start imagenet", "unknown model 'imagenet'"),
        ("--share a=0", "positive shares"),
        ("--device tpu", "device 'tpu'"),
        ("", "is no data set"),
    ],
)
def test_what_cannot_be_polished_is_said_in_one_sentence(here, arguments, message):
    Path("run").mkdir()
    common = ["--recipe", "polish", "--data", "d", "--output", "run"]
    assert message in run("train", *common, *arguments.split(), status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "grey.png"), "is a file"),
        (("--recipe", "old"), "--recipe old is unknown; choose modern"),
        (("--start", "voc"), "unknown model 'voc'; known models: default"),
        (("--steps", "0"), "steps must be at least 1, not 0"),
        (("--size", "100"), "size must be a multiple of 32"),
        (("--image-model", "resnet99"), "timm knows no image model 'resnet99'"),
        (("--stage", "msrn"), "--stage is for --recipe paper"),
        (("--share", "a"), "--share a is not SET=SHARE"),
        (("--share", "=1"), "--share =1 is not SET=SHARE"),
        (("--share", "a=-1"), "positive shares"),
        (("--device", "tpu"), "device 'tpu'"),
        (("--name", "a/b"), "'a/b' is no name"),
        ((), "is no data set"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_sentence(here, arguments, message):
    Path("run").mkdir()
    Path("d").mkdir()
    common = {"--data": "d", "--output": "run"}
    defaults = [text for pair in common.items() if pair[0] not in arguments for text in pair]
    assert message in run("train", *arguments, *defaults, status=2)


# -- the command itself ----------------------------------------------------------------------------


def shell(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in an interpreter of its own."""
    code = "from napari_fctsfn.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **kwargs,
    )


def test_it_says_its_version():
    assert run("--version").strip() == f"napari-fctsfn {napari_fctsfn.__version__}"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from napari_fctsfn.cli import main\n"
        "sys.argv = ['napari-fctsfn', 'segment', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'napari', 'qtpy') if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert result.stdout.splitlines()[-1] == "[]"
    for option in ("--positive", "--negative", "--clicks", "--slice", "--probability", "--debug"):
        assert option in result.stdout


def test_a_real_process_ends_with_the_right_status(here):
    good = shell(
        *("segment", "grey.png", *CLICK, "--model", "tiny.safetensors", "--output", "mask.tif")
    )
    assert (good.returncode, good.stderr) == (0, "")
    assert tifffile.imread("mask.tif").shape == (40, 60)
    bad = shell("segment", "grey.png", "--positive", "a,b", "--output", "mask.tif")
    assert bad.returncode == 2
    assert bad.stderr == "Error: --positive 'a,b' is no click: give ROW,COLUMN, such as 120,84\n"
    assert shell().returncode == 2
    assert "Commands:" in shell("--help").stdout


def test_demo_says_what_is_missing(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    assert "pip install 'napari-fctsfn[all]'" in run("demo", status=2)
    assert "no folder no" in run("demo", "--replay", "no/where", status=2)
    assert "grey.png is a file" in run("demo", "--replay", "grey.png", status=2)
    assert not Path("no").exists()


def test_demo_replays_its_session_in_the_real_window(here):
    result = shell("demo", "--replay", "demo")
    assert not list(data_directory().glob("sessions/*")), "a demo is nobody's work"
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"labels: {Path('demo', 'labels.tif')}",
        f"screenshot of the window: {Path('demo', 'window.png')}",
    ]
    labels = tifffile.imread("demo/labels.tif")
    assert labels.shape == (256, 256)
    assert set(np.unique(labels)) == set(range(9))
    window = iio.imread("demo/window.png")
    assert window.shape[0] > 600
    assert len(np.unique(window.reshape(-1, window.shape[-1]), axis=0)) > 100
