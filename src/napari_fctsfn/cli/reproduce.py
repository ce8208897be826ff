"""The verb ``reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, check_output_folder
from napari_fctsfn.errors import InputError


def reproduce(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="ROOT", help="Folder of the paper's data sets."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="DIR", help="Folder for report and runs; it is made."),
    ],
    tables: Annotated[
        list[int] | None,
        typer.Option("--table", metavar="N", help="Table 1 to 8; repeat it.", show_default=False),
    ] = None,
    figures: Annotated[
        list[int] | None,
        typer.Option("--figure", metavar="N", help="Figure 3 to 8; repeat it.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tables and figures.")] = False,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            metavar="DIR",
            help="Model files of the paper's networks, several trainings of one allowed.",
            show_default=False,
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="NAME",
            help="A model to stand beside the paper's, such as default; repeat it.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="At most N objects of each data set."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Seed of their choice.")] = 0,
    max_clicks: Annotated[
        int, typer.Option("--max-clicks", metavar="N", help="Clicks on every object.")
    ] = 20,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Processes, each with one thread.")
    ] = 1,
    device: Device = "auto",
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="M",
            help="Begin no further object after so long; 0: only report what is there.",
            show_default=False,
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Make the paper's tables and figures from what data and models there are.

    Evaluations that are missing are run; the same command goes on where it was.
    """
    asked = [f"table-{number}" for number in tables or []]
    asked += [f"figure-{number}" for number in figures or []]
    for option, value, most in (
        ("--max-clicks", max_clicks, 1000),
        ("--limit", limit, None),
        ("--workers", workers, 256),
    ):
        if value is not None and (value < 1 or (most is not None and value > most)):
            upto = f"to {most}" if most else "up"
            raise InputError(f"{option} {value}: give a number from 1 {upto}")
    if seed < 0:
        raise InputError(f"--seed {seed}: give a number from 0 up")
    if minutes is not None and not minutes >= 0:
        raise InputError(f"--minutes {minutes}: give a number from 0 up")
    if everything == bool(asked):
        raise InputError("say what to make: --table N, --figure N, or --all")
    check_output_folder("--output", output)
    from napari_fctsfn.reproduce import ITEMS, Plan
    from napari_fctsfn.reproduce import reproduce as make

    for name in asked:
        if name not in ITEMS:
            kind, _, number = name.partition("-")
            there = "tables 1 to 8" if kind == "table" else "figures 3 to 8"
            raise InputError(f"--{kind} {number}: there are {there} to make")
    plan = Plan(
        data,
        output,
        tuple(name for name in ITEMS if everything or name in asked),
        models,
        tuple(also or ()),
        limit,
        seed,
        max_clicks,
        workers,
        device,
        minutes,
    )
    typer.echo(f"see {make(plan, typer.echo)}")
