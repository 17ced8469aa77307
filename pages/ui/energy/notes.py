"""Why a run has no joules: told once on the page, with the remedy, and referred to elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from effcore.energy.sources.base import SOURCES
from effcore.records import Energy, EnergyQuality
from pages.ui.energy.sources import cached_source_survey

_SEE_SOURCE_TABLE: Final = (
    "not to be read, for the reasons in the table at the top of this page, which also says what "
    "would change them: {titles}"
)
_SEE_RUN_RECORD: Final = "why no instrument could be read stands in the run's record"


def notes_heading(energy: Energy) -> str:
    """Return what the notes of a run's joules, or of there being none, are headed by."""
    nothing = energy.quality is EnergyQuality.UNAVAILABLE
    return "Why there are no joules" if nothing else "Before you quote it"


def notes_without_source_table(energy: Energy) -> list[str]:
    """Return a run's notes, without the reasons that the table of this machine gives as well."""
    above = {
        f"{each.title}: {each.reason}; {each.remedy}": each.title for each in cached_source_survey()
    }
    again = [above[note] for note in energy.notes if note in above]
    rest = [note for note in energy.notes if note not in above]
    return [_SEE_SOURCE_TABLE.format(titles=", ".join(again)), *rest] if again else rest


def energy_for_claim(energy: Energy) -> Energy:
    """Return joules as a claim tells of them: that no instrument could be read, not why."""
    refusals = [note for note in energy.notes if _is_refusal_note(note)]
    if energy.quality is not EnergyQuality.UNAVAILABLE or not refusals:
        return energy
    rest = [note for note in energy.notes if note not in refusals]
    return replace(energy, notes=(_SEE_RUN_RECORD, *rest))


def _is_refusal_note(note: str) -> bool:
    return any(note.startswith(f"{kind.title}: ") for kind in SOURCES)
