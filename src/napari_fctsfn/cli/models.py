"""The verbs of ``models``: what there is, and what is done to it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from napari_fctsfn.cli.errors import Debug

app = typer.Typer(rich_markup_mode=None, help="The models there are, and what they are.")


@app.command("list")
def list_(_debug: Debug = False) -> None:
    """List the models by name, with the licences of their weights; * is the chosen one."""
    from napari_fctsfn.models import ModelError, chosen_model, list_models, read_card

    chosen = chosen_model()
    entries = list_models()
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        try:
            licence = f"weights: {read_card(entry.path).weights_licence}"
        except ModelError as error:
            licence = str(error)
        mark, note = ("*", ", used unless another is named") if entry.name == chosen else (" ", "")
        origin = "bundled" if entry.bundled else "yours  "
        typer.echo(f"{mark} {entry.name:{width}}  {origin}  {licence}{note}")


@app.command()
def info(
    model: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a model, or path of a model file.")
    ],
    _debug: Debug = False,
) -> None:
    """Show the card of a model: what it is, learned from, and may be used for."""
    from napari_fctsfn.models import read_card, resolve_model

    path = resolve_model(model)
    card = read_card(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    lines = {
        "name": card.name,
        "description": card.description,
        "weights licence": card.weights_licence,
        "version": card.version,
        "file": str(path),
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "sha256": sha256,
        "parent": card.parent or "",
        "input": f"{card.input}, longest side {card.input_size} pixels",
    }
    for name, value in lines.items():
        if value:
            typer.echo(f"{name}: {value}")
    _section(
        "training data",
        [f"{item.name}: {item.images} pictures, {item.licence}" for item in card.training_data],
    )
    measures: dict[str, list[str]] = {}
    for key, number in card.metrics.items():
        group, _, measure = key.rpartition("/")
        measures.setdefault(group, []).append(f"{measure} {number:g}")
    _section(
        "metrics (noc85: clicks to an IoU of 0.85, miou3: mean IoU after 3 clicks)",
        [
            f"{group}: {', '.join(each)}" if group else ", ".join(each)
            for group, each in measures.items()
        ],
    )
    for title, values in (("architecture", card.architecture), ("training", card.training)):
        _section(title, [f"{name}: {value}" for name, value in values.items()])


_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of one of your models.")]


@app.command()
def rename(
    name: _Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    _debug: Debug = False,
) -> None:
    """Give one of your models another name."""
    from napari_fctsfn.models import rename_model

    typer.echo(f"{name} is {rename_model(name, new).name} now")


@app.command()
def delete(name: _Name, _debug: Debug = False) -> None:
    """Delete one of your models; restore brings it back."""
    from napari_fctsfn.models import delete_model

    delete_model(name)
    typer.echo(f"{name} is deleted; napari-fctsfn models restore {name} brings it back")


@app.command()
def restore(name: _Name, _debug: Debug = False) -> None:
    """Bring back a model that was deleted."""
    from napari_fctsfn.models import restore_model

    typer.echo(f"{restore_model(name).name} is back")


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model.")],
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="New file: .safetensors for another machine, .zip for the BioImage Model Zoo.",
        ),
    ],
    _debug: Debug = False,
) -> None:
    """Write a model with its card into one file, for another machine or the BioImage Model Zoo."""
    from napari_fctsfn.models import export_model

    export_model(name, path)
    if path.suffix == ".zip":
        typer.echo(f"{path}: bioimageio test {path.name} tries it, as the model zoo does")
    else:
        typer.echo(f"{path}: napari-fctsfn models import {path.name} registers it elsewhere")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A model file.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the model; by default that on its card.")
    ] = None,
    _debug: Debug = False,
) -> None:
    """Register a model file, after it was checked."""
    from napari_fctsfn.models import import_model

    entry = import_model(path, name)
    typer.echo(f"{entry.name} is registered: use it with --model {entry.name}")


@app.command("import-caffe")
def import_caffe(
    deploy: Annotated[
        Path, typer.Argument(metavar="DEPLOY.prototxt", help="The authors' network.")
    ],
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS.caffemodel", help="Their weights of it.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model; by default the network's own: fctsfn.")
    ] = None,
    _debug: Debug = False,
) -> None:
    """Make a model of the authors' published Caffe files; needs protobuf, but no Caffe."""
    from napari_fctsfn.models import import_caffe as import_files

    entry = import_files(deploy, weights, name)
    typer.echo(f"{entry.name} is registered: {entry.path}")


@app.command()
def counts(_debug: Debug = False) -> None:
    """Count parameters and operations of the paper's networks: a Markdown table."""
    from napari_fctsfn.reproduce import counts_table

    typer.echo(counts_table(), nl=False)


def _section(title: str, lines: list[str]) -> None:
    if lines:
        typer.echo("\n  ".join([f"{title}:", *lines]))
