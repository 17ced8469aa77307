"""Windows of a run's meter, in a time that the tests pass; no thread, no waiting."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from effcore.energy import account, ticks
from effcore.energy.account import TRACE_COLUMNS
from effcore.energy.baseline import dynamic
from effcore.energy.meter import FORKED, RunMeter
from effcore.energy.ticks import EDGE_S
from effcore.events import Quality
from tests.energy.scripted import Board, Turns, failure


class Time:
    t = 100.003


class Now:
    """The real time."""

    @property
    def t(self) -> float:
        return time.monotonic()

    @t.setter
    def t(self, value: float) -> None:
        raise AttributeError("time passes by itself")


class Quick(Board):
    """A board whose counter moves at every look."""

    step_s = 1e-6


class Bench:
    """A board, its meter, and the time that both live in."""

    def __init__(self) -> None:
        self.time = Time()
        self.board = Board(self.time)
        self.meter = RunMeter(self.board, lambda: self.time.t, sampler=self._sampler, phases=True)

    def _sampler(self, turn: Callable[[], float | None], name: str) -> Turns:
        self.turns = Turns(turn, name, self.time)
        return self.turns

    def run_for(self, seconds: float) -> None:
        self.turns.pass_time(self.time.t + seconds)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench()
    monkeypatch.setattr(time, "monotonic", lambda: bench.time.t)
    bench.meter.start()
    yield bench
    bench.meter.stop()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep few rows, so that a run of a minute is a long one."""
    monkeypatch.setattr(account, "KEPT_ROWS", 64)
    monkeypatch.setattr(ticks, "KEPT_STEPS", 64)


def test_however_long_a_run_is_its_memory_is_bounded_and_its_joules_are_exact(
    small: None, bench: Bench
) -> None:
    meter = bench.meter
    whole = meter.begin("whole")
    for second in range(60):
        bench.board.draw(100.0 + 10 * second)
        with meter.window(f"part {second % 2}"):
            bench.run_for(0.7)
        bench.run_for(0.3)
        assert len(meter.table) == len(meter.trace) <= 64
        assert meter.ticks().shape[1] <= 64
        assert len(meter._ended[1]) <= 1, "windows that have ended are sums"
    meter.end(whole)
    true_j = bench.board.true_j(bench.time.t) - bench.board.true_j(Time.t)
    energy = meter.stop()
    assert energy.joules == pytest.approx(true_j, rel=1e-3)
    assert whole.energy().joules == pytest.approx(energy.joules, rel=1e-3)
    rows, ever = meter.table.since(0)
    assert ever > 600
    assert (rows[0, 0], rows[4, -1]) == (Time.t, energy.joules)
    np.testing.assert_array_equal(rows[0], meter.trace.view()[0])
    assert meter.windows()["part 0"].seconds == pytest.approx(30 * 0.7)


def test_windows_nest_and_overlap(bench: Bench) -> None:
    meter = bench.meter
    bench.run_for(1.03)
    with meter.window("epoch") as epoch:
        bench.run_for(2.0)
        with meter.window("evaluation") as evaluation:
            bench.board.draw(400.0)
            bench.run_for(3.0)
        other = meter.begin("other")
        bench.run_for(1.5)
    bench.run_for(1.0)
    meter.end(other)
    bench.run_for(1.0)
    assert epoch.energy().joules == pytest.approx(2 * 200 + 4.5 * 400, rel=0.01)
    assert evaluation.energy().joules == pytest.approx(3 * 400, rel=0.01)
    assert other.energy().joules == pytest.approx(2.5 * 400, rel=0.01)
    assert evaluation.energy().seconds == pytest.approx(3.0)
    assert evaluation.energy().quality is Quality.MEASURED
    assert not any("still being timed" in note for note in epoch.energy().notes)


def test_only_stopping_waits(bench: Bench) -> None:
    bench.run_for(2.051)
    now_s = bench.time.t
    span = bench.meter.begin("part")
    assert span.energy().joules is None
    provisional = bench.meter.end(span)
    bench.meter.pause()
    bench.meter.resume()
    assert bench.time.t == now_s
    assert "its edges are still being timed" in provisional.notes
    energy = bench.meter.stop()
    assert 0 < bench.time.t - now_s <= EDGE_S
    assert energy.joules == pytest.approx(200 * 2.051, rel=0.005)
    assert bench.meter.table.view()[4, -1] == energy.joules
    assert len(bench.meter.trace) == len(bench.meter.table)


def test_readings_alone_would_be_out_by_a_step(bench: Bench) -> None:
    """Starts 3 ms after a step and stops 95 ms after one: shown are 92 ms too few."""
    bench.run_for(1.092)
    raw_j = bench.board.read().energy_j - bench.board.offset_j - 200 * 100.0
    energy = bench.meter.stop()
    assert raw_j == pytest.approx(200 * 1.0)
    assert energy.joules == pytest.approx(200 * 1.092, abs=2.0)


