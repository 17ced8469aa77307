from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from effcore.figures.palette import COLOURS, rgba_css

ROOT = Path(__file__).parents[2]


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("role", COLOURS)
def test_role_colours_stand_out_on_both_backgrounds(role: str) -> None:
    theme = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
    for mode in ("light", "dark"):
        pair = (luminance(COLOURS[role]), luminance(theme[mode]["backgroundColor"]))
        assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 3.0
    assert theme["chartCategoricalColors"] == list(COLOURS.values())


def test_the_panel_and_the_logo_use_the_role_colours() -> None:
    css = (ROOT / "pages/ui/live/panel.css").read_text()
    assert f"--ec-blue: {COLOURS['efficient']};" in css
    assert set(re.findall(r"#[0-9a-f]{6}", css)) == {COLOURS["efficient"]}
    assert COLOURS["efficient"] in (ROOT / "assets/icon.svg").read_text()


def test_colours_of_groups_stand_out_on_both_backgrounds() -> None:
    script = (ROOT / "pages/ui/live/panel_views.js").read_text()
    colours = re.findall(r"#[0-9a-f]{6}", script.split("const GROUPS = [")[1].split("]")[0])
    assert len(set(colours)) == 10
    theme = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
    for background in (theme[mode]["backgroundColor"] for mode in ("light", "dark")):
        for colour in colours:
            pair = (luminance(colour), luminance(background))
            assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 3.0, colour


def test_rgba_adds_opacity() -> None:
    assert rgba_css("efficient", 0.5) == "rgba(47,128,216,0.5)"
