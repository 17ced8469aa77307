"""The frozen records that flow through everything: configuration in, events out.

Data flows one way: ``RunConfig -> trainer -> events -> store -> Snapshot -> rows ->
figure``. Nothing here imports torch, so that reading a stored run stays cheap.

Units are suffixes (``_s``, ``_w``, ``_j``, ``_frac``); FLOPs count a multiply-add as two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray

from effcore.records.attribution import ATTRIBUTION_NOT_RECORDED, PhaseAttribution
from effcore.records.deprecation import with_old_names
from effcore.records.epoch_record import EpochRecord
from effcore.records.resume_history import ResumeHistory
from effcore.records.views import ViewItem

FloatArray = NDArray[np.float64]
KnobValue = float | int

#: Rate at which computation is left out of what was considered.
SkippedFrac = NewType("SkippedFrac", float)
#: Share of full training's computation that a run did not spend. Costs derive from this alone.
SavedFrac = NewType("SavedFrac", float)

#: Columns of a run's per-step table, in the order they are stored and streamed.
STEP_COLUMNS = (
    "step",  # batches trained on so far
    "considered",  # examples considered so far: passes x examples, plus the visited part
    "trained",  # examples trained on so far
    "seconds",  # run clock, pauses excluded
    "flops",  # everything spent so far, selection included
    "selection_flops",  # the part of it spent on selecting
    "learning_rate",  # the rate this step was taken with
    "loss",  # mean loss of the batch
)
#: Columns of a run's evaluation table (validation split).
EVAL_COLUMNS = ("step", "considered", "seconds", "flops", "loss", "metric")
#: Columns of a run's power table; an estimate leaves ``power_w`` and ``energy_j`` NaN.
POWER_COLUMNS = (
    "seconds",
    "power_w",
    "power_lo_w",
    "power_hi_w",
    "energy_j",
    "energy_lo_j",
    "energy_hi_j",
)
#: What a run's time goes to; the rest of it is reports, pictures and pauses.
PHASES = ("data", "selection", "forward", "backward", "optimizer", "evaluation")
#: Columns of a run's phase table: the run clock, then seconds in each phase so far.
PHASE_COLUMNS = ("seconds", *PHASES)


@with_old_names
class RunStatus(StrEnum):
    """Where a run is in its life; the last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """Whether the run can no longer change."""
        return self in (
            RunStatus.FINISHED,
            RunStatus.STOPPED,
            RunStatus.FAILED,
            RunStatus.INTERRUPTED,
        )


class EnergyQuality(StrEnum):
    """How a joule came to be known; qualities never mix in a sum."""

    MEASURED = "measured"
    MODELLED = "modelled"
    ESTIMATED = "estimated"
    SUSPECT = "suspect"
    UNAVAILABLE = "unavailable"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True)
