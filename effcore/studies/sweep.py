"""Sweep plans: a search over a policy's knobs and budget for the best metric at each cost.

Every trial has its own budget, so its cost is known beforehand and its learning rate has decayed
by its end. A trial must beat same-budget training, so the sweep also trains without a policy at
several budgets: the dense curve. The best trials are then rerun on fresh seeds. The sweep uses the
validation split only; the test split is reserved for the study that confirms a trial.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from effcore.config import ConfigError, model_data_fingerprint, resolve
from effcore.knobs import knobs_of
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import KnobValue, RunConfig
from effcore.records.settings import Settings
from effcore.store.serialization import config_to_dict
from effcore.store.study_table import SWEEP_KEY_PREFIX
from effcore.studies.executor import StudyRun
from effcore.studies.plan import (
    parse_policy_stack,
    resolve_margin,
    split_policy_settings,
    validate_seeds,
)
from effcore.tasks.base import TASKS

#: Budgets of the dense curve as shares of full training's compute, full training first.
DENSE_BUDGETS = (1.0, 0.8, 0.6, 0.45, 0.3)
#: Smallest and largest budget that is searched.
BUDGET_RANGE = (0.2, 0.9)
#: Budgets of the first trials, which use the policy's default knobs.
INITIAL_BUDGETS = (0.6, 0.45, 0.3)
#: Number of fresh seeds and the first one for replications; first seed of the confirming study.
REPLICATION_SEEDS, FIRST_REPLICATION_SEED, FIRST_CONFIRMATION_SEED = 8, 50, 100
#: Prefixes of the names of dense points and of trials.
DENSE_PREFIX, TRIAL_PREFIX = "dense", "trial"


class SearchRange(NamedTuple):
    """The range in which a knob or the budget is searched."""

    name: str
    lo: float
    hi: float
    integer: bool = False
    log: bool = False


@dataclass(frozen=True)
class SweepPlan:
    """The plan of a sweep, fixed before its first run; only trials can be added later.

    Attributes:
        shared: Settings of all runs, as for :func:`~effcore.config.resolve`.
        policy: Id of a policy; several kinds are joined by ``+``.
        own: The policy of each kind, and the knobs that stay fixed.
        seeds: Seeds on which each point is trained.
        trials: Number of trials; the dense points are not counted.
        margin: The difference of no consequence, in the metric's scale.
        by: What cost is measured in: ``joules`` or ``flops``.
    """

    shared: Settings
    policy: str
    own: Settings
    seeds: tuple[int, ...]
    trials: int
    margin: float
    by: str

    @property
    def key(self) -> str:
        """A text that is equal for sweeps that differ only in the number of trials."""
        config = trial_config(self, {}, INITIAL_BUDGETS[0], self.seeds[0])
        data = [
            config_to_dict(config),
            model_data_fingerprint(config),
            self.margin,
            self.by,
            self.seeds,
        ]
        return SWEEP_KEY_PREFIX + json.dumps([*data, sorted(self.own)], sort_keys=True)


def metric_sign(plan: SweepPlan) -> float:
    """Return 1 where a higher metric is better, else -1."""
    return TASKS.get(str(plan.shared["task"])).metric.sign


def plan_sweep(
    settings: Settings,
    policy: str,
    trials: int,
    seeds: Sequence[int],
    margin: float | None = None,
    by: str = "flops",
) -> SweepPlan:
    """Plan a sweep over the knobs of a policy that the settings leave open.

    Args:
        settings: Shared settings, and knobs that stay fixed.
        policy: Id of a selection policy, or a stack of several kinds such as
            ``auto+depth-growth``.
        trials: Number of trials, including those with the policy's default knobs.
        seeds: Seeds on which each point is trained.
        margin: The difference of no consequence; the task's own where not given.
        by: ``joules`` where they are measured, else ``flops``.

    Raises:
        ConfigError: A setting, policy, margin or number that is not allowed.
    """
    if trials < 1:
        raise ConfigError("trials", f"trials={trials} is not allowed: give at least one")
    validate_seeds(seeds)
    margin = resolve_margin(str(settings["task"]), margin)
    shared, policy_settings = split_policy_settings(settings, [policy])
    plan = SweepPlan(shared, policy, policy_settings[policy], tuple(seeds), trials, margin, by)
    for run in dense_curve_runs(plan):  # resolves each run, which refuses impossible settings now
        trial_config(plan, {}, INITIAL_BUDGETS[0], run.seed)
    return plan


def search_space(plan: SweepPlan) -> list[SearchRange]:
    """Return the search ranges of the budget and of each knob that the plan does not fix.

    A knob that is off by default is not searched.
    """
    ranges = [SearchRange("budget", *BUDGET_RANGE)]
    defaults = trial_config(plan, {}, INITIAL_BUDGETS[0], plan.seeds[0]).knobs
    for kind, name in parse_policy_stack(plan.policy).items():
        for spec in knobs_of(POLICY_REGISTRIES[kind].get(name)):
            if spec.name not in plan.own and defaults[spec.name] is not None:
                ranges.append(SearchRange(spec.name, spec.lo, spec.hi, spec.integer, spec.log))
    return ranges


def default_trial_knobs(plan: SweepPlan) -> dict[str, KnobValue]:
    """Return the default values of the searched knobs."""
    defaults = trial_config(plan, {}, INITIAL_BUDGETS[0], plan.seeds[0]).knobs
    values = ((searched.name, defaults.get(searched.name)) for searched in search_space(plan))
    return {name: value for name, value in values if value is not None}


def replication_seeds(plan: SweepPlan) -> tuple[int, ...]:
    """Return the fresh seeds of the replications, which the search does not use."""
    return _unused_seeds(FIRST_REPLICATION_SEED, REPLICATION_SEEDS, plan.seeds)


def confirmation_seeds(plan: SweepPlan, count: int) -> tuple[int, ...]:
    """Return fresh seeds, which neither the search nor the replications use."""
    return _unused_seeds(FIRST_CONFIRMATION_SEED, count, (*plan.seeds, *replication_seeds(plan)))


def _unused_seeds(first: int, count: int, used: Sequence[int]) -> tuple[int, ...]:
    unused = (seed for seed in itertools.count(first) if seed not in used)
    return tuple(itertools.islice(unused, count))


def dense_curve_runs(plan: SweepPlan) -> Iterator[StudyRun]:
    """Yield the runs of the dense curve, full training first."""
    for budget in DENSE_BUDGETS:
        yield from dense_runs(plan, budget, plan.seeds)


def dense_runs(plan: SweepPlan, budget: float, seeds: Sequence[int]) -> list[StudyRun]:
    """Return runs without a policy at one budget, one for each seed."""
    settings = {**plan.shared, "selection": "dense", "budget": budget}
    name = f"{DENSE_PREFIX} {budget:g}"
    return [StudyRun(name, seed, resolve({**settings, "seed": seed})) for seed in seeds]


def trial_runs(
    plan: SweepPlan,
    number: int,
    knobs: Mapping[str, KnobValue],
    budget: float,
    seeds: Sequence[int] | None = None,
) -> list[StudyRun]:
    """Return the runs of a trial, by default on the search's seeds."""
    trial_seeds = plan.seeds if seeds is None else seeds
    configs = (trial_config(plan, knobs, budget, seed) for seed in trial_seeds)
    return [StudyRun(f"{TRIAL_PREFIX} {number}", config.seed, config) for config in configs]


