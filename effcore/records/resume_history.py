"""That a run was interrupted and went on, as far as anyone who reads of it must know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResumeHistory:
    """The checkpoints that an interrupted run went on from; none for most runs.

    Attributes:
        steps: Steps taken by each of them, in order.
        notes: Why the run may differ from one never interrupted; empty where, on a CPU, it is
            the same to the bit.
    """

    steps: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether the run was resumed at all."""
        return bool(self.steps)

    def with_resume(self, step: int, note: str) -> ResumeHistory:
        """Return the record of a run that has gone on once more."""
        notes = dict.fromkeys((*self.notes, note) if note else self.notes)
        return ResumeHistory((*self.steps, step), tuple(notes))

    def description(self) -> str:
        """Say it in a sentence; nothing for a run that was not resumed."""
        if not self.steps:
            return ""
        places = " and ".join(f"step {step:,}" for step in self.steps)
        said = f"interrupted, and resumed from its checkpoint after {places}"
        return "; ".join((said, *self.notes))
