"""A study: arms and seeds that are compared, and what was fixed before it began.

Arms share task, model, size, batch, rate, length and seeds, and differ in policies and budget.
D100 is dense training of full length, D-B dense training of the budget, ``random`` leaves out
the same share at random; each policy spends the same budget.

The same share is one minus the budget, for all policies of a study: ``random`` then sees as
many passes as D100, each with so much less. It is not the share that a policy came to leave out,
which is known after its run alone and differs from policy to policy and seed to seed: the arm
would hang on results, and could neither be planned nor gone on with. At equal compute the share
only decides over how many passes the same examples are spread.
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
from effcore.store.config_serialization import config_to_dict
from effcore.studies.executor import StudyRun
from effcore.tasks.base import TASKS

DENSE_FULL, DENSE_MATCHED, RANDOM_SKIPPING = "D100", "D-B", "random"
#: Arms that no policy may be called by.
BASELINES = (DENSE_FULL, DENSE_MATCHED, RANDOM_SKIPPING)
#: Least and largest margin, in the metric's scale: less is rounding, more is beyond any metric.
MARGIN_RANGE = (1e-6, 1e3)


class StudyVariant(NamedTuple):
    """One side of the comparison: its name and what it adds to the shared settings."""

    name: str
    settings: Settings


@dataclass(frozen=True)
class StudyPlan:
    """What a study compares; fixed before its first run, but for seeds that join later.

    Attributes:
        shared: Settings of all arms, as for :func:`~effcore.config.resolve`.
        arms: The policies' arms, by name; the baselines are always there.
        budget: Share of the dense compute of all arms but D100.
        seeds: Paired seeds.
        margin: A difference of no consequence, in the metric's scale.
        margins: Margins that held before, oldest first: changing it later is shown.
        extended: How many seeds there were each time that more joined, which is shown too:
            who adds seeds until something is shown will be shown something.
    """

    shared: Settings
    arms: Mapping[str, Settings]
    budget: float
    seeds: tuple[int, ...]
    margin: float
    margins: tuple[float, ...] = ()
    extended: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """A text that is equal for studies that differ in seeds and margin alone."""
        first = [cell for cell in planned_runs(self) if cell.seed == self.seeds[0]]
        arms = {c.variant: config_to_dict(replace(c.config, seed=0)) for c in first}
        return json.dumps([arms, model_data_fingerprint(first[0].config)], sort_keys=True)

    @property
    def exploratory_reasons(self) -> list[str]:
        """Why its verdicts are exploratory; nothing where it was carried out as planned."""
        why = []
        if self.margins:
            metric = TASKS.get(str(self.shared["task"])).metric
            each = ", then ".join(f"{metric.factor * m:.4g}" for m in (*self.margins, self.margin))
            unit = f" {metric.difference_unit}".rstrip()
            why.append(f"The margin was changed after the study began: {each}{unit}.")
        if self.extended:
            counts = ", ".join(str(count) for count in self.extended)
            why.append(f"Seeds joined after there were {counts}, when results could be seen.")
        return why


def plan_study(
    settings: Settings,
    policies: Sequence[str],
    budget: float,
    seeds: Sequence[int],
    margin: float | None = None,
) -> StudyPlan:
    """Return a study of policies at equal compute.

    Args:
        settings: Shared settings, and knobs for the policies that have them.
        policies: Ids of selection policies; with ``+`` between, ids of other kinds too, as in
            ``auto+depth-growth``.
        budget: Share of the dense compute, between 0 and 1.
        seeds: Paired seeds.
        margin: A difference of no consequence; the task's own where not given.

    Raises:
        ConfigError: A setting, policy, budget or margin that is not allowed; nothing has run.
    """
    if not 0 < budget < 1:
        raise ConfigError(
            "budget", f"budget={budget:g} is not allowed: it must lie between 0 and 1"
        )
    validate_seeds(seeds)
    margin = resolve_margin(str(settings["task"]), margin)
    shared, arms = split_policy_settings(settings, policies)
    plan = StudyPlan(shared, arms, budget, tuple(seeds), margin)
    for _ in planned_runs(plan):  # each is resolved, so that what is impossible is refused now
        pass
    return plan


def validate_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that are none, or one of which is there twice.

    Raises:
        ConfigError: They are.
    """
    if len(set(seeds)) != len(seeds) or not seeds:
        raise ConfigError("seeds", f"seeds={list(seeds)} is not allowed: each once, at least one")


def resolve_margin(task: str, given: float | None) -> float:
    """Return the margin that is given, the task's own where none is.

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
    """Tell knobs from what is shared; each policy gets those it has."""
    knobs = {spec.name for policy in registered_policies() for spec in knobs_of(policy)}
    given = {name: value for name, value in settings.items() if value is not None}
    shared: dict[str, SettingValue] = {
        name: value for name, value in given.items() if name not in knobs | set(POLICY_REGISTRIES)
    }
    arms: dict[str, dict[str, SettingValue]] = {}
    for name in policies:
        if name in BASELINES or name == "dense":
            raise ConfigError("policy", f"policy={name!r} is a baseline and always there")
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


def parse_policy_stack(name: str) -> dict[str, str]:
    """Return the ids in ``a+b+c`` by their kind."""
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
    """Return all arms, the baselines first."""
    return [
        StudyVariant(DENSE_FULL, {"selection": "dense", "budget": 1.0}),
        StudyVariant(DENSE_MATCHED, {"selection": "dense", "budget": plan.budget}),
        StudyVariant(
            RANDOM_SKIPPING,
            {"selection": "random", "skip_fraction": 1.0 - plan.budget, "budget": plan.budget},
        ),
        *(StudyVariant(name, {**own, "budget": plan.budget}) for name, own in plan.arms.items()),
    ]


def planned_runs(plan: StudyPlan) -> Iterator[StudyRun]:
    """Yield the runs, seed by seed; every other seed backwards, so that drift hits all alike."""
    arms = variants_of(plan)
    for place, seed in enumerate(plan.seeds):
        for arm in arms if place % 2 == 0 else arms[::-1]:
            config = resolve({**plan.shared, **arm.settings, "seed": seed})
            yield StudyRun(arm.name, seed, config)


def merge_plans(old: StudyPlan, new: StudyPlan, results_seen: bool = True) -> StudyPlan:
    """Return a study that goes on: all seeds of both, the new margin, and what it was before.

    Args:
        old: What was planned.
        new: What is asked for now.
        results_seen: Whether results could be seen; before that it is planned anew, and no more to
            tell.
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
    return json.dumps(asdict(plan), sort_keys=True)


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
            raise ValueError("it has no arms")
        for _ in planned_runs(plan):
            pass
        return plan
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the plan of a study is not as written: {error!r}") from error


def plan_to_command(plan: StudyPlan) -> str:
    """Return the command line that carries a study out, or goes on with it."""
    words = ["python", "-m", "effcore", "compare"]
    own = {n: v for arm in plan.arms.values() for n, v in arm.items() if n not in POLICY_REGISTRIES}
    for name, value in {**plan.shared, **own}.items():
        text = repr(value) if isinstance(value, float) else str(value)
        words += ["--" + name.replace("_", "-"), text]
    words += ["--policy", ",".join(plan.arms), "--budget", repr(plan.budget)]
    words += ["--seed-list", ",".join(str(seed) for seed in plan.seeds)]
    return shlex.join([*words, "--margin", repr(plan.margin)])
