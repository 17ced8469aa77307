"""Knobs: values of a policy that can change during a run, and the requests to change them.

A policy is a frozen dataclass whose knobs are its fields::

    @dataclass(frozen=True)
    class ConfidentSkip(SelectionPolicy):
        mass: float | None = knob(0.5, lo=0.0, hi=0.95, step=0.01, group="cut", help="…")

Changing a knob makes a new policy with :func:`with_knob`; policies are immutable. Sliders,
command-line options and documentation are derived from the declaration.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from effcore.records import KnobValue
from effcore.records.deprecation import resolve_old_names, with_old_names
from effcore.records.settings import Settings
from effcore.registry import suggest_nearest

P = TypeVar("P")


class KnobError(ValueError):
    """An unknown knob, or a value outside its range.

    Args:
        message: The whole message.
        name: Name of the knob.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class KnobSpec:
    """Declaration of a knob.

    Attributes:
        name: Field name; the command-line option is its hyphenated form.
        label: Label of the slider.
        default: Initial value; ``None`` if another knob of the group is set initially.
        lo: Smallest allowed value.
        hi: Largest allowed value.
        step: Step of the slider.
        help: One sentence that says what the value means.
        group: Name of a group of mutually exclusive knobs: setting one unsets the others.
        integer: Whether only whole numbers are allowed.
        log: Whether the slider has a logarithmic scale.
        start: Value of the slider when its knob is first chosen from a group.
    """

    name: str
    label: str
    default: KnobValue | None
    lo: float
    hi: float
    step: float
    help: str
    group: str | None
    integer: bool
    log: bool
    start: float

    @property
    def option(self) -> str:
        """The command-line option, e.g. ``--loss-threshold``."""
        return "--" + self.name.replace("_", "-")

    def validate(self, value: Any) -> KnobValue:
        """Return ``value`` as the knob's type.

        Raises:
            KnobError: The value is not a finite number from ``lo`` to ``hi``, or not a whole
                number for an integer knob.
        """
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise KnobError(self._range_message(value), self.name) from None
        fits_type = not self.integer or number.is_integer()
        if not (math.isfinite(number) and self.lo <= number <= self.hi and fits_type):
            raise KnobError(self._range_message(value), self.name)
        return int(number) if self.integer else number

    def _range_message(self, value: Any) -> str:
        kind = "a whole number" if self.integer else "a number"
        return (
            f"{self.name}={value!r} is not allowed: expected {kind} from {self.lo:g} to "
            f"{self.hi:g}; choose a value in that range"
        )


def knob(
    default: KnobValue | None,
    *,
    lo: float,
    hi: float,
    step: float,
    label: str,
    help: str,
    group: str | None = None,
    log: bool = False,
    start: float | None = None,
) -> Any:
    """Declare a dataclass field as a knob; see :class:`KnobSpec` for the arguments."""
    initial = default if default is not None else start
    if initial is None:
        raise TypeError(f"knob {label!r} needs a default or a start")
    meta = {"label": label, "lo": lo, "hi": hi, "step": step, "help": help, "group": group}
    meta |= {"log": log, "start": float(initial), "integer": isinstance(initial, int)}
    return dataclasses.field(default=default, metadata={"knob": meta})


def knobs_of(policy: Any) -> tuple[KnobSpec, ...]:
    """Return the knobs that a policy class or instance declares, in order of declaration."""
    return _declared_knobs(policy if isinstance(policy, type) else type(policy))


@functools.cache
def _declared_knobs(policy: type[Any]) -> tuple[KnobSpec, ...]:
    specs = []
    for field in dataclasses.fields(policy):
        meta = field.metadata.get("knob")
        if meta is not None:
            default: Any = field.default
            specs.append(KnobSpec(name=field.name, default=default, **meta))
    return tuple(specs)


def values_of(policy: Any) -> dict[str, KnobValue | None]:
    """Return a policy's knob values by name."""
    return {spec.name: getattr(policy, spec.name) for spec in knobs_of(policy)}


