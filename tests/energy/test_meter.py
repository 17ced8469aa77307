from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.energy import meter as module
from effcore.energy.meter import FORKED_REASON, TRACE_COLUMNS, RunMeter
from effcore.energy.scheduler import PeriodicTask, SchedulerThread
from effcore.energy.sources import rapl
from effcore.energy.sources.base import SOURCES
from effcore.energy.sources.cpu_estimate import TDP_VARIABLE
from effcore.records import POWER_COLUMNS, EnergyQuality
from tests.energy.bench import Bench, Now, Quick, Time
from tests.energy.scripted import (
    Answer,
    Clock,
    Estimating,
    Scripted,
    Steady,
    Stuck,
    failure,
    measured,
)

# A run ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("power-")]


def started(*answers: Answer, clock: Clock | None = None) -> RunMeter:
    meter = RunMeter(Scripted(answers), clock or Clock())
    meter.start()
    return meter


def test_joules_are_the_difference_between_the_edges() -> None:
    meter = started(measured(100, 5000), measured(110, 7000))
    energy = meter.stop()
    assert (energy.joules, energy.seconds) == (2000.0, 10.0)
    assert (energy.lo, energy.hi) == pytest.approx((1900.0, 2100.0))
    assert (energy.quality, energy.source, energy.scope) == (
        EnergyQuality.MEASURED,
        "script",
        "a bench",
    )
    assert energy.notes == ("as told",)


def test_a_pause_is_not_counted() -> None:
    clock = Clock()
    answers = [measured(0, 0, 10), measured(4, 40, 20), measured(60, 999, 30), measured(64, 1039)]
    meter = started(*answers, clock=clock)
    clock.now = 4.0
    meter.pause()
    meter.sample()  # what the thread does while paused: nothing
    meter.pause()
    assert len(meter.table) == 2
    meter.resume()
    meter.resume()
    clock.now = 8.0
    energy = meter.stop()
    assert (energy.joules, energy.seconds) == (80.0, 8.0)
    rows = dict(zip(POWER_COLUMNS, meter.table.view().tolist(), strict=True))
    assert rows["seconds"] == [0.0, 4.0, 4.0, 8.0]
    assert rows["energy_j"] == [0.0, 40.0, 40.0, 80.0]
    assert rows["power_w"][:3] == [10.0, 20.0, 30.0]
    assert rows["energy_hi_j"] == pytest.approx([0.0, 42.0, 42.0, 84.0])
    assert rows["power_lo_w"][:3] == pytest.approx([9.5, 19.0, 28.5])


def test_stopping_while_paused_counts_up_to_the_pause() -> None:
    meter = started(measured(0, 0), measured(6, 60))
    meter.pause()
    assert meter.stop().joules == 60.0


def test_stop_returns_the_same_again_and_closes_once() -> None:
    source = Scripted([measured(0, 0), measured(6, 60)])
    meter = RunMeter(source, Clock())
    meter.start()
    assert meter.stop() == meter.stop() == meter.energy()
    assert source.closed == 1
    meter.resume()
    assert len(meter.table) == 2


def test_a_second_start_is_refused() -> None:
    meter = started(measured(0, 0), measured(6, 60))
    with pytest.raises(RuntimeError, match="started before"):
        meter.start()
    meter.stop()


def test_energy_so_far_can_be_asked_for() -> None:
    meter = started(measured(0, 0), measured(6, 60), measured(7, 70))
    assert meter.energy().joules is None
    meter.sample()
    assert meter.energy().joules == 60.0
    assert meter.stop().joules == 70.0


def test_three_failures_in_a_row_end_it() -> None:
    clock = Clock()
    answers: list[Answer] = [measured(0, 0), failure(), failure(), measured(6, 60)]
    meter = started(*answers, failure(), failure(), ValueError("odd"), clock=clock)
    for _ in range(8):
        meter.sample()
    clock.now = 9.0
    energy = meter.stop()
    assert (energy.joules, energy.lo, energy.hi) == (None, None, None)
    assert (energy.quality, energy.seconds) == (EnergyQuality.UNAVAILABLE, 9.0)
    assert energy.notes[0] == "3 readings in a row failed: odd"
    assert "5 of 7 readings failed" in energy.notes
    assert len(meter.table) == 2


