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
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share",
            metavar="SET=SHARE",
            help="Share of a data set in the crops; once for each. [default: the default model's]",
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
        typer.Option("--start", metavar="imagenet|random", help="First weights of that stream."),
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
    _debug: Debug = False,
) -> None:
    """Train a model reproducibly: checkpoint, log, and a model file with its card."""
    from napari_fctsfn.predict.engine import choose_device
    from napari_fctsfn.train import TrainSettings, train_model

    one_of("--recipe", recipe, ["modern"])
    check_output_folder("--output", output, exists=True)
    if Path(name).name != name:
        raise InputError(f"--name {name!r} is no name: it becomes the file NAME.safetensors")
    settings: dict[str, Any] = {} if share is None else {"mixture": _shares(share)}
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
            "start": one_of("--start", start, ["imagenet", "random"]),
            "device": str(choose_device(device)),
            "precision": one_of("--precision", precision, ["bf16", "fp32"]),
            "workers": workers,
            "save_every": save_every,
        }
        checked = TrainSettings(**settings)
    except ValueError as error:
        raise InputError(str(error)) from error
    path = train_model(checked, name)
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
