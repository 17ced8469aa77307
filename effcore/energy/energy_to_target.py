"""Energy of a run until it reached a stated metric on the validation split."""

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
        higher_is_better: Whether a higher metric is better.
    """
    seconds, metric = (snapshot.evals[EVAL_COLUMNS.index(name)] for name in ("seconds", "metric"))
    reached = metric >= target if higher_is_better else metric <= target
    return float(seconds[reached][0]) if reached.any() else None


def energy_to_target(snapshot: Snapshot, target: float, *, higher_is_better: bool) -> Energy | None:
    """Return the energy until the target was reached, with the run's own quality.

    The run's relative error applies to the part as well. The interval also spans the rows of
    the power table on both sides of that time, which may be some way apart in a long run. The
    time is that of an evaluation, so the target may have been reached up to one evaluation
    interval earlier.

    Args:
        snapshot: The run.
        target: Value of the task's metric, in its own scale.
        higher_is_better: Whether a higher metric is better.

    Returns:
        ``None`` where the target was never reached, or within less than ``MIN_WINDOW_S``.
    """
    seconds = seconds_to_target(snapshot, target, higher_is_better=higher_is_better)
    run_energy = snapshot.energy
    if seconds is None or snapshot.power.shape[1] == 0 or run_energy.hi is None:
        return None
    row_before_s, row_after_s = _row_times_around(snapshot.power[0], seconds)
    shares = {
        name: _energy_share_at(snapshot.power, name, at_s)
        for name, at_s in (
            ("energy_j", seconds),
            ("energy_lo_j", row_before_s),
            ("energy_hi_j", row_after_s),
        )
    }
    if seconds < MIN_WINDOW_S:
        return None
    short_window_note = (f"a short window, {seconds:.1f} s",) if seconds < SHORT_WINDOW_S else ()
    # The counter's value at the time of the target is off by up to one update.
    edge_s = max(
        EDGE_ERROR_S if run_energy.ticks else 0.0, UNTIMED_EDGE_ERROR_STEPS * run_energy.step_s
    )
    edge_frac = edge_s / seconds
    return replace(
        run_energy,
        ticks=0,
        max_gap_s=0.0,
        crosscheck=None,
        throttled_s=None,
        joules=_scale_or_none(run_energy.joules, shares["energy_j"]),
        lo=_scale_or_none(run_energy.lo, shares["energy_lo_j"] * (1 - edge_frac)),
        hi=_scale_or_none(run_energy.hi, shares["energy_hi_j"] * (1 + edge_frac)),
        seconds=seconds,
        notes=(
            *run_energy.notes,
            *short_window_note,
            "up to the first evaluation that reached the target",
        ),
    )


def _row_times_around(times: FloatArray, seconds: float) -> tuple[float, float]:
    """Return the times of the rows before and after ``seconds``; itself where there is none."""
    next_row, row_at_or_after = (
        np.searchsorted(times, seconds, "right"),
        np.searchsorted(times, seconds),
    )
    before = float(times[next_row - 1]) if next_row else seconds
    return before, float(times[row_at_or_after]) if row_at_or_after < len(times) else seconds


def _energy_share_at(power: FloatArray, name: str, seconds: float) -> float:
    """Return the share of a cumulative column reached at a time; NaN if not known."""
    times, values = power[0], power[POWER_COLUMNS.index(name)]
    known = np.isfinite(values)
    if not known.any() or values[known][-1] <= 0:
        return np.nan
    return float(np.interp(seconds, times[known], values[known]) / values[known][-1])


def _scale_or_none(value: float | None, share: float) -> float | None:
    return None if value is None or not np.isfinite(share) else value * share