def test_a_failed_edge_shortens_the_window_and_is_noted() -> None:
    meter = started(measured(0, 0), measured(6, 60), failure())
    meter.sample()
    energy = meter.stop()
    assert (energy.joules, energy.seconds) == (60.0, 6.0)
    assert "1 of 3 readings failed" in energy.notes


def test_a_falling_counter_voids_the_window() -> None:
    meter = started(measured(0, 500), measured(6, 20, power_w=30), measured(12, 80))
    meter.sample()
    energy = meter.stop()
    assert (energy.joules, energy.quality) == (None, EnergyQuality.UNAVAILABLE)
    assert "fell from 500.0 to 20.0 J" in energy.notes[0]
    assert all(math.isnan(value) for value in meter.table.view()[4:, 1:].ravel())
    assert meter.table.view()[1, 1] == 30.0


def test_the_thread_samples_and_stops_at_once() -> None:
    source = Steady(enough=20)
    meter = RunMeter(source, Clock())
    meter.start()
    names = [t.name for t in threading.enumerate()]
    assert "power-scripted" in names
    assert source.reached.wait(10)
    energy = meter.stop()
    assert source.reads >= 20
    assert len(meter.table) == source.reads
    assert energy.seconds == pytest.approx((source.reads - 1) / 1000)
    assert all(a < b for a, b in pairwise(meter.table.view()[4]))


def test_an_instrument_that_hangs_cannot_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STALL_S", 0.05)
    source = Stuck()
    meter = RunMeter(source, Clock())
    early = meter.begin("early")
    meter.start()
    assert source.entered.wait(10)
    meter.pause()
    meter.end(early)
    with meter.window("late"):
        pass
    energy = meter.stop()
    for lost in meter.windows().values():
        assert lost.quality is EnergyQuality.UNAVAILABLE
        assert "did not answer" in lost.notes[0]
    assert list(meter.windows()) == ["early", "late"]
    assert energy.quality is EnergyQuality.UNAVAILABLE
    assert "did not answer within 0.05 s" in energy.notes[0]
    assert source.closed == 0  # closing under a call in progress could crash the driver
    thread = next(t for t in threading.enumerate() if t.name == "power-scripted")
    source.release.set()
    thread.join(10)
    assert meter.stop().joules is None
    assert source.closed == 1


def test_no_source_is_a_meter_too() -> None:
    clock = Clock()
    meter = RunMeter(None, clock, "NVML: no driver; install it")
    assert meter.energy().seconds == 0.0
    meter.start()
    meter.pause()
    meter.resume()
    clock.now = 3.0
    energy = meter.stop()
    clock.now = 5.0
    assert energy == meter.energy()
    assert (energy.joules, energy.lo, energy.hi, energy.seconds) == (None, None, None, 3.0)
    assert energy.quality is EnergyQuality.UNAVAILABLE
    assert energy.notes == ("NVML: no driver; install it",)
    assert len(meter.table) == 0


def test_open_finds_the_estimate_for_a_cpu_whose_rated_power_is_stated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TDP_VARIABLE, "65")
    monkeypatch.setattr(rapl, "POWERCAP_ROOT", Path("nowhere"))
    meter = RunMeter.open("cpu", Clock())
    assert meter.energy().quality is EnergyQuality.ESTIMATED
    meter.start()
    meter.stop()


@pytest.mark.parametrize(
    ("device", "first"), [("cuda:99", "NVIDIA board counter"), ("cpu", "CPU model: the CPU's")]
)
def test_open_says_why_nothing_covers_a_device_the_nearest_first(
    device: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TDP_VARIABLE, raising=False)
    monkeypatch.setattr(rapl, "POWERCAP_ROOT", Path("nowhere"))
    energy = RunMeter.open(device, Clock()).energy()
    assert energy.quality is EnergyQuality.UNAVAILABLE
    assert energy.notes[0].startswith(first)
    for kind in SOURCES:
        assert sum(note.startswith(f"{kind.title}: ") for note in energy.notes) == 1


