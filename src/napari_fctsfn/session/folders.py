"""Where sessions are kept: one folder each, in the user's data directory."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

from napari_fctsfn._directories import data_directory
from napari_fctsfn.session.document import Header
from napari_fctsfn.session.journal import is_empty, read_header
from napari_fctsfn.session.ledger import SessionError

_LOOKED_AT = 200
"""So many of the newest sessions are looked through."""


def sessions_directory() -> Path:
    """The folder that holds the sessions' folders."""
    return data_directory() / "sessions"


def new_session_folder(name: str) -> Path:
    """A folder, yet to be made, for a session of an image of this name.

    Its name begins with the time, so that the sessions stand in their order.
    """
    time = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    short = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    folder = sessions_directory() / f"{time} {short}".strip()
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{time} {short} {number}")
    return folder


def sessions_of(shape: tuple[int, ...], dtype: str, source: str = "") -> list[Path]:
    """The sessions, with something done in them, of images of this shape and type; newest first.

    Whether one is really of the same image is seen when it is opened.

    Parameters
    ----------
    shape : tuple of int
        Of the image, with the channels of RGB.
    dtype : str
        Of the image.
    source : str
        Path of its file, if it is known: sessions of files of another name are left out.
    """
    name = Path(source).name
    return [
        folder
        for folder, header in _sessions(sessions_directory(), _LOOKED_AT)
        if (header.image.shape, header.image.dtype) == (shape, dtype)
        and (not name or Path(header.image.source).name in (name, ""))
    ]


def newest_session(image: Path, within: Path) -> Path | None:
    """The newest session in a folder, with something done in it, of an image's file.

    One of this very file comes before one of a file of its name elsewhere. None if there is none.
    """
    found = []
    for folder, header in _sessions(within, None):
        source = Path(header.image.source)
        same = source.resolve() == image.resolve()
        if same or source.name == image.name:
            found.append((same, header.created, folder))
    return max(found)[-1] if found else None


def annotated_files() -> set[Path]:
    """The files of images that have a session with something done in it."""
    newest = _sessions(sessions_directory(), _LOOKED_AT)
    return {Path(header.image.source) for _, header in newest if header.image.source}


def _sessions(within: Path, count: int | None) -> Iterator[tuple[Path, Header]]:
    """The sessions in a folder with something done in them, in reverse order of their names.

    So many of its folders are looked at, or all of them.
    """
    try:
        folders = sorted(within.iterdir(), reverse=True)[:count]
    except OSError:
        return
    for folder in folders:
        try:
            header = read_header(folder)
        except SessionError:
            continue
        if not is_empty(folder):
            yield folder, header
