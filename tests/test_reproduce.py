"""The paper's tables and figures from tiny networks: what is run, told, and left out."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fctsfn.cli import app
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import (
    ObjectReference,
    ObjectResult,
    clustered_interval,
    evaluate_objects,
    read_results,
)
from napari_fctsfn.models import ModelCard, save_model
from napari_fctsfn.network import PAPER_NETWORKS, NetworkConfig, build_network, paper_config
from napari_fctsfn.reproduce import ITEMS
from napari_fctsfn.reproduce.cells import cell, gain
from napari_fctsfn.reproduce.published import COUNTS, SET_KEYS, published
from napari_fctsfn.reproduce.sources import find_models, known_as

CLICKS = 3
DOCS = Path(__file__).parent.parent / "docs"


def make_sets(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name, listed in (("grabcut", "all.txt"), ("voc_subset", "val_objects.txt")):
        folder = root / name
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True)
        for number, stem in enumerate("abc"):
            labels = np.zeros((40, 56), np.uint8)
            labels[8 + number : 26, 10 : 34 + number] = 1
            image = 90 * labels[..., None] + rng.integers(0, 80, (40, 56, 3))
            iio.imwrite(folder / "images" / f"{stem}.png", image.astype(np.uint8))
            iio.imwrite(folder / "labels" / f"{stem}.png", labels)
        (folder / "dataset.json").write_text('{"kind": "instances"}')
        (folder / listed).write_text("a\nb\nc\n" if name == "grabcut" else "a\n")


def make_model(path: Path, config: NetworkConfig, seed: int = 0) -> None:
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    card = ModelCard(
        name=path.stem,
        version="0",
        architecture={},
        weights_licence="MIT",
        input_size=64,
        training={"recipe": "paper", "steps": 7, "seed": seed, "origin": "vgg16 (saw edges)"},
    )
    save_model(path, build_network(config).eval(), card)


@pytest.fixture(scope="module", autouse=True)
def one_example() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_fctsfn.reproduce.figures._EXAMPLES", 1)
        yield


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets and models, two trainings of the TSLFN among them."""
    root = tmp_path_factory.mktemp("stock")
    make_sets(root / "data")
    for name in ("ssfcn", "fctsfn", "tslfn-32s"):
        make_model(root / "models" / f"{name}.safetensors", paper_config(name, "lite", 8))
    for seed in range(2):
        path = root / "models" / "tslfn" / f"seed{seed}" / f"t{seed}.safetensors"
        make_model(path, paper_config("tslfn-8s", "lite", 8), seed)
    (path.parent / "checkpoint.safetensors").write_bytes(b"not a model")
    make_model(root / "models" / "other.safetensors", NetworkConfig(fusion_channels=8))
    return root


def run(stock: Path, output: Path, *arguments: str, status: int = 0) -> str:
    """What the command said; report and files are in the output folder."""
    result = CliRunner().invoke(
        app,
        [
            *("reproduce", "--data", str(stock / "data"), "--models", str(stock / "models")),
            *("--output", str(output), "--max-clicks", str(CLICKS), "--limit", "2"),
            *("--device", "cpu", *arguments),
        ],
    )
    assert result.exit_code == status, result.output
    return result.stderr if status else result.output


