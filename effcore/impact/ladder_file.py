"""A scale ladder on disk: plain JSON, checked when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from effcore.events import Quality
from effcore.impact.ladder import LEAST_RUNGS, Rung, rung
from effcore.impact.ranges import ImpactError
from effcore.impact.runs import HEADLINED
from effcore.impact.saving import SAVING_LIMITS, Basis

FORMAT: Final = "effcore-ladder-1"
#: What a rung may have savings of.
BASES: Final = (Basis.JOULES, Basis.SECONDS, Basis.FLOPS)
_LARGEST_BYTES: Final = 1 << 20
_LARGEST_NUMBER: Final = 1e300
_MOST: Final = 1000
_REMEDY: Final = "make it again with: python -m effcore bench ladder"


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One size as it was run.

    Attributes:
        name: What the size is called.
        size: Parameters.
        savings: Shares of what dense training takes, one for each pair of runs, by basis.
        metrics: The policy's metric, one for each pair.
        dense_metrics: Dense training's.
    """

    name: str
    size: int
    savings: Mapping[Basis, tuple[float, ...]]
    metrics: tuple[float, ...]
    dense_metrics: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """A ladder as it was run on one machine.

    Attributes:
        task: Id of the task.
        model: Id of its model.
        policy: Id of the selection policy.
        metric: Name of what the task is judged by.
        steps: Its sizes, smallest first.
        quality: How joules came to be known, where there are savings of them.
        circumstances: What the figures depend on: machine, versions, date.
    """

    task: str
    model: str
    policy: str
    metric: str
    steps: tuple[LadderStep, ...]
    quality: Quality | None = None
    circumstances: Mapping[str, str | int | float] = field(default_factory=dict)

    def bases(self) -> list[Basis]:
        """Return what every size has savings of: joules first, where they were measured."""
        return [basis for basis in BASES if all(step.savings.get(basis) for step in self.steps)]

    def basis_text(self, basis: Basis) -> str:
        """Return what was saved; joules with how they came to be known, never without."""
        if basis is Basis.JOULES and self.quality is not None:
            return f"{self.quality.value.upper()} {basis}"
        return str(basis)

    def rungs(self, basis: Basis) -> list[Rung]:
        """Return the rungs to fit.

        Raises:
            KeyError: A size has no savings of that kind.
        """
        return [rung(step.size, step.savings[basis]) for step in self.steps]


def ladder_path(home: Path) -> Path:
    """Return where a store keeps its ladder."""
    return home / "bench" / "ladder.json"


def save_ladder(path: Path, ladder: Ladder) -> None:
    """Write a ladder, in one go, so that a kill leaves the one before."""
    steps = [
        {
            "name": step.name,
            "size": step.size,
            "savings": {basis.value: list(values) for basis, values in step.savings.items()},
            "metrics": list(step.metrics),
            "dense_metrics": list(step.dense_metrics),
        }
        for step in ladder.steps
    ]
    record = {name: getattr(ladder, name) for name in ("task", "model", "policy", "metric")}
    record |= {"format": FORMAT, "steps": steps, "circumstances": dict(ladder.circumstances)}
    record["quality"] = ladder.quality
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    beside.replace(path)


def load_ladder(path: Path) -> Ladder | None:
    """Read a ladder; ``None`` where there is none.

    Raises:
        ImpactError: What is there is no ladder; nothing of it is used.
        OSError: The file cannot be read.
    """
    if not path.exists():
        return None
    if path.stat().st_size > _LARGEST_BYTES:
        raise ImpactError("ladder", path.name, f"expected at most {_LARGEST_BYTES} bytes", _REMEDY)
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImpactError("ladder", path.name, f"expected JSON ({error})", _REMEDY) from error
    return _ladder(record)


def _ladder(record: Any) -> Ladder:
    data = _need("ladder", record, lambda r: isinstance(r, dict), "an object")
    _need("format", data.get("format"), lambda f: f == FORMAT, FORMAT)
    words = {
        name: _need(name, data.get(name), _is_word, "a short text")
        for name in ("task", "model", "policy", "metric")
    }
    listed = _need("steps", data.get("steps"), _is_list, f"a list of {LEAST_RUNGS} or more")
    steps = tuple(sorted((_step(step) for step in listed), key=lambda step: step.size))
    # Sizes that are next to alike are one: no line goes through them.
    different = len({f"{math.log10(step.size):.6f}" for step in steps})
    _need("steps", different, lambda n: n >= LEAST_RUNGS, f"{LEAST_RUNGS} or more sizes")
    pairs = {len(values) for step in steps for values in _columns(step)}
    quality = data.get("quality")
    # An estimate restates processor time: what it saves is no saving of joules.
    _need("quality", quality, lambda q: q is None or q in HEADLINED, ", ".join(HEADLINED))
    ladder = Ladder(
        **words,
        steps=steps,
        quality=None if quality is None else Quality(quality),
        circumstances=_circumstances(data.get("circumstances")),
    )
    _need("steps", pairs, lambda p: 0 not in p, "a saving and metrics for each size")
    has_joules = Basis.JOULES in ladder.bases()
    _need("quality", quality, lambda q: (q is not None) == has_joules, "it with joules only")
    return ladder


def _columns(step: LadderStep) -> list[tuple[float, ...]]:
    return [*step.savings.values(), step.metrics, step.dense_metrics]


def _step(record: Any) -> LadderStep:
    data = _need("steps", record, lambda r: isinstance(r, dict), "objects")
    savings = _need("savings", data.get("savings"), lambda s: isinstance(s, dict), "an object")
    for basis in savings:
        _need("savings", basis, lambda b: b in BASES, "joules, seconds or FLOPs")
    lo, hi = SAVING_LIMITS
    return LadderStep(
        name=_need("name", data.get("name"), _is_word, "a short text"),
        size=_need("size", data.get("size"), _is_count, "a number of parameters"),
        savings={Basis(b): _numbers("savings", values, lo, hi) for b, values in savings.items()},
        metrics=_numbers("metrics", data.get("metrics")),
        dense_metrics=_numbers("dense_metrics", data.get("dense_metrics")),
    )


def _numbers(
    name: str, values: Any, lo: float = -math.inf, hi: float = math.inf
) -> tuple[float, ...]:
    _need(name, values, _is_list, "a list of numbers")
    for value in values:
        _need(name, value, lambda v: _is_number(v) and lo <= v <= hi, f"numbers {lo:g} to {hi:g}")
    return tuple(float(value) for value in values)


def _circumstances(record: Any) -> dict[str, str | int | float]:
    data = _need("circumstances", record, lambda r: isinstance(r, dict), "an object")
    for value in data.values():
        _need("circumstances", value, lambda v: _is_word(v) or _is_number(v), "texts and numbers")
    return dict(data)


def _need(name: str, value: Any, good: Callable[[Any], bool], allowed: str) -> Any:
    if not good(value):
        shown = value if len(repr(value)) < 80 else f"{repr(value)[:76]}..."
        raise ImpactError(name, shown, f"expected {allowed}", _REMEDY)
    return value


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= 200


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MOST


def _is_number(value: Any) -> bool:
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and abs(value) <= _LARGEST_NUMBER  # not a number is not below either


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**18
