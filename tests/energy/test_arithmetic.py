from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.energy.arithmetic import (
    EDGE_ERROR_S,
    EnergySumError,
    compare_energies,
    dynamic_energy,
    energy_to_target,
    has_short_idle_readings,
    idle_duration_text,
    idle_power_w,
    seconds_to_target,
    sum_by_quality,
    sum_energies,
    with_idle_readings,
)
from effcore.impact.saving_text import above_idle_text, idle_power_text
from effcore.records import (
    EVAL_COLUMNS,
    POWER_COLUMNS,
    STEP_COLUMNS,
    Energy,
    EnergyQuality,
    RunStatus,
    Snapshot,
)
from effcore.testing.tiny_task import tiny_task
from tests.tiny_runs import tiny_config

# Sums and savings ----------------------------------------------------------------------


BOARD = Energy(
    100.0, 95.0, 105.0, 10.0, EnergyQuality.MEASURED, "counter", "GPU board", ("as told",)
)
GUESS = Energy(None, 20.0, 80.0, 10.0, EnergyQuality.ESTIMATED, "model", "CPU", ("an estimate",))
NOTHING = Energy(
    None, None, None, 10.0, EnergyQuality.UNAVAILABLE, "no meter", "nothing", ("no driver",)
)
SHORT = replace(BOARD, joules=None, lo=None, hi=None, seconds=0.2, notes=("window too short",))


# Adding ----------------------------------------------------------------------------------


def test_windows_of_one_instrument_add_with_their_ends() -> None:
    found = sum_energies([BOARD, replace(BOARD, joules=50.0, lo=47.0, hi=53.0, notes=("hot",))])
    assert (found.joules, found.lo, found.hi, found.seconds) == (150.0, 142.0, 158.0, 20.0)
    kind = (found.quality, found.source, found.scope)
    assert kind == (EnergyQuality.MEASURED, "counter", "GPU board")
    assert found.notes == ("as told", "hot")


def test_one_alone_is_its_own_total() -> None:
    assert sum_energies([BOARD]) == BOARD
    assert sum_energies([GUESS]) == GUESS


def test_intervals_add_to_an_interval_without_a_value() -> None:
    found = sum_energies([GUESS, GUESS, GUESS])
    assert (found.joules, found.lo, found.hi) == (None, 60.0, 240.0)
    assert found.quality is EnergyQuality.ESTIMATED
    half = sum_energies([BOARD, replace(BOARD, joules=None)])
    assert (half.joules, half.lo, half.hi) == (None, 190.0, 210.0)


@pytest.mark.parametrize(
    "other",
    [
        replace(BOARD, quality=EnergyQuality.SUSPECT),
        replace(BOARD, source="another counter"),
        replace(BOARD, scope="CPU package"),
        GUESS,
    ],
)
def test_what_differs_in_kind_does_not_add(other: Energy) -> None:
    with pytest.raises(EnergySumError, match="of 2 kinds cannot be added .*use sum_by_quality"):
        sum_energies([BOARD, other])


def test_nothing_has_no_sum() -> None:
    with pytest.raises(EnergySumError, match="energies is empty"):
        sum_energies([])
    assert sum_by_quality([]) == ()


@pytest.mark.parametrize(("missing", "why"), [(NOTHING, "no driver"), (SHORT, "window too short")])
def test_what_is_missing_voids_the_whole_and_is_named(missing: Energy, why: str) -> None:
    found = sum_energies([BOARD, missing, BOARD])
    assert (found.joules, found.lo, found.hi) == (None, None, None)
    assert found.quality is EnergyQuality.UNAVAILABLE
    assert found.seconds == 20.0 + missing.seconds
    assert found.notes[0].startswith("no total: 1 of 3 energies missing")
    assert why in found.notes[0]
    assert "as told" in found.notes


def test_qualities_stand_side_by_side() -> None:
    found = sum_by_quality([GUESS, BOARD, NOTHING, BOARD, SHORT, GUESS])
    assert [energy.quality for energy in found] == [
        EnergyQuality.MEASURED, EnergyQuality.ESTIMATED, EnergyQuality.UNAVAILABLE,
        EnergyQuality.UNAVAILABLE,
    ]  # fmt: skip
    assert found[0].joules == 200.0
    assert (found[1].lo, found[1].hi) == (40.0, 160.0)
    assert [energy.notes[0].split(":")[0] for energy in found[2:]] == ["no total"] * 2


