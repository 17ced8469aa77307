"""What an arm saved against full dense training, as a record has it and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effcore.impact.saving import Saving, SavingBasis, percent_text

#: What the two shares of a variant mean, for tables that show both.
SHARE_CAPTION = (
    "Saved is the share of full training's computation not spent; what it cost in quality stands "
    "beside it. Skipped is the rate at which computation is left out of what was considered; the "
    "cost of selecting is included in both."
)
#: In the order in which they are told: what is counted, what a clock read, what a meter read.
_BASES = (SavingBasis.FLOPS, SavingBasis.SECONDS, SavingBasis.JOULES)


def savings_record(savings: Mapping[SavingBasis, Saving]) -> dict[str, Any]:
    """Return the share saved of FLOPs, seconds and joules as JSON, ``None`` where not known."""
    return {
        basis.value: {
            "lo": saving.fraction.lo,
            "hi": saving.fraction.hi,
            "quality": saving.quality.value if saving.quality is not None else None,
        }
        if (saving := savings.get(basis)) is not None
        else None
        for basis in _BASES
    }


def savings_sentence(savings: Mapping[SavingBasis, Saving]) -> str:
    """Return what was saved as a sentence or two; nothing where nothing is known."""
    known = [savings[basis] for basis in _BASES if basis in savings]
    if not known:
        return ""
    shown = [_saving_text(each) for each in known if each.fraction.lo > 0]
    words = f"Saved against full training: {', '.join(shown) or 'nothing shown'}"
    for each in known:
        text = f"{each.basis} ({percent_text(each.fraction)})"
        if each.fraction.hi < 0:
            words += f"; more spent than by full training in {text}"
        elif each.fraction.lo <= 0:
            words += f"; no saving shown in {text}"
    words += " (95% intervals over seeds)."
    if SavingBasis.JOULES not in savings:
        words += " No joules are claimed: they were not measured, or not alike in all runs."
    return words


def _saving_text(saving: Saving) -> str:
    quality = f"{saving.quality.value.upper()} " if saving.quality else ""
    return f"{percent_text(saving.fraction)} of the {quality}{saving.basis}"
