"""The verbs ``models list`` and ``models info``."""

from __future__ import annotations

import hashlib
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
        mark = "*" if entry.name == chosen else " "
        origin = "bundled" if entry.bundled else "yours  "
        typer.echo(f"{mark} {entry.name:{width}}  {origin}  {licence}")


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
    for title, values in (
        ("architecture", card.architecture),
        ("metrics", card.metrics),
        ("training", card.training),
    ):
        _section(title, [f"{name}: {value}" for name, value in values.items()])
    _section(
        "training data",
        [f"{item.name}: {item.images} pictures, {item.licence}" for item in card.training_data],
    )


def _section(title: str, lines: list[str]) -> None:
    if lines:
        typer.echo("\n  ".join([f"{title}:", *lines]))
