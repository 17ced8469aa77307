"""Validation of run settings: raw values in, a complete configuration or a helpful error out.

The command line, the pages' widgets and their URLs all use :func:`resolve`, so that each value
is checked in one place by one rule.
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

from effcore.knobs import KnobError, KnobSpec, knobs_of, values_of, with_knobs, with_own_knobs
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
from effcore.records.deprecation import resolve_old_names
from effcore.records.settings import Settings, SettingValue
from effcore.records.step_plan import ModelStructure
from effcore.registry import suggest_nearest
from effcore.tasks.base import SIZES, TASKS, ModelChoice, Task
from effcore.tasks.residual_stage import structure_of

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("fp32", "bf16")
#: Longest value that a message quotes in full.
_MAX_QUOTED_CHARS = 60
DEFAULT_TASK = "photo"
DEFAULT_SIZE = "medium"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the value, the allowed ones and a remedy.

    Args:
        field: The configuration field.
        message: The whole message.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class NumberRange:
    """Allowed range and one-line help of a number setting."""

    lo: float
    hi: float
    integer: bool
    help: str

    def parse(self, name: str, value: SettingValue) -> float:
        """Return the number.

        Raises:
            ConfigError: The value is not a finite number in the range.
        """
        try:
            number = float(value)  # type: ignore[arg-type]  # what is no number raises
        except (TypeError, ValueError):
            number = math.nan
        fits_type = not self.integer or number.is_integer()
        if not (math.isfinite(number) and self.lo <= number <= self.hi and fits_type):
            kind = "a whole number" if self.integer else "a number"
            ends = [f"{end:.0f}" if self.integer else f"{end:g}" for end in (self.lo, self.hi)]
            raise ConfigError(
                name,
                f"{name}={_shortened_repr(value)} is not allowed: expected {kind} from {ends[0]} "
                f"to {ends[1]}; choose a value in that range",
            )
        return number


def _shortened_repr(value: Any) -> str:
    """Return the ``repr`` of a value, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED_CHARS else text[: _MAX_QUOTED_CHARS - 1] + "…"


NUMBER_RANGES = {
    "epochs": NumberRange(
        1, 1000, True, "Epochs over the data; full training of this length is 100%."
    ),
    "batch_size": NumberRange(
        1, 8192, True, "Examples per step; smaller batches mean more updates."
    ),
    "learning_rate": NumberRange(1e-6, 10, False, "Peak learning rate, after a short warm-up."),
    "seed": NumberRange(
        0, 2**31 - 1, True, "Decides split, initial parameters, order and random draws."
    ),
    "budget": NumberRange(
        0.01, 1.0, False, "Ends the run at this share of the compute of full training."
    ),
    "threads": NumberRange(1, 1024, True, "CPU threads; the exact result depends on their number."),
    "clip_norm": NumberRange(0, 1e6, False, "Largest gradient norm; 0 turns clipping off."),
}


