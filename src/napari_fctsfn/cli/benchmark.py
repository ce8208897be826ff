"""The verb ``benchmark``."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, Model, check_output_file, model_name
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from napari_fctsfn.benchmark import Task, Timing

_FORMATS = (".png", ".svg", ".pdf")
_PEER_CLICKS = 3


def benchmark(
    sizes: Annotated[
        str,
        typer.Option("--sizes", metavar="N,N,...", help="Rows and columns of the images."),
    ] = "256,512,1024,2048,4096,8192",
    model: Model = None,
    device: Device = "auto",
    peers: Annotated[
        bool, typer.Option("--peers", help="Also time other tools that are installed.")
    ] = False,
    sessions: Annotated[
        int, typer.Option("--sessions", metavar="N", help="Sessions of two objects, timed.")
    ] = 5,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="Threads of torch.")
    ] = None,
    to_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to a file.")
    ] = None,
    to_plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw them (png, svg, pdf).")
    ] = None,
    _debug: Debug = False,
) -> None:
    """Measure how long image, first mask and clicks take on this machine."""
    from tqdm import tqdm

    from napari_fctsfn.benchmark import measure

    chosen = _sizes(sizes)
    for option, number in (("--sessions", sessions), ("--threads", threads)):
        if number is not None and number < 1:
            raise InputError(f"{option} {number}: give a number from 1 up")
    _check_outputs(to_json, to_plot)
    tasks = _tasks(chosen, model_name(model), device, peers, sessions, threads)
    timings = []
    with tqdm(total=len(tasks), unit="size") as bar:
        for timing in measure(tasks):
            timings.append(timing)
            bar.write(_line(timing))
            bar.update()
    if to_json is not None:
        from napari_fctsfn._files import replace_file

        text = json.dumps({"results": [asdict(timing) for timing in timings]}, indent=1)
        with replace_file(to_json) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if to_plot is not None:
        from napari_fctsfn.benchmark import plot

        plot(timings, to_plot)


def _tasks(
    sizes: list[int], model: str, device: str, peers: bool, sessions: int, threads: int | None
) -> list[Task]:
    """What is to be measured: the model, then the peers, which are given fewer clicks."""
    from napari_fctsfn.benchmark import PEERS, Task, installed
    from napari_fctsfn.models import resolve_model
    from napari_fctsfn.predict.engine import choose_device

    choose_device(device)
    resolve_model(model)
    tasks = [Task(size, model, False, device, sessions, threads=threads) for size in sizes]
    for peer in installed() if peers else []:
        tasks += [
            Task(size, peer, True, device, 1, _PEER_CLICKS, threads)
            for size in sizes
            if size <= PEERS[peer][1]
        ]
    return tasks


def _line(timing: Timing) -> str:
    """A line for a person."""
    memory = "" if timing.peak_mb is None else f", {timing.peak_mb:.0f} MB at most"
    return (
        f"{timing.model}, {timing.size} px, {timing.device}: image {timing.image_ms:.0f} ms, "
        f"first mask {timing.first_mask_ms:.0f} ms, click {timing.click_ms:.0f} ms "
        f"(95 % of the clicks: up to {timing.click_p95_ms:.0f} ms){memory}"
    )


def _check_outputs(to_json: Path | None, to_plot: Path | None) -> None:
    if to_json is not None:
        check_output_file("--json", to_json)
    if to_plot is not None:
        check_output_file("--plot", to_plot)
        if to_plot.suffix.lower() not in _FORMATS:
            raise InputError(f"--plot {to_plot}: give a name ending in {', '.join(_FORMATS)}")
        if find_spec("matplotlib") is None:
            raise InputError("--plot needs matplotlib: pip install 'napari-fctsfn[plot]'")


def _sizes(text: str) -> list[int]:
    """Sizes from ``N,N,...``."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 16 or max(sizes) > 32768:
        raise InputError(f"--sizes {text}: give numbers from 16 to 32768, such as 256,512")
    return sizes
