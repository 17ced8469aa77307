"""Checkpoints of a run that trains, and what an interrupted one goes on from."""

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
from effcore.store.checkpoints import Kept
from effcore.store.codec import Knobs, decode_knobs, decode_optional
from effcore.store.files import EVALS, PHASES, POWER, STEPS
from effcore.store.rows import no_energy
from effcore.training.checkpoint import Checkpoint, CheckpointError
from effcore.training.trainer import Training

log = logging.getLogger(__name__)

#: After how many seconds of a run it is first saved, and how often from then on.
FIRST_S, EVERY_S = 1.0, 5.0
#: A checkpoint that takes long is taken more rarely: training waits for one in so many parts.
RARELY: Final = 500.0
_CHANGED = ("configuration", "effcore")


def origin_of(config: RunConfig) -> dict[str, str]:
    """Return what a run's numbers depend on besides its configuration, by name."""
    device = torch.device(config.device)
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "configuration": model_data_fingerprint(config),
        "effcore": __version__,
        "PyTorch": str(torch.__version__),
        "device": chip,
    }


def _processor() -> str:
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} with {instructions}"


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return why a resumed run may differ from one never interrupted; empty where it does not.

    Raises:
        CheckpointError: It would be another run altogether.
    """
    if any(then.get(name) != now[name] for name in _CHANGED):
        raise CheckpointError(
            "Effcore, the run's data or its model has changed since, so that it cannot go on; "
            "train it anew"
        )
    changed = [name for name in now if then.get(name) != now[name]]
    if not changed:
        return ""
    listed = ", ".join(f"{name} was {then.get(name)} and is {now[name]}" for name in changed)
    return f"may differ in its last bits from a run never interrupted, since {listed}"


class Saving:
    """Says when a run is to be saved, and saves it: seldom enough to cost next to nothing.

    Args:
        config: The run's.
        now: Monotonic seconds.
    """

    def __init__(self, config: RunConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._config, self._now = config, now
        self._due_s = now() + FIRST_S
        self._origin: dict[str, str] | None = None

    def take_if_due(self, training: Training) -> Checkpoint | None:
        """Return the training's state, copied; ``None`` where it is not time yet.

        Nor is there any before the first step, or of a run whose policy keeps what cannot be
        kept; the log says so.
        """
        begun_s = self._now()
        if begun_s < self._due_s:
            return None
        try:
            found = training.checkpoint()
        except Exception:  # training is worth more than its checkpoints
            log.exception("no checkpoints are kept of this run")
            self._due_s = math.inf
            return None
        ended_s = self._now()
        self._due_s = ended_s + max(EVERY_S, RARELY * (ended_s - begun_s))
        self._origin = self._origin or origin_of(self._config)
        return dataclasses.replace(found, origin=self._origin) if found is not None else None


@dataclass(frozen=True)
class Interrupted:
    """What an interrupted run goes on from.

    Attributes:
        checkpoint: The state of its training.
        before: What it had told by then.
        resumed: That it goes on, and how often it did before.
    """

    checkpoint: Checkpoint
    before: Snapshot
    resumed: ResumeHistory

    @property
    def recorded(self) -> RecordedEnergy:
        """What it had taken by then."""
        return RecordedEnergy(self.before.energy, self.before.power)


def interrupted(look: Snapshot, kept: Kept) -> Interrupted:
    """Return what an interrupted run goes on from.

    Args:
        look: The run as stored.
        kept: Its last checkpoint.

    Raises:
        CheckpointError: It cannot go on here.
    """
    try:
        check_device(look.config.device)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    note = differences(kept.checkpoint.origin, origin_of(look.config))
    step = kept.checkpoint.step
    before = dataclasses.replace(
        look,
        steps=look.steps[:, : kept.rows(STEPS)],
        evals=look.evals[:, : kept.rows(EVALS)],
        power=look.power[:, : kept.rows(POWER)],
        phases=look.phases[:, : kept.rows(PHASES)],
        changes=tuple(change for change in look.changes if change.step < step),
        epoch_draws=tuple(event for event in look.epoch_draws if event.step < step)[-1:],
        knobs=_knobs(look, kept.events),
        energy=_energy(look, kept.events),
        exploratory=look.exploratory or bool(note),
    )
    return Interrupted(kept.checkpoint, before, look.resumed.with_resume(step, note))


def _knobs(look: Snapshot, events: Mapping[str, str]) -> Knobs:
    return decode_knobs(events["knobs"]) if "knobs" in events else dict(look.config.knobs)


def _energy(look: Snapshot, events: Mapping[str, str]) -> Energy:
    return decode_optional(Energy, events.get("energy")) or no_energy(look.steps)
