"""Files that are either whole or not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
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
