"""Where the user's files live."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_directory() -> Path:
    """Where the user's models, settings and sessions live; ``NAPARI_FCTSFN_HOME`` overrides it."""
    home = os.environ.get("NAPARI_FCTSFN_HOME")
    return Path(home) if home else platformdirs.user_data_path("napari-fctsfn", appauthor=False)
