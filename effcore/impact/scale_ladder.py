"""Scale ladder: the saving at three or more model sizes, with a fit and its prediction band.

The saving is fitted against the logarithm of the size by weighted least squares. The band is the
95% prediction interval of one more rung, by Student's t with n − 2 degrees of freedom; with three
rungs the quantile is 12.7, so the band is wide. Its variance is never below that implied by the
rungs' own errors (Birge's ratio: scatter around the line scales them up, never down). The band
assumes that the saving is linear in the logarithm of the size. This was not measured beyond the
largest rung, so that range is marked as not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from effcore.impact.costs import HEADLINE_QUALITIES
from effcore.impact.ranges import ImpactError, Range, exact_range
from effcore.impact.saving import SAVING_LIMITS, SavingBasis
from effcore.records import EnergyQuality, FloatArray

MIN_RUNGS: Final = 3
_T_QUANTILE_LEVEL: Final = 0.975  # of a two-sided 95% interval
_DECADE_LIMITS: Final = (0.0, 12.0)
_POINT_LIMITS: Final = (3.0, 10_000.0)
#: A smaller standard error is a rounding error, so the true error is unknown.
_MIN_KNOWN_ERROR: Final = 1e-12


class Rung(NamedTuple):
    """The saving at one size.

    Attributes:
        size: Parameters, examples or FLOPs; above 0.
        saving: Saving as a share of full training's amount.
        interval: Its 95% interval; the value itself if the error is unknown.
        error: Its standard error; 0 if unknown.
    """

    size: float
    saving: float
    interval: Range
    error: float


class LadderFit(NamedTuple):
    """The fit and its band over sizes, each array of shape (points,), float64.

    Attributes:
        size: From the smallest rung to some decades beyond the largest.
        fit: The fitted saving.
        lo: Lower end of the 95% prediction interval of one more rung.
        hi: Its upper end, at most 1, the largest possible saving.
        measured: bool, true only between the smallest and the largest rung.
    """

    size: FloatArray
    fit: FloatArray
    lo: FloatArray
    hi: FloatArray
    measured: NDArray[np.bool_]


def make_rung(size: float, repeats: Sequence[float]) -> Rung:
    """Return the rung of a size from repeated savings, with the 95% t interval of their mean.

    Raises:
        ImpactError: The size or a saving is invalid, or there are no repeats.
    """
    for value in repeats:
        exact_range(value).require_within("saving", *SAVING_LIMITS, "give a share such as 0.3")
    values = list(repeats)
    if not values:
        raise ImpactError("repeats", values, "expected at least one saving", "train this size")
    mean, error = float(np.mean(values)), 0.0
    if len(values) > 1:
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = error * float(special.stdtrit(max(len(values) - 1, 1), _T_QUANTILE_LEVEL))
    exact_range(size).require_within("size", 1e-300, 1e300, "count parameters, examples or FLOPs")
    return Rung(size, mean, Range(mean - half, min(mean + half, 1.0)), error)


def fit_ladder(rungs: Sequence[Rung], decades: float = 2.0, points: int = 121) -> LadderFit:
    """Fit the rungs; return the fit and its band from the smallest rung to beyond the largest.

    If the error of any rung is unknown or negligible, all rungs have the same weight.

    Args:
        rungs: Three or more rungs of different sizes, in any order.
        decades: Length of the range beyond the largest rung, in powers of ten.
        points: Number of sizes to return, half of them beyond the rungs if ``decades`` is above 0.

    Raises:
        ImpactError: Too few rungs, or decades or points out of range.
    """
    _check_fit_arguments(rungs, decades, points)
    x, y, error = np.array([(math.log10(r.size), r.saving, r.error) for r in rungs]).T
    known = bool((error > _MIN_KNOWN_ERROR).all())
    sigma = error if known else np.ones_like(error)
    line, covariance = np.polyfit(x, y, 1, w=1 / sigma, cov="unscaled")
    freedom = len(rungs) - 2
    scatter = float((((y - np.polyval(line, x)) / sigma) ** 2).sum() / freedom)
    scale = max(scatter, 1.0) if known else scatter
    over = _log_sizes(float(x.min()), float(x.max()), decades, points)
    basis = np.stack([over, np.ones_like(over)])
    of_the_line = np.einsum("ip,ij,jp->p", basis, covariance, basis)
    half = special.stdtrit(freedom, _T_QUANTILE_LEVEL) * np.sqrt(
        scale * (of_the_line + np.median(sigma**2))
    )
    fit = np.polyval(line, over)
    return LadderFit(
        size=10**over,
        fit=np.minimum(fit, 1.0),
        lo=np.minimum(fit - half, 1.0),
        hi=np.minimum(fit + half, 1.0),
        measured=over <= x.max(),
    )


def _log_sizes(first: float, last: float, decades: float, points: int) -> FloatArray:
    """Return logarithms of sizes, including that of the largest rung."""
    beyond = points // 2 if decades > 0 else 0
    between = np.linspace(first, last, points - beyond)
    return np.append(between, np.linspace(last, last + decades, beyond + 1)[1:])


def _check_fit_arguments(rungs: Sequence[Rung], decades: float, points: int) -> None:
    sizes = {f"{math.log10(r.size):.6f}": r.size for r in rungs}
    if len(sizes) < MIN_RUNGS:
        raise ImpactError(
            "rungs", sorted(sizes.values()), f"expected at least {MIN_RUNGS} different sizes",
            "train more sizes: a line through two points has no error estimate",
        )  # fmt: skip
    exact_range(decades).require_within("decades", *_DECADE_LIMITS, "choose a number in this range")
    exact_range(points).require_within("points", *_POINT_LIMITS, "choose a number in this range")


# The ladder and its file ------------------------------------------------------------------


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
    pairs = {
        len(values)
        for step in steps
        for values in (*step.savings.values(), step.metrics, step.dense_metrics)
    }
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
