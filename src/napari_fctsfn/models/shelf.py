"""Models put in, taken out, renamed and thrown away; each step is whole or did not happen."""

from __future__ import annotations

import shutil
from pathlib import Path

from napari_fctsfn._directories import data_directory
from napari_fctsfn._files import replace_file
from napari_fctsfn.models.registry import (
    ModelEntry,
    check_new_name,
    choose_model,
    chosen_model,
    list_models,
    resolve_model,
)
from napari_fctsfn.models.store import ModelError, load_model, read_card

_SUFFIX, _PACKAGE = ".safetensors", ".zip"


def rename_model(name: str, new: str) -> ModelEntry:
    """Give one of the user's models another name; it stays the chosen one if it was.

    Raises
    ------
    ModelError
        If there is no such model, it comes with the package, or the new name is not valid or taken.
    """
    entry = _own(name)
    check_new_name(new, before=name)
    chosen = chosen_model() == name
    path = entry.path.with_name(f"{new}{_SUFFIX}")
    entry.path.replace(path)
    if chosen:
        choose_model(new)
    return ModelEntry(new, path, False)


def delete_model(name: str) -> None:
    """Throw one of the user's models away; `restore_model` brings it back.

    Raises
    ------
    ModelError
        If there is no such model, or it comes with the package.
    """
    entry = _own(name)
    bin_ = _bin()
    bin_.mkdir(parents=True, exist_ok=True)
    entry.path.replace(bin_ / entry.path.name)


def deleted_models() -> list[str]:
    """Names of the models that can be restored."""
    return sorted(path.stem for path in _bin().glob(f"*{_SUFFIX}"))


def restore_model(name: str) -> ModelEntry:
    """Bring a deleted model back: of several of one name the last that was deleted.

    Raises
    ------
    ModelError
        If none of that name was deleted, or the name is taken meanwhile.
    """
    if name not in deleted_models():
        known = ", ".join(deleted_models()) or "none"
        raise ModelError(f"no model {name!r} was deleted; deleted ones: {known}")
    check_new_name(name)
    path = data_directory() / "models" / f"{name}{_SUFFIX}"
    (_bin() / path.name).replace(path)
    return ModelEntry(name, path, False)


def export_model(name: str, path: Path) -> None:
    """Write a model into one file of one's own.

    Parameters
    ----------
    name : str
    path : Path
        Ending in ``.safetensors``, which `import_model` reads anywhere, or in ``.zip``: a package
        of the BioImage Model Zoo for other programs (see `zoo`).

    Raises
    ------
    ModelError
        If there is no such model, the file is there already or has another ending, or a library
        that the package needs is not installed.
    """
    source = resolve_model(name)
    if path.suffix not in (_SUFFIX, _PACKAGE):
        raise ModelError(f"{path} must end in {_SUFFIX}, or in {_PACKAGE} for the model zoo")
    if path.exists():
        raise ModelError(f"{path} is there already: remove it, or choose another name")
    if not path.parent.is_dir():
        raise ModelError(f"there is no folder {path.parent}: make it first")
    with replace_file(path) as temporary:
        if path.suffix == _PACKAGE:
            # slow to import, and its libraries are optional
            from napari_fctsfn.models.zoo import write_package

            write_package(load_model(source), temporary)
        else:
            shutil.copyfile(source, temporary)


def import_model(path: Path, name: str | None = None) -> ModelEntry:
    """Put a model file into the registry, byte for byte.

    Parameters
    ----------
    path : Path
    name : str, optional
        By default the name on its card.

    Raises
    ------
    ModelError
        If the file is no model or damaged, or the name is not valid or taken.
    """
    name = read_card(path).name if name is None else name
    check_new_name(name)
    load_model(path)
    folder = data_directory() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}{_SUFFIX}"
    with replace_file(kept) as temporary:
        shutil.copyfile(path, temporary)
    return ModelEntry(name, kept, False)


def _own(name: str) -> ModelEntry:
    """One of the user's models."""
    entry = {entry.name: entry for entry in list_models()}.get(name)
    if entry is None:
        known = ", ".join(e.name for e in list_models() if not e.bundled) or "none"
        raise ModelError(f"you have no model {name!r}; yours: {known}")
    if entry.bundled:
        raise ModelError(f"the model {name!r} comes with the package and stays as it is")
    return entry


def _bin() -> Path:
    return data_directory() / "models" / ".deleted"