class KnobChange:
    """A knob's new value, which applies from batch ``step`` on (counted from 0)."""

    step: int
    name: str
    value: KnobValue


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that determines a run; two equal ones give equal parameters on CPU.

    Build one with :func:`effcore.config.resolve`, which fills in a task's defaults and
    refuses what is impossible.

    Attributes:
        task: Id of the task.
        model: Id of one of the task's models.
        selection: Id of the selection policy.
        update: Id of the update policy.
        intensity: Id of the intensity policy.
        epochs: Passes over the data that define 100% of the dense compute.
        batch_size: Examples per step.
        learning_rate: Peak rate, reached after warm-up.
        seed: Seed of the split, the initial parameters, the order and the draws.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        budget: Share of the dense run's FLOPs at which the run ends; ``None`` ends it
            after ``epochs`` passes.
        optimizer: ``adamw`` or ``sgd``.
        precision: ``fp32`` or ``bf16`` (autocast).
        threads: Intra-op threads on CPU; part of what makes a run repeatable.
        knobs: Initial values of the policies' knobs, all of them.
        changes: Knob changes to replay, by step.
        clip_norm: Gradients are scaled down to this norm; 0 leaves them alone.
        size: Size of the model: ``small``, ``medium`` or ``large``.
        data: How the task's data is made, all of the task's settings for that.
    """

    task: str
    model: str
    selection: str
    update: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    device: str
    budget: float | None
    optimizer: str
    precision: str
    threads: int
    knobs: Mapping[str, KnobValue | None]
    changes: tuple[KnobChange, ...] = ()
    clip_norm: float = 0.0
    size: str = "medium"
    data: Mapping[str, KnobValue] = field(default_factory=dict)
    intensity: str = "full"


@with_old_names
@dataclass(frozen=True, slots=True)
class Energy:
    """Joules over a window, inseparable from how they came to be known.

    Attributes:
        joules: The value, or ``None`` where only an interval or nothing is known.
        lo: Lower end of the interval, J.
        hi: Upper end of the interval, J.
        seconds: Length of the window.
        quality: How it came to be known.
        source: The instrument, in words.
        scope: What it covers, in words.
        notes: Anything a reader must know before quoting it.
        device_uuid: The board that was read, where it has such a name.
        ticks: Refreshes of the counter that were seen, where it moves in steps.
        max_gap_s: Longest time between two readings.
        crosscheck: Joules of the counter over those of the average power, over the same
            time; ``None`` where that was not possible.
        contended: Whether others used what the instrument covers: then the joules are
            everybody's, not the run's.
        throttled_s: Time during which the board's clocks were held down, where it tells that.
        left_out: Parts of the machine that the instrument does not cover, in words.
        card: The board or processor, where the instrument names it.
        driver: What was asked and its version, where that is known.
        power_limit_w: The lowest power limit during the run; ``None`` where it is not reported.
        hz: Readings a second that were meant to be taken.
        step_s: Time between two steps of a counter whose steps were not timed, s: each edge
            may be out by one of them.
        idle_w: Mean power of the same instrument with the work held, W: lower end, value and
            upper end of each such reading beside the run, in their order.
        idle_s: How long each of them lasted, s; none where that was not recorded.
    """

    joules: float | None
    lo: float | None
    hi: float | None
    seconds: float
    quality: EnergyQuality
    source: str
    scope: str
    notes: tuple[str, ...] = ()
    device_uuid: str | None = None
    ticks: int = 0
    max_gap_s: float = 0.0
    crosscheck: float | None = None
    contended: bool = False
    throttled_s: float | None = None
    left_out: str = ""
    card: str = ""
    driver: str = ""
    power_limit_w: float | None = None
    hz: float = 0.0
    step_s: float = 0.0
    idle_w: tuple[tuple[float, ...], ...] = ()
    idle_s: tuple[float, ...] = ()

    def __str__(self) -> str:
        """Say the value with its quality, source and scope; never without."""
        return f"{self.short_text()} · {self.scope} · {self.source}"

    def short_text(self) -> str:
        """Say the value with its quality, where there is no room for more."""
        quality = self.quality.value.upper()
        if self.joules is not None:
            return f"{self.joules:,.1f} J {quality}"
        if self.lo is not None and self.hi is not None:
            return f"≈ {self.lo:,.0f}–{self.hi:,.0f} J {quality}"
        return f"no joules: {quality}"


class RunStart(NamedTuple):
    """Facts fixed before the first step."""

    n_train: int
    flops_per_example: float  # one dense step, optimizer included, per example
    flops_dense: float  # the dense run of ``epochs`` passes
    flops_end: float | None  # the run ends here, where a budget is set
    n_parameters: int

    @property
    def flops_full(self) -> float:
        """FLOPs of full training: this configuration trained densely for its epochs."""
        return self.flops_dense


class StepEvent(NamedTuple):
    """One batch was trained on; ``step`` counts from 1."""

    step: int
    progress: float  # 0..1, towards the end of the run
    pending: int  # steps not yet reported in a StepBlock, this one included


class StepBlock(NamedTuple):
    """Rows of the step table since the last block: shape (columns, rows), float64."""

    rows: FloatArray


class PhaseEvent(NamedTuple):
    """Seconds spent in each of ``PHASES`` by ``seconds`` of the run clock."""

    seconds: float
    spent: tuple[float, ...]
    marks: FloatArray | None = None  # (2, n): phases, and when they began, monotonic s


class EvalEvent(NamedTuple):
    """The validation split was evaluated."""

    step: int
    considered: int
    seconds: float
    flops: float
    loss: float
    metric: float


@with_old_names
class EpochDrawEvent(NamedTuple):
    """Which examples a pass draws, from position ``step`` on.

    ``drawn_bits`` packs one bit per example in dataset order (``numpy.packbits``). A knob
    change within the pass emits a second record with the part not yet visited re-decided.
    """

    step: int
    epoch_index: int
    drawn_bits: NDArray[np.uint8]
    n_drawn: int


class LossHistogram(NamedTuple):
    """Distribution of the last known loss of each example, and where it is cut.

    ``edges`` has one more entry than ``counts``; the first bin also holds everything
    below it and the last everything above. ``threshold`` is NaN where nothing is cut by
    loss. ``n_unseen`` examples have no loss yet and are counted nowhere.
    """

    step: int
    edges: FloatArray
    counts: NDArray[np.int64]
    threshold: float
    n_unseen: int


class ViewEvent(NamedTuple):
    """The task's view: pictures, texts and points by name, each with a caption."""

    step: int
    items: Mapping[str, ViewItem]
    captions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What a run came to."""

    status: RunStatus
    reason: str
    metric_name: str
    metric: float | None
    passes: int
    examples_considered: int
    examples_trained: int
    flops_spent: float
    flops_dense: float  # dense training over the same passes
    seconds: float
    parameters_sha256: str | None
    details: Mapping[str, float] = field(default_factory=dict)  # of the test split, by name
    flops_full: float | None = None  # dense training for the configuration's epochs

    @property
    def skipped_compute_frac(self) -> SkippedFrac:
        """1 − FLOPs spent ÷ FLOPs of dense training over the same examples."""
        return skipped_frac(self.flops_spent, self.flops_dense)

    @property
    def saved_compute_frac(self) -> SavedFrac | None:
        """1 − FLOPs spent ÷ FLOPs of full training; ``None`` where the latter are unknown."""
        return saved_frac(self.flops_spent, self.flops_full)

    def with_flops_full(self, start: RunStart | None) -> RunEnd:
        """Return the end with full training's FLOPs; older versions recorded them at the start."""
        if self.flops_full is not None or start is None:
            return self
        return replace(self, flops_full=start.flops_full)


