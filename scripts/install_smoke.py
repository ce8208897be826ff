"""Try an installed copy outside the checkout: manifest, model, samples, `segment`."""

import subprocess
import sys
import sysconfig
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tifffile
from npe2 import PluginManifest

import napari_fctsfn
from napari_fctsfn.models import load_model, resolve_model

MAX_MODEL_BYTES = 16_000_000


def check_place() -> None:
    """The package under test is the installed one, and no GUI can be seen from here."""
    installed = Path(napari_fctsfn.__file__).resolve()
    assert installed.is_relative_to(Path(sys.prefix).resolve()), installed
    assert metadata.version("napari-fctsfn") == napari_fctsfn.__version__
    seen = [name for name in ("napari", "PyQt5", "PyQt6", "PySide2", "PySide6") if find_spec(name)]
    assert not seen, f"the base requirements bring {seen}"


def check_manifest() -> None:
    """The manifest is found the way napari finds it, and each of its commands lies in a module."""
    manifest = PluginManifest.from_distribution("napari-fctsfn")
    assert manifest.contributions.widgets
    assert manifest.contributions.sample_data
    for command in manifest.contributions.commands or []:
        module = str(command.python_name).partition(":")[0]
        relative = Path(*module.split(".")[1:])
        place = Path(napari_fctsfn.__file__).parent / relative
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module


def check_model() -> None:
    """The bundled model is there, small enough, and loads."""
    path = resolve_model("default")
    assert path.stat().st_size <= MAX_MODEL_BYTES, f"{path.stat().st_size} bytes"
    load_model(path)


def check_sample() -> None:
    """The samples of the manifest give layers."""
    manifest = PluginManifest.from_distribution("napari-fctsfn")
    commands = {c.id: c.python_name for c in manifest.contributions.commands or []}
    for sample in manifest.contributions.sample_data or []:
        module, _, function = str(commands[sample.command]).partition(":")
        ((data, *_),) = getattr(import_module(module), function)()
        assert data.ndim >= 2, sample.key


def check_segment() -> None:
    """`napari-fctsfn segment` makes a mask from one click, in a folder with nothing else in it."""
    rows, columns = np.mgrid[:96, :128]
    inside = (rows - 50) ** 2 + (columns - 60) ** 2 < 25**2
    tifffile.imwrite("disk.tif", np.where(inside, 200, 40).astype(np.uint8))
    command = Path(sysconfig.get_path("scripts")) / "napari-fctsfn"
    arguments = ["segment", "disk.tif", "--positive", "50,60", "--output", "mask.tif"]
    subprocess.run([command, *arguments], check=True)
    mask = tifffile.imread("mask.tif") > 0
    assert mask.shape == inside.shape
    iou = (mask & inside).sum() / (mask | inside).sum()
    assert iou > 0.5, f"the mask of a plain disk has IoU {iou:.2f}"


if __name__ == "__main__":
    for check in (check_place, check_manifest, check_model, check_sample, check_segment):
        check()
        print(f"{check.__name__.removeprefix('check_')}: ok")
