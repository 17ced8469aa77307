"""A scale ladder on disk: plain JSON, validated when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from effcore.impact.ranges import ImpactError
from effcore.impact.run_savings import HEADLINE_QUALITIES
from effcore.impact.saving import SAVING_LIMITS, SavingBasis
from effcore.impact.scale_ladder import MIN_RUNGS, Rung, make_rung
from effcore.records import EnergyQuality

LADDER_FORMAT: Final = "effcore-ladder-1"
#: Quantities that a rung may have savings of.
LADDER_BASES: Final = (SavingBasis.JOULES, SavingBasis.SECONDS, SavingBasis.FLOPS)
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_NUMBER: Final = 1e300
_MAX_LIST_LENGTH: Final = 1000
_REMEDY: Final = "make it again with: python -m effcore bench ladder"


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One trained size.

    Attributes:
        name: Name of the size.
        size: Number of parameters.
        savings: Savings as shares of full training, one for each pair of runs, by basis.
        metrics: The policy's metrics, one for each pair.
        dense_metrics: Full training's metrics.
    """

    name: str
    size: int
    savings: Mapping[SavingBasis, tuple[float, ...]]
    metrics: tuple[float, ...]
    dense_metrics: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """A ladder trained on one machine.

    Attributes:
        task: Id of the task.
        model: Id of its model.
        policy: Id of the selection policy.
        metric: Name of the task's metric.
        steps: The sizes, smallest first.
        quality: Quality of the joules, if there are savings of joules.
        circumstances: Machine, versions and date.
    """

    task: str
    model: str
    policy: str
    metric: str
    steps: tuple[LadderStep, ...]
    quality: EnergyQuality | None = None
    circumstances: Mapping[str, str | int | float] = field(default_factory=dict)

    def bases(self) -> list[SavingBasis]:
        """Return the quantities that every size has savings of; joules first."""
        return [
            basis for basis in LADDER_BASES if all(step.savings.get(basis) for step in self.steps)
        ]

    def basis_text(self, basis: SavingBasis) -> str:
        """Return the name of a quantity; joules always with their quality."""
        if basis is SavingBasis.JOULES and self.quality is not None:
            return f"{self.quality.value.upper()} {basis}"
        return str(basis)

    def rungs(self, basis: SavingBasis) -> list[Rung]:
        """Return the rungs to fit.

        Raises:
            KeyError: A size has no savings of that kind.
        """
        return [make_rung(step.size, step.savings[basis]) for step in self.steps]


def ladder_path(home: Path) -> Path:
    """Return the path of a store's ladder."""
    return home / "bench" / "ladder.json"


def save_ladder(path: Path, ladder: Ladder) -> None:
    """Write a ladder atomically, so that a killed process leaves the previous file."""
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
    record |= {"format": LADDER_FORMAT, "steps": steps, "circumstances": dict(ladder.circumstances)}
    record["quality"] = ladder.quality
    path.parent.mkdir(parents=True, exist_ok=True)
    part_path = path.with_suffix(".part")
    part_path.write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    part_path.replace(path)


def load_ladder(path: Path) -> Ladder | None:
    """Return the ladder in a file; ``None`` if there is no file.

    Raises:
        ImpactError: The file is not a valid ladder.
        OSError: The file cannot be read.
    """
    if not path.exists():
        return None
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ImpactError("ladder", path.name, f"expected at most {_MAX_FILE_BYTES} bytes", _REMEDY)
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImpactError("ladder", path.name, f"expected JSON ({error})", _REMEDY) from error
    return _parse_ladder(record)


def _parse_ladder(record: Any) -> Ladder:
    data = _require("ladder", record, lambda r: isinstance(r, dict), "an object")
    _require("format", data.get("format"), lambda f: f == LADDER_FORMAT, LADDER_FORMAT)
    texts = {
        name: _require(name, data.get(name), _is_short_text, "a short text")
        for name in ("task", "model", "policy", "metric")
    }
    listed = _require("steps", data.get("steps"), _is_list, f"a list of {MIN_RUNGS} or more")
    steps = tuple(sorted((_parse_step(step) for step in listed), key=lambda step: step.size))
    # Nearly equal sizes count as one, since a line through them is undefined.
    different = len({f"{math.log10(step.size):.6f}" for step in steps})
    _require("steps", different, lambda n: n >= MIN_RUNGS, f"{MIN_RUNGS} or more sizes")
    pairs = {len(values) for step in steps for values in _value_columns(step)}
    quality = data.get("quality")
    # Estimated joules only follow processor time, so they are not accepted.
    _require(
        "quality",
        quality,
        lambda q: q is None or q in HEADLINE_QUALITIES,
        ", ".join(HEADLINE_QUALITIES),
    )
    ladder = Ladder(
        **texts,
        steps=steps,
        quality=None if quality is None else EnergyQuality(quality),
        circumstances=_parse_circumstances(data.get("circumstances")),
    )
    _require("steps", pairs, lambda p: 0 not in p, "a saving and metrics for each size")
    has_joules = SavingBasis.JOULES in ladder.bases()
    _require("quality", quality, lambda q: (q is not None) == has_joules, "it with joules only")
    return ladder


def _value_columns(step: LadderStep) -> list[tuple[float, ...]]:
    return [*step.savings.values(), step.metrics, step.dense_metrics]


def _parse_step(record: Any) -> LadderStep:
    data = _require("steps", record, lambda r: isinstance(r, dict), "objects")
    savings = _require("savings", data.get("savings"), lambda s: isinstance(s, dict), "an object")
    for basis in savings:
        _require("savings", basis, lambda b: b in LADDER_BASES, "joules, seconds or FLOPs")
    lo, hi = SAVING_LIMITS
    return LadderStep(
        name=_require("name", data.get("name"), _is_short_text, "a short text"),
        size=_require("size", data.get("size"), _is_count, "a number of parameters"),
        savings={
            SavingBasis(b): _parse_numbers("savings", values, lo, hi)
            for b, values in savings.items()
        },
        metrics=_parse_numbers("metrics", data.get("metrics")),
        dense_metrics=_parse_numbers("dense_metrics", data.get("dense_metrics")),
    )


def _parse_numbers(
    name: str, values: Any, lo: float = -math.inf, hi: float = math.inf
) -> tuple[float, ...]:
    _require(name, values, _is_list, "a list of numbers")
    for value in values:
        _require(
            name, value, lambda v: _is_number(v) and lo <= v <= hi, f"numbers {lo:g} to {hi:g}"
        )
    return tuple(float(value) for value in values)


def _parse_circumstances(record: Any) -> dict[str, str | int | float]:
    data = _require("circumstances", record, lambda r: isinstance(r, dict), "an object")
    for value in data.values():
        _require(
            "circumstances",
            value,
            lambda v: _is_short_text(v) or _is_number(v),
            "texts and numbers",
        )
    return dict(data)


def _require(name: str, value: Any, is_valid: Callable[[Any], bool], allowed: str) -> Any:
    if not is_valid(value):
        shown = value if len(repr(value)) < 80 else f"{repr(value)[:76]}..."
        raise ImpactError(name, shown, f"expected {allowed}", _REMEDY)
    return value


def _is_short_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= 200


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_LIST_LENGTH


def _is_number(value: Any) -> bool:
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and abs(value) <= _MAX_NUMBER  # false for NaN, too


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**18
