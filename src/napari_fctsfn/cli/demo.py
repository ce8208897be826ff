"""The verb ``demo``: napari as a user would open it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_fctsfn._directories import HOME_VARIABLE
from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import check_output_folder
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from napari_fctsfn.clicks import ClickRecord

_PLUGIN, _SAMPLE, _DOCK = "napari-fctsfn", "nuclei", "Annotate"

_PATIENCE_MS = 300_000
"""Time for the model to load and for a mask; slow machines need it."""

_WINDOW = (1280, 860)


def demo(
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            metavar="DIR",
            help="Replay a session of clicks, leave labels and a screenshot in DIR, and close. "
            "The folder is made if only it is missing.",
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Open napari with a sample picture, the Annotate dock and the default model."""
    if replay is not None:
        check_output_folder("--replay", replay)
        if not replay.parent.is_dir():
            raise InputError(
                f"--replay {replay}: there is no folder {replay.parent}; make it first"
            )
    try:
        import napari
    except ModuleNotFoundError as error:
        raise InputError(
            f"the demo needs napari ({error}): pip install 'napari-fctsfn[all]'"
        ) from error
    if replay is None:
        _open(napari.Viewer())
        napari.run()
        return
    with _apart():
        viewer = napari.Viewer()
        try:
            replay.mkdir(exist_ok=True)
            _replay(viewer, _open(viewer), replay)
        finally:
            viewer.close()


def _open(viewer: Any) -> Any:
    """The sample and the Annotate dock."""
    viewer.open_sample(_PLUGIN, _SAMPLE)
    return viewer.window.add_plugin_dock_widget(_PLUGIN, _DOCK)[1]


@contextmanager
def _apart() -> Iterator[None]:
    """Keep the session of a replay out of the user's: it would be offered to be reopened."""
    before = os.environ.get(HOME_VARIABLE)
    with tempfile.TemporaryDirectory() as home:
        os.environ[HOME_VARIABLE] = home
        try:
            yield
        finally:
            if before is None:
                del os.environ[HOME_VARIABLE]
            else:
                os.environ[HOME_VARIABLE] = before


def _replay(viewer: Any, dock: Any, folder: Path) -> None:
    """Click in the real window what the bundled session says, and leave what it looks like."""
    from napari_fctsfn.predict.images import write_tiff

    viewer.window.resize(*_WINDOW)
    _wait(dock, "the model is not ready")
    if not dock.start():
        raise RuntimeError("the Annotate dock did not start; its status line says why")
    viewer.reset_view()
    records = _session()
    current = records[0].object
    for record in records:
        if record.object != current:
            dock.next_button.click()
            current = record.object
        prompts = dock.annotator.site.prompts
        layer = prompts.positive if record.click.positive else prompts.negative
        layer.add([[record.click.row, record.click.column]])
        _wait(dock, f"no mask after the click at {record.click.row:g}, {record.click.column:g}")
    labels, window = folder / "labels.tif", folder / "window.png"
    write_tiff(labels, dock.annotator.site.labels.data)
    viewer.screenshot(str(window), canvas_only=False, flash=False)
    typer.echo(f"labels: {labels}\nscreenshot of the window: {window}")


def _wait(dock: Any, problem: str) -> None:
    if not dock.wait_idle(_PATIENCE_MS):
        raise RuntimeError(f"{problem} within {_PATIENCE_MS // 1000} seconds")


def _session() -> list[ClickRecord]:
    """The bundled session of clicks on the sample, object by object."""
    from napari_fctsfn.clicks import read_clicks

    with as_file(files("napari_fctsfn") / "data" / "nuclei_clicks.json") as path:
        return read_clicks(path)
