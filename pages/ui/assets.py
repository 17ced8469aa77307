"""Where pictures and the recorded race are, and what the pages' own elements are made of."""

from __future__ import annotations

from pathlib import Path

_UI = Path(__file__).resolve().parent
_ASSETS = _UI.parents[1] / "assets"
LOGO, ICON = str(_ASSETS / "logo.svg"), str(_ASSETS / "icon.svg")
RACE_RECORDING = _ASSETS / "race.json"
#: What elements' scripts begin with: reading messages, and loading plotly.
DECODE_SCRIPT, _PLOTLY_SCRIPT = _UI / "decode.js", _UI / "plotly.js"


def read_texts(*paths: Path) -> str:
    """Return the text of files, one after the other."""
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def chart_script(folder: Path, *names: str) -> str:
    """Return the script of an element that draws by plotly: files of its folder in order."""
    return read_texts(_PLOTLY_SCRIPT, DECODE_SCRIPT, *(folder / name for name in names))
