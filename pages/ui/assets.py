"""Where the pictures of the frame are, and the recorded race."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
LOGO, ICON = str(_ASSETS / "logo.svg"), str(_ASSETS / "icon.svg")
RECORDING = _ASSETS / "race.json"