def test_further_facts_survive_a_sum_where_they_hold_for_all() -> None:
    one = replace(BOARD, device_uuid="a", max_gap_s=0.1)
    other = replace(BOARD, device_uuid="a", max_gap_s=0.3, contended=True, throttled_s=5.0)
    found = sum_energies([replace(one, throttled_s=7.0, ticks=3), other])
    assert (found.contended, found.device_uuid, found.max_gap_s) == (True, "a", 0.3)
    assert (found.throttled_s, found.ticks) == (12.0, 3)
    apart = sum_energies([one, replace(other, device_uuid="b")])
    assert apart.device_uuid is None


ENERGIES = st.builds(
    Energy,
    joules=st.none() | st.floats(0, 1e6),
    lo=st.none() | st.floats(0, 1e6),
    hi=st.none() | st.floats(0, 1e6),
    seconds=st.floats(0, 1e4),
    quality=st.sampled_from(EnergyQuality),
    source=st.sampled_from(["counter", "model"]),
    scope=st.sampled_from(["board", "CPU"]),
    notes=st.lists(st.sampled_from(["hot", "short"]), max_size=2).map(tuple),
)


@given(st.lists(ENERGIES, max_size=8))
def test_no_sum_is_of_a_surer_quality_than_its_parts(energies: list[Energy]) -> None:
    for found in sum_by_quality(energies):
        alike = [e for e in energies if (e.source, e.scope) == (found.source, found.scope)]
        if found.quality is EnergyQuality.UNAVAILABLE:
            assert (found.joules, found.lo, found.hi) == (None, None, None)
            continue
        parts = [e for e in alike if e.quality is found.quality]
        assert parts
        assert found.joules is None or found.joules <= sum(e.joules or 0.0 for e in parts) + 1e-6
    told = {e.quality for e in energies}
    assert {e.quality for e in sum_by_quality(energies)} <= told | {EnergyQuality.UNAVAILABLE}


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 0.5)), min_size=1, max_size=9))
def test_the_interval_of_a_sum_holds_the_sum(values: list[tuple[float, float]]) -> None:
    parts = [replace(BOARD, joules=j, lo=j * (1 - e), hi=j * (1 + e)) for j, e in values]
    found = sum_energies(parts)
    assert found.joules is not None
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo - 1e-6 <= found.joules <= found.hi + 1e-6


# Comparing -------------------------------------------------------------------------------


def boards(used_j: float, dense_j: float, seconds: float = 60.0) -> tuple[Energy, Energy]:
    made = [
        replace(BOARD, joules=j, lo=0.95 * j, hi=1.05 * j, seconds=seconds)
        for j in (used_j, dense_j)
    ]
    return made[0], made[1]


def test_apart_each_may_err_in_its_own_way() -> None:
    found = compare_energies(*boards(70.0, 100.0))
    assert found.saved_frac == pytest.approx(0.3)
    assert (found.lo, found.hi) == pytest.approx((1 - 73.5 / 95, 1 - 66.5 / 105))
    assert (found.quality, found.headline, found.notes) == (
        EnergyQuality.MEASURED,
        True,
        ("as told",),
    )
    assert str(found) == "30.0% (22.6% to 36.7% of the joules, MEASURED)"


def test_in_one_session_the_instruments_error_cancels_and_the_edges_stay() -> None:
    found = compare_energies(*boards(70.0, 100.0), same_session=True)
    error = 0.7 * 2**0.5 * EDGE_ERROR_S / 60.0
    assert (found.lo, found.hi) == pytest.approx((0.3 - error, 0.3 + error))
    short = compare_energies(*boards(70.0, 100.0, seconds=1.0), same_session=True)
    assert short.hi - short.lo == pytest.approx(60 * (found.hi - found.lo))
    slow = (replace(energy, step_s=2.5 * EDGE_ERROR_S) for energy in boards(70.0, 100.0))
    coarse = compare_energies(*slow, same_session=True)
    assert coarse.hi - coarse.lo == pytest.approx(2 * (found.hi - found.lo))


def test_more_used_is_a_negative_saving() -> None:
    found = compare_energies(*boards(120.0, 100.0))
    assert found.saved_frac == pytest.approx(-0.2)
    assert found.lo < -0.2 < found.hi


@given(st.floats(1, 1e5), st.floats(1, 1e5), st.floats(-0.05, 0.05), st.booleans())
def test_the_interval_holds_the_true_saving_whatever_the_instrument_errs_by(
    used_j: float, dense_j: float, gain: float, same_session: bool
) -> None:
    read = boards(used_j * (1 + gain), dense_j * (1 + gain))
    found = compare_energies(*read, same_session=same_session)
    assert found.lo - 1e-9 <= 1 - used_j / dense_j <= found.hi + 1e-9


