"""The verb ``batch``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from napari_fctsfn.batch import Plan


def batch(
    job: Annotated[
        Path | None, typer.Argument(metavar="JOB.yaml", help="What is to be done.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Processes on this machine.")
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="A Dask scheduler, such as tcp://host:8786, whose workers do it.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are not of this job.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a job file.")
    ] = False,
    _debug: Debug = False,
) -> None:
    """Segment all images of a job; run again, it goes on where it was stopped."""
    from tqdm import tqdm

    from napari_fctsfn import batch as room

    if schema:
        typer.echo(json.dumps(room.schema(), indent=2))
        return
    if job is None:
        raise InputError("there is no job: give JOB.yaml, or --schema to see what it may say")
    if workers < 1:
        raise InputError(f"--workers {workers}: give 1 or more")
    planned = room.plan(room.read_job(job), job.resolve().parent, overwrite)
    if planned.warning:
        typer.echo(planned.warning, err=True)
    if dry_run:
        _foretell(planned)
        return
    began = time.perf_counter()
    entries = []
    runs = room.execute(planned, workers, scheduler, advance=lambda n: bar.update(n))  # noqa: PLW0108
    with tqdm(
        total=len(planned.tasks), initial=len(planned.kept), unit="image", unit_scale=True
    ) as bar:
        for entry in runs:
            entries.append(entry)
            if entry.error:
                named = entry.image in entry.error
                bar.write(entry.error if named else f"{entry.image}: {entry.error}")
    summary = room.finish(planned, entries, time.perf_counter() - began)
    typer.echo(
        f"{planned.folder}: {summary.done} done, {summary.skipped} done before, "
        f"{summary.failed} failed"
    )
    if summary.failed:
        raise typer.Exit(3)


def _foretell(planned: Plan) -> None:
    """Say of every image what would become of it."""
    from napari_fctsfn.batch import lacking

    wanting = 0
    for task in planned.tasks:
        state = "done before"
        if task.image not in planned.kept:
            wrong = lacking(task)
            wanting += bool(wrong)
            state = f"cannot be done: {wrong}" if wrong else "to do"
        typer.echo(f"{task.image}: {state}")
    to_do = len(planned.pending) - wanting
    typer.echo(f"{to_do} of {len(planned.tasks)} images to do, {wanting} cannot be done")
    if wanting:
        raise typer.Exit(3)
