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
        typer.Option(
            "--recipe",
            metavar="modern|polish|paper",
            help="How: today's way; then on what the predictor looks at; or as published.",
        ),
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
            "--steps",
            metavar="N",
            help="Optimizer steps. [modern: 4000; polish: 2000; paper: the stage's]",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", metavar="N", help="Examples in a step. [modern, polish: 8; paper: 1, msrn 3]"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="R",
            help="Learning rate. [modern: 0.001; polish: 0.0003; paper: the stage's]",
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
            help="First weights: ImageNet's, none, a model's name or file, VGG16's or timm's file; "
            "of polish a model. [modern: imagenet; polish: default]",
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
            help="Steps between checkpoints. [modern, polish: 100; paper: 1000]",
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
        typer.Option(
            "--mixture",
            metavar="NAME",
            help="Modern and polish: default, photo or open data sets.",
        ),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            "--share",
            metavar="SET=SHARE",
            help="Modern and polish: share of a data set, instead of a mixture; once for each.",
            show_default=False,
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            metavar="PARTS",
            help="Polish, what learns: refiner, fusion, interaction, adapters or all, each with "
            "those before it. [interaction]",
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
    one_of("--recipe", recipe, list(_RECIPES))
    check_output_folder("--output", output)
    if Path(name).name != name:
        raise InputError(f"--name {name!r} is no name: it becomes the file NAME.safetensors")
    given = _given(
        {
            "data": data,
            "output": output,
            "seed": seed,
            "workers": workers,
            "steps": steps,
            "batch": batch,
            "rate": rate,
            "start": start,
            "save_every": save_every,
            "minutes": minutes,
            "tensorboard": tensorboard,
            "backbone_rate": backbone_rate,
            "precision": precision and one_of("--precision", precision, ["bf16", "fp32"]),
            "image_model": image_model,
            "mixture": mixture,
            "share": share,
            "parts": parts,
            "size": size,
            "states": states,
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
    )
    for option in given:
        recipes = [each for each, own in _OWN.items() if option in own]
        if recipes and recipe not in recipes:
            raise InputError(f"--{option.replace('_', '-')} is for --recipe {' or '.join(recipes)}")
    path = _RECIPES[recipe](given, device, name)
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
    from napari_fctsfn.train import LAPTOP, TrainSettings, train_model

    given["mixture"] = _mixture(given)
    image_model = given.pop("image_model", LAPTOP.image_model)
    given["network"] = replace(LAPTOP, image_model=image_model)
    try:
        settings = TrainSettings(**given, device=device)
    except ValueError as error:
        raise InputError(str(error)) from error
    return train_model(settings, name)


def _polish(given: dict[str, Any], device: str, name: str) -> Path | None:
    """Let a model learn on from what the predictor looks at."""
    from napari_fctsfn.train import PolishSettings, polish_model

    given["mixture"] = _mixture(given)
    try:
        settings = PolishSettings(**given, device=device)
    except ValueError as error:
        raise InputError(str(error)) from error
    return polish_model(settings, name)


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
    "polish": _polish,
    "paper": _paper,
}

_OWN = {
    "modern": {
        "mixture",
        "share",
        "size",
        "states",
        "backbone_rate",
        "precision",
        "image_model",
    },
    "polish": {"mixture", "share", "parts"},
    "paper": {
        "stage",
        "set",
        "variant",
        "backbone",
        "fusion_channels",
        "optimizer",
        "input",
        "augment",
        "validate_every",
        "patience",
        "backbone_rate",
        "precision",
        "image_model",
    },
}
"""Options that not every recipe has."""


def _mixture(given: dict[str, Any]) -> dict[str, float]:
    """Take ``mixture`` and ``share`` out of what is given: share of each data set."""
    from napari_fctsfn.train import MIXTURES

    chosen = MIXTURES[one_of("--mixture", given.pop("mixture", "default"), list(MIXTURES))]
    share = given.pop("share", None)
    return dict(chosen) if share is None else _shares(share)


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