Event = (
    RunStart
    | StepEvent
    | StepBlock
    | PhaseEvent
    | EvalEvent
    | KnobChange
    | EpochDrawEvent
    | EpochRecord
    | LossHistogram
    | ViewEvent
    | RunEnd
)


def skipped_frac(flops_spent: float, flops_dense: float) -> SkippedFrac:
    """Return 1 − spent ÷ dense training over the examples considered; 0 where there were none."""
    return SkippedFrac(1.0 - flops_spent / flops_dense if flops_dense > 0 else 0.0)


def saved_frac(flops_spent: float, flops_full: float | None) -> SavedFrac | None:
    """Return 1 − spent ÷ full training; ``None`` where full training's FLOPs are unknown."""
    if flops_full is None or not flops_full > 0:
        return None
    return SavedFrac(1.0 - flops_spent / flops_full)


@with_old_names
@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable look at a run, live or stored; what pages, charts and exports read.

    The tables have shape (columns, rows), float64, columns as named at the top of this
    module. A live run's arrays are views that never change once published. Of a live run's
    power, the older half is thinned after an hour; ``power_left_out`` says by how many rows.
    """

    run_id: str
    config: RunConfig
    status: RunStatus
    created_unix: float
    start: RunStart | None
    end: RunEnd | None
    progress: float
    steps: FloatArray
    evals: FloatArray
    power: FloatArray
    changes: tuple[KnobChange, ...]
    energy: Energy
    exploratory: bool
    reference_id: str | None = None
    reason: str = ""
    epoch_draws: tuple[EpochDrawEvent, ...] = ()
    histogram: LossHistogram | None = None
    view: ViewEvent | None = None
    knobs: Mapping[str, KnobValue | None] = field(default_factory=dict)
    phases: FloatArray = field(default_factory=lambda: np.empty((len(PHASE_COLUMNS), 0)))
    attribution: PhaseAttribution = ATTRIBUTION_NOT_RECORDED
    resumed: ResumeHistory = ResumeHistory()
    power_left_out: int = 0

    @property
    def steps_done(self) -> int:
        """Batches trained on so far, as far as they were reported."""
        return int(self.steps[0, -1]) if self.steps.shape[1] else 0

    def column(self, name: str) -> FloatArray:
        """Return one column of the step table."""
        result: FloatArray = self.steps[STEP_COLUMNS.index(name)]
        return result
