"""Paths of pictures, scripts and the recorded race, and the reading of component files."""

from __future__ import annotations

from pathlib import Path

_UI = Path(__file__).resolve().parent
_ASSETS = _UI.parents[1] / "assets"
LOGO, ICON = str(_ASSETS / "logo.svg"), str(_ASSETS / "icon.svg")
RACE_RECORDING = _ASSETS / "race.json"
#: Scripts that components begin with: decoding of messages, and loading of plotly.
DECODE_SCRIPT, _PLOTLY_SCRIPT = _UI / "decode.js", _UI / "plotly.js"


def read_texts(*paths: Path) -> str:
    """Return the texts of files, joined in order."""
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def chart_script(folder: Path, *names: str) -> str:
    """Return the script of a component that draws with plotly: files of its folder in order."""
    return read_texts(_PLOTLY_SCRIPT, DECODE_SCRIPT, *(folder / name for name in names))
