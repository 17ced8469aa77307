"""From what a person typed to a configuration that can run, or a message that helps.

The command line, the page's widgets and its URL all come through :func:`resolve`, so a
value is judged in one place and by one rule.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch

from effcore.knobs import KnobError, KnobSpec, knobs_of, values_of, with_knobs
from effcore.policies.combination import (
    DENSE_POLICIES,
    POLICY_REGISTRIES,
    PolicyCombination,
    knobs_of_policies,
    registered_policies,
)
from effcore.policies.intensity.base import INTENSITIES
from effcore.policies.selection.base import SELECTIONS
from effcore.policies.selection.scoring_policy import ScoringPolicy
from effcore.policies.update.base import UPDATES
from effcore.records import KnobChange, KnobValue, RunConfig
from effcore.records.settings import Settings, SettingValue
from effcore.records.step_plan import ModelStructure
from effcore.registry import suggest_nearest
from effcore.tasks.base import SIZES, TASKS, ModelChoice, Task
from effcore.tasks.residual_stage import structure_of

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("fp32", "bf16")
#: Longest value that a message repeats in full.
_MAX_QUOTED_CHARS = 60
DEFAULT_TASK = "photo"
DEFAULT_SIZE = "medium"


class ConfigError(ValueError):
    """A value that cannot be used; the message names it, what is allowed and the remedy.

    Args:
        field: The configuration field at fault.
        message: The whole sentence.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class NumberRange:
    """A plain number's allowed range and one-line explanation."""

    lo: float
    hi: float
    integer: bool
    help: str

    def parse(self, name: str, value: SettingValue) -> float:
        """Return the number.

        Raises:
            ConfigError: Not a finite number in the range.
        """
        try:
            number = float(value)  # type: ignore[arg-type]  # what is no number raises
        except (TypeError, ValueError):
            number = math.nan
        whole = not self.integer or number.is_integer()
        if not (math.isfinite(number) and self.lo <= number <= self.hi and whole):
            kind = "a whole number" if self.integer else "a number"
            ends = [f"{end:.0f}" if self.integer else f"{end:g}" for end in (self.lo, self.hi)]
            raise ConfigError(
                name,
                f"{name}={_quote_shortened(value)} is not allowed: expected {kind} from {ends[0]} "
                "to "
                f"{ends[1]}; choose a value in that range",
            )
        return number


def _quote_shortened(value: Any) -> str:
    """Return a value as it was given, as far as it is worth repeating."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED_CHARS else text[: _MAX_QUOTED_CHARS - 1] + "…"


NUMBER_RANGES = {
    "epochs": NumberRange(1, 1000, True, "Passes over the data; dense, they are 100% of the cost."),
    "batch_size": NumberRange(1, 8192, True, "Examples per step; smaller makes more updates."),
    "learning_rate": NumberRange(1e-6, 10, False, "Peak learning rate, after a short warm-up."),
    "seed": NumberRange(0, 2**31 - 1, True, "Decides split, initial parameters, order and draws."),
    "budget": NumberRange(0.01, 1.0, False, "Ends the run at this share of the dense compute."),
    "threads": NumberRange(1, 1024, True, "CPU threads; part of what makes a run repeatable."),
    "clip_norm": NumberRange(0, 1e6, False, "Largest gradient norm; 0 clips nothing."),
}


def default_threads() -> int:
    """Return all cores but one, which is left to the page and the meters."""
    return max(1, _usable_cores() - 1)


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def available_devices() -> list[str]:
    """Return the devices a run can be asked for here, the default first."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] + ["cpu"]


def check_device(name: str) -> str:
    """Return the device's full name.

    Raises:
        ConfigError: No such device here.
    """
    wanted = "cuda:0" if name == "cuda" else name
    here = available_devices()
    if wanted not in here:
        why = "PyTorch sees no usable GPU" if len(here) == 1 else "there is no such GPU"
        raise ConfigError(
            "device", f"device={name!r} is not available: {why}; use one of {', '.join(here)}"
        )
    return wanted