@pytest.mark.parametrize("same_session", [False, True])
def test_an_estimated_saving_is_never_a_headline_nor_a_value(same_session: bool) -> None:
    used = replace(GUESS, lo=10.0, hi=40.0)
    for joules in (None, 30.0):  # were there a value, it would be no better
        found = compare_energies(
            replace(used, joules=joules), replace(GUESS, joules=joules), same_session=same_session
        )
        assert (found.saved_frac, found.headline) == (None, False)
        assert (found.lo, found.hi) == (1 - 40 / 20, 1 - 10 / 80)
        assert "restates CPU time" in found.notes[0]
        assert "ESTIMATED" in str(found)


@pytest.mark.parametrize(
    "quality", [EnergyQuality.MODELLED, EnergyQuality.SUSPECT, EnergyQuality.RECORDED]
)
def test_only_a_measurement_makes_a_headline(quality: EnergyQuality) -> None:
    used, dense = (replace(energy, quality=quality) for energy in boards(70.0, 100.0))
    found = compare_energies(used, dense)
    assert found.saved_frac == pytest.approx(0.3)
    assert not found.headline
    assert found.notes[0] != "as told"
    assert quality.value.upper() in str(found)


@pytest.mark.parametrize(
    ("used", "reference", "message"),
    [
        (BOARD, GUESS, "measured · counter · GPU board cannot be compared with estimated"),
        (BOARD, replace(BOARD, source="another"), "measure both alike"),
        (BOARD, replace(BOARD, scope="CPU package"), "measure both alike"),
        (BOARD, NOTHING, "measure both alike"),
        (BOARD, replace(BOARD, quality=EnergyQuality.SUSPECT), "measure both alike"),
        (NOTHING, NOTHING, "needs the intervals of both"),
        (SHORT, SHORT, "needs the intervals of both"),
        (replace(BOARD, lo=None), BOARD, "needs the intervals of both"),
        (BOARD, replace(BOARD, lo=0.0), "expected more than 0 J"),
    ],
)
def test_what_cannot_be_compared_is_refused(used: Energy, reference: Energy, message: str) -> None:
    with pytest.raises(EnergySumError, match=message):
        compare_energies(used, reference)


COMPARABLE = [quality for quality in EnergyQuality if quality is not EnergyQuality.UNAVAILABLE]


@given(st.sampled_from(COMPARABLE), st.sampled_from(COMPARABLE), st.booleans())
def test_a_saving_is_of_the_quality_of_both_or_there_is_none(
    used: EnergyQuality, reference: EnergyQuality, same_session: bool
) -> None:
    energies = (replace(BOARD, quality=used), replace(BOARD, quality=reference))
    if used is not reference:
        with pytest.raises(EnergySumError, match="measure both alike"):
            compare_energies(*energies, same_session=same_session)
        return
    found = compare_energies(*energies, same_session=same_session)
    assert found.quality is used
    assert found.headline is (used is EnergyQuality.MEASURED)
    assert used.value.upper() in str(found)


def test_a_reference_of_nothing_saves_nothing_and_is_refused() -> None:
    for lo in (0.0, 1.0):
        with pytest.raises(EnergySumError, match="more than 0 J"):
            compare_energies(BOARD, replace(BOARD, joules=0.0, lo=lo))


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({"device_uuid": "a"}, {"device_uuid": "b"}, "the boards differ"),
        ({"device_uuid": "a"}, {}, "the boards differ"),
        ({"card": "one CPU"}, {"card": "another"}, "card or processor was one CPU"),
        ({"power_limit_w": 300.0}, {"power_limit_w": 700.0}, "power limit in W was 300.0"),
    ],
)
def test_what_saves_by_itself_is_no_saving_of_the_method(
    ours: dict[str, Any], theirs: dict[str, Any], words: str
) -> None:
    with pytest.raises(EnergySumError, match=words):
        compare_energies(replace(BOARD, **ours), replace(BOARD, **theirs))
    assert compare_energies(replace(BOARD, power_limit_w=300.0), BOARD).headline, (
        "told by one side only"
    )


def test_joules_of_a_board_that_others_used_save_nothing() -> None:
    for pair in ((replace(BOARD, contended=True), BOARD), (BOARD, replace(BOARD, contended=True))):
        with pytest.raises(EnergySumError, match="other processes used the metered device"):
            compare_energies(*pair)