def test_open_survives_a_faulty_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: str) -> None:
        raise PermissionError("powercap")

    for kind in SOURCES:
        monkeypatch.setattr(kind, "open", broken)
    energy = RunMeter.open("cpu", Clock()).energy()
    assert "CPU model: PermissionError: powercap" in energy.notes


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=6))
def test_an_estimating_source_gives_no_value_even_if_it_reads_one(deltas: list[float]) -> None:
    total, answers = 0.0, []
    for i, delta in enumerate(deltas):
        total += delta
        answers.append(measured(float(i), total, power_w=delta))
    meter = RunMeter(Estimating(answers), Clock())
    meter.start()
    for _ in deltas[2:]:
        meter.sample()
    energy = meter.stop()
    assert energy.joules is None
    assert energy.quality is EnergyQuality.ESTIMATED
    assert "ESTIMATED" in str(energy)
    rows = meter.table.view()
    assert all(math.isnan(value) for value in (*rows[1], *rows[4]))


def test_only_what_is_metered_is_read() -> None:
    never = Scripted()
    assert RunMeter(never, Clock()).stop().joules is None
    assert never.closed == 1
    held = started(measured(0, 0), measured(6, 60))
    held.pause()
    energy = held.stop()  # the script has no more answers
    assert not any("failed" in note for note in energy.notes)


def test_an_estimate_gets_no_row_at_the_end() -> None:
    meter = RunMeter(Estimating([measured(0, 0), measured(6, 60)]), Clock())
    meter.start()
    meter.stop()
    assert len(meter.table) == len(meter.trace) == 2


# A board -------------------------------------------------------------------------------


def test_the_state_of_the_board_is_at_hand(bench: Bench) -> None:
    bench.run_for(0.5)
    state = bench.meter.state()
    assert state is not None
    assert (state.temperature_c, state.throttled) == (60.0, False)
    bench.board.reasons = ("power cap",)
    bench.run_for(5.0)
    bench.board.reasons = ()
    bench.run_for(5.0)
    state = bench.meter.state()
    assert state is not None
    assert bench.time.t - state.t <= 1.0
    energy = bench.meter.stop()
    assert energy.throttled_s == pytest.approx(5.0)
    assert any("throttled for 5 s" in note for note in energy.notes)
    trace = dict(zip(TRACE_COLUMNS, bench.meter.trace.view(), strict=True))
    assert math.isnan(trace["throttled"][0])  # the reading at the start comes before it
    assert set(trace["throttled"][1:]) == {0.0, 1.0}
    assert trace["power_average_w"][5] == 200.0
    assert trace["power_instant_w"][5] == 201.0
    assert math.isnan(trace["sm_clock_mhz"][0])  # the reading at the start comes before it
    assert trace["sm_clock_mhz"][-1] == 1700.0


def test_what_held_the_board_down_is_not_known_for_long(bench: Bench) -> None:
    bench.board.reasons = ("power cap",)
    bench.run_for(1.5)
    bench.time.t += 30.0  # the thread is held up
    bench.board.reasons = ()
    bench.run_for(2.0)
    held_s = bench.meter.stop().throttled_s
    assert held_s is not None
    assert 2.0 <= held_s <= 4.5


def test_other_users_are_said(bench: Bench) -> None:
    with bench.meter.window("early"):
        bench.run_for(6.0)
    bench.board.others = type(bench.board.others)(True, "process 77 was here")
    bench.run_for(6.0)
    with bench.meter.window("late"):
        bench.run_for(2.0)
    energy = bench.meter.stop()
    totals = bench.meter.windows()
    assert [totals["early"].contended, totals["late"].contended] == [False, True]
    assert energy.contended
    assert "process 77 was here" in energy.notes
    assert energy.quality is EnergyQuality.MEASURED  # of the board, whoever used it


def test_who_came_late_is_seen_at_the_end(bench: Bench) -> None:
    bench.run_for(2.0)
    bench.board.others = type(bench.board.others)(True, "process 77 was here")
    assert bench.meter.stop().contended


def test_gaps_and_ticks_are_told(bench: Bench) -> None:
    bench.run_for(4.0)
    bench.time.t += 2.5  # the thread is held up
    bench.run_for(4.0)
    energy = bench.meter.stop()
    assert 2.5 <= energy.max_gap_s <= 2.7
    assert 75 <= energy.ticks <= 85
    assert energy.joules == pytest.approx(10.5 * 200, rel=0.003)
    assert bench.meter.counter_updates().shape[1] >= 70


