"""Where pictures and the recorded race are, and what the pages' own elements are made of."""

from __future__ import annotations

from pathlib import Path

_UI = Path(__file__).resolve().parent
_ASSETS = _UI.parents[1] / "assets"
LOGO, ICON = str(_ASSETS / "logo.svg"), str(_ASSETS / "icon.svg")
RECORDING = _ASSETS / "race.json"
#: What every script of an element begins with: loading plotly, reading messages.
_SHARED = ("plotly.js", "decode.js")


def text_of(*paths: Path) -> str:
    """Return the text of files, one after the other."""
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def script(folder: Path, *names: str) -> str:
    """Return an element's script: what all share, then files of its own folder in order."""
    paths = [*(_UI / name for name in _SHARED), *(folder / name for name in names)]
    return text_of(*paths)
