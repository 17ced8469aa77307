"""What everything registered promises: words, an id, and knobs within their ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from effcore.knobs import knobs_of, with_knob, with_knobs


def check_declaration(cls: Any) -> None:
    """Check that a class says what it is, in words and by an id fit for every surface.

    Raises:
        AssertionError: Something is missing or malformed.
    """
    for name in ("id", "title", "summary"):
        text = getattr(cls, name, None)
        assert isinstance(text, str), f"{cls.__name__}.{name} must be text, not {text!r}"
        assert text.strip() == text != "", f"{cls.__name__}.{name} must not be empty or padded"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cls.id), (
        f"id {cls.id!r} must be lower-case words joined by hyphens"
    )
    assert cls.summary.endswith("."), f"summary of {cls.id!r} must be a sentence"


def check_knobs(policy: type[Any]) -> None:
    """Check a policy's knobs, and that the policy itself cannot be changed.

    Raises:
        AssertionError: A knob is out of its own range, undocumented, or the policy mutable.
    """
    groups: dict[str, int] = {}
    for spec in knobs_of(policy):
        assert spec.label, f"knob {spec.name!r} needs a label"
        assert spec.help.endswith("."), f"the help of knob {spec.name!r} must be a sentence"
        assert spec.lo < spec.hi, f"knob {spec.name!r} has an empty range"
        assert spec.step > 0, f"knob {spec.name!r} needs a step above 0"
        spec.validate(spec.start)
        if spec.default is not None:
            spec.validate(spec.default)
        assert spec.group or spec.default is not None, f"knob {spec.name!r} needs a default"
        if spec.group:
            groups[spec.group] = groups.get(spec.group, 0) + (spec.default is not None)
    assert all(n == 1 for n in groups.values()), f"one knob of each group is in force: {groups}"
    names = {spec.name for spec in knobs_of(policy)}
    for place, settings in enumerate(getattr(policy, "tuning_grid", ({},))):
        assert bool(settings) == bool(place), "the first of tuning_grid is {}, the defaults"
        assert set(settings) <= names, f"tuning_grid sets what is no knob: {settings}"
        with_knobs(policy(), settings)
    frozen = getattr(policy, "__dataclass_params__", None)
    assert frozen is not None, f"{policy.__name__} must be a dataclass"
    assert frozen.frozen, f"{policy.__name__} must be frozen: a knob change makes a new one"


def knob_extremes(policy: type[Any]) -> Iterable[Any]:
    """Return the policy with defaults, and with each knob at its start and both ends."""
    found = [policy()]
    for spec in knobs_of(policy):
        found += [with_knob(policy(), spec.name, v) for v in (spec.lo, spec.start, spec.hi)]
    return list(dict.fromkeys(found))  # a knob starts, as a rule, where it stands by default
