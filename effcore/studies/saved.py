"""What an arm saved against full dense training, as a record has it and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from effcore.events import Snapshot
from effcore.impact.ranges import Range
from effcore.impact.runs import savings_over
from effcore.impact.saving import Basis, percent_text

#: In the order in which they are told: what is counted, what a clock read, what a meter read.
_TOLD = (Basis.FLOPS, Basis.SECONDS, Basis.JOULES)


def savings_record(pairs: Sequence[tuple[Snapshot, Snapshot]]) -> dict[str, Any]:
    """Return the share saved of FLOPs, seconds and joules, ``None`` where it is not known.

    Args:
        pairs: Each run and the run of full dense training, seed by seed.
    """
    found = savings_over(pairs)
    return {
        basis.value: {
            "lo": saving.fraction.lo,
            "hi": saving.fraction.hi,
            "quality": saving.quality.value if saving.quality is not None else None,
        }
        if (saving := found.get(basis)) is not None
        else None
        for basis in _TOLD
    }


def saved_words(savings: Mapping[str, Any]) -> str:
    """Return what was saved as a sentence or two; nothing where nothing is known."""
    known = [
        f"{percent_text(Range(each['lo'], each['hi']))} of the {_quality(each)}{basis}"
        for basis in _TOLD
        if (each := savings[basis.value]) is not None
    ]
    if not known:
        return ""
    words = f"Against full training it saved {', '.join(known)} (95% intervals over seeds)."
    if savings[Basis.JOULES.value] is None:
        words += " No joules are claimed: they were not measured, or not alike in all runs."
    return words


def _quality(each: Mapping[str, Any]) -> str:
    return f"{each['quality'].upper()} " if each["quality"] else ""
