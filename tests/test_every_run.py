"""Every task with every model and every policy, as the command line runs them."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.config import incompatibility
from effcore.policies.combination import DENSE_POLICIES, POLICY_REGISTRIES, PolicyCombination
from effcore.tasks.base import TASKS
from effcore.training import reporter
from tests.tiny_runs import FEW_STEPS

MODELS = [(task.id, choice.id) for task in TASKS for choice in task.models]
#: Each policy beside the plain ones of the other kinds; how they stack is tested elsewhere.
POLICIES = [
    *(PolicyCombination(selection=name) for name in POLICY_REGISTRIES["selection"].ids()),
    *(PolicyCombination("dense", update=name) for name in POLICY_REGISTRIES["update"].ids()[1:]),
    *(
        PolicyCombination("dense", intensity=name)
        for name in POLICY_REGISTRIES["intensity"].ids()[1:]
    ),
]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to reach another machine a failure."""

    def refuse(*args: Any, **_: Any) -> None:
        raise AssertionError(f"the network was asked for: {args[1:]}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate twice a run, not thirty times: short runs do little else."""
    monkeypatch.setattr(reporter, "EVALUATIONS", 2)


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
    share = "0.3" if "tabular" in task else "0.05"  # a few dozen steps of each
    words = ["--size", "small", "--epochs", "2", "--budget", share, *policies]
    words += ["--rows", "1000"] if task == "tabular" else []
    first, again = run(task, model, *words), run(task, model, *words)
    assert first["parameters_sha256"] == again["parameters_sha256"]
    assert first["metric"] == again["metric"]
    assert first["flops_spent"] == again["flops_spent"]


#: Each task's first model with every policy; the second with those of update and intensity,
#: which depend on its stages.
CASES = [
    (task, model, policies)
    for task, model in MODELS
    for policies in POLICIES
    if policies.selection == "dense" or TASKS.get(task).models[0].id == model
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "policies"), CASES, ids=[f"{t}-{m}-{'+'.join(p)}" for t, m, p in CASES]
)
def test_every_task_trains_with_every_model_and_policy(
    task: str, model: str, policies: PolicyCombination
) -> None:
    size = "medium" if policies == PolicyCombination() else "small"  # the others in less time
    words = [task, model, "--size", size, "--epochs", "1", "--policy", policies.selection]
    if policies.selection != "rho-loss" and "-" not in task:  # which would not get anywhere
        words += ["--budget", "0.3"]
    for name, value in FEW_STEPS.get(task, {}).items():
        words += ["--" + name.replace("_", "-"), str(value)]
    words += ["--update", policies.update, "--intensity", policies.intensity]
    if incompatibility(policies, task, TASKS.get(task).model_choice(model), size) is not None:
        with pytest.raises(AssertionError, match="does not work with model"):
            run(*words)
        return
    record = run(*words)
    assert (record["selection"], record["update"]) == (policies.selection, policies.update)
    assert record["intensity"] == policies.intensity
    saved = record["skipped_compute_frac"]
    if policies == DENSE_POLICIES:
        assert saved == pytest.approx(0, abs=1e-9)
    elif policies.selection == "random" or policies.update == "drop-backward":
        assert saved > 0
