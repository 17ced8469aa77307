"""Folder for Effcore's persistent data on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_home() -> Path:
    """Return ``EFFCORE_HOME`` if set, otherwise the platform's folder for user data."""
    configured = os.environ.get("EFFCORE_HOME")
    if configured:
        return Path(configured).expanduser()
    return platformdirs.user_data_path("effcore", appauthor=False)
