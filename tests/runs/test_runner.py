from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from effcore.knobs import KnobError
from effcore.records import (
    EpochDrawEvent,
    KnobChange,
    RunStart,
    RunStatus,
    StepBlock,
)
from effcore.records.run_clock import RunClock
from effcore.runs import run as run_module
from effcore.runs.run import Run
from effcore.testing.tiny_task import tiny_task
from tests.recorder import PATIENCE_S, Started
from tests.tiny_runs import ended, tiny_config


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def steps_of(run: Run) -> int:
    return int(run.snapshot().steps.shape[1])


def test_a_run_goes_from_queued_to_finished_and_records_everything() -> None:
    started = Started(tiny_config(epochs=2))
    run = started.run
    assert run.snapshot().status is RunStatus.QUEUED
    with started as (run, recorder):
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert look.status is RunStatus.FINISHED
    assert look.progress == 1
    assert look.end == recorder.events[-1]
    assert look.end is not None
    assert look.end.parameters_sha256 == ended(tiny_config(epochs=2)).parameters_sha256
    assert isinstance(recorder.events[0], RunStart)
    blocks = [event.rows for event in recorder.events if isinstance(event, StepBlock)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), look.steps)
    assert look.steps.shape[1] == look.end.examples_trained // 16
    assert look.evals.shape[1] >= 2
    assert look.histogram is not None
    assert look.view is not None
    assert recorder.finished is not None
    assert recorder.attribution == look.attribution
    assert "the updates of this source cannot be timed" in look.attribution.why
    assert recorder.finished[0] == look.end
    assert not look.exploratory
    assert not recorder.exploratory
    assert started.ended == [run]


def test_a_run_is_not_timed_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Clock(RunClock):
        def pause(self) -> None:
            done.append("hold")
            super().pause()

        def resume(self) -> None:
            done.append("go on")
            super().resume()

    def load(task: str) -> None:
        done.append(task)
        told.extend(started.run.snapshot().energy.notes)  # as a page asks meanwhile

    monkeypatch.setattr(run_module, "RunClock", Clock)
    monkeypatch.setattr(run_module, "load_task_once", load)
    started, told = Started(tiny_config(epochs=1)), list[str]()
    with started as (run, _):
        assert run.join(PATIENCE_S)
    assert done == ["hold", "tiny", "go on"]
    assert "the run has not started" not in told


def test_a_snapshot_never_changes() -> None:
    with Started(tiny_config(epochs=2), "step") as (run, recorder):
        recorder.wait_held(1)
        look = run.snapshot()
        before = look.steps.copy()
        run.resume()
        assert run.join(PATIENCE_S)
    np.testing.assert_array_equal(look.steps, before)
    assert look.status is RunStatus.PAUSED
    with pytest.raises(ValueError, match="read-only"):
        look.steps[0, 0] = 7


def test_pause_holds_resume_goes_on_and_neither_changes_the_result() -> None:
    config = tiny_config(epochs=60, selection="dense")
    with Started(config) as (run, recorder):
        recorder.wait(lambda: any(isinstance(e, StepBlock) for e in recorder.events))
        run.pause()
        recorder.wait_held(1)
        held = steps_of(run)
        assert run.snapshot().status is RunStatus.PAUSED
        assert 0 < held < 60 * 200 // 16, "everything trained is published while held"
        run.resume()
        recorder.wait(lambda: recorder.statuses[-1] is RunStatus.RUNNING)
        recorder.wait(lambda: steps_of(run) > held)
        assert run.join(PATIENCE_S)
    assert recorder.statuses[:2] == [RunStatus.PAUSED, RunStatus.RUNNING]
    assert not run.snapshot().exploratory
    end = run.snapshot().end
    assert end is not None
    assert end.parameters_sha256 == ended(config).parameters_sha256


def test_one_step_at_a_time() -> None:
    with Started(tiny_config(), "step") as (run, recorder):
        for count in range(1, 6):
            recorder.wait_held(count)
            assert steps_of(run) == count
            run.step_once()
        recorder.wait_held(6)
        assert run.snapshot().exploratory
        run.resume()
        assert run.pace == "full"
        assert run.join(PATIENCE_S)
    assert run.snapshot().status is RunStatus.FINISHED
    assert run.snapshot().end is not None
    assert recorder.exploratory


def test_steps_asked_for_together_are_all_taken() -> None:
    with Started(tiny_config(), "step") as (run, recorder):
        recorder.wait_held(1)
        run.step_once()
        run.step_once()
        run.step_once()
        recorder.wait(lambda: steps_of(run) == 4 and recorder.statuses[-1] is RunStatus.PAUSED)


def test_a_knob_moved_while_held_shows_its_cut_at_once_and_trains_nothing() -> None:
    with Started(tiny_config(epochs=400), "step") as (run, recorder):
        for held in range(1, 20):  # into the second pass, where losses are known
            recorder.wait_held(held)
            run.step_once()
        recorder.wait_held(20)
        before = run.snapshot()
        assert before.histogram is not None
        run.set_knob("loss_threshold", 0.5)
        while run.snapshot().histogram is before.histogram:
            assert not run.join(0.01), "the run is held and ends at no time"
        after = run.snapshot()
        assert after.histogram is not None
        assert after.histogram.threshold == 0.5
        assert after.histogram.step == 20
        assert after.steps.shape == before.steps.shape
        assert after.changes == ()
        assert after.status is RunStatus.PAUSED
        run.step_once()
        recorder.wait_held(21)
        assert [c.value for c in run.snapshot().changes] == [0.5]