def test_idle_readings_of_different_windows_are_of_neither() -> None:
    one, two = (replace(BOARD, idle_w=((1.0, watts, 9.0),), idle_s=(10.0,)) for watts in (2.0, 3.0))
    assert (sum_energies([one, two]).idle_w, sum_energies([one, two]).idle_s) == ((), ())
    assert sum_energies([one, one]).idle_s == (10.0,)


# Energy to target ----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def look(metrics: list[float], energy: Energy, power: np.ndarray) -> Snapshot:
    """Return a run that was evaluated every 10 s."""
    evals = np.zeros((len(EVAL_COLUMNS), len(metrics)))
    evals[EVAL_COLUMNS.index("seconds")] = 10.0 * np.arange(len(metrics))
    evals[EVAL_COLUMNS.index("metric")] = metrics
    return Snapshot(
        run_id="a", config=tiny_config(), status=RunStatus.FINISHED, created_unix=0.0, start=None,
        end=None, progress=1.0, steps=np.zeros((len(STEP_COLUMNS), 0)), evals=evals, power=power,
        changes=(), energy=energy, exploratory=False,
    )  # fmt: skip


def table(points: bool) -> np.ndarray:
    """Return 40 s at 100 W for 20 s and 300 W after, the ends half and twice that."""
    time = np.linspace(0.0, 40.0, 401)
    joules = np.where(time < 20.0, 100.0 * time, 2000.0 + 300.0 * (time - 20.0))
    rows = {name: np.full(401, np.nan) for name in POWER_COLUMNS}
    rows |= {"seconds": time, "energy_lo_j": joules / 2, "energy_hi_j": 2 * joules}
    if points:
        rows |= {name: joules for name in ("energy_j", "energy_lo_j", "energy_hi_j")}
    return np.stack([rows[name] for name in POWER_COLUMNS])


MEASURED = Energy(8000.0, 7600.0, 8400.0, 40.0, EnergyQuality.MEASURED, "counter", "board")
ESTIMATED = Energy(None, 4000.0, 16000.0, 40.0, EnergyQuality.ESTIMATED, "model", "CPU")


def test_the_joules_are_those_up_to_the_first_evaluation_that_reached_it() -> None:
    run = look([0.1, 0.5, 0.8, 0.7, 0.9], MEASURED, table(points=True))
    found = energy_to_target(run, 0.75, higher_is_better=True)
    assert found is not None
    assert (found.joules, found.lo, found.hi) == pytest.approx((2000.0, 1900.0, 2100.0))
    assert found.seconds == 20.0
    assert found.quality is EnergyQuality.MEASURED
    assert "up to the first evaluation" in found.notes[-1]


def test_an_estimate_stays_an_interval() -> None:
    run = look([3.0, 2.0, 1.0], ESTIMATED, table(points=False))
    found = energy_to_target(run, 2.0, higher_is_better=False)
    assert found is not None
    assert found.joules is None
    assert (found.lo, found.hi) == pytest.approx((500.0, 2000.0))
    assert found.quality is EnergyQuality.ESTIMATED


def test_what_was_never_reached_or_never_metered_has_no_joules() -> None:
    run = look([0.1, 0.2], MEASURED, table(points=True))
    assert seconds_to_target(run, 0.3, higher_is_better=True) is None
    assert energy_to_target(run, 0.3, higher_is_better=True) is None
    nothing = Energy(None, None, None, 40.0, EnergyQuality.UNAVAILABLE, "none", "nothing")
    assert energy_to_target(replace(run, energy=nothing), 0.1, higher_is_better=True) is None
    empty = replace(run, power=np.zeros((len(POWER_COLUMNS), 0)))
    assert energy_to_target(empty, 0.1, higher_is_better=True) is None


def test_a_target_reached_at_once_has_no_joules_and_one_reached_soon_says_so() -> None:
    run = look([0.9, 0.95], MEASURED, table(points=True))
    evals = run.evals.copy()
    for seconds, told in ((0.2, False), (2.0, True)):
        evals[EVAL_COLUMNS.index("seconds"), 0] = seconds
        found = energy_to_target(replace(run, evals=evals.copy()), 0.5, higher_is_better=True)
        assert (found is not None) is told
        if found is not None:
            assert "a short window, 2.0 s" in found.notes
            assert (found.lo, found.hi) == pytest.approx((190.0, 210.0))
            # Of a counter that moves in steps the last one may be missing.
            for steps, missing in (({"ticks": 400}, 0.04), ({"step_s": 0.125}, 0.05)):
                stepping = replace(run, evals=evals.copy(), energy=replace(MEASURED, **steps))
                found = energy_to_target(stepping, 0.5, higher_is_better=True)
                assert found is not None
                ends = (190.0 * (1 - missing), 210.0 * (1 + missing))
                assert (found.lo, found.hi) == pytest.approx(ends)


