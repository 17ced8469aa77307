"""Notes on a run's energy, without the reasons that the table of sources already gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from effcore.energy.sources.base import SOURCES
from effcore.records import Energy, EnergyQuality
from pages.ui.energy.sources import cached_source_survey

_SEE_SOURCE_TABLE: Final = (
    "no energy source was available; the table at the top of this page gives the reasons and "
    "remedies for {titles}"
)
_SEE_RUN_RECORD: Final = "no energy source was available; the run's record gives the reasons"


def notes_heading(energy: Energy) -> str:
    """Return the heading of a run's notes."""
    is_unavailable = energy.quality is EnergyQuality.UNAVAILABLE
    return "Why there are no joules" if is_unavailable else "Before you quote it"


def notes_without_source_table(energy: Energy) -> list[str]:
    """Return a run's notes; those that repeat the table of this machine's sources become one."""
    titles_by_note = {
        f"{source.title}: {source.reason}; {source.remedy}": source.title
        for source in cached_source_survey()
    }
    titles = [titles_by_note[note] for note in energy.notes if note in titles_by_note]
    rest = [note for note in energy.notes if note not in titles_by_note]
    return [_SEE_SOURCE_TABLE.format(titles=", ".join(titles)), *rest] if titles else rest


def energy_for_claim(energy: Energy) -> Energy:
    """Return the energy for a claim, with one short note in place of the sources' reasons."""
    refusals = [note for note in energy.notes if _is_refusal_note(note)]
    if energy.quality is not EnergyQuality.UNAVAILABLE or not refusals:
        return energy
    rest = [note for note in energy.notes if note not in refusals]
    return replace(energy, notes=(_SEE_RUN_RECORD, *rest))


def _is_refusal_note(note: str) -> bool:
    return any(note.startswith(f"{kind.title}: ") for kind in SOURCES)
