"""Where the user's files live."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

HOME_VARIABLE = "NAPARI_FCTSFN_HOME"
"""The environment variable that names another place."""


def data_directory() -> Path:
    """Where the user's models, settings and sessions live; `HOME_VARIABLE` overrides it."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home) if home else platformdirs.user_data_path("napari-fctsfn", appauthor=False)
