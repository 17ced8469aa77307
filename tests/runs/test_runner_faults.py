"""Runs that fail: in their store, in training, before they start; and what they leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from effcore.records import (
    Energy,
    KnobChange,
    RunEnd,
    RunStatus,
)
from effcore.records import run_clock as clock_module
from effcore.records.attribution import PhaseAttribution
from effcore.runs.run import FaultTolerantWriter, Run
from effcore.store import RunWriter, StoreError
from effcore.testing.tiny_task import TinyTask, tiny_task
from tests.recorder import PATIENCE_S, RUN_ID, Recorder, Started
from tests.tiny_runs import tiny_config


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


@pytest.mark.parametrize("fail_at", [0, 3])
def test_a_store_that_fails_mid_run_does_not_stop_training(fail_at: int) -> None:
    recorder = Recorder(fail_at)
    with Started(tiny_config(epochs=2), recorder=recorder) as (run, _):
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert look.status is RunStatus.FINISHED
    assert look.steps.shape[1] > 0
    assert recorder.finished is not None, "the end is tried all the same"


def test_a_store_that_fails_is_named_until_it_works_again() -> None:
    failing = Recorder(fail_at=0)
    recording = FaultTolerantWriter(cast(RunWriter, failing))
    event = KnobChange(0, "mass", 0.5)
    recording.write_event(event)
    assert "not being stored at present: the disk is full: make room" in recording.warning
    failing.fail_at = None
    recording.write_event(event)
    assert recording.warning == ""
    assert failing.events == [event]


def test_a_store_that_fails_stays_named_while_the_run_trains_on() -> None:
    recorder = Recorder(fail_at=3)
    with Started(tiny_config(epochs=60), recorder=recorder) as (run, _):
        recorder.wait(lambda: len(recorder.events) == 3)
        reasons = []
        while not run.join(0.002):
            reasons.append(run.snapshot().reason)
    told = [reason for reason in reasons if reason]
    assert set(told) == {"This run is not being stored at present: the disk is full: make room"}
    assert reasons[-len(told) :] == told, "once named, it stays named"


def test_a_run_that_could_not_be_stored_says_so_at_its_end_too() -> None:
    class Full(Recorder):
        def finish(
            self, end: RunEnd, energy: Energy, attribution: PhaseAttribution | None = None
        ) -> None:
            raise StoreError("the disk is full: make room")

    with Started(tiny_config(epochs=300), recorder=Full()) as (run, _):
        run.stop()
        assert run.join(PATIENCE_S)
    reason = run.snapshot().reason
    assert reason.startswith("stopped on request. This run is not being stored at present: ")


def test_after_the_end_no_thread_is_left_that_frees_tensors() -> None:
    with Started(tiny_config(epochs=1)) as (run, _):
        assert run.join(PATIENCE_S)
        assert not run._thread.is_alive()


def test_a_setting_that_cannot_be_used_is_a_failed_run_without_a_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config(epochs=1, batch_size=200, budget=1.0)
    with Started(replace(config, budget=0.5)) as (run, _):
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert look.status is RunStatus.FAILED
    assert look.reason.startswith("budget=0.5 is not allowed here: ")
    assert caplog.records == []


def test_a_run_that_cannot_be_stored_does_not_start() -> None:
    def refuse() -> RunWriter:
        raise StoreError("the folder cannot be written")

    run = Run(RUN_ID, tiny_config(), refuse)
    with pytest.raises(StoreError, match="cannot be written"):
        run.start()
    assert not run.started


def test_a_run_can_be_looked_at_while_its_record_is_being_opened() -> None:
    looks = []
    started = Started(tiny_config(epochs=1))

    def open_slowly() -> RunWriter:
        looks.append(started.run.snapshot())
        return cast(RunWriter, started.recorder)

    started.run = Run(RUN_ID, tiny_config(epochs=1), open_slowly)
    with started as (run, _):
        assert run.join(PATIENCE_S)
    assert [look.status for look in looks] == [RunStatus.QUEUED]


def test_an_error_in_training_is_a_failed_run_that_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = TinyTask.losses
    calls = []

    def break_down(self: TinyTask, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 8:
            raise OSError("the cable came off")
        return losses(self, outputs, targets)

    monkeypatch.setattr(TinyTask, "losses", break_down)
    with Started(tiny_config()) as (run, recorder):
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert look.status is RunStatus.FAILED
    assert look.reason == "OSError: the cable came off"
    assert look.end is not None
    assert look.end.metric is None
    assert look.end.metric_name == "accuracy"
    assert look.end.parameters_sha256 is None
    assert recorder.finished is not None


def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_its_rows() -> None:
    config = tiny_config(optimizer="sgd", learning_rate=10, batch_size=1)
    config = type(config)(
        **{n: getattr(config, n) for n in config.__slots__} | {"learning_rate": 1e18}
    )
    with Started(config) as (run, _):
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert look.status is RunStatus.FAILED
    assert "not a number" in look.reason
    assert look.steps.shape[1] >= 1
    assert np.isfinite(look.steps).all()


def test_a_run_taken_out_of_the_queue_is_over() -> None:
    run = Started(tiny_config()).run
    run.stop()
    assert run.join(0)
    assert run.snapshot().status is RunStatus.STOPPED
    assert run.snapshot().reason == "removed from the queue"


def test_a_held_run_does_not_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with Started(tiny_config(epochs=1), "step") as (run, recorder):
        recorder.wait_held(1)
        now[0] += 1000.0  # somebody went for lunch
        run.step_once()
        recorder.wait_held(2)
        now[0] += 1000.0
        run.resume()
        assert run.join(PATIENCE_S)
    look = run.snapshot()
    assert (look.column("seconds") == 0).all()
    assert look.end is not None
    assert look.end.seconds == 0
