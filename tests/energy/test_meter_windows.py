"""Windows of a run's meter, in a time that the tests pass; no thread, no waiting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from effcore.energy import meter as meter_module
from effcore.energy import window
from effcore.energy.arithmetic import dynamic_energy
from effcore.energy.window import MAX_EDGE_WAIT_S
from effcore.records import EnergyQuality
from tests.energy.bench import Bench, Time
from tests.energy.scripted import failure


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep few rows, so that a run of a minute is a long one."""
    monkeypatch.setattr(meter_module, "MAX_ROWS", 64)
    monkeypatch.setattr(window, "MAX_UPDATES", 64)


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
        assert meter.counter_updates().shape[1] <= 64
        assert len(meter._ended_windows[1]) <= 1, "windows that have ended are sums"
    meter.end(whole)
    true_j = bench.board.true_j(bench.time.t) - bench.board.true_j(Time.t)
    energy = meter.stop()
    assert energy.joules == pytest.approx(true_j, rel=1e-3)
    assert whole.energy().joules == pytest.approx(energy.joules, rel=1e-3)
    rows, ever = meter.table.rows_since(0)
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
    assert evaluation.energy().quality is EnergyQuality.MEASURED
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
    assert 0 < bench.time.t - now_s <= MAX_EDGE_WAIT_S
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
    assert bench.meter.reading_age_s() < 0.11
    bench.meter.pause()
    bench.run_for(1.0)
    reads = bench.board.reads
    bench.run_for(60.0)
    assert bench.board.reads == reads
    assert bench.meter.reading_age_s() == pytest.approx(61.0)


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
    net = dynamic_energy(gross)
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
        assert lost.quality is EnergyQuality.UNAVAILABLE
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
    assert (energy.joules, energy.quality) == (None, EnergyQuality.UNAVAILABLE)


def test_a_counter_that_leapt_voids_what_was_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(bench.board), "max_power_w", 1000.0)
    with bench.meter.window("before") as before:
        bench.run_for(6.0)
    with bench.meter.window("lost") as lost:
        bench.run_for(6.0)
        bench.board.offset_j += 1e4
        bench.run_for(0.2)
    with bench.meter.window("later") as later:
        bench.run_for(6.0)
    energy = bench.meter.stop()
    assert "more power than this device can draw" in lost.energy().notes[0]
    assert (lost.energy().joules, energy.joules) == (None, None)
    for kept in (before, later):
        assert kept.energy().joules == pytest.approx(1200, rel=0.01)


def test_a_window_may_go_on_while_the_run_is_held(bench: Bench) -> None:
    whole = bench.meter.begin("whole", through_pauses=True)
    with bench.meter.window("held"):
        bench.run_for(3.0)
        bench.meter.pause()
        bench.run_for(4.0)
        bench.meter.resume()
        bench.run_for(3.0)
    energy = bench.meter.end(whole)
    assert energy.seconds == pytest.approx(10.0)
    assert whole.totals.parts == 1
    assert bench.meter.windows()["held"].seconds == pytest.approx(6.0)
    assert bench.meter.stop().seconds == pytest.approx(6.0)
    assert whole.energy().joules == pytest.approx(10 * 200, rel=0.01)