def test_a_window_of_a_name_is_a_part_of_its_total(bench: Bench) -> None:
    for _ in range(4):
        with bench.meter.window("evaluation"):
            bench.run_for(2.0)
        bench.run_for(1.0)
    with bench.meter.window("other"):
        bench.run_for(1.0)
    bench.run_for(0.5)
    totals = bench.meter.windows()
    assert list(totals) == ["evaluation", "other"]
    assert totals["evaluation"].joules == pytest.approx(4 * 2 * 200, rel=0.01)
    assert totals["evaluation"].seconds == pytest.approx(8.0)


def test_a_name_that_is_open_is_refused(bench: Bench) -> None:
    with bench.meter.window("part"), pytest.raises(ValueError, match="name='part' is taken"):
        bench.meter.begin("part")
    bench.meter.begin("part")


@pytest.mark.parametrize("name", ["run", "idle"])
def test_no_name_is_kept_from_windows(bench: Bench, name: str) -> None:
    with bench.meter.window(name) as span:
        bench.run_for(3.0)
        bench.meter.idle_baseline(2.0)
        bench.run_for(3.0)
    assert span.energy().seconds == pytest.approx(6.0)
    assert list(bench.meter.windows()) == [name]


def test_the_run_goes_on_if_an_idle_reading_is_interrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(done: Callable[[], bool], timeout_s: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.turns, "wait_until", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.meter.idle_baseline(2.0)
    bench.run_for(6.0)
    assert bench.meter.idle_baseline(2.0).joules == pytest.approx(400, rel=0.01)
    assert bench.meter.stop().joules == pytest.approx(1200, rel=0.01)


def test_ending_twice_changes_nothing(bench: Bench) -> None:
    span = bench.meter.begin("part")
    bench.run_for(2.0)
    bench.meter.end(span)
    bench.run_for(2.0)
    first = span.energy()
    assert bench.meter.end(span) == first
    assert first.seconds == pytest.approx(2.0)


def test_a_window_ends_even_if_training_fails(bench: Bench) -> None:
    with pytest.raises(RuntimeError), bench.meter.window("part"):  # noqa: PT012 - the point
        bench.run_for(1.0)
        raise RuntimeError
    bench.run_for(1.0)
    assert bench.meter.windows()["part"].seconds == pytest.approx(1.0)


def test_windows_are_held_with_the_run(bench: Bench) -> None:
    with bench.meter.window("part") as part:
        bench.run_for(3.0)
        bench.meter.pause()
        bench.run_for(50.0)
        late = bench.meter.begin("late")
        bench.meter.resume()
        bench.run_for(3.0)
    bench.run_for(1.0)
    assert part.energy().joules == pytest.approx(6 * 200, rel=0.01)
    assert late.energy().seconds == pytest.approx(4.0, abs=0.11)
    assert bench.meter.stop().seconds == pytest.approx(7.0)


def test_a_long_pause_leaves_the_board_alone(bench: Bench) -> None:
    bench.run_for(2.0)
    assert bench.meter.age_s() < 0.11
    bench.meter.pause()
    bench.run_for(1.0)
    reads = bench.board.reads
    bench.run_for(60.0)
    assert bench.board.reads == reads
    assert bench.meter.age_s() == pytest.approx(61.0)


def test_what_is_open_when_the_run_stops_ends_with_it(bench: Bench) -> None:
    span = bench.meter.begin("part")
    bench.run_for(6.0)
    energy = bench.meter.stop()
    assert span.energy().joules == energy.joules
    assert bench.meter.windows()["part"].joules == energy.joules
    after = bench.meter.begin("after")
    bench.meter.end(after)
    assert after.energy().joules is None


def test_the_idle_board_is_metered_beside_the_run(bench: Bench) -> None:
    bench.board.draw(80.0)
    before = bench.meter.idle_baseline(10.0)
    bench.board.draw(500.0)
    bench.run_for(20.0)
    bench.board.draw(90.0)
    after = bench.meter.idle_baseline(10.0)
    gross = bench.meter.stop()
    assert before.joules == pytest.approx(800, rel=0.001)
    assert after.joules == pytest.approx(900, rel=0.005)
    assert gross.joules == pytest.approx(20 * 500, rel=0.001)
    assert gross.seconds == pytest.approx(20.0, abs=0.2)
    net = dynamic(gross)
    assert net.joules == pytest.approx(20 * (500 - 85), rel=0.002)
    assert net.lo is not None
    assert net.lo < 20 * 410 < 20 * 420 < (net.hi or 0)
    assert "dynamic: less 85." in net.source
    assert net.notes[0] == f"the gross energy is {gross.joules:,.1f} J MEASURED"
    assert [power[1] for power in gross.idle_w] == [
        pytest.approx(80, rel=0.001), pytest.approx(90, rel=0.005),
    ]  # fmt: skip
    assert before.idle_w == ()


def test_an_idle_baseline_needs_a_meter_that_runs(bench: Bench) -> None:
    bench.meter.stop()
    with pytest.raises(RuntimeError, match="started and not stopped"):
        bench.meter.idle_baseline(1.0)


def test_an_idle_board_has_done_its_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.board, "finish_work", lambda: bench.run_for(1.0))
    bench.run_for(6.0)
    assert bench.meter.idle_baseline(2.0).seconds == pytest.approx(2.0)
    assert bench.meter.stop().seconds == pytest.approx(7.0), "what was launched is the run's"


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_a_baseline_of_no_time_is_refused_and_pauses_nothing(bench: Bench, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds=.* is not allowed: expected 0 to 3600"):
        bench.meter.idle_baseline(seconds)
    bench.run_for(6.0)
    assert bench.meter.stop().seconds == pytest.approx(6.0)


def test_a_baseline_while_paused_leaves_the_run_paused(bench: Bench) -> None:
    bench.run_for(6.0)
    bench.meter.pause()
    assert bench.meter.idle_baseline(5.0).seconds == pytest.approx(5.0)
    bench.run_for(5.0)
    assert bench.meter.stop().seconds == pytest.approx(6.0)


def test_a_window_that_had_ended_keeps_its_joules(bench: Bench) -> None:
    with bench.meter.window("early"):
        bench.run_for(6.0)
    open_span = bench.meter.begin("late")
    bench.run_for(6.0)
    bench.board.failing = failure()
    bench.run_for(1.0)
    bench.meter.end(open_span)
    energy = bench.meter.stop()
    totals = bench.meter.windows()
    assert totals["early"].joules == pytest.approx(1200, rel=0.01)
    for lost in (energy, open_span.energy(), totals["late"]):
        assert lost.quality is Quality.UNAVAILABLE
        assert lost.notes[0].startswith("3 readings in a row failed: the wire is cut")
    assert energy.seconds == pytest.approx(13.0, abs=0.2)


def test_a_counter_that_fell_voids_what_was_open(bench: Bench) -> None:
    lost = bench.meter.begin("lost")
    bench.run_for(6.0)
    bench.board.offset_j = -6e4
    bench.run_for(0.2)
    bench.meter.end(lost)
    with bench.meter.window("later") as later:
        bench.run_for(6.0)
    energy = bench.meter.stop()
    assert "the counter fell from" in lost.energy().notes[0]
    assert lost.energy().joules is None
    assert later.energy().joules == pytest.approx(1200, rel=0.01)
    assert (energy.joules, energy.quality) == (None, Quality.UNAVAILABLE)


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
    assert any("held down for 5 s" in note for note in energy.notes)
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
    assert energy.quality is Quality.MEASURED  # of the board, whoever used it


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
    assert bench.meter.ticks().shape[1] >= 70


def test_a_forked_process_meters_nothing_and_waits_for_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run_for(6.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        bench.meter.pause()
        span = bench.meter.begin("part")
        child = bench.meter.stop()
        assert child.quality is Quality.UNAVAILABLE
        assert child.notes[0] == FORKED == span.energy().notes[0]
        assert bench.board.closed == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_real_fork_too() -> None:
    meter = RunMeter(Quick(Now()), time.monotonic)
    assert meter._watch is not None
    meter.start()  # with a thread, which the child lacks
    reading, writing = os.pipe()
    with meter._watch._lock, warnings.catch_warnings():  # which the child could wait for in vain
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
    assert bench.meter.stop().notes[0] == "the meter broke down: ZeroDivisionError: odd"


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
    assert (meter.state(), meter.ticks().shape) == (None, (2, 0))
    open_one = meter.begin("open")
    clock.t += 4.0
    assert meter.stop().notes == ("no driver",)
    clock.t += 5.0
    found = meter.windows()
    assert {name: energy.quality for name, energy in found.items()} == dict.fromkeys(
        ("part", "open"), Quality.UNAVAILABLE
    )
    assert [energy.seconds for energy in found.values()] == pytest.approx([5.0, 4.0])
    assert open_one.energy().seconds == pytest.approx(4.0)


def test_the_thread_times_the_last_edge() -> None:
    board = Quick(Now())
    meter = RunMeter(board, time.monotonic)
    meter.start()
    meter.stop()
    assert not meter._run.window.settled().edges
    assert board.closed == 1
