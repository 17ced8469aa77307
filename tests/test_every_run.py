"""Every task with every model and every policy, as the command line runs them."""

from __future__ import annotations

import itertools
import json
import socket
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.policies import DEFAULT_SELECTION, DEFAULT_UPDATE
from effcore.selection.base import SELECTIONS
from effcore.tasks.base import TASKS
from effcore.update.base import UPDATES

MODELS = [(task.id, choice.id) for task in TASKS for choice in task.models]
POLICIES = list(itertools.product(SELECTIONS.ids(), UPDATES.ids()))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to reach another machine a failure."""

    def refuse(*args: Any, **_: Any) -> None:
        raise AssertionError(f"the network was asked for: {args[1:]}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def run(task: str, model: str, *words: str) -> dict[str, Any]:
    common = ["--task", task, "--model", model, "--device", "cpu", "--threads", "1", "--json"]
    result = CliRunner().invoke(main, ["run", *common, *words])
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert (record["task"], record["model"], record["status"]) == (task, model, "finished")
    return record


@pytest.mark.parametrize(("task", "model"), MODELS, ids=[f"{t}-{m}" for t, m in MODELS])
def test_a_small_model_trains_and_repeats_to_the_bit(task: str, model: str) -> None:
    policies = ("--policy", "infobatch", "--update", "prefix-freeze", "--freeze-after", "0.3")
    words = ("--size", "small", "--epochs", "2", "--budget", "0.3", *policies)
    first, again = run(task, model, *words), run(task, model, *words)
    assert first["parameters_sha256"] == again["parameters_sha256"]
    assert first["metric"] == again["metric"]
    assert first["flops_spent"] == again["flops_spent"]


@pytest.mark.slow
@pytest.mark.parametrize(("selection", "update"), POLICIES, ids=["-".join(p) for p in POLICIES])
@pytest.mark.parametrize(("task", "model"), MODELS, ids=[f"{t}-{m}" for t, m in MODELS])
def test_one_epoch_of_every_task_model_and_policy(
    task: str, model: str, selection: str, update: str
) -> None:
    usual = (selection, update) == (DEFAULT_SELECTION, DEFAULT_UPDATE)
    size = "medium" if usual else "small"  # the others in less time
    policies = ("--policy", selection, "--update", update)
    record = run(task, model, "--size", size, "--epochs", "1", *policies)
    assert (record["selection"], record["update"], record["passes"]) == (selection, update, 1)
    saved = record["skipped_compute_frac"]
    if (selection, update) == ("dense", "every-step"):
        assert saved == pytest.approx(0, abs=1e-9)
    if update == "prefix-freeze" or selection == "random":
        assert saved > 0