def default_threads() -> int:
    """Return the number of usable cores minus one, which is left to the app and the meters."""
    return max(1, _usable_cores() - 1)


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def available_devices() -> list[str]:
    """Return the names of the devices on this machine, the default first."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] + ["cpu"]


def check_device(name: str) -> str:
    """Return the device's full name.

    Raises:
        ConfigError: This machine has no such device.
    """
    full_name = "cuda:0" if name == "cuda" else name
    available = available_devices()
    if full_name not in available:
        only_cpu = len(available) == 1
        why = "PyTorch sees no usable GPU" if only_cpu else "there is no such GPU"
        raise ConfigError(
            "device", f"device={name!r} is not available: {why}; use one of {', '.join(available)}"
        )
    return full_name


def _check_choice(field: str, value: SettingValue, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        message = f"unknown {field} {value!r}: {suggest_nearest(str(value), list(allowed))}"
        raise ConfigError(field, message)
    return value


def resolve(raw: Settings) -> RunConfig:
    """Fill in defaults and check every value.

    Args:
        raw: Fields of :class:`~effcore.records.RunConfig` by name, as strings or numbers;
            ``None`` means the default. Knobs are given by their own name, e.g. ``mass``.

    Raises:
        ConfigError: A value is not allowed, or a name does not exist.
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
    """Remove the policies from ``given`` and return them, checked."""
    defaults = PolicyCombination()._asdict()
    return PolicyCombination(
        *(_check_registered(kind, given.pop(kind, name)) for kind, name in defaults.items())
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
            f"changes={_shortened_repr(changes)} is not allowed: expected knob changes; give "
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
    """Check that the data holds a batch, and that the budget pays for a step."""
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
    conflict = incompatibility(policies, task, choice, size)
    if conflict is not None:
        name = getattr(policies, conflict.kind)
        raise ConfigError(
            conflict.kind,
            f"{conflict.kind}={name!r} does not work with model {choice.id!r} of task {task!r}: "
            f"{conflict.problem}; choose another model or policy",
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
            f"budget={budget:g} is not allowed here: full training takes {batches} batches, and "
            "this share is less than one; choose more epochs, a smaller batch or a larger budget",
        )


def _take_data_settings(task: type[Task], given: dict[str, SettingValue]) -> dict[str, KnobValue]:
    """Remove the task's data settings from ``given`` and return them, checked, with defaults."""
    names = [spec.name for spec in knobs_of(task.settings)]
    requested = {name: given.pop(name) for name in names if name in given}
    try:
        values = values_of(with_knobs(task.settings(), requested))
    except KnobError as error:
        raise ConfigError(error.name, str(error)) from None
    return {name: value for name, value in values.items() if value is not None}


def default_knobs(
    task: str, model: str, policies: PolicyCombination
) -> dict[str, KnobValue | None]:
    """Return the initial knob values of a run with these policies, by default."""
    return _initial_knobs(TASKS.get(task).model_choice(model), policies, {})


def _initial_knobs(
    choice: ModelChoice, combination: PolicyCombination, given: Settings
) -> dict[str, KnobValue | None]:
    policies = [policy() for policy in combination.classes()]
    names = {spec.name for policy in policies for spec in knobs_of(policy)}
    for name in given:
        if name not in names:
            raise ConfigError(
                name, _unknown_setting_message(name, combination.selection, sorted(names))
            )
    model_defaults = choice.defaults.knobs
    values: dict[str, KnobValue | None] = {}
    try:
        for policy in policies:
            own = {s.name: given[s.name] for s in knobs_of(policy) if s.name in given}
            _refuse_two_of_a_group(knobs_of(policy), own)
            with_defaults = with_own_knobs(policy, model_defaults)
            values |= values_of(with_knobs(with_defaults, own))
    except KnobError as error:
        raise ConfigError(error.name, str(error)) from None
    return values


def _unknown_setting_message(name: str, selection: str, own: list[str]) -> str:
    owners = [p.id for p in registered_policies() if any(spec.name == name for spec in knobs_of(p))]
    if owners:
        has = ", ".join(own) or "none"
        return (
            f"{name!r} is a knob of {' and '.join(owners)}: choose that policy or leave the knob "
            f"out; the knobs of this run: {has}"
        )
    tasks = [t.id for t in TASKS if any(s.name == name for s in knobs_of(t.settings))]
    if tasks:
        return f"{name!r} is a data setting of other tasks ({', '.join(tasks)}); leave it out"
    fields = ("task", "model", "size", *PolicyCombination._fields, "device")
    known = [*NUMBER_RANGES, *fields, *own]
    nearest = suggest_nearest(name, known)
    return f"unknown setting {_shortened_repr(name)} for {selection!r}: {nearest}"


def _refuse_two_of_a_group(specs: Sequence[KnobSpec], own: Settings) -> None:
    groups: dict[str, str] = {}
    for spec in specs:
        if spec.group is not None and spec.name in own:
            if spec.group in groups:
                raise KnobError(
                    f"{groups[spec.group]} and {spec.name} exclude each other; set one of them",
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
            raise ConfigError("changes", f"unknown knob {_shortened_repr(change.name)}: {hint}")
        if change.step < 0:
            raise ConfigError("changes", f"step={change.step} is not allowed: steps count from 0")
        try:
            value = specs[change.name].validate(change.value)
        except KnobError as error:
            raise ConfigError("changes", str(error)) from None
        checked.append(KnobChange(change.step, change.name, value))
    return tuple(sorted(checked, key=lambda change: change.step))


def model_data_fingerprint(config: RunConfig) -> str:
    """Return a hash of the model's layers and the data, 16 hexadecimal digits.

    A later version may give a model other layers under the same id, and another Python has
    another standard library. Runs with different hashes are not comparable.
    """
    task = TASKS.get(config.task)
    n = task.count_examples(with_knobs(task.settings(), config.data))
    with torch.device("meta"):  # allocates nothing and draws no random numbers
        layers = task.model_choice(config.model).build(config.size)
    text = f"{n} {task.provenance().hash} {layers!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def dense_reference(config: RunConfig) -> RunConfig:
    """Return the configuration of full training with the same seed: all epochs, dense."""
    return replace(config, **DENSE_POLICIES._asdict(), budget=None, knobs={}, changes=())


class Incompatibility(NamedTuple):
    """A policy that does not work with a model: the policy's kind, and the reason."""

    kind: str
    problem: str


def incompatibility(
    policies: PolicyCombination, task: str, choice: ModelChoice, size: str
) -> Incompatibility | None:
    """Return the first policy that does not work with a model; ``None`` if all do."""
    structure = model_structure(task, choice.id, size)
    update, intensity = UPDATES.get(policies.update), INTENSITIES.get(policies.intensity)
    selection = SELECTIONS.get(policies.selection)
    if update.skips_batches and issubclass(selection, ScoringPolicy):
        return Incompatibility("update", f"{selection.id} chooses its batches step by step")
    if problem := update.incompatibility(structure):
        return Incompatibility("update", problem)
    if problem := intensity.incompatibility(structure, choice.reducible):
        return Incompatibility("intensity", problem)
    return None


@cache
def model_structure(task: str, model: str, size: str) -> ModelStructure:
    """Return the structure of a task's model, without allocating its parameters."""
    with torch.device("meta"):  # allocates nothing and draws no random numbers
        return structure_of(TASKS.get(task).model_choice(model).build(size))


resolve_old_names(__name__)