def _check_choice(field: str, value: SettingValue, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        message = f"unknown {field} {value!r}: {suggest_nearest(str(value), list(allowed))}"
        raise ConfigError(field, message)
    return value


def resolve(raw: Settings) -> RunConfig:
    """Fill in defaults and check every value.

    Args:
        raw: Any of :class:`~effcore.records.RunConfig`'s fields, as strings or numbers;
            ``None`` stands for the default. Knobs are named directly, e.g. ``mass``.

    Raises:
        ConfigError: A value that cannot be used, or a name that does not exist.
    """
    given: dict[str, SettingValue] = {k: v for k, v in raw.items() if v is not None}
    task = TASKS.get(_check_registered("task", given.pop("task", DEFAULT_TASK)))
    policies = _take_policies(given)
    if problem := task.provenance().problem:
        raise ConfigError("task", problem)
    model = _check_choice(
        "model", given.pop("model", task.models[0].id), [m.id for m in task.models]
    )
    size = _check_choice("size", given.pop("size", DEFAULT_SIZE), SIZES)
    choice = task.model_choice(model)
    _check_policies(policies, task.id, choice, size)
    words = _take_text_settings(given)
    changes = _take_knob_changes(given)
    numbers = _take_number_settings(choice, given)
    budget = given.pop("budget", None)
    share = None if budget is None else NUMBER_RANGES["budget"].parse("budget", budget)
    data = _take_data_settings(task, given)
    _check_batch_and_budget(task, data, numbers, share)
    return RunConfig(
        task=task.id,
        model=model,
        size=size,
        budget=share,
        data=data,
        knobs=_initial_knobs(choice, policies, given),
        changes=_check_knob_changes(changes, policies),
        selection=policies.selection,
        update=policies.update,
        intensity=policies.intensity,
        optimizer=words.optimizer,
        precision=words.precision,
        device=words.device,
        epochs=numbers.epochs,
        batch_size=numbers.batch_size,
        learning_rate=numbers.learning_rate,
        seed=numbers.seed,
        threads=numbers.threads,
        clip_norm=numbers.clip_norm,
    )


def _take_policies(given: dict[str, SettingValue]) -> PolicyCombination:
    """Take the policies out of ``given``."""
    usual = PolicyCombination()._asdict()
    return PolicyCombination(
        *(_check_registered(kind, given.pop(kind, name)) for kind, name in usual.items())
    )


class _TextSettings(NamedTuple):
    optimizer: str
    precision: str
    device: str


def _take_text_settings(given: dict[str, SettingValue]) -> _TextSettings:
    """Take optimizer, precision and device out of ``given``, and fill in the rest."""
    return _TextSettings(
        _check_choice("optimizer", given.pop("optimizer", "adamw"), OPTIMIZERS),
        _check_choice("precision", given.pop("precision", "fp32"), PRECISIONS),
        check_device(str(given.pop("device", available_devices()[0]))),
    )


def _take_knob_changes(given: dict[str, SettingValue]) -> tuple[KnobChange, ...]:
    """Take the knob changes out of ``given``."""
    changes = given.pop("changes", ())
    if not isinstance(changes, list | tuple):
        raise ConfigError(
            "changes",
            f"changes={_quote_shortened(changes)} is not allowed: expected knob changes; give "
            "each as a step, a knob and its value",
        )
    return tuple(changes)


class _NumberSettings(NamedTuple):
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    threads: int
    clip_norm: float


def _take_number_settings(choice: ModelChoice, given: dict[str, SettingValue]) -> _NumberSettings:
    """Take the numbers that every run has out of ``given``, and fill in the rest."""

    def take(name: str, default: float) -> float:
        return NUMBER_RANGES[name].parse(name, given.pop(name, default))

    return _NumberSettings(
        epochs=int(take("epochs", choice.defaults.epochs)),
        batch_size=int(take("batch_size", choice.defaults.batch_size)),
        learning_rate=take("learning_rate", choice.defaults.learning_rate),
        seed=int(take("seed", 0)),
        threads=int(take("threads", default_threads())),
        clip_norm=take("clip_norm", 0),
    )


def _check_batch_and_budget(
    task: type[Task],
    data: Mapping[str, KnobValue],
    numbers: _NumberSettings,
    budget: float | None,
) -> None:
    """Check that there are examples for a batch, and compute for a step."""
    n = task.count_examples(with_knobs(task.settings(), data))
    _check_batch(numbers.batch_size, n, task.id)
    _check_budget(budget, numbers.epochs * n // numbers.batch_size)


def _check_registered(field: str, name: SettingValue) -> str:
    try:
        POLICY_REGISTRIES.get(field, TASKS).get(str(name))
    except ValueError as error:
        raise ConfigError(field, str(error)) from None
    return str(name)


def _check_policies(policies: PolicyCombination, task: str, choice: ModelChoice, size: str) -> None:
    found = incompatibility(policies, task, choice, size)
    if found is not None:
        name = getattr(policies, found.kind)
        raise ConfigError(
            found.kind,
            f"{found.kind}={name!r} does not go with model {choice.id!r} of task {task!r}: "
            f"{found.problem}; choose another model or policy",
        )


def _check_batch(batch_size: int, n_train: int, task: str) -> None:
    if batch_size > n_train:
        raise ConfigError(
            "batch_size",
            f"batch_size={batch_size} is not allowed: task {task!r} has {n_train} training "
            f"examples; choose at most {n_train}",
        )


def _check_budget(budget: float | None, batches: int) -> None:
    if budget is not None and budget * batches < 1:
        raise ConfigError(
            "budget",
            f"budget={budget:g} is not allowed here: dense training takes {batches} batches, and "
            "it would not pay for one; choose more epochs, a smaller batch or a larger budget",
        )


def _take_data_settings(task: type[Task], given: dict[str, SettingValue]) -> dict[str, KnobValue]:
    """Take out of ``given`` how the task's data is to be made, and fill in the rest."""
    names = [spec.name for spec in knobs_of(task.settings)]
    asked = {name: given.pop(name) for name in names if name in given}
    try:
        made = values_of(with_knobs(task.settings(), asked))
    except KnobError as error:
        raise ConfigError(error.name, str(error)) from None
    return {name: value for name, value in made.items() if value is not None}


def default_knobs(
    task: str, model: str, policies: PolicyCombination
) -> dict[str, KnobValue | None]:
    """Return the knob values that a run of these starts with where nothing else is asked."""
    return _initial_knobs(TASKS.get(task).model_choice(model), policies, {})


def _initial_knobs(
    choice: ModelChoice, chosen: PolicyCombination, given: Settings
) -> dict[str, KnobValue | None]:
    policies = [policy() for policy in chosen.classes()]
    names = {spec.name for policy in policies for spec in knobs_of(policy)}
    for name in given:
        if name not in names:
            raise ConfigError(name, _unknown_setting_message(name, chosen.selection, sorted(names)))
    usual = choice.defaults.knobs
    values: dict[str, KnobValue | None] = {}
    try:
        for policy in policies:
            own = {s.name: given[s.name] for s in knobs_of(policy) if s.name in given}
            _refuse_two_of_a_group(knobs_of(policy), own)
            started = with_knobs(policy, {n: v for n, v in usual.items() if n in values_of(policy)})
            values |= values_of(with_knobs(started, own))
    except KnobError as error:
        raise ConfigError(error.name, str(error)) from None
    return values


def _unknown_setting_message(name: str, selection: str, own: list[str]) -> str:
    owners = [p.id for p in registered_policies() if any(spec.name == name for spec in knobs_of(p))]
    if owners:
        has = ", ".join(own) or "no knobs"
        return (
            f"{name!r} is a knob of {' and '.join(owners)}: choose that policy or leave the knob "
            f"out; this run has {has}"
        )
    tasks = [t.id for t in TASKS if any(s.name == name for s in knobs_of(t.settings))]
    if tasks:
        return f"{name!r} is a setting of other tasks' data ({', '.join(tasks)}); leave it out"
    fields = ("task", "model", "size", *PolicyCombination._fields, "device")
    known = [*NUMBER_RANGES, *fields, *own]
    nearest = suggest_nearest(name, known)
    return f"unknown setting {_quote_shortened(name)} for {selection!r}: {nearest}"


def _refuse_two_of_a_group(specs: Sequence[KnobSpec], own: Settings) -> None:
    groups: dict[str, str] = {}
    for spec in specs:
        if spec.group is not None and spec.name in own:
            if spec.group in groups:
                raise KnobError(
                    f"{groups[spec.group]} and {spec.name} exclude each other; give one of them",
                    spec.name,
                )
            groups[spec.group] = spec.name


def _check_knob_changes(
    changes: Sequence[KnobChange], policies: PolicyCombination
) -> tuple[KnobChange, ...]:
    specs = {spec.name: spec for spec in knobs_of_policies(policies)}
    checked = []
    for change in changes:
        if change.name not in specs:
            hint = (
                suggest_nearest(change.name, list(specs))
                if specs
                else f"{policies.selection!r} has none."
            )
            raise ConfigError("changes", f"unknown knob {_quote_shortened(change.name)}: {hint}")
        if change.step < 0:
            raise ConfigError("changes", f"step {change.step} is not allowed: 0 is the first")
        try:
            value = specs[change.name].validate(change.value)
        except KnobError as error:
            raise ConfigError("changes", str(error)) from None
        checked.append(KnobChange(change.step, change.name, value))
    return tuple(sorted(checked, key=lambda change: change.step))


def model_data_fingerprint(config: RunConfig) -> str:
    """Return a text that differs where the same names stand for another model or data size.

    A later version may give a task other layers under the same id, and another Python has
    another standard library; what was trained before is then nothing to compare with.
    """
    task = TASKS.get(config.task)
    n = task.count_examples(with_knobs(task.settings(), config.data))
    with torch.device("meta"):  # no numbers, and none drawn from anybody's generator
        layers = task.model_choice(config.model).build(config.size)
    text = f"{n} {task.provenance().hash} {layers!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dense_reference(config: RunConfig) -> RunConfig:
    """Return the dense reference of a configuration: all passes, same seed."""
    return replace(config, **DENSE_POLICIES._asdict(), budget=None, knobs={}, changes=())


class Incompatibility(NamedTuple):
    """A policy that a model cannot be trained with: its kind, and why."""

    kind: str
    problem: str


def incompatibility(
    policies: PolicyCombination, task: str, choice: ModelChoice, size: str
) -> Incompatibility | None:
    """Return the first policy that does not go with a model, if there is one."""
    made_of = model_structure(task, choice.id, size)
    update, intensity = UPDATES.get(policies.update), INTENSITIES.get(policies.intensity)
    selection = SELECTIONS.get(policies.selection)
    if update.skips_batches and issubclass(selection, ScoringPolicy):
        return Incompatibility("update", f"{selection.id} makes up its batches step by step")
    if problem := update.incompatibility(made_of):
        return Incompatibility("update", problem)
    if problem := intensity.incompatibility(made_of, choice.reducible):
        return Incompatibility("intensity", problem)
    return None


@cache
def model_structure(task: str, model: str, size: str) -> ModelStructure:
    """Return what a task's model is made of, without making its parameters."""
    with torch.device("meta"):  # no numbers, and none drawn from anybody's generator
        return structure_of(TASKS.get(task).model_choice(model).build(size))
