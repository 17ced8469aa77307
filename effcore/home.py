"""Where Effcore keeps what is to last on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_home() -> Path:
    """Return ``EFFCORE_HOME`` where set, else the platform's folder for user data."""
    configured = os.environ.get("EFFCORE_HOME")
    if configured:
        return Path(configured).expanduser()
    return platformdirs.user_data_path("effcore", appauthor=False)
