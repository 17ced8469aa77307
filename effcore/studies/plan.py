"""Study plans: the variants and seeds that a study compares, fixed before its first run.

All variants share task, model, size, batch size, learning rate, epochs and seeds. They differ in
policies and budget. Full training (stored as ``D100``) spends the whole budget, same-budget
training (``D-B``) the study's budget without a policy. ``random`` skips examples at random. Each
policy spends the study's budget.

``random`` skips the share 1 − budget, so that it considers as many epochs as full training. A
policy's own skipped share would be no fair choice: it is known only after the run, and differs
between policies and seeds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from effcore.config import ConfigError, model_data_fingerprint, resolve
from effcore.knobs import knobs_of
from effcore.policies.combination import POLICY_REGISTRIES, registered_policies
from effcore.records.settings import Settings, SettingValue
from effcore.store.serialization import config_to_dict
from effcore.studies.executor import StudyRun
from effcore.studies.verdict import DENSE_FULL, DENSE_MATCHED
from effcore.tasks.base import TASKS

RANDOM_SKIPPING = "random"
#: Names of the baselines, which no policy may have.
BASELINES = (DENSE_FULL, DENSE_MATCHED, RANDOM_SKIPPING)
#: Smallest and largest margin, in the metric's scale.
MARGIN_RANGE = (1e-6, 1e3)


class StudyVariant(NamedTuple):
    """A variant of a study: its name and its settings beside the shared ones."""

    name: str
    settings: Settings


@dataclass(frozen=True)
class StudyPlan:
    """The plan of a study, fixed before its first run; only seeds can join later.

    Attributes:
        shared: Settings of all variants, as for :func:`~effcore.config.resolve`.
        arms: Settings of each policy, by name.
        budget: Share of full training's compute that all variants but full training spend.
        seeds: Paired seeds.
        margin: The difference of no consequence, in the metric's scale.
        margins: Earlier margins, oldest first. A changed margin makes the study exploratory.
        extended: Number of seeds each time that more joined. Adding seeds after seeing results
            makes the study exploratory, too.
        baselines: The baselines by name, each with settings that replace its usual ones. It must
            hold full and same-budget training. ``None`` means all baselines, unchanged.
    """

    shared: Settings
    arms: Mapping[str, Settings]
    budget: float
    seeds: tuple[int, ...]
    margin: float
    margins: tuple[float, ...] = ()
    extended: tuple[int, ...] = ()
    baselines: Mapping[str, Settings] | None = None

    @property
    def key(self) -> str:
        """A text that is equal for studies that differ only in seeds and margin."""
        first = [run for run in planned_runs(self) if run.seed == self.seeds[0]]
        configs = {run.variant: config_to_dict(replace(run.config, seed=0)) for run in first}
        return json.dumps([configs, model_data_fingerprint(first[0].config)], sort_keys=True)

    @property
    def exploratory_reasons(self) -> list[str]:
        """Why its verdicts are exploratory; empty where the plan was not changed."""
        why = []
        if self.margins:
            metric = TASKS.get(str(self.shared["task"])).metric
            each = ", then ".join(f"{metric.factor * m:.4g}" for m in (*self.margins, self.margin))
            unit = f" {metric.difference_unit}".rstrip()
            why.append(f"The margin was changed after the study began: {each}{unit}.")
        if self.extended:
            counts = ", ".join(str(count) for count in self.extended)
            why.append(f"Seeds were added after the results of {counts} could be seen.")
        return why


def plan_study(
    settings: Settings,
    policies: Sequence[str],
    budget: float,
    seeds: Sequence[int],
    margin: float | None = None,
) -> StudyPlan:
    """Plan a study of policies that all spend the same budget.

    Args:
        settings: Shared settings, and knobs for the policies that have them.
        policies: Ids of selection policies, or stacks of several kinds such as
            ``auto+depth-growth``.
        budget: Share of full training's compute, between 0 and 1.
        seeds: Paired seeds.
        margin: The difference of no consequence; the task's own where not given.

    Raises:
        ConfigError: A setting, policy, budget or margin that is not allowed.
    """
    validate_budget(budget)
    validate_seeds(seeds)
    margin = resolve_margin(str(settings["task"]), margin)
    shared, arms = split_policy_settings(settings, policies)
    plan = StudyPlan(shared, arms, budget, tuple(seeds), margin)
    for _ in planned_runs(plan):  # resolves each run, which refuses impossible settings now
        pass
    return plan


def validate_budget(budget: float) -> None:
    """Check that a study's budget is less than full training's.

    Raises:
        ConfigError: It does not lie between 0 and 1.
    """
    if not 0 < budget < 1:
        raise ConfigError(
            "budget", f"budget={budget:g} is not allowed: it must lie between 0 and 1"
        )


def validate_seeds(seeds: Sequence[int]) -> None:
    """Check that there is at least one seed and that none is repeated.

    Raises:
        ConfigError: There is none, or one is repeated.
    """
    if len(set(seeds)) != len(seeds) or not seeds:
        raise ConfigError(
            "seeds", f"seeds={list(seeds)} is not allowed: give at least one, each once"
        )


def resolve_margin(task: str, given: float | None) -> float:
    """Return the given margin, or the task's own where it is ``None``.

    Raises:
        ConfigError: A margin that is not allowed.
    """
    margin, (least, most) = TASKS.get(task).metric.margin if given is None else given, MARGIN_RANGE
    if not least <= margin <= most:
        raise ConfigError(
            "margin",
            f"margin={margin:g} is not allowed: expected a number above 0, from {least:g} to "
            f"{most:g}, in the metric's own scale",
        )
    return margin


def split_policy_settings(
    settings: Settings, policies: Sequence[str]
) -> tuple[dict[str, SettingValue], dict[str, dict[str, SettingValue]]]:
    """Split settings into the shared ones and the knobs of each policy.

    Raises:
        ConfigError: A policy that is a baseline or no policy, or a knob of none of them.
    """
    knobs = policy_knob_names()
    given = {name: value for name, value in settings.items() if value is not None}
    shared: dict[str, SettingValue] = {
        name: value for name, value in given.items() if name not in knobs | set(POLICY_REGISTRIES)
    }
    arms: dict[str, dict[str, SettingValue]] = {}
    for name in policies:
        if name in BASELINES or name == "dense":
            raise ConfigError(
                "policy", f"policy={name!r} is a baseline, which every study has: leave it out"
            )
        chosen = parse_policy_stack(name)
        ids = (POLICY_REGISTRIES[kind].get(each) for kind, each in chosen.items())
        own = {spec.name for policy in ids for spec in knobs_of(policy)}
        arms[name] = {**chosen, **{n: v for n, v in given.items() if n in own}}
    if not arms:
        raise ConfigError("policy", "a study needs a policy: name one, or several with commas")
    unused = (set(given) & knobs).difference(*arms.values())
    if unused:
        raise ConfigError(
            min(unused), f"{min(unused)} is no knob of {', '.join(arms)}: leave it out"
        )
    return shared, arms


def policy_knob_names() -> set[str]:
    """Return the names of all knobs of all policies."""
    return {spec.name for policy in registered_policies() for spec in knobs_of(policy)}


def parse_policy_stack(name: str) -> dict[str, str]:
    """Return the policy ids of a stack ``a+b+c`` by their kind."""
    chosen, named = {"selection": "dense"}, set[str]()
    for part in name.split("+"):
        kinds = [kind for kind, registry in POLICY_REGISTRIES.items() if part in registry.ids()]
        kind = kinds[0] if kinds else "selection"
        POLICY_REGISTRIES[kind].get(part)  # names the nearest where it is unknown
        if kind in named or part == "dense":
            raise ConfigError(
                "policy",
                f"policy={name!r} is not allowed: at most one of each kind, dense left out",
            )
        chosen[kind] = part
        named.add(kind)
    return chosen


def variants_of(plan: StudyPlan) -> list[StudyVariant]:
    """Return all variants, the baselines first."""
    usual: dict[str, Settings] = {
        DENSE_FULL: {"selection": "dense", "budget": 1.0},
        DENSE_MATCHED: {"selection": "dense", "budget": plan.budget},
        RANDOM_SKIPPING: {
            "selection": "random", "skip_fraction": 1.0 - plan.budget, "budget": plan.budget,
        },
    }  # fmt: skip
    changes = {name: {} for name in BASELINES} if plan.baselines is None else plan.baselines
    baselines = {name: {**usual[name], **changes[name]} for name in BASELINES if name in changes}
    policies = {name: {**own, "budget": plan.budget} for name, own in plan.arms.items()}
    return [StudyVariant(*variant) for variant in (*baselines.items(), *policies.items())]


def planned_runs(plan: StudyPlan) -> Iterator[StudyRun]:
    """Yield the runs seed by seed.

    Every second seed runs its variants in reverse, so that a machine that slows down over time
    affects all variants alike.
    """
    variants = variants_of(plan)
    for place, seed in enumerate(plan.seeds):
        for variant in variants if place % 2 == 0 else variants[::-1]:
            config = resolve({**plan.shared, **variant.settings, "seed": seed})
            yield StudyRun(variant.name, seed, config)


def merge_plans(old: StudyPlan, new: StudyPlan, results_seen: bool = True) -> StudyPlan:
    """Return the plan that continues a study: the seeds of both plans, and the new margin.

    Args:
        old: The stored plan.
        new: The new plan.
        results_seen: Whether results could be seen before. If so, changes of margin and seeds are
            recorded, which makes the study exploratory.
    """
    seeds = tuple(dict.fromkeys((*old.seeds, *new.seeds)))
    if not results_seen:
        return replace(new, seeds=seeds, margins=old.margins, extended=old.extended)
    margins = old.margins if old.margin == new.margin else (*old.margins, old.margin)
    grown = len(seeds) > len(old.seeds)
    extended = (*old.extended, len(old.seeds)) if grown else old.extended
    return replace(new, seeds=seeds, margins=margins, extended=extended)


def plan_to_json(plan: StudyPlan) -> str:
    """Return a plan as JSON."""
    fields = {name: value for name, value in asdict(plan).items() if value is not None}
    return json.dumps(fields, sort_keys=True)


def plan_from_json(text: str) -> StudyPlan:
    """Rebuild a plan from :func:`plan_to_json`.

    Raises:
        ValueError: The text is not as written.
    """
    try:
        data = json.loads(text)
        listed = {name: tuple(data[name]) for name in ("seeds", "margins", "extended")}
        plan = StudyPlan(**{**data, **listed})
        numbers = (plan.budget, plan.margin, *plan.seeds, *plan.margins, *plan.extended)
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("a number is none")
        if not all(isinstance(number, int) for number in (*plan.seeds, *plan.extended)):
            raise ValueError("a seed or a count is no whole number")
        if not plan.arms:
            raise ValueError("it has no policies")
        for _ in planned_runs(plan):
            pass
        return plan
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the plan of a study is not as written: {error!r}") from error


def plan_to_command(plan: StudyPlan) -> str:
    """Return the command line that runs or continues a study."""
    words = ["python", "-m", "effcore", "compare"]
    own = {n: v for arm in plan.arms.values() for n, v in arm.items() if n not in POLICY_REGISTRIES}
    for name, value in {**plan.shared, **own}.items():
        text = repr(value) if isinstance(value, float) else str(value)
        words += ["--" + name.replace("_", "-"), text]
    words += ["--policy", ",".join(plan.arms), "--budget", repr(plan.budget)]
    words += ["--seed-list", ",".join(str(seed) for seed in plan.seeds)]
    return shlex.join([*words, "--margin", repr(plan.margin)])
