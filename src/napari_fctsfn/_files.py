"""Files that are either whole or not there."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    Parameters
    ----------
    path : Path
        The file to write or to replace; its folder must exist.

    Yields
    ------
    Path
        The temporary file to write to.
    """
    # Opened, not made by tempfile, so that the file gets the permissions any other file would.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    temporary.open("xb").close()
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; killed in the last moment, neither the old nor the new one is there.

    Parameters
    ----------
    path : Path
        The folder to write or to replace; its parent must exist.

    Yields
    ------
    Path
        The temporary folder to fill.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_parts(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files and folders that a killed process left for files of these names.

    Parameters
    ----------
    folder : Path
    names : iterable of str
    """
    wanted = set(names)
    for left in folder.glob(".*.part"):
        if left.name[1:].rsplit(".", 2)[0] in wanted:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
