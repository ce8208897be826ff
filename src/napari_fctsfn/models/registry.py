"""The user's models: those that come with the package and those in the data directory."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from napari_fctsfn._directories import data_directory
from napari_fctsfn._files import replace_file
from napari_fctsfn.models.card import ModelCard
from napari_fctsfn.models.store import ModelError, read_card, save_model
from napari_fctsfn.network import FCTSFN

DEFAULT = "default"
"""Reserved name: always the model that comes with this version of the package."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be chosen by name."""

    name: str
    path: Path
    bundled: bool


def list_models() -> list[ModelEntry]:
    """All models by name, the bundled ones first; each group in alphabetical order."""
    bundled = Path(str(files("napari_fctsfn.models") / "bundled"))
    entries = [ModelEntry(p.stem, p, True) for p in sorted(bundled.glob(f"*{_SUFFIX}"))]
    taken = {entry.name for entry in entries}
    own = sorted((data_directory() / "models").glob(f"*{_SUFFIX}"))
    return entries + [
        ModelEntry(p.stem, p, False) for p in own if p.stem not in taken and p.name[0] != "."
    ]


def resolve_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a model.

    Parameters
    ----------
    name_or_path : str or path
        A name in the registry, or a path (anything with a folder or ending in ``.safetensors``).

    Raises
    ------
    ModelError
        If there is no such model; the message lists the known ones.
    """
    text = os.fspath(name_or_path)
    if Path(text).name != text or text.endswith(_SUFFIX):
        if not Path(text).is_file():
            raise ModelError(f"there is no model file {text}")
        return Path(text)
    for entry in list_models():
        if entry.name == text:
            return entry.path
    known = ", ".join(entry.name for entry in list_models()) or "none"
    raise ModelError(f"unknown model {text!r}; known models: {known}; or give the path of a file")


def check_new_name(name: str, *, replace: bool = False, before: str | None = None) -> None:
    """Refuse a name that a new model cannot have, before hours go into the model.

    Names are the same if they differ in capitals alone, as their files are on macOS and Windows;
    a model whose name was `before` may have other capitals, though.

    Raises
    ------
    ModelError
        If the name is not valid, reserved for a bundled model, or taken and `replace` is false.
    """
    if not _NAME.fullmatch(name) or name.endswith(_SUFFIX):
        raise ModelError(
            f"{name!r} is no valid model name: use up to 64 letters, digits, '.', '_' and '-', "
            f"without the ending {_SUFFIX}"
        )
    for entry in list_models():
        same = entry.name.casefold() == name.casefold()
        if same and not (entry.name == before != name) and (entry.bundled or not replace):
            what = "comes with the package" if entry.bundled else "exists already"
            raise ModelError(f"the model {entry.name!r} {what}; choose another name than {name!r}")


def register_model(
    name: str, network: FCTSFN, card: ModelCard, *, replace: bool = False, half: bool = True
) -> ModelEntry:
    """Save a model in the user's data directory, `half` as `save_model` takes it.

    Raises
    ------
    ModelError
        If the name is not valid, reserved for a bundled model, or taken and `replace` is false.
    """
    check_new_name(name, replace=replace)
    folder = data_directory() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{_SUFFIX}"
    save_model(path, network, card.model_copy(update={"name": name}), half=half)
    return ModelEntry(name, path, False)


def chosen_model() -> str:
    """The name of the model the user has chosen; `DEFAULT` if none, or if it is gone."""
    try:
        settings = json.loads(_settings_file().read_text(encoding="utf-8"))
        name = settings.get("model", DEFAULT)
    except (OSError, ValueError, AttributeError):
        return DEFAULT
    return name if name in {entry.name for entry in list_models()} else DEFAULT


def choose_model(name: str) -> None:
    """Remember the user's choice; it is used where no model is named.

    Raises
    ------
    ModelError
        If there is no model of that name, or its file is damaged.
    """
    entry = {entry.name: entry for entry in list_models()}.get(name)
    if entry is None:
        resolve_model(name)
        raise ModelError(f"{name!r} is a file; register it under a name to choose it")
    read_card(entry.path)
    path = _settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps({"model": name}) + "\n", encoding="utf-8")


def _settings_file() -> Path:
    return data_directory() / "settings.json"
