"""The verb ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import check_output_folder, one_of
from napari_fctsfn.errors import InputError


def train(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Folder of the data sets, one in each.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Existing folder for checkpoint, log and model; a checkpoint in it is resumed.",
        ),
    ],
    recipe: Annotated[str, typer.Option("--recipe", metavar="modern", help="How.")] = "modern",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model.")
    ] = "trained",
    mixture: Annotated[
        str, typer.Option("--mixture", metavar="NAME", help="Data sets: default, photo or open.")
    ] = "default",
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share",
            metavar="SET=SHARE",
            help="Share of a data set in the crops, instead of a mixture; once for each.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Optimizer steps.")] = 4000,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="Seed of crops, clicks and weights.")
    ] = 0,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Crops in a step.")] = 8,
    size: Annotated[
        int, typer.Option("--size", metavar="N", help="Rows and columns of a crop.")
    ] = 256,
    states: Annotated[
        int, typer.Option("--states", metavar="N", help="Rounds of clicks on a crop.")
    ] = 4,
    rate: Annotated[float, typer.Option("--rate", metavar="R", help="Learning rate.")] = 1e-3,
    backbone_rate: Annotated[
        float, typer.Option("--backbone-rate", metavar="R", help="That of the image stream.")
    ] = 2e-4,
    start: Annotated[
        str,
        typer.Option(
            "--start",
            metavar="imagenet|random|MODEL",
            help="First weights: of that stream, or a model's name or file for all of them.",
        ),
    ] = "imagenet",
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "cpu",
    precision: Annotated[
        str, typer.Option("--precision", metavar="bf16|fp32", help="Of the convolutions.")
    ] = "bf16",
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Threads that make crops ahead.")
    ] = 1,
    save_every: Annotated[
        int, typer.Option("--save-every", metavar="N", help="Steps between checkpoints.")
    ] = 100,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="M",
            help="Stop after so long with a checkpoint; the same command goes on.",
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Train a model reproducibly: checkpoint, log, and a model file with its card."""
    from napari_fctsfn.predict.engine import choose_device
    from napari_fctsfn.train import MIXTURES, TrainSettings, train_model

    one_of("--recipe", recipe, ["modern"])
    check_output_folder("--output", output, exists=True)
    if Path(name).name != name:
        raise InputError(f"--name {name!r} is no name: it becomes the file NAME.safetensors")
    chosen = MIXTURES[one_of("--mixture", mixture, list(MIXTURES))]
    settings: dict[str, Any] = {"mixture": chosen if share is None else _shares(share)}
    try:
        settings |= {
            "data": data,
            "output": output,
            "steps": steps,
            "batch": batch,
            "size": size,
            "states": states,
            "seed": seed,
            "rate": rate,
            "backbone_rate": backbone_rate,
            "start": start,
            "device": str(choose_device(device)),
            "precision": one_of("--precision", precision, ["bf16", "fp32"]),
            "workers": workers,
            "save_every": save_every,
            "minutes": minutes,
        }
        checked = TrainSettings(**settings)
    except ValueError as error:
        raise InputError(str(error)) from error
    path = train_model(checked, name)
    if path is None:
        typer.echo(f"{minutes:g} minutes are over: the same command goes on from the checkpoint")
        return
    typer.echo(f"{path}: use it with --model {path}")


def _shares(given: list[str]) -> dict[str, float]:
    """Shares by data set, from ``SET=SHARE``."""
    shares: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--share {text} is not SET=SHARE, such as voc_subset=0.4")
    return shares
