"""Joules until a run had reached a stated metric on the validation split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from effcore.energy.arithmetic import EDGE_ERROR_S
from effcore.energy.window_energy import MIN_WINDOW_S, SHORT_WINDOW_S, UNTIMED_EDGE_ERROR_STEPS
from effcore.records import EVAL_COLUMNS, POWER_COLUMNS, Energy, FloatArray, Snapshot


def seconds_to_target(snapshot: Snapshot, target: float, *, higher_is_better: bool) -> float | None:
    """Return the run clock at the first evaluation that reached the target, or ``None``.

    Args:
        snapshot: The run.
        target: Value of the task's metric, in its own scale.
        higher_is_better: The metric's direction.
    """
    seconds, metric = (snapshot.evals[EVAL_COLUMNS.index(name)] for name in ("seconds", "metric"))
    reached = metric >= target if higher_is_better else metric <= target
    return float(seconds[reached][0]) if reached.any() else None


def energy_to_target(snapshot: Snapshot, target: float, *, higher_is_better: bool) -> Energy | None:
    """Return the joules until then, of the same quality as the run's; ``None`` if never.

    The run's own relative error holds for the part as for the whole, and so do the rows of
    the power table on both sides of that time, which in a long run may be some way apart.
    Evaluations being some way apart, the target may have been reached up to one of them earlier.

    Args:
        snapshot: The run.
        target: Value of the task's metric, in its own scale.
        higher_is_better: The metric's direction.

    Returns:
        ``None`` also where it was reached too soon for joules to mean anything.
    """
    seconds = seconds_to_target(snapshot, target, higher_is_better=higher_is_better)
    whole = snapshot.energy
    if seconds is None or snapshot.power.shape[1] == 0 or whole.hi is None:
        return None
    least, most = _row_times_around(snapshot.power[0], seconds)
    parts = {
        name: _energy_share_at(snapshot.power, name, at_s)
        for name, at_s in (("energy_j", seconds), ("energy_lo_j", least), ("energy_hi_j", most))
    }
    if seconds < MIN_WINDOW_S:
        return None
    short = (f"a short window, {seconds:.1f} s",) if seconds < SHORT_WINDOW_S else ()
    # What the counter showed when the target was reached is out by up to one of its steps.
    edge_s = max(EDGE_ERROR_S if whole.ticks else 0.0, UNTIMED_EDGE_ERROR_STEPS * whole.step_s)
    edge_frac = edge_s / seconds
    return replace(
        whole,
        ticks=0,
        max_gap_s=0.0,
        crosscheck=None,
        throttled_s=None,
        joules=_scale_or_none(whole.joules, parts["energy_j"]),
        lo=_scale_or_none(whole.lo, parts["energy_lo_j"] * (1 - edge_frac)),
        hi=_scale_or_none(whole.hi, parts["energy_hi_j"] * (1 + edge_frac)),
        seconds=seconds,
        notes=(*whole.notes, *short, "up to the first evaluation that reached the target"),
    )


def _row_times_around(times: FloatArray, seconds: float) -> tuple[float, float]:
    """Return the times of the rows before and after one; itself where there is none."""
    first, last = np.searchsorted(times, seconds, "right"), np.searchsorted(times, seconds)
    before = float(times[first - 1]) if first else seconds
    return before, float(times[last]) if last < len(times) else seconds


def _energy_share_at(power: FloatArray, name: str, seconds: float) -> float:
    """Return which share of a cumulative column was there at a time; NaN if not known."""
    time, values = power[0], power[POWER_COLUMNS.index(name)]
    known = np.isfinite(values)
    if not known.any() or values[known][-1] <= 0:
        return np.nan
    return float(np.interp(seconds, time[known], values[known]) / values[known][-1])


def _scale_or_none(value: float | None, share: float) -> float | None:
    return None if value is None or not np.isfinite(share) else value * share