def with_knob(policy: P, name: str, value: Any) -> P:
    """Return a copy of ``policy`` with one knob set and the rest of its group unset.

    Raises:
        KnobError: The policy has no such knob, or the value is out of range.
    """
    state = KnobState(knobs_of(policy), values_of(policy))
    state = state.with_value(name, state.validate(name, value))
    return dataclasses.replace(policy, **state.values)  # type: ignore[type-var]


def with_knobs(policy: P, values: Settings) -> P:
    """Return a copy with several knobs set; ``None`` values are left as they are."""
    for name, value in values.items():
        if value is not None:
            policy = with_knob(policy, name, value)
    return policy


def with_own_knobs(policy: P, values: Settings) -> P:
    """Return a copy with those of the values set that name a knob of the policy."""
    own = {spec.name for spec in knobs_of(policy)}
    return with_knobs(policy, {name: value for name, value in values.items() if name in own})


@dataclass(frozen=True, slots=True)
class KnobState:
    """The knobs of a policy or a run, and their values.

    Attributes:
        specs: The knobs.
        values: Values by name; ``None`` for a knob of a group in which another knob is set.
    """

    specs: tuple[KnobSpec, ...]
    values: Mapping[str, KnobValue | None]

    def validate(self, name: str, value: object) -> KnobValue:
        """Return ``value`` as the type of a knob.

        Raises:
            KnobError: There is no such knob, or the value is out of range.
        """
        for spec in self.specs:
            if spec.name == name:
                return spec.validate(value)
        names = [spec.name for spec in self.specs]
        hint = suggest_nearest(name, names) if names else "there are no knobs."
        raise KnobError(f"unknown knob {name!r}: {hint}")

    def with_value(self, name: str, value: KnobValue) -> KnobState:
        """Return the state after setting a knob, with the rest of its group unset."""
        groups = {spec.name: spec.group for spec in self.specs}
        group = groups[name]
        unset = [other for other in groups if group is not None and groups[other] == group]
        return replace(self, values={**self.values, **dict.fromkeys(unset), name: value})


def values_after_change(
    specs: Sequence[KnobSpec],
    values: Mapping[str, KnobValue | None],
    name: str,
    value: KnobValue,
) -> dict[str, KnobValue | None]:
    """Return knob values after setting one knob, with the rest of its group unset."""
    return dict(KnobState(tuple(specs), values).with_value(name, value).values)


@with_old_names
class Controls:
    """Requests to a running trainer; any thread may write them, the trainer reads them.

    The trainer compares :attr:`version` once per step, which costs one attribute read, and
    takes the requests only when it changed.

    Attributes:
        version: Number of requests so far.
        stop_requested: Whether to end the run after the current batch.
        report_each_step: Whether to report after every step, since the run may be paused at any.
        record_phase_starts: Whether to record when each phase began; read once, at the start.
    """

    def __init__(self) -> None:
        self.version = 0
        self.stop_requested = False
        self.report_each_step = self.record_phase_starts = False
        self._lock = threading.Lock()
        self._pending: dict[str, KnobValue] = {}

    def request_value(self, name: str, value: KnobValue) -> int:
        """Request a knob's value from the next batch on; return the version of the request.

        The caller must validate the value with :meth:`KnobSpec.validate` first.
        """
        with self._lock:
            self._pending.pop(name, None)  # the latest request comes last
            self._pending[name] = value
            self.version += 1
            return self.version

    def take_requests(self) -> tuple[int, dict[str, KnobValue]]:
        """Return the current version and the requests since the last call, oldest first."""
        with self._lock:
            pending, self._pending = self._pending, {}
            return self.version, pending

    def pending_requests(self) -> dict[str, KnobValue]:
        """Return the requests that the trainer has not taken yet, oldest first."""
        with self._lock:
            return dict(self._pending)

    def request_stop(self) -> None:
        """Request the run to end after the current batch; its results are kept."""
        self.stop_requested = True


resolve_old_names(__name__)
