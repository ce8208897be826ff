"""The verb ``finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, one_of
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from napari_fctsfn.train.finetune import FineTuned, Picture, Progress

NOT_BETTER = 3
"""Exit status where the model is no better than its base, so that it is not registered."""


def finetune(
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the new model in the registry.")
    ],
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset",
            metavar="DIR",
            help="Folder with images/, labels/ and dataset.json; needs --list.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Corrected pictures of the data set: lines STEM or STEM ID.",
            show_default=False,
        ),
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option(
            "--session",
            metavar="DIR",
            help="Folder of a session of the dock; --images FILE if its image has moved.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="GLOB",
            help="Pictures or stacks, such as 'raw/*.tif'; needs --labels.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="GLOB",
            help="Their label images, such as cell1_mask.tif for cell1.tif.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="Name or file of the model to teach.")
    ] = "default",
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", help="Time for learning and measuring.")
    ] = 3.0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Register even if not better; replace a model of that name."),
    ] = False,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            metavar="PARTS",
            help="What learns: refiner, fusion, interaction, adapters or all, each with those "
            "before it; the last two are for a GPU. By default interaction, and on a GPU the "
            "others too where that gets no better.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="Seed of split, clicks and order.")
    ] = 0,
    device: Device = "auto",
    _debug: Debug = False,
) -> None:
    """Teach a model your corrections: minutes on a CPU, measured on objects held out.

    The new model is registered before the command ends. Without --force a model that is no better
    on held-out objects is not: exit status 3, and the base stays.
    """
    from napari_fctsfn.models import check_new_name, load_model, resolve_model
    from napari_fctsfn.train.finetune import (
        PARTS,
        FineTuneSettings,
        check_room,
        fine_tune,
        register,
    )

    learning = None if parts is None else one_of("--parts", parts, PARTS)
    settings = FineTuneSettings(minutes=minutes, parts=learning, seed=seed, device=device)
    check_new_name(name, replace=force)
    path = resolve_model(base)
    model = load_model(path)
    check_room(path)
    pictures = _pictures(dataset, listed, session, images, labels)
    with _Bar() as bar:
        tuned = fine_tune(model, pictures, settings, bar)
    for note in tuned.notes:
        typer.echo(f"Note: {note}.")
    _tell(tuned)
    if not (tuned.improved or force):
        typer.echo(
            f"No improvement on held-out objects: {model.card.name} stays as it is and nothing is "
            f"registered; correct more objects, or give --force",
            err=True,
        )
        raise typer.Exit(NOT_BETTER)
    entry = register(tuned, name, force=force)
    typer.echo(f"{entry.name} is registered: use it with --model {entry.name}")


def _pictures(
    dataset: Path | None,
    listed: Path | None,
    session: Path | None,
    images: str | None,
    labels: str | None,
) -> list[Picture]:
    from napari_fctsfn.train.finetune import (
        pictures_of_dataset,
        pictures_of_files,
        pictures_of_session,
    )

    given = {
        "dataset": dataset is not None or listed is not None,
        "session": session is not None,
        "files": labels is not None or (images is not None and session is None),
    }
    if sum(given.values()) != 1:
        raise InputError(
            "name one source of corrections: --dataset DIR --list FILE, --session DIR, or "
            "--images GLOB --labels GLOB"
        )
    if session is not None:
        return pictures_of_session(session, images)
    if given["files"]:
        if images is None or labels is None:
            raise InputError("--images GLOB and --labels GLOB belong together: give both")
        return pictures_of_files(images, labels)
    if dataset is None or listed is None:
        raise InputError("--dataset DIR and --list FILE belong together: give both")
    return pictures_of_dataset(dataset, listed)


class _Bar:
    """Progress on the error stream."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=1.0, bar_format="{percentage:3.0f}%|{bar}| {desc}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # what is written next begins a line
        self._bar.close()

    def __call__(self, progress: Progress) -> None:
        self._bar.n = progress.done
        loss = "" if progress.loss is None else f", loss {progress.loss:.2f}"
        left = f"{progress.seconds_left:.0f} s left"
        self._bar.set_description_str(f"{progress.stage}, {left}{loss}")


def _tell(tuned: FineTuned) -> None:
    rows = [
        ("held out", tuned.before, tuned.after),
        ("photographs and others", tuned.generic_before, tuned.generic_after),
    ]
    for what, before, after in rows:
        if before is not None and after is not None:
            typer.echo(
                f"{what} ({after.objects} objects): clicks to 85 % {before.noc85:.2f} -> "
                f"{after.noc85:.2f}, IoU after one click {before.iou1:.3f} -> {after.iou1:.3f}"
            )
