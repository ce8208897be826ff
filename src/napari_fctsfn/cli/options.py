"""Options that several verbs have, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from napari_fctsfn.predict import Predictor

Choice = TypeVar("Choice", bound=str)

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Name of a model, or path of a model file. [default: the model you have chosen]",
        show_default=False,
    ),
]

Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]


def model_name(model: str | None) -> str:
    """The model named, or else the one that the user has chosen."""
    from napari_fctsfn.models import chosen_model

    return chosen_model() if model is None else model


def load_predictor(model: str | None, device: str) -> Predictor:
    """The predictor for what was asked for.

    Raises
    ------
    InputError
        If there is no such model or device, or the model file is damaged.
    """
    from napari_fctsfn.predict import Predictor

    return Predictor.from_pretrained(model_name(model), device)


def one_of(option: str, value: str, choices: Sequence[Choice]) -> Choice:
    """The choice that is `value`.

    Raises
    ------
    InputError
        If there is none.
    """
    for choice in choices:
        if choice == value:
            return choice
    raise InputError(f"{option} {value} is unknown; choose {' or '.join(choices)}")


def check_output_file(option: str, path: Path) -> None:
    """Refuse to compute for a file that cannot be written afterwards.

    Raises
    ------
    InputError
        If `path` is a folder, or its folder is missing or cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}; make it first")
    _check_writable(option, path, path.parent)


def check_output_images(
    outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None], images: Collection[str]
) -> None:
    """Refuse to compute for files that would be written over inputs, or over each other.

    Parameters
    ----------
    outputs, inputs : mapping of str to Path or None
        By what they are called; those that were not given are None.
    images : collection of str
        Outputs that are written as TIFF.

    Raises
    ------
    InputError
        Naming the option and the file.
    """
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        check_output_file(option, path)
        if option in images and path.suffix.lower() not in (".tif", ".tiff"):
            raise InputError(f"{option} {path} is written as TIFF; give a name ending in .tif")
        for name, source in inputs.items():
            if source is not None and path.resolve() == source.resolve():
                raise InputError(f"{option} {path} is {name} itself; give another name")
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise InputError(f"{other} and {option} are the same file {path}; give two names")


def _check_writable(option: str, path: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: {folder} cannot be written; choose another folder")


def check_output_folder(option: str, path: Path) -> None:
    """Refuse to compute for a folder that cannot take the results.

    Parameters
    ----------
    option : str
        Its name.
    path : Path

    Raises
    ------
    InputError
        If `path` is a file, or cannot be made or written.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{option} {path} is a file; give the name of a folder")
    there = next((folder for folder in (path, *path.absolute().parents) if folder.is_dir()), None)
    if there is not None:
        _check_writable(option, path, there)