def test_rows_that_are_far_apart_widen_the_interval() -> None:
    run = look([0.1, 0.5, 0.8], MEASURED, table(points=True)[:, ::80])  # every 8 s
    found = energy_to_target(run, 0.75, higher_is_better=True)
    assert found is not None
    assert found.joules is not None
    # At 16 s it was 1600 J, at 24 s 3200 J.
    assert (found.lo, found.hi) == pytest.approx((0.95 * 1600.0, 1.05 * 3200.0))
    assert 1600.0 < found.joules < 3200.0


# Idle power ----------------------------------------------------------------------------


GROSS = Energy(
    1000.0, 950.0, 1050.0, 2.0, EnergyQuality.MEASURED, "a counter", "GPU board", ("as told",),
    idle_w=((60.0, 70.0, 80.0), (80.0, 90.0, 100.0)), idle_s=(9.9, 10.0),
)  # fmt: skip


def test_what_lies_above_idle_is_as_uncertain_as_both_allow() -> None:
    net = dynamic_energy(GROSS)
    assert net.joules == 1000.0 - 2 * 80.0
    assert (net.lo, net.hi) == (950.0 - 2 * 100.0, 1050.0 - 2 * 60.0)
    assert net.source == "a counter, dynamic: less 80.0 W of the idle board"
    assert net.quality is EnergyQuality.MEASURED
    assert net.notes == (
        "the gross energy is 1,000.0 J MEASURED", "idle power: read for 9.9 s and 10.0 s", "as told"
    )  # fmt: skip


@pytest.mark.parametrize(
    "gross",
    [
        replace(GROSS, idle_w=GROSS.idle_w[:1]),
        replace(GROSS, joules=None),
        replace(GROSS, lo=None),
    ],
)
def test_one_reading_or_no_joules_are_not_enough(gross: Energy) -> None:
    net = dynamic_energy(gross)
    assert (net.joules, net.lo, net.hi, net.quality) == (
        None,
        None,
        None,
        EnergyQuality.UNAVAILABLE,
    )
    assert net.notes[0].startswith("no dynamic energy:")


def test_the_power_of_an_idle_reading_has_its_interval() -> None:
    assert idle_power_w(GROSS) == (475.0, 500.0, 525.0)
    assert idle_power_w(replace(GROSS, joules=None)) is None
    assert idle_power_w(replace(GROSS, seconds=0.0)) is None


@pytest.mark.parametrize(
    ("idle_s", "said"),
    [
        ((10.0, 10.0), "read for 10.0 s"),
        ((0.6, 0.6), "read for 0.6 s, shorter than the intended 10 s"),
        ((10.0, 0.6), "read for 10.0 s and 0.6 s, shorter than the intended 10 s"),
        ((), "reading time not recorded"),
        ((10.0,), "reading time not recorded"),
    ],
)
def test_what_comes_of_short_idle_readings_says_so(idle_s: tuple[float, ...], said: str) -> None:
    energy = replace(GROSS, idle_s=idle_s)
    short = idle_s != (10.0, 10.0)
    assert (idle_duration_text(energy), has_short_idle_readings(energy)) == (said, short)
    assert f"idle power: {said}" in dynamic_energy(energy).notes
    assert (idle_power_text(energy) or "").endswith(f"after training, MEASURED, {said}")
    assert (above_idle_text(energy) or "").endswith("idle readings are short") is short


def test_idle_readings_without_joules_are_left_out() -> None:
    lost = replace(GROSS, joules=None)
    beside = with_idle_readings(
        GROSS, (replace(GROSS, seconds=4.0), lost, replace(GROSS, seconds=5.0))
    )
    assert [power[1] for power in beside.idle_w] == [250.0, 200.0]
    assert beside.idle_s == (4.0, 5.0)


def test_a_board_that_others_used_was_not_idle() -> None:
    run = Energy(100.0, 90.0, 110.0, 10.0, EnergyQuality.MEASURED, "a counter", "the board")
    found = with_idle_readings(run, (run, replace(run, contended=True)))
    assert (found.idle_w, found.idle_s) == (((9.0, 10.0, 11.0),), (10.0,))
