"""What a meter says of its board and of others on it, across forks, and of its own faults."""

from __future__ import annotations

import math
import os
import time
import warnings

import pytest

from effcore.energy.meter import FORKED_REASON, TRACE_COLUMNS, RunMeter
from effcore.records import EnergyQuality
from tests.energy.bench import Bench, Now, Quick, Time


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
