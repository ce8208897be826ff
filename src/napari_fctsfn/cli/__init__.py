"""The command line, ``napari-fctsfn``: one function for each verb, one file for each function.

Nothing heavy is imported before a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from napari_fctsfn.cli import (
    batch,
    benchmark,
    demo,
    evaluate,
    export,
    finetune,
    models,
    propagate,
    reproduce,
    segment,
    train,
)
from napari_fctsfn.cli.errors import Commands, Debug

app = typer.Typer(
    cls=Commands,
    name="napari-fctsfn",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from napari_fctsfn import __version__

        typer.echo(f"napari-fctsfn {__version__}")
        raise typer.Exit


@app.callback()
def napari_fctsfn(
    _debug: Debug = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Say the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Click on a thing in a picture and get its mask."""


app.command(cls=segment.Segment)(segment.segment)
app.command()(demo.demo)
app.command(cls=propagate.Propagate)(propagate.propagate)
app.command()(batch.batch)
app.command()(export.export)
app.command()(train.train)
app.command()(finetune.finetune)
app.command()(evaluate.evaluate)
app.command()(reproduce.reproduce)
app.command()(benchmark.benchmark)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line."""
    app(prog_name="napari-fctsfn")
