"""Checkpoint schedule of running runs, and resume points of interrupted ones."""

from __future__ import annotations

import dataclasses
import logging
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from effcore import __version__
from effcore.config import ConfigError, check_device, model_data_fingerprint
from effcore.energy.run_energy import RecordedEnergy
from effcore.records import Energy, RunConfig, Snapshot
from effcore.records.resume_history import ResumeHistory
from effcore.store.checkpoint_file import StoredCheckpoint
from effcore.store.run_files import EVALS_FILE, PHASES_FILE, POWER_FILE, STEPS_FILE
from effcore.store.run_records import unrecorded_energy
from effcore.store.serialization import KnobValues, decode_knob_values, decode_optional_record
from effcore.training.checkpoint import Checkpoint, CheckpointError
from effcore.training.trainer import Training

log = logging.getLogger(__name__)

#: Time of the first checkpoint of a run, and interval between checkpoints, seconds.
FIRST_CHECKPOINT_S, CHECKPOINT_INTERVAL_S = 1.0, 5.0
#: Smallest ratio of the interval to the time that a checkpoint takes, which training waits for.
INTERVAL_TO_COST_RATIO: Final = 500.0
_ORIGIN_KEYS_THAT_MUST_MATCH = ("configuration", "effcore")


def checkpoint_origin(config: RunConfig) -> dict[str, str]:
    """Return what a run's results depend on besides its configuration, by name."""
    device = torch.device(config.device)
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_description()
    return {
        "configuration": model_data_fingerprint(config),
        "effcore": __version__,
        "PyTorch": str(torch.__version__),
        "device": chip,
    }


def _processor_description() -> str:
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} with {instructions}"


def origin_differences(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return why a resumed run may differ from an uninterrupted one; empty if it does not.

    Raises:
        CheckpointError: Effcore, the data or the model changed, so that the run cannot continue.
    """
    if any(then.get(name) != now[name] for name in _ORIGIN_KEYS_THAT_MUST_MATCH):
        raise CheckpointError(
            "Effcore, the run's data or its model has changed, so that the run cannot continue; "
            "start a new run"
        )
    changed = [name for name in now if then.get(name) != now[name]]
    if not changed:
        return ""
    listed = ", ".join(f"{name} was {then.get(name)} and is {now[name]}" for name in changed)
    return f"may differ in its last bits from an uninterrupted run, since {listed}"


class CheckpointSchedule:
    """Takes checkpoints of a run, rarely enough that their cost is negligible.

    Args:
        config: Configuration of the run.
        now: Monotonic clock, seconds.
    """

    def __init__(self, config: RunConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._config, self._now = config, now
        self._due_s = now() + FIRST_CHECKPOINT_S
        self._origin: dict[str, str] | None = None

    def checkpoint_if_due(self, training: Training) -> Checkpoint | None:
        """Return a copy of the training state, or ``None`` if no checkpoint is due.

        There is none before the first step, nor if the policy's state cannot be saved; the log
        then says so.
        """
        begun_s = self._now()
        if begun_s < self._due_s:
            return None
        try:
            checkpoint = training.checkpoint()
        except Exception:  # a failed checkpoint must not end the training
            log.exception("this run takes no checkpoints, and cannot be resumed")
            self._due_s = math.inf
            return None
        ended_s = self._now()
        self._due_s = ended_s + max(
            CHECKPOINT_INTERVAL_S, INTERVAL_TO_COST_RATIO * (ended_s - begun_s)
        )
        self._origin = self._origin or checkpoint_origin(self._config)
        if checkpoint is None:
            return None
        return dataclasses.replace(checkpoint, origin=self._origin)


@dataclass(frozen=True)
class ResumePoint:
    """State from which an interrupted run continues.

    Attributes:
        checkpoint: Training state.
        snapshot_at_checkpoint: The run's record at the checkpoint.
        resume_history: All resumptions of the run, this one included.
    """

    checkpoint: Checkpoint
    snapshot_at_checkpoint: Snapshot
    resume_history: ResumeHistory

    @property
    def recorded_energy(self) -> RecordedEnergy:
        """Energy recorded up to the checkpoint."""
        return RecordedEnergy(self.snapshot_at_checkpoint.energy, self.snapshot_at_checkpoint.power)


def build_resume_point(snapshot: Snapshot, stored_checkpoint: StoredCheckpoint) -> ResumePoint:
    """Return the state from which an interrupted run continues.

    Args:
        snapshot: The stored run.
        stored_checkpoint: The run's last checkpoint.

    Raises:
        CheckpointError: The run cannot continue on this machine.
    """
    try:
        check_device(snapshot.config.device)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    note = origin_differences(
        stored_checkpoint.checkpoint.origin, checkpoint_origin(snapshot.config)
    )
    step = stored_checkpoint.checkpoint.step
    at_checkpoint = dataclasses.replace(
        snapshot,
        steps=snapshot.steps[:, : stored_checkpoint.table_row_count(STEPS_FILE)],
        evals=snapshot.evals[:, : stored_checkpoint.table_row_count(EVALS_FILE)],
        power=snapshot.power[:, : stored_checkpoint.table_row_count(POWER_FILE)],
        phases=snapshot.phases[:, : stored_checkpoint.table_row_count(PHASES_FILE)],
        changes=tuple(change for change in snapshot.changes if change.step < step),
        epoch_draws=tuple(event for event in snapshot.epoch_draws if event.step < step)[-1:],
        knobs=_knob_values_at_checkpoint(snapshot, stored_checkpoint.events),
        energy=_energy_at_checkpoint(snapshot, stored_checkpoint.events),
        exploratory=snapshot.exploratory or bool(note),
    )
    return ResumePoint(
        stored_checkpoint.checkpoint, at_checkpoint, snapshot.resumed.with_resume(step, note)
    )


def _knob_values_at_checkpoint(snapshot: Snapshot, events: Mapping[str, str]) -> KnobValues:
    return decode_knob_values(events["knobs"]) if "knobs" in events else dict(snapshot.config.knobs)


def _energy_at_checkpoint(snapshot: Snapshot, events: Mapping[str, str]) -> Energy:
    return decode_optional_record(Energy, events.get("energy")) or unrecorded_energy(snapshot.steps)
