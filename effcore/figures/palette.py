"""One colour per role, the same in every chart, page and theme.

Each has a relative luminance between 0.15 and 0.30, hence at least 3:1 against both the
light and the dark background, so that a change of theme recolours only text and grid.
The four roles differ in lightness or along the blue-yellow axis, which the common forms
of colour blindness keep; line styles repeat the distinction.
"""

from __future__ import annotations

from typing import Final

#: Role -> colour; order of ``chartCategoricalColors`` in ``.streamlit/config.toml``.
COLOURS: Final = {
    "efficient": "#2f80d8",  # the run that skips
    "dense": "#7a8794",  # full training, the reference
    "random": "#b95a9c",  # skipping at random
    "power": "#d97410",  # watts and joules
    "metric": "#17917f",  # what the task is judged by
}


def role_of_policy(selection: str) -> str:
    """Return the role of a run that selects by a policy: ``dense``, ``random`` or ``efficient``."""
    return selection if selection in ("dense", "random") else "efficient"


def rgba_css(role: str, alpha: float) -> str:
    """Return a role's colour with an opacity from 0 to 1, as CSS.

    Raises:
        KeyError: No such role.
    """
    red, green, blue = (int(COLOURS[role][i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
