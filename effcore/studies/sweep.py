"""A sweep: knobs and budgets of a policy, searched for the frontier of metric against cost.

Every trial spends a budget of its own, so that its cost is known beforehand and its learning
rate has decayed by its end. What it must beat is drawn in beside it: dense training at
several budgets. What looks best is then looked at again on seeds of its own. All of it is on
the validation split; the test split is left to the study that confirms a point.
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
from effcore.store.config_serialization import config_to_dict
from effcore.store.study_table import SWEEP_KEY_PREFIX
from effcore.studies.executor import StudyRun
from effcore.studies.plan import (
    parse_policy_stack,
    resolve_margin,
    split_policy_settings,
    validate_seeds,
)
from effcore.tasks.base import TASKS

#: Shares of the dense compute at which dense training is drawn in, the whole of it first.
DENSE_BUDGETS = (1.0, 0.8, 0.6, 0.45, 0.3)
#: Least and largest budget that is searched.
BUDGET_RANGE = (0.2, 0.9)
#: Budgets at which the policy's own defaults are tried before anything is searched.
INITIAL_BUDGETS = (0.6, 0.45, 0.3)
#: Seeds of the second look and of the study that confirms: how many, and from which on.
REPLICATION_SEEDS, FIRST_REPLICATION_SEED, FIRST_CONFIRMATION_SEED = 8, 50, 100
#: What the names of both kinds of points begin with.
DENSE_PREFIX, TRIAL_PREFIX = "dense", "trial"


class SearchRange(NamedTuple):
    """A knob, or the budget, and where it is searched."""

    name: str
    lo: float
    hi: float
    integer: bool = False
    log: bool = False


@dataclass(frozen=True)
class SweepPlan:
    """What is searched; fixed before the first run, but for the number of trials.

    Attributes:
        shared: Settings of all runs, as for :func:`~effcore.config.resolve`.
        policy: Ids of policies, those of several kinds with ``+`` between.
        own: The policies by kind, and knobs that are held fixed.
        seeds: Each point is trained on all of them.
        trials: Points to try, dense ones not counted.
        margin: A difference of no consequence, in the metric's scale.
        by: ``joules`` or ``flops``: what cost is.
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
        """A text that is equal for sweeps that differ in the number of trials alone."""
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
    """Return a sweep over the knobs of a policy that are not given.

    Args:
        settings: Shared settings, and knobs that are to be held fixed.
        policy: Id of a selection policy; with ``+`` between, ids of other kinds too.
        trials: Points to try, the policy's defaults included.
        seeds: Each point is trained on all of them.
        margin: A difference of no consequence; the task's own where not given.
        by: ``joules`` where they are measured, else ``flops``.

    Raises:
        ConfigError: A setting, policy, margin or number that is not allowed.
    """
    if trials < 1:
        raise ConfigError("trials", f"trials={trials} is not allowed: at least one")
    validate_seeds(seeds)
    margin = resolve_margin(str(settings["task"]), margin)
    shared, arms = split_policy_settings(settings, [policy])
    plan = SweepPlan(shared, policy, arms[policy], tuple(seeds), trials, margin, by)
    for cell in dense_curve_runs(
        plan
    ):  # each is resolved, so that what is impossible is refused now
        trial_config(plan, {}, INITIAL_BUDGETS[0], cell.seed)
    return plan


def search_space(plan: SweepPlan) -> list[SearchRange]:
    """Return what is searched: the budget, and the knobs in force by default and not given."""
    found = [SearchRange("budget", *BUDGET_RANGE)]
    in_force = trial_config(plan, {}, INITIAL_BUDGETS[0], plan.seeds[0]).knobs
    for kind, name in parse_policy_stack(plan.policy).items():
        for spec in knobs_of(POLICY_REGISTRIES[kind].get(name)):
            if spec.name not in plan.own and in_force[spec.name] is not None:
                found.append(SearchRange(spec.name, spec.lo, spec.hi, spec.integer, spec.log))
    return found


def default_knobs(plan: SweepPlan) -> dict[str, KnobValue]:
    """Return what the searched knobs are by default."""
    in_force = trial_config(plan, {}, INITIAL_BUDGETS[0], plan.seeds[0]).knobs
    values = ((each.name, in_force.get(each.name)) for each in search_space(plan))
    return {name: value for name, value in values if value is not None}


def replication_seeds(plan: SweepPlan) -> tuple[int, ...]:
    """Return the seeds of the second look, none of which the search has seen."""
    return _unused_seeds(FIRST_REPLICATION_SEED, REPLICATION_SEEDS, plan.seeds)


def confirmation_seeds(plan: SweepPlan, count: int) -> tuple[int, ...]:
    """Return seeds that neither the search nor the second look has seen."""
    return _unused_seeds(FIRST_CONFIRMATION_SEED, count, (*plan.seeds, *replication_seeds(plan)))


def _unused_seeds(first: int, count: int, used: Sequence[int]) -> tuple[int, ...]:
    unseen = (seed for seed in itertools.count(first) if seed not in used)
    return tuple(itertools.islice(unseen, count))


def dense_curve_runs(plan: SweepPlan) -> Iterator[StudyRun]:
    """Yield the dense runs, the longest first."""
    for budget in DENSE_BUDGETS:
        yield from dense_runs(plan, budget, plan.seeds)


def dense_runs(plan: SweepPlan, budget: float, seeds: Sequence[int]) -> list[StudyRun]:
    """Return dense runs of one budget."""
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
    """Return the runs of a trial, on the search's seeds where no others are given."""
    among = plan.seeds if seeds is None else seeds
    configs = (trial_config(plan, knobs, budget, seed) for seed in among)
    return [StudyRun(f"{TRIAL_PREFIX} {number}", config.seed, config) for config in configs]


def trial_config(
    plan: SweepPlan, knobs: Mapping[str, KnobValue], budget: float, seed: int
) -> RunConfig:
    """Return how one run of a trial is configured."""
    return resolve({**plan.shared, **plan.own, **knobs, "budget": budget, "seed": seed})


def sweep_to_command(plan: SweepPlan) -> str:
    """Return the command line that carries a sweep out, or goes on with it."""
    words = ["python", "-m", "effcore", "sweep"]
    held = {name: value for name, value in plan.own.items() if name not in POLICY_REGISTRIES}
    for name, value in {**plan.shared, **held}.items():
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
        ValueError: The text is not as written.
    """
    try:
        data = json.loads(text)
        plan = SweepPlan(**{**data, "seeds": tuple(data["seeds"])})
        return plan_sweep(
            {**plan.shared, **plan.own}, plan.policy, plan.trials, plan.seeds, plan.margin, plan.by
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the plan of a sweep is not as written: {error!r}") from error