def test_a_forked_process_meters_nothing_and_waits_for_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run_for(6.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        bench.meter.pause()
        span = bench.meter.begin("part")
        child = bench.meter.stop()
        assert child.quality is EnergyQuality.UNAVAILABLE
        assert child.notes[0] == FORKED_REASON == span.energy().notes[0]
        assert bench.board.closed == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_real_fork_too() -> None:
    meter = RunMeter(Quick(Now()), time.monotonic)
    assert meter._thread is not None
    meter.start()  # with a thread, which the child lacks
    reading, writing = os.pipe()
    with meter._thread._lock, warnings.catch_warnings():  # which the child could wait for in vain
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, meter.stop().quality.encode())
            finally:
                os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "unavailable"
    meter.stop()


def test_a_fault_of_the_meter_itself_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(bench.board, "state", broken)
    bench.run_for(2.0)
    assert bench.meter.stop().notes[0] == "the meter failed: ZeroDivisionError: odd"


def test_without_a_source_windows_are_there_and_say_so() -> None:
    clock = Time()
    meter = RunMeter(None, lambda: clock.t, "no driver")
    meter.start()
    for seconds in (2.0, 3.0):
        clock.t += 1.0
        with meter.window("part") as part:
            clock.t += seconds
            with pytest.raises(ValueError, match="name='part' is taken"):
                meter.begin("part")
    assert part.energy().notes == ("no driver",)
    assert part.energy().seconds == pytest.approx(3.0)
    assert meter.idle_baseline(10.0).notes == ("no driver",)
    assert (meter.state(), meter.counter_updates().shape) == (None, (2, 0))
    open_one = meter.begin("open")
    clock.t += 4.0
    assert meter.stop().notes == ("no driver",)
    clock.t += 5.0
    found = meter.windows()
    assert {name: energy.quality for name, energy in found.items()} == dict.fromkeys(
        ("part", "open"), EnergyQuality.UNAVAILABLE
    )
    assert [energy.seconds for energy in found.values()] == pytest.approx([5.0, 4.0])
    assert open_one.energy().seconds == pytest.approx(4.0)


def test_the_thread_times_the_last_edge() -> None:
    board = Quick(Now())
    meter = RunMeter(board, time.monotonic)
    meter.start()
    meter.stop()
    assert not meter._run_window.totals.with_settled_edges().edges
    assert board.closed == 1


# The thread ----------------------------------------------------------------------------


LONG_S = 60.0


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_nudge_brings_a_turn_and_an_end_ends() -> None:
    turns: list[float] = []

    def turn() -> float:
        turns.append(time.monotonic())
        return turns[-1] + LONG_S

    sampler = SchedulerThread(turn, "power-test")
    sampler.start()
    sampler.wait_until(lambda: len(turns) == 1, LONG_S)
    sampler.wake()
    sampler.wait_until(lambda: len(turns) == 2, LONG_S)
    assert len(turns) == 2
    sampler.stop(LONG_S)
    assert "power-test" not in names()


def test_a_turn_comes_when_it_asked_to() -> None:
    due: list[float] = []

    def turn() -> float | None:
        assert not due or time.monotonic() >= due[-1]
        due.append(time.monotonic() + 0.001)
        return due[-1] if len(due) < 5 else None

    sampler = SchedulerThread(turn, "power-test")
    sampler.start()
    sampler.wait_until(lambda: len(due) == 5, LONG_S)
    sampler.stop(LONG_S)
    assert len(due) == 5


def test_waiting_has_an_end() -> None:
    sampler = SchedulerThread(lambda: time.monotonic() + LONG_S, "power-test")
    sampler.start()
    sampler.wait_until(lambda: False, 0.01)
    sampler.stop(LONG_S)


@pytest.mark.parametrize(("now_s", "due_s"), [(10.0, 10.5), (10.3, 10.5), (12.0, 12.0)])
def test_a_lane_keeps_its_rate_and_makes_up_for_nothing(now_s: float, due_s: float) -> None:
    done: list[int] = []
    lane = PeriodicTask(2.0, lambda: done.append(1), 10.0)
    lane.run_if_due(9.9)
    assert done == []
    lane.run_if_due(now_s)
    assert (done, lane.due_s) == ([1], due_s)
