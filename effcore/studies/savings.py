"""The savings of a variant against full training, as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effcore.impact.saving import Saving, SavingBasis, percent_text

#: Caption of tables that show both the saved and the skipped share of a variant.
SHARE_CAPTION = (
    "Saved is the share of full training's computation that was not spent; the metric shows what "
    "it cost in quality. Skipped is the share of the considered computation that was left out. "
    "Both include the cost of selecting examples."
)
#: Bases of a saving in the order in which they are shown: counted, timed, metered.
_BASES = (SavingBasis.FLOPS, SavingBasis.SECONDS, SavingBasis.JOULES)


def savings_record(savings: Mapping[SavingBasis, Saving]) -> dict[str, Any]:
    """Return the saved shares of FLOPs, seconds and joules as JSON; ``None`` where not known."""
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
    """Return the savings in one or two sentences; empty where none are known."""
    ordered = [savings[basis] for basis in _BASES if basis in savings]
    if not ordered:
        return ""
    shown = []
    for saving in ordered:
        if saving.fraction.lo > 0:
            quality = f"{saving.quality.value.upper()} " if saving.quality else ""
            shown.append(f"{percent_text(saving.fraction)} of the {quality}{saving.basis}")
    text = f"Saved against full training: {', '.join(shown) or 'nothing shown'}"
    for saving in ordered:
        share = f"{saving.basis} ({percent_text(saving.fraction)})"
        if saving.fraction.hi < 0:
            text += f"; more spent than by full training in {share}"
        elif saving.fraction.lo <= 0:
            text += f"; no saving shown in {share}"
    text += " (95% intervals over seeds)."
    if SavingBasis.JOULES not in savings:
        text += (
            " No energy saving is claimed: joules were not measured, or not in the same way in all "
            "runs."
        )
    return text