def test_the_slow_pace_waits_between_steps_and_is_left_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "SLOW_STEP_DELAY_S", 1000.0)
    with Started(tiny_config(epochs=1), "slow") as (run, recorder):
        recorder.wait(lambda: any(isinstance(e, StepBlock) for e in recorder.events))
        assert not run.done.is_set()
        run.set_pace("full")
        assert run.join(PATIENCE_S)
    assert run.snapshot().status is RunStatus.FINISHED
    assert run.snapshot().exploratory


def test_a_slow_run_ends_where_a_quick_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SLOW_STEP_DELAY_S", 1e-4)
    with Started(tiny_config(epochs=2), "slow") as (run, _):
        assert run.join(PATIENCE_S)
    end = run.snapshot().end
    assert end is not None
    assert end.parameters_sha256 == ended(tiny_config(epochs=2)).parameters_sha256


@pytest.mark.parametrize("pace", ["full", "slow", "step"])
def test_stop_ends_a_run_at_any_pace_and_keeps_it(
    pace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "SLOW_STEP_DELAY_S", 1000.0)
    with Started(tiny_config(epochs=1000), pace) as (run, recorder):
        recorder.wait(lambda: any(isinstance(e, StepBlock) for e in recorder.events))
        run.stop()
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert look.status is RunStatus.STOPPED
    assert look.reason == "stopped on request"
    assert look.end is not None
    assert look.end.metric is not None
    assert look.steps.shape[1] * 16 == look.end.examples_trained
    assert look.progress < 1


def test_an_unknown_pace_is_refused_with_the_choices() -> None:
    started = Started(tiny_config())
    with pytest.raises(ValueError, match=r"pace='fast' is not allowed: .* full, slow, step"):
        started.run.set_pace("fast")


# Steering --------------------------------------------------------------------------------


def test_a_knob_takes_effect_at_the_next_batch_and_is_told_everywhere() -> None:
    with Started(tiny_config(mass=0.5), "step") as (run, recorder):
        recorder.wait_held(1)
        assert run.set_knob("loss_threshold", 0.25) == 1
        assert run.snapshot().knobs == {"mass": 0.5, "loss_threshold": None, "revisit": 4}
        run.step_once()
        recorder.wait_held(2)
        look = run.snapshot()
        change = KnobChange(1, "loss_threshold", 0.25)
        assert look.changes == (change,)
        assert look.knobs == {"mass": None, "loss_threshold": 0.25, "revisit": 4}
        assert change in recorder.events
        assert recorder.knob_values == [look.knobs]
        assert look.exploratory
        assert "--set 1:loss_threshold=0.25" in run.reproduction_command()


def test_the_part_of_the_pass_not_yet_visited_is_decided_again() -> None:
    # From the second pass on, a threshold above every loss skips all that are not due.
    with Started(tiny_config(mass=0.0, revisit=32, epochs=4), "step") as (run, recorder):
        recorder.wait_held(1)
        for held in range(2, 16):
            run.step_once()
            recorder.wait_held(held)
        run.set_knob("loss_threshold", 10)
        run.step_once()
        recorder.wait_held(16)
        decisions = [event for event in recorder.events if isinstance(event, EpochDrawEvent)]
        before, after = [event for event in decisions if event.epoch_index == 1]
    assert (before.step, after.step) == (12, 15)
    # Three batches of the second pass were trained on, a few examples of the rest are due.
    assert 3 * 16 - 16 < after.n_drawn < before.n_drawn == 200


def test_wrong_knobs_are_refused() -> None:
    with Started(tiny_config(), "step") as (run, _):
        with pytest.raises(KnobError, match=r"'mas': did you mean 'mass'\?"):
            run.set_knob("mas", 0.5)
        with pytest.raises(KnobError, match=r"mass=2 is not allowed: expected .* to 0.95"):
            run.set_knob("mass", 2)
    dense = Started(tiny_config(selection="dense")).run
    with pytest.raises(KnobError, match="there are no knobs"):
        dense.set_knob("mass", 0.5)


def test_a_run_that_is_over_refuses_everything_but_stop() -> None:
    with Started(tiny_config(epochs=1)) as (run, _):
        assert run.join(PATIENCE_S)
    for ask in (
        run.pause,
        run.resume,
        run.step_once,
        lambda: run.set_pace("slow"),
        lambda: run.set_knob("mass", 0.5),
    ):
        with pytest.raises(RuntimeError, match="the run is finished: start a new one"):
            ask()
    run.stop()
    assert run.snapshot().status is RunStatus.FINISHED


def test_a_knob_set_before_the_start_is_not_lost() -> None:
    started = Started(tiny_config(epochs=1))
    started.run.set_knob("mass", 0.9)
    with started as (run, _):
        assert run.join(PATIENCE_S)
    assert run.snapshot().changes == (KnobChange(0, "mass", 0.9),)
