"""The verb ``segment``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, Model, check_output_images, load_predictor
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from napari_fctsfn.clicks import Click

_KINDS = {"--positive": True, "--negative": False}
_ORDER = "napari_fctsfn.click_kinds"


class Segment(TyperCommand):
    """Remembers in which order clicks of both kinds were given; masks depend on it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, after a look at the options of clicks."""
        options = (text.partition("=")[0] for text in args)
        ctx.meta[_ORDER] = [_KINDS[option] for option in options if option in _KINDS]
        return super().parse_args(ctx, args)


def segment(
    context: typer.Context,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Picture or stack: TIFF, PNG, JPEG, ...")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="MASK.tif", help="Mask, 0 and 1, shaped like the image."),
    ],
    positive: Annotated[
        list[str] | None,
        typer.Option("--positive", metavar="R,C", help="A click on the object; repeatable."),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", metavar="R,C", help="A click on the background; repeatable."),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option("--clicks", metavar="FILE", help="Clicks from a .json or .csv click file."),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            metavar="N",
            help="Slice of a stack; N,M of one with two leading axes; repeatable.",
        ),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    probability: Annotated[
        Path | None,
        typer.Option("--probability", metavar="P.tif", help="Foreground probability, 0 to 1."),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Segment an object of an image from clicks."""
    from napari_fctsfn.batch import work as stacks
    from napari_fctsfn.predict.images import read_image, write_tiff

    outputs = {"--output": output, "--probability": probability}
    check_output_images(outputs, {"the image": image, "--clicks": clicks}, outputs)
    typed = _typed(context.meta[_ORDER], positive or [], negative or [])
    from_file = [] if clicks is None else stacks.read_placed(clicks)
    chosen = [_indices(text) for text in slices or []]
    pixels = read_image(image)
    work = stacks.arrange(pixels, [*from_file, *map(stacks.Placed, typed)], chosen)
    predictor = load_predictor(model, device)
    found = stacks.replay(predictor, pixels, work, keep_probability=probability is not None)
    labels = found.labels
    write_tiff(output, labels)
    if probability is not None and found.probability is not None:
        write_tiff(probability, found.probability)
    count = int((labels > 0).sum())
    if not any(click.positive for planes in work.values() for c in planes.values() for click in c):
        typer.echo(
            "Warning: all clicks are on the background, so that the mask says little: give a "
            "--positive one",
            err=True,
        )
    seen = [value for planes in found.certainty.values() for value in planes.values()]
    sure = f", IoU about {min(seen):.2f}" if predictor.card.knows_quality else ""
    worst = " at worst" if sure and len(seen) > 1 else ""
    typer.echo(f"{output}: {count} of {labels.size} pixels{sure}{worst}, on {predictor.device}")


def _typed(order: list[bool], positive: list[str], negative: list[str]) -> list[Click]:
    """The clicks of the command line, in its order."""
    if (order.count(True), order.count(False)) != (len(positive), len(negative)):
        order = [True] * len(positive) + [False] * len(negative)
    texts = {True: iter(positive), False: iter(negative)}
    return [_click(next(texts[kind]), kind) for kind in order]


def _click(text: str, positive: bool) -> Click:
    from napari_fctsfn.clicks import Click

    option = "--positive" if positive else "--negative"
    try:
        row, column = map(float, text.split(","))
    except ValueError:
        row = column = math.nan
    if not (math.isfinite(row) and math.isfinite(column)):
        raise InputError(f"{option} {text!r} is no click: give ROW,COLUMN, such as 120,84")
    return Click(row, column, positive)


def _indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--slice {text!r} is no slice: give its number, such as 7, counted from 0"
        ) from None
