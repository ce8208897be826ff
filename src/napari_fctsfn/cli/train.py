"""The verb ``train``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import Device, check_output_folder, one_of
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
            help="Folder for checkpoint, log and model; a checkpoint in it is resumed.",
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option("--recipe", metavar="modern|paper", help="How: today's way, or as published."),
    ] = "modern",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model.")
    ] = "trained",
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="Seed of examples, clicks and weights.")
    ] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", help="Optimizer steps. [modern: 4000; paper: the stage's]"
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", metavar="N", help="Examples in a step. [modern: 8; paper: 1, msrn 3]"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="R", help="Learning rate. [modern: 0.001; paper: the stage's]"
        ),
    ] = None,
    backbone_rate: Annotated[
        float | None,
        typer.Option(
            "--backbone-rate", metavar="R", help="That of what begins pretrained. [modern: 0.0002]"
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="imagenet|random|MODEL|FILE",
            help="First weights: ImageNet's, none, a model's name or file, VGG16's or timm's file.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="bf16|fp32",
            help="Of the convolutions. [modern: bf16; paper: fp32]",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Threads that make examples ahead.")
    ] = 1,
    save_every: Annotated[
        int | None,
        typer.Option(
            "--save-every",
            metavar="N",
            help="Steps between checkpoints. [modern: 100; paper: 1000]",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="M",
            help="Stop after so long with a checkpoint; the same command goes on.",
        ),
    ] = None,
    mixture: Annotated[
        str | None,
        typer.Option("--mixture", metavar="NAME", help="Modern: default, photo or open data sets."),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share",
            metavar="SET=SHARE",
            help="Modern: share of a data set in the crops, instead of a mixture; once for each.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="N", help="Modern: rows and columns of a crop. [256]"),
    ] = None,
    states: Annotated[
        int | None,
        typer.Option("--states", metavar="N", help="Modern: rounds of clicks on a crop. [3]"),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="Paper: tslfn32, tslfn16, tslfn8 or msrn, in this order.",
        ),
    ] = None,
    set_name: Annotated[
        str | None,
        typer.Option("--set", metavar="SET", help="Paper: the data set. [voc_subset]"),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            metavar="NAME",
            help="Paper: ssfcn, tslfn-minus, layerwise or tslfn-1 to tslfn-5. [the published one]",
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="vgg16|lite", help="Paper. [vgg16]")
    ] = None,
    fusion_channels: Annotated[
        int | None,
        typer.Option(
            "--fusion-channels", metavar="N", help="Paper: of fc6 and fc7, or of lite's fusion net."
        ),
    ] = None,
    image_model: Annotated[
        str | None,
        typer.Option(
            "--image-model",
            metavar="NAME",
            help="Of the image stream, a feature pyramid by timm's name. [tf_efficientnet_lite0]",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer", metavar="sgd|adamw", help="Paper: as published, or for few steps. [sgd]"
        ),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="ROWSxCOLUMNS",
            help="Paper: size of the pictures, or native. [native, msrn 240x320]",
        ),
    ] = None,
    augment: Annotated[
        bool | None,
        typer.Option(
            "--augment/--no-augment", help="Paper: crop, rotate and translate. [msrn only]"
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            "--validate-every", metavar="N", help="Paper: steps between validations. [1000]"
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            help="Paper: stop after so many validations without improvement. [msrn 5, else never]",
        ),
    ] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option(
            "--tensorboard",
            help="Log for TensorBoard, too (extra tensorboard).",
            show_default=False,
        ),
    ] = None,
    _debug: Debug = False,
) -> None:
    """Train a model reproducibly: checkpoint, log, and a model file with its card."""
    one_of("--recipe", recipe, ["modern", "paper"])
    check_output_folder("--output", output)
    if Path(name).name != name:
        raise InputError(f"--name {name!r} is no name: it becomes the file NAME.safetensors")
    both: dict[str, Any] = {
        "data": data,
        "output": output,
        "seed": seed,
        "workers": workers,
        "steps": steps,
        "batch": batch,
        "rate": rate,
        "backbone_rate": backbone_rate,
        "start": start,
        "precision": precision and one_of("--precision", precision, ["bf16", "fp32"]),
        "save_every": save_every,
        "minutes": minutes,
        "tensorboard": tensorboard,
        "image_model": image_model,
    }
    modern = {"mixture": mixture, "share": share, "size": size, "states": states}
    paper = {
        "stage": stage,
        "set": set_name,
        "variant": variant,
        "backbone": backbone,
        "fusion_channels": fusion_channels,
        "optimizer": optimizer,
        "input": input_size,
        "augment": augment,
        "validate_every": validate_every,
        "patience": patience,
    }
    own, foreign = (modern, paper) if recipe == "modern" else (paper, modern)
    for option in _given(foreign):
        other = "paper" if recipe == "modern" else "modern"
        raise InputError(f"--{option.replace('_', '-')} is for --recipe {other}")
    path = _RECIPES[recipe](_given(both | own), device, name)
    if os.environ.get("RANK", "0") != "0":
        return
    if path is None:
        typer.echo(f"{minutes:g} minutes are over: the same command goes on from the checkpoint")
        return
    typer.echo(f"{path}: use it with --model {path}")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were named; the recipe has defaults for the others."""
    return {option: value for option, value in options.items() if value is not None}


def _modern(given: dict[str, Any], device: str, name: str) -> Path | None:
    """Train with the modern recipe."""
    from napari_fctsfn.train import LAPTOP, MIXTURES, TrainSettings, train_model

    chosen = MIXTURES[one_of("--mixture", given.pop("mixture", "default"), list(MIXTURES))]
    share = given.pop("share", None)
    given["mixture"] = chosen if share is None else _shares(share)
    image_model = given.pop("image_model", LAPTOP.image_model)
    given["network"] = replace(LAPTOP, image_model=image_model)
    try:
        settings = TrainSettings(**given, device=device)
    except ValueError as error:
        raise InputError(str(error)) from error
    return train_model(settings, name)


def _paper(given: dict[str, Any], device: str, name: str) -> Path | None:
    """Train a stage as published."""
    from napari_fctsfn.predict.engine import choose_device
    from napari_fctsfn.train import STAGES, PaperSettings, train_paper_model

    if "stage" not in given:
        raise InputError(f"--recipe paper needs --stage {' or '.join(STAGES)}")
    try:
        settings = PaperSettings.of(**given, device=str(choose_device(device)))
    except ValueError as error:
        raise InputError(str(error)) from error
    return train_paper_model(settings, name)


_RECIPES: dict[str, Callable[[dict[str, Any], str, str], Path | None]] = {
    "modern": _modern,
    "paper": _paper,
}


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
