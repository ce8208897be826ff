"""The verb ``propagate``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, Model, check_output_images, load_predictor, one_of
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_fctsfn.predict import Predictor
    from napari_fctsfn.stack import Stack


class Propagate(TyperCommand):
    """Takes several numbers after ``--slices``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, after the numbers have been joined by commas."""
        joined: list[str] = []
        for text in args:
            if joined[-2:-1] == ["--slices"] and text.replace(",", "").isdigit():
                joined[-1] += f",{text}"
            else:
                joined.append(text)
        return super().parse_args(ctx, joined)


def propagate(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="Stack: TIFF of three axes.")],
    labels: Annotated[
        Path,
        typer.Option("--labels", metavar="ANNOTATED.tif", help="Labels, shaped like the stack."),
    ],
    slices: Annotated[
        list[str],
        typer.Option(
            "--slices", metavar="Z...", help="Annotated slices, such as 4 9 20 or 4,9,20."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="LABELS.tif", help="Labels with the further slices."),
    ],
    objects: Annotated[
        list[int] | None,
        typer.Option("--object", metavar="ID", help="Only this object; repeatable. [default: all]"),
    ] = None,
    axis: Annotated[
        int, typer.Option("--axis", metavar="N", help="The axis along which the slices lie.")
    ] = 0,
    direction: Annotated[
        str,
        typer.Option(
            "--direction",
            metavar="up|down|both|between",
            help="To higher slices, to lower ones, both, or only between annotated ones.",
        ),
    ] = "both",
    model: Model = None,
    device: Device = "auto",
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="R.json", help="What was accepted, where it stopped."),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Follow annotated objects through the slices of a stack, as far as the model is sure."""
    import numpy as np
    from tqdm import tqdm

    from napari_fctsfn import stack as room
    from napari_fctsfn._files import replace_file
    from napari_fctsfn.predict.images import read_image, write_tiff

    outputs = {"--output": output, "--report": report}
    check_output_images(outputs, {"the stack": stack, "--labels": labels}, ["--output"])
    way = one_of("--direction", direction, get_args(room.Direction))
    pixels, given = read_image(stack), read_image(labels)
    volume = _volume(pixels, given, axis, stack, labels)
    found = np.ascontiguousarray(np.moveaxis(given, axis, 0))
    known = room.annotated(found, _numbers(slices), objects)
    for label in known if objects is None else objects:
        for index in range(len(found)):
            if index not in known[label]:
                found[index][found[index] == label] = 0
    runs = room.propagate(_stack(load_predictor(model, device), volume, pixels), found, known, way)
    outcomes = {}
    began = time.perf_counter()
    with tqdm(total=room.count(known, len(found), way), unit="slice") as bar:
        for outcome, step in runs:
            outcomes[outcome.label] = outcome
            bar.update()
            bar.set_postfix(object=outcome.label, slice=step.index)
    summary = room.report(outcomes.values(), time.perf_counter() - began)
    write_tiff(output, np.moveaxis(found, 0, axis))
    if report is not None:
        with replace_file(report) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    stops = [
        f"object {outcome.label} at slice {index} ({reason})"
        for outcome in outcomes.values()
        for index, reason in zip(outcome.stopped_at, outcome.reasons, strict=True)
    ]
    typer.echo(
        f"{output}: {summary['accepted']} slices accepted, "
        f"{summary['slices_per_second']:.1f} a second"
        + (f"; stopped: {', '.join(stops)}" if stops else "")
    )


def _numbers(texts: list[str]) -> list[int]:
    try:
        return [int(part) for text in texts for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"--slices {' '.join(texts)} names no slices: give numbers, such as 4,9, from 0 on"
        ) from None


def _volume(
    pixels: NDArray[Any], labels: NDArray[Any], axis: int, stack: Path, path: Path
) -> NDArray[Any]:
    """The stack with its slices first, if stack, labels and axis fit."""
    import numpy as np

    from napari_fctsfn.predict.images import is_rgb

    colours = is_rgb(pixels) and pixels.ndim == 4
    if pixels.ndim - colours != 3:
        raise InputError(f"{stack} has shape {pixels.shape}: a stack has (slices, rows, columns)")
    if labels.shape != pixels.shape[:3] or labels.dtype.kind not in "iu":
        raise InputError(
            f"{path} has shape {labels.shape} and type {labels.dtype}, {stack} has shape "
            f"{pixels.shape}: give labels of the stack's shape, whole numbers"
        )
    if not 0 <= axis <= 2:
        raise InputError(f"--axis {axis}: give 0, 1 or 2")
    return np.moveaxis(pixels, axis, 0)


def _stack(predictor: Predictor, volume: NDArray[np.generic], pixels: NDArray[Any]) -> Stack:
    from napari_fctsfn.predict import Normalisation
    from napari_fctsfn.stack import Stack

    rgb = volume.ndim == 4
    normalisation = Normalisation.for_rgb(pixels.dtype) if rgb else Normalisation.from_array(pixels)
    return Stack(predictor, volume.__getitem__, normalisation, lambda index: ("stack", index))
