"""Durations and amounts as text."""

from __future__ import annotations

import math


def clock_text(seconds: float) -> str:
    """Return a duration as ``m:ss`` or ``h:mm:ss``."""
    total = math.floor(seconds + 0.5)
    hours, rest = divmod(total, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def si_number_and_prefix(value: float) -> tuple[str, str]:
    """Return a number to three digits and its SI prefix, e.g. ``("1.24", "G")``."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while abs(value) >= 999.5 and len(prefixes) > 1:
        value /= 1000.0
        prefixes.pop(0)
    return f"{value:.3g}", prefixes[0]
