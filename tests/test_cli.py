from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from effcore import __main__ as command_line
from effcore import __version__
from effcore.policies.selection.base import SELECTIONS
from effcore.records import RunStatus
from effcore.runs.manager import RunManager
from effcore.runs.run import Run
from effcore.store import Store, StoreError
from effcore.tasks.base import TASKS
from effcore.testing.tiny_task import TinyTask, tiny_task
from tests.tiny_runs import steered, tiny_config

RECORD = {
    "run_id", "task", "model", "selection", "update", "intensity", "seed", "device", "metric_name",
    "metric", "passes", "examples_considered", "examples_trained", "skipped_compute_frac",
    "saved_compute_frac", "flops_spent", "flops_dense", "flops_full", "seconds", "phases_s",
    "phases_energy", "details", "energy", "parameters_sha256", "resumed_after_steps", "status",
}  # fmt: skip
TINY = ["run", "--task", "tiny", "--device", "cpu", "--threads", "1", "--epochs", "2"]


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def call(*words: str) -> Result:
    return CliRunner().invoke(command_line.main, list(words))


def record(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    loaded: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return loaded


def test_a_run_prints_one_json_object_as_its_last_line() -> None:
    result = call(*TINY, "--seed", "3", "--json")
    data = record(result)
    assert len(result.stdout.splitlines()) == 1, "progress and messages go to standard error"
    assert set(data) == RECORD
    assert 0 < sum(data["phases_s"].values()) <= data["seconds"]
    assert {"joules", "lo", "hi", "quality", "source", "scope", "notes"} < set(data["energy"])
    assert (data["task"], data["model"], data["selection"]) == ("tiny", "mlp", "confident-skip")
    assert (data["seed"], data["device"], data["status"]) == (3, "cpu", "finished")
    assert data["passes"] == 2
    assert data["examples_considered"] == 400
    assert data["metric_name"] == "accuracy"
    assert 0 <= data["metric"] <= 1
    assert data["skipped_compute_frac"] == 1 - data["flops_spent"] / data["flops_dense"]
    assert data["saved_compute_frac"] == 1 - data["flops_spent"] / data["flops_full"]
    assert len(data["parameters_sha256"]) == 64


def test_the_run_is_in_the_store_afterwards() -> None:
    data = record(call(*TINY, "--json"))
    store = Store()
    look = store.load_snapshot(data["run_id"])
    store.close()
    assert look.status is RunStatus.FINISHED
    assert look.end is not None
    assert look.end.parameters_sha256 == data["parameters_sha256"]


def test_without_json_a_person_reads_the_same_and_how_to_repeat_it() -> None:
    result = call(*TINY, "--mass", "0.5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    words = ("run", "Accuracy", "computation skipped", "computation not spent", "examples trained",
             "epochs", "time", "parameters", "energy", "repeat:")  # fmt: skip
    assert [line.startswith(word) for line, word in zip(lines, words, strict=True)] == [True] * 10
    repeated = call(*shlex.split(lines[-1].removeprefix("repeat: python -m effcore ")), "--json")
    assert record(repeated)["parameters_sha256"] in result.stdout


def test_a_steered_run_is_repeated_by_set() -> None:
    wishes = [(3, "mass", 0.9), (12, "revisit", 8), (20, "loss_threshold", 0.3), (20, "revisit", 2)]
    changes, end = steered(tiny_config(epochs=4), wishes)
    words = [word for c in changes for word in ("--set", f"{c.step}:{c.name}={c.value!r}")]
    data = record(call(*TINY, "--epochs", "4", *words, "--json"))
    assert data["parameters_sha256"] == end.parameters_sha256
    assert data["flops_spent"] == end.flops_spent
    assert record(call(*TINY, "--epochs", "4", "--json"))["flops_spent"] != end.flops_spent


def test_a_change_beyond_the_end_is_said_to_have_had_no_effect() -> None:
    result = call(*TINY, "--set", "3:mass=0.5", "--set", "99999:revisit=8", "--json")
    steps = record(result)["examples_trained"] // 16
    assert f"--set 99999:revisit=8 had no effect: the run ended after {steps} steps" in (
        result.stderr
    )
    assert "3:mass" not in result.stderr
    assert "no effect" not in call(*TINY, "--set", "3:mass=0.5", "--json").stderr


def test_knobs_and_budget_are_options() -> None:
    data = record(
        call(*TINY, "--loss-threshold", "0.05", "--revisit", "8", "--budget", "0.5", "--json")
    )
    assert data["flops_spent"] <= 0.5 * 25 * data["flops_dense"] / (
        data["examples_considered"] // 16
    )
    data = record(call(*TINY, "--policy", "random", "--skip-fraction", "0.5", "--json"))
    assert 100 < data["examples_trained"] < 300


# Failure ---------------------------------------------------------------------------------

BAD = [
    (["--policy", "confident-skp"], "did you mean 'confident-skip'?"),
    (["--task", "digit"], "did you mean 'digits'?"),
    (["--update", "always"], "unknown update policy 'always'"),
    (["--mass", "2"], "mass='2' is not allowed: expected a number from 0 to 0.95"),
    (["--epochs", "0"], "epochs='0' is not allowed"),
    (
        ["--policy", "dense", "--mass", "0.5"],
        "'mass' is a knob of confident-skip: choose",
    ),
    (["--set", "mass=0.5"], "expected STEP:name=value"),
    (["--set", "5:mas=0.5"], "did you mean 'mass'?"),
    (["--massive", "1"], "No such option"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_exits_with_a_message(words: list[str], message: str) -> None:
    result = call(*TINY, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = call("run", "--task", "tiny", "--device", "cuda")
    assert result.exit_code == 2
    assert "device='cuda' is not available: PyTorch sees no usable GPU; use one of cpu" in (
        result.stderr
    )


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder")
    monkeypatch.setenv("EFFCORE_HOME", str(blocked / "inside"))
    result = call(*TINY, "--json")
    assert result.exit_code == 1
    assert "EFFCORE_HOME" in result.stderr
    assert result.stdout == ""


def test_a_corrupted_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("EFFCORE_HOME", str(home))
    Store().close()
    for file in home.glob("*.sqlite*"):
        file.write_bytes(b"this is no database" * 1000)
    result = call(*TINY, "--json")
    assert result.exit_code == 1
    assert "EFFCORE_HOME" in result.stderr


def test_a_diverging_run_fails_and_still_prints_its_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = TinyTask.losses
    calls = []

    def diverging(self: TinyTask, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return losses(self, outputs, targets) * (torch.inf if len(calls) > 15 else 1)

    monkeypatch.setattr(TinyTask, "losses", diverging)
    result = call(*TINY, "--json")
    data = json.loads(result.stdout.splitlines()[-1])
    assert data["status"] == "failed"
    assert data["metric"] is None
    assert result.exit_code == 1
    assert "not a number" in result.stderr
    assert "lower the learning rate" in result.stderr


def test_an_interrupt_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    join = Run.join
    calls = []

    def interrupted(self: Run, timeout: float | None = None) -> bool:
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return join(self, timeout)

    monkeypatch.setattr(Run, "join", interrupted)
    result = call(*TINY, "--epochs", "1000", "--json")
    data = record(result)
    assert data["status"] == "stopped"
    assert data["metric"] is not None
    assert "the run so far is kept in the store" in result.stderr


def test_the_store_is_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def fail(self: RunManager, *args: Any, **kwargs: Any) -> Any:
        raise StoreError("no room")

    def close(self: Store) -> None:
        closed.append(1)
        close_store(self)

    close_store = Store.close
    monkeypatch.setattr(RunManager, "start", fail)
    monkeypatch.setattr(Store, "close", close)
    result = call(*TINY)
    assert result.exit_code == 1
    assert "no room" in result.stderr
    assert closed


# What there is ---------------------------------------------------------------------------


def test_list_shows_tasks_policies_knobs_and_ranges() -> None:
    text = call("list").stdout
    for task in TASKS:
        assert f"task {task.id}: {task.summary}" in text
    for policy in SELECTIONS:
        assert f"selection {policy.id}: {policy.summary}" in text
    assert "--mass 0 to 0.95 (default 0.35): " in text
    assert "--batch-size 1 to 8192: " in text
    assert "--size small, medium, large: " in text
    assert "--loss-threshold 1e-06 to 10 (off unless given; then it sets the cut): " in text
    assert "None" not in text


def test_list_as_json_has_the_same() -> None:
    data = json.loads(call("list", "--json").stdout)
    assert [task["id"] for task in data["tasks"]] == TASKS.ids()
    assert [policy["id"] for policy in data["selection"]] == SELECTIONS.ids()
    knobs = {knob["name"]: knob for knob in data["selection"][0]["knobs"]}
    assert knobs["revisit"]["option"] == "--revisit"
    assert (knobs["mass"]["lo"], knobs["mass"]["hi"]) == (0, 0.95)
    assert data["settings"]["epochs"] == {
        "lo": 1,
        "hi": 1000,
        "integer": True,
        "help": data["settings"]["epochs"]["help"],
    }


def test_version_and_help() -> None:
    assert __version__ in call("--version").stdout
    text = call("--help").stdout
    for name in ("run", "list", "bench"):
        assert name in text


def test_help_says_whose_knob_does_what() -> None:
    text = " ".join(call("run", "--help").stdout.split())
    assert "random: Share of the examples to skip in each epoch. From 0 to 0.95." in text
    assert "stale-pps and el2n-pps: Share of the run's compute to skip;" in text
    assert "--revisit TEXT confident-skip:" not in text, "of one policy, or alike for all"


def test_a_run_of_another_process_on_the_same_device_is_named() -> None:
    others = RunManager(Store())
    (run,) = others.start(tiny_config(epochs=1000))
    result = call(*TINY, "--json")
    others.stop_all()
    others.store.close()
    assert record(result)["status"] == "finished"
    assert f"run {run.run_id} is training on cpu in another process" in result.stderr
    assert "another process" not in call(*TINY, "--json").stderr
