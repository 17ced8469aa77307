"""What an arm saved against full dense training, as a record has it and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from effcore.impact.ranges import Range
from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving import SavingBasis, percent_text
from effcore.records import Snapshot

#: What the two shares of a variant mean, for tables that show both.
SHARE_CAPTION = (
    "Saved is the share of full training's computation not spent; what it cost in quality stands "
    "beside it. Skipped is the rate at which computation is left out of what was considered; the "
    "cost of selecting is included in both."
)
#: In the order in which they are told: what is counted, what a clock read, what a meter read.
_BASES = (SavingBasis.FLOPS, SavingBasis.SECONDS, SavingBasis.JOULES)


def savings_record(pairs: Sequence[tuple[Snapshot, Snapshot]]) -> dict[str, Any]:
    """Return the share saved of FLOPs, seconds and joules, ``None`` where it is not known.

    Args:
        pairs: Each run and the run of full dense training, seed by seed.
    """
    saving = compare_with_reference(pairs)
    savings = saving.savings if saving is not None else {}
    return {
        basis.value: {
            "lo": found.fraction.lo,
            "hi": found.fraction.hi,
            "quality": found.quality.value if found.quality is not None else None,
        }
        if (found := savings.get(basis)) is not None
        else None
        for basis in _BASES
    }


def savings_sentence(savings: Mapping[str, Any]) -> str:
    """Return what was saved as a sentence or two; nothing where nothing is known."""
    known = {b: each for b in _BASES if (each := savings[b.value]) is not None}
    if not known:
        return ""
    shown = [_basis_text(b, each) for b, each in known.items() if not _includes_zero(each)]
    doubted = [f"{b} ({_share_text(each)})" for b, each in known.items() if _includes_zero(each)]
    words = f"Saved against full training: {', '.join(shown) or 'nothing shown'}"
    words += "".join(f"; no saving shown in {text}" for text in doubted)
    words += " (95% intervals over seeds)."
    if SavingBasis.JOULES not in known:
        words += " No joules are claimed: they were not measured, or not alike in all runs."
    return words


def _includes_zero(each: Mapping[str, Any]) -> bool:
    """Return whether it may as well be none, or that more was taken."""
    return bool(each["lo"] < 0 < each["hi"])


def _basis_text(basis: SavingBasis, each: Mapping[str, Any]) -> str:
    quality = f"{each['quality'].upper()} " if each["quality"] else ""
    return f"{_share_text(each)} of the {quality}{basis}"


def _share_text(each: Mapping[str, Any]) -> str:
    return percent_text(Range(each["lo"], each["hi"]))