@pytest.fixture(scope="module")
def made(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of everything, made once."""
    output = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_FCTSFN_HOME", str(tmp_path_factory.mktemp("home")))
        run(stock, output, "--all", "--also", str(stock / "models" / "other.safetensors"))
    return output


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_and_figure_is_there_with_the_papers_numbers(made: Path) -> None:
    report = (made / "report.md").read_text()
    for number in range(1, 9):
        assert f"## Table {number}. " in report
        rows = rows_of(made / f"table-{number}.csv")
        for row in rows:
            assert bool(row.get("mean")) != bool(row["why"])
    for number in range(3, 9):
        assert f"## Figure {number}. " in report
    drawn = {path.stem for path in made.glob("*.png")}
    assert drawn == {path.stem for path in made.glob("*.svg")}
    assert drawn == {f"figure-{number}" for number in range(3, 9)}
    for path in made.glob("*.png"):
        assert iio.imread(path)[..., :3].std() > 10
    # The paper's figures stand where nothing was measured, too.
    assert "| Berkeley (90% IoU) | 13.68 / - " in report
    assert ": no folder Berkeley or berkeley in the data." in report
    assert "no model of TSLFN_1" in report
    assert "| Pascal VOC 2012 (85% IoU) | 4.00 | - | 5.12 | 4.58 / " in report


def test_a_cell_is_the_mean_over_objects_and_trainings(made: Path) -> None:
    row = next(
        row
        for row in rows_of(made / "table-2.csv")
        if (row["set"], row["network"]) == ("Grabcut", "TSLFN")
    )
    runs = [read_results(path)[0] for path in sorted((made / "runs" / "grabcut").glob("t[01]-*"))]
    means = [np.mean([_noc(result, 0.9) for result in results]) for results in runs]
    assert len(runs) == 2
    assert float(row["mean"]) == pytest.approx(np.mean(means))
    assert row["trainings"].split() == [f"{mean:.4f}" for mean in means]
    assert (row["paper"], row["objects"], row["left_out"]) == ("4.28", "2", "0")
    # On lite the TSLFN is TSLFN_5, so that its runs stand in two tables.
    depth = rows_of(made / "table-4.csv")
    fifth = [line["mean"] for line in depth if line["network"] == "TSLFN_5" and line["mean"]]
    tslfn = [line["mean"] for line in rows_of(made / "table-2.csv") if line["network"] == "TSLFN"]
    assert fifth == [mean for mean in tslfn if mean]


def _noc(result: ObjectResult, threshold: float) -> int:
    reached = [count for count, iou in enumerate(result.ious, 1) if iou >= threshold]
    return reached[0] if reached else CLICKS


def test_curves_go_through_the_tables(made: Path) -> None:
    points = {
        (row["set"], row["network"], row["clicks"]): row["mean"]
        for row in rows_of(made / "figure-6.csv")
    }
    table = [row for row in rows_of(made / "table-6.csv") if row["mean"]]
    assert len(table) == 2 * 2 * len({"gc", "gm", "rw", "esc", "gsc", "ssfcn", "fctsfn", "other"})
    for row in table:
        count = row["measure"].removeprefix("iou")
        assert points[row["set"], row["network"], count] == row["mean"]


def test_differences_and_what_was_not_run_are_told(made: Path) -> None:
    report = (made / "report.md").read_text()
    for text in (
        "- Grabcut: `grabcut`, 2 of 3 objects, drawn with seed 0.",
        "`voc_subset`, photographs of VOC 2012 that the authors published as an example",
        "- Microsoft Coco: no folder coco or coco_mval in the data.",
        "- TSLFN: `t0.safetensors` (seed 0), `t1.safetensors` (seed 1): lite, recipe paper, steps",
        "steps 7, origin vgg16 (saw edges), longest side 64.",
        "not used, since no table or figure is of such a network: `other.safetensors`",
        "- 3 clicks on every object (the paper: 20).",
        "there are fewer clicks",
        "| TSLFN before SSFCN | Grabcut | clicks saved |",
        "Not drawn, no model of TSLFN-, stride 32: ",
        "pairs of network and data set were measured.",
    ):
        assert text in report, text


def test_what_is_complete_is_not_run_again(
    stock: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path(shutil.copytree(made, tmp_path / "copy"))
    names = [f"table-{number}" for number in (1, 2, 5)]
    before = {name: (made / f"{name}.csv").read_text() for name in names}
    monkeypatch.setattr("napari_fctsfn.evaluate.job.evaluate_objects", None)
    tables = [text for name in names for text in ("--table", name[-1])]
    other = str(stock / "models" / "other.safetensors")
    said = run(stock, made, *tables, "--also", other)
    assert said == f"see {made / 'report.md'}\n"
    assert before == {name: (made / f"{name}.csv").read_text() for name in names}


def test_what_is_not_complete_is_told_and_goes_on(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(stock, tmp_path, "--table", "7", "--minutes", "0")
    assert "not run yet" in (tmp_path / "report.md").read_text()
    asked = []

    def stopping(predictor: Any, *, objects: Any, **more: Any) -> Any:
        for found in evaluate_objects(predictor, objects=objects, **more):
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked.append((predictor.sha256, more["dataset"].folder, found.reference))
            yield found

    monkeypatch.setattr("napari_fctsfn.evaluate.job.evaluate_objects", stopping)
    with pytest.raises(AssertionError):
        run(stock, tmp_path, "--table", "7")
    run(stock, tmp_path, "--table", "7", "--minutes", "0")
    report = (tmp_path / "report.md").read_text()
    assert "- 1 of 2 objects are done: " in report

    def noting(predictor: Any, *, objects: Any, **more: Any) -> Any:
        for found in evaluate_objects(predictor, objects=objects, **more):
            asked.append((predictor.sha256, more["dataset"].folder, found.reference))
            yield found

    monkeypatch.setattr("napari_fctsfn.evaluate.job.evaluate_objects", noting)
    said = run(stock, tmp_path, "--table", "7")
    assert "gc on grabcut: " in said
    assert len(asked) == len(set(asked)) == 7 * 3
    assert "not run yet" not in (tmp_path / "report.md").read_text()


def test_masks_are_drawn_while_there_is_time(
    stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("napari_fctsfn.reproduce.figures.load_segmenter", None)
        run(stock, tmp_path, "--figure", "7", "--figure", "8", "--minutes", "0")
    assert (tmp_path / "report.md").read_text().count("Not drawn: the time was over.") == 2
    assert not list(tmp_path.glob("figure-*"))
    run(stock, tmp_path, "--figure", "8", "--minutes", "10")
    drawn = (tmp_path / "figure-8.png").read_bytes()
    assert "Objects of `grabcut`, clicks on FCTSFN." in (tmp_path / "report.md").read_text()
    run(stock, tmp_path, "--figure", "8", "--minutes", "0")
    assert "(figure-8.png)\n\nDrawn by an earlier call" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "figure-8.png").read_bytes() == drawn


@pytest.mark.parametrize("backbone", ["vgg16", "lite"])
def test_networks_are_known_by_their_architecture(backbone: Any) -> None:
    for name in PAPER_NETWORKS:
        for width in (None, 16):
            names = known_as(paper_config(name, backbone, width))
            assert {"tslfn-8s": "tslfn"}.get(name, name) in names
            assert len(names) <= 2
    own = "tslfn-4" if backbone == "vgg16" else "tslfn-5"
    assert known_as(paper_config("tslfn-8s", backbone)) == ["tslfn", own]
    assert known_as(NetworkConfig(quality=True)) == []


def test_checkpoints_and_other_networks_are_passed_over(stock: Path) -> None:
    found = find_models(stock / "models")
    assert found.others == ["other.safetensors"]
    assert set(found.models) == {"ssfcn", "fctsfn", "tslfn", "tslfn-5", "tslfn-32s"}
    assert [Path(model.name).name for model in found.models["tslfn"]] == [
        "t0.safetensors",
        "t1.safetensors",
    ]


def test_networks_that_differ_are_no_trainings_of_one(tmp_path: Path) -> None:
    for width in (8, 16):
        make_model(tmp_path / f"w{width}.safetensors", paper_config("ssfcn", "lite", width))
    with pytest.raises(InputError, match=r"w16\S* and \S*w8\S* are both a ssfcn, but not the same"):
        find_models(tmp_path)


def results(values: list[float], decidability: float | None = 1.0) -> list[ObjectResult]:
    return [
        ObjectResult(
            ObjectReference(f"p{number // 2}", number),
            9,
            (value, 0.99),
            0.1,
            2,
            {"free_choice_1": decidability if number else None},
        )
        for number, value in enumerate(values)
    ]


def test_one_training_has_the_interval_of_its_pictures() -> None:
    values = [0.3, 0.5, 0.8, 0.9, 0.2, 0.6]
    found = cell([results(values)], "iou1", "voc")
    assert found is not None
    assert found.interval == pytest.approx(
        clustered_interval(values, [f"p{number // 2}" for number in range(6)])
    )
    assert (found.mean, found.median) == pytest.approx((0.55, 0.55))
    assert cell([results(values)], "iou3", "voc") is None


def test_trainings_that_differ_make_an_interval_wider() -> None:
    values = [0.3, 0.5, 0.8, 0.9, 0.2, 0.6]
    same = cell([results(values)] * 3, "iou1", "voc")
    spread = cell([results([v + d for v in values]) for d in (-0.2, 0.0, 0.2)], "iou1", "voc")
    assert same is not None
    assert spread is not None
    assert same.mean == pytest.approx(spread.mean)
    assert np.ptp(spread.interval) > 1.2 * np.ptp(same.interval)


def test_a_gain_is_paired_and_counts_saved_clicks() -> None:
    low, high = results([0.2, 0.4, 0.1, 0.3] * 3), results([0.9, 0.95, 0.9, 0.97] * 3)
    found = gain([high], [low], "noc", "voc")
    assert found is not None
    assert (found.mean, found.interval, found.verdict) == (1.0, (1.0, 1.0), "as in the paper")
    back = gain([low], [high], "iou1", "voc")
    assert back is not None
    assert back.verdict == "the other way round"
    assert back.mean == pytest.approx(0.25 - 0.93)
    undecided = gain([low], [low], "iou1", "voc")
    assert undecided is not None
    assert (undecided.mean, undecided.verdict) == (0.0, "undecided")
    few = gain([high[:10]], [low[:10]], "noc", "voc")
    assert few is not None
    assert (few.interval, few.verdict) == ((1.0, 1.0), "undecided: less than 6 pictures")


def test_one_picture_has_no_interval_however_many_trainings_there_are() -> None:
    better, worse = ([results([v])[:1] for v in values] for values in ((0.8, 0.9), (0.3, 0.2)))
    found, gained = cell(better, "iou1", "voc"), gain(better, worse, "iou1", "voc")
    assert found is not None
    assert gained is not None
    assert (found.mean, found.interval) == (pytest.approx(0.85), None)
    assert (gained.mean, gained.interval) == (pytest.approx(0.6), None)
    assert gained.verdict == "undecided: less than 6 pictures"


def test_trainings_of_one_seed_belong_together() -> None:
    values = [0.3, 0.5, 0.8, 0.9, 0.2, 0.6]
    theirs = [results([v + d for v in values]) for d in (-0.1, 0.0, 0.1)]
    ours = [results([v + d + 0.05 for v in values]) for d in (-0.1, 0.0, 0.1)]
    paired = gain(ours, theirs, "iou1", "voc")
    assert paired is not None
    assert paired.interval == pytest.approx((0.05, 0.05))
    alone = gain(ours, theirs[:2], "iou1", "voc")
    assert alone is not None
    assert np.ptp(alone.interval) > 0.1


def test_what_is_not_defined_is_left_out_and_counted() -> None:
    found = cell([results([0.1, 0.2, 0.3])], "free_choice_1", "voc")
    assert found is not None
    assert (found.objects, found.left_out, found.mean) == (2, 1, 1.0)
    assert cell([results([0.1, 0.2], None)], "free_choice_1", "voc") is None


def test_the_papers_tables_agree_with_each_other() -> None:
    for key in SET_KEYS:
        for measure in ("noc", *(f"iou{count}" for count in COUNTS)):
            assert published(measure, "tslfn", key) == published(measure, "tslfn-4", key)
        for item in ITEMS.values():
            for measure in item.measures:
                for network in item.networks:
                    if measure != "single_positive_1":
                        assert published(measure, network, key) is not None
    # What section 4.4 says of the gain on VOC.
    clicks = [published("noc", name, "voc") for name in ("ssfcn", "fctsfn")]
    assert (clicks[0] - clicks[1]) / (clicks[0] - 1) == pytest.approx(0.256, abs=5e-4)  # type: ignore[operator]
    assert published("iou5", "ssfcn", "voc") is None
    assert published("noc", "tslfn-minus", "voc") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to make: --table N, --figure N, or --all"),
        (("--all", "--table", "1"), "say what to make"),
        (("--table", "9"), "--table 9: there are tables 1 to 8 to make"),
        (("--figure", "2"), "--figure 2: there are figures 3 to 8 to make"),
        (("--table", "1", "--max-clicks", "0"), "--max-clicks 0: give a number from 1 to 1000"),
        (("--table", "1", "--minutes", "-1"), "--minutes -1.0: give a number from 0 up"),
        (("--table", "1", "--data", "nowhere"), "--data nowhere: there is no such folder"),
        (("--table", "1", "--models", "nowhere"), "--models nowhere: there is no such folder"),
        (("--table", "2", "--also", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_made_is_told(
    stock: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in run(stock, tmp_path, *arguments, status=2)


@pytest.mark.parametrize(
    ("missing", "asked", "message"),
    [
        ("matplotlib", ("--figure", "3"), "figures need matplotlib: pip install"),
        ("maxflow", ("--table", "7"), "the paper's graph cuts need PyMaxflow"),
    ],
)
def test_what_is_not_installed_is_told_before_anything_is_run(
    stock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    asked: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(
        "napari_fctsfn.reproduce.make.find_spec", lambda name: None if name == missing else name
    )
    assert message in run(stock, tmp_path / "out", *asked, status=2)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_the_sets_says_where_they_are_looked_for(
    stock: Path, tmp_path: Path
) -> None:
    said = run(stock, tmp_path, "--table", "1", "--data", str(tmp_path), status=2)
    assert "has none of the paper's data sets: Pascal VOC 2012: VOCdevkit or VOC2012" in said


def test_a_set_that_lacks_files_names_them(stock: Path, tmp_path: Path) -> None:
    make_sets(tmp_path / "data")
    for stem in "bc":
        (tmp_path / "data" / "grabcut" / "images" / f"{stem}.png").unlink()
    said = run(stock, tmp_path, "--table", "7", "--data", str(tmp_path / "data"), status=2)
    assert "b(.png|.jpg" in said
    assert "its layout is dataset.json, images/STEM" in said


def test_counts_in_the_documentation_are_those_of_the_command() -> None:
    said = CliRunner().invoke(app, ["models", "counts"]).output
    assert len(said.splitlines()) == 2 + len(PAPER_NETWORKS)
    assert f"\n\n{said}\n" in (DOCS / "paper.md").read_text()


def test_results_of_other_settings_stay_apart(stock: Path, tmp_path: Path) -> None:
    run(stock, tmp_path, "--table", "7", "--models", str(stock / "data"))
    run(stock, tmp_path, "--table", "7", "--models", str(stock / "data"), "--seed", "1")
    folders = list((tmp_path / "runs" / "grabcut").iterdir())
    assert len(folders) == 2 * 5
    for folder in folders:
        assert json.loads((folder / "summary.json").read_text())["objects"] == 2
