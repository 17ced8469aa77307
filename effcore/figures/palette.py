"""Colours of the roles, the same in every chart, page and theme.

Each has a relative luminance between 0.15 and 0.30, hence a contrast of at least 3:1 with both
the light and the dark background, so that a change of theme recolours only text and grid.
The roles differ in lightness or along the blue-yellow axis, which the common forms of colour
blindness preserve; line styles repeat the distinction.
"""

from __future__ import annotations

from typing import Final

#: Role -> colour; order of ``chartCategoricalColors`` in ``.streamlit/config.toml``.
COLOURS: Final = {
    "efficient": "#2f80d8",  # the run that skips
    "dense": "#7a8794",  # full training, the reference
    "random": "#b95a9c",  # skipping at random
    "power": "#d97410",  # watts and joules
    "metric": "#17917f",  # the task's metric
}


def role_of_policy(selection: str) -> str:
    """Return the role of a selection policy: ``dense``, ``random`` or ``efficient``."""
    return selection if selection in ("dense", "random") else "efficient"


def rgba_css(role: str, alpha: float) -> str:
    """Return a role's colour with an opacity from 0 to 1, as CSS.

    Raises:
        KeyError: There is no such role.
    """
    red, green, blue = (int(COLOURS[role][i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