def trial_config(
    plan: SweepPlan, knobs: Mapping[str, KnobValue], budget: float, seed: int
) -> RunConfig:
    """Return the configuration of one run of a trial."""
    return resolve({**plan.shared, **plan.own, **knobs, "budget": budget, "seed": seed})


def sweep_to_command(plan: SweepPlan) -> str:
    """Return the command line that runs a sweep, or continues it."""
    words = ["python", "-m", "effcore", "sweep"]
    fixed_knobs = {n: value for n, value in plan.own.items() if n not in POLICY_REGISTRIES}
    for name, value in {**plan.shared, **fixed_knobs}.items():
        text = repr(value) if isinstance(value, float) else str(value)
        words += ["--" + name.replace("_", "-"), text]
    words += ["--policy", plan.policy, "--trials", str(plan.trials)]
    words += ["--seeds", str(len(plan.seeds)), "--first-seed", str(plan.seeds[0])]
    return shlex.join([*words, "--margin", repr(plan.margin)])


def sweep_to_json(plan: SweepPlan) -> str:
    """Return a plan as JSON."""
    return json.dumps(asdict(plan), sort_keys=True)


def sweep_from_json(text: str) -> SweepPlan:
    """Rebuild a plan from :func:`sweep_to_json`.

    Raises:
        ValueError: The text is damaged.
    """
    try:
        data = json.loads(text)
        plan = SweepPlan(**{**data, "seeds": tuple(data["seeds"])})
        return plan_sweep(
            {**plan.shared, **plan.own}, plan.policy, plan.trials, plan.seeds, plan.margin, plan.by
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the stored plan of a sweep is damaged: {error!r}") from error
