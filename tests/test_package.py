"""Law 2 (what may be imported where) and what holds for the package as a whole."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import napari_fctsfn

ROOT = Path(__file__).parents[1]
GUI = ["napari", "npe2", "magicgui", "qtpy", "superqt", "vispy"]
GUI += ["PyQt5", "PyQt6", "PySide2", "PySide6"]

IMPORT_WITH_BLOCKED = """
import importlib, pkgutil, sys

blocked = {blocked!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Blocker())
room = importlib.import_module("napari_fctsfn.{room}")
assert room.__file__, "a folder without __init__.py"
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print("imported")
"""


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_neither_torch_nor_napari_nor_qt() -> None:
    heavy = ["torch", "torchvision", "timm", "numpy", "scipy", "maxflow", *GUI]
    code = f"import sys, napari_fctsfn; print([m for m in {heavy!r} if m in sys.modules])"
    assert run_python(code) == "[]"


@pytest.mark.parametrize(
    "room", ["clicks", "network", "models", "predict", "evaluate", "reproduce", "train"]
)
def test_room_imports_without_gui_graph_cut_and_timm(room: str) -> None:
    code = IMPORT_WITH_BLOCKED.format(blocked={*GUI, "maxflow", "timm", "torchvision"}, room=room)
    assert run_python(code) == "imported"


def test_clicks_import_without_torch() -> None:
    code = IMPORT_WITH_BLOCKED.format(blocked={*GUI, "torch", "timm", "maxflow"}, room="clicks")
    assert run_python(code) == "imported"


def test_nobody_waits_for_timm_or_the_compiler_of_torch() -> None:
    """They take longer to be imported than torch itself; an optimizer would load the compiler."""
    code = (
        "import sys, numpy\n"
        "from napari_fctsfn import Click, Clicks, Predictor\n"
        "predictor = Predictor.from_pretrained('default')\n"
        "predictor.set_image(numpy.zeros((40, 40), 'u1'))\n"
        "mask = numpy.zeros((40, 40), bool)\n"
        "predictor.predict(Clicks([Click(20, 20)]))\n"
        "predictor.adapt([(Clicks([Click(20, 20)]), mask)], ~mask)\n"
        "print([m for m in ('timm', 'torchvision', 'torch._dynamo') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch comes without triton")
def test_network_loads_after_a_window_was_drawn(tmp_path: Path) -> None:
    """Software OpenGL brings an LLVM of its own, beside which triton's once crashed."""
    script = tmp_path / "window_first.py"
    script.write_text(
        "import napari\n"
        "viewer = napari.Viewer()\n"
        "viewer.screenshot(canvas_only=False)\n"
        "import napari_fctsfn.network, torchvision\n"
        "viewer.close()\n"
        "print('loaded')\n",
        encoding="utf-8",
    )
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.stdout.endswith("loaded\n"), result.stderr[-2000:]


@pytest.mark.parametrize("name", napari_fctsfn.__all__)
def test_public_names_resolve_lazily(name: str) -> None:
    value = getattr(napari_fctsfn, name)
    assert name in dir(napari_fctsfn)
    if isinstance(value, type):
        assert value is getattr(importlib.import_module(value.__module__), name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clickss'"):
        napari_fctsfn.Clickss  # noqa: B018


def test_package_says_that_it_is_typed() -> None:
    assert (Path(napari_fctsfn.__file__).parent / "py.typed").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="git makes a text file of a link there")
def test_root_manifest_is_a_link_into_the_package() -> None:
    link = ROOT / "napari.yaml"
    if not link.exists():
        pytest.skip("only a checkout has the link, the sdist does not")
    assert link.is_symlink()
    assert link.resolve() == (ROOT / "src" / "napari_fctsfn" / "napari.yaml").resolve()


def test_tests_cannot_reach_another_machine() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"):
        client.connect(("192.0.2.1", 80))
