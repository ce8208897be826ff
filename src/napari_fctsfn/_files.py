"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 255
"""Bytes of a file's name that file systems take."""

_ADDED = 39
"""Bytes that a temporary name has more than the stem in it."""


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
    temporary = _temporary(path)
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
        The folder to write or to replace, or a link to it; its parent must exist.

    Yields
    ------
    Path
        The temporary folder to fill.
    """
    path = path.resolve()  # a link stays, and what it leads to is replaced
    temporary = _temporary(path)
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
    wanted = {_stem(name) for name in names}
    for left in folder.glob(".*.part"):
        if left.name[1:].rsplit(".", 2)[0] in wanted:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{_stem(path.name)}.{uuid.uuid4().hex}.part")


def _stem(name: str) -> str:
    """What a temporary name has of a file's name: all, or its hash where that is too long."""
    length = len(os.fsencode(name))
    # A name that no file can have is not mended: it is refused now, not when the work is done.
    if _LONGEST - _ADDED < length <= _LONGEST:
        return hashlib.sha256(os.fsencode(name)).hexdigest()
    return name
