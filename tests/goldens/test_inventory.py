"""Nothing that a user can rely on by name has gone: all that is recorded is still there."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from effcore.policies.selection.base import SELECTIONS, Decision, SelectionPolicy
from effcore.testing.tiny_task import tiny_task
from tests.goldens.inventory import (
    INVENTORY,
    SLOW,
    authors_names,
    collected,
    json_keys,
    keys_of,
    missing,
)
from tests.goldens.runs import printed

RECORDED: dict[str, Any] = json.loads(INVENTORY.read_text(encoding="utf-8"))


def test_nothing_recorded_is_missing() -> None:
    now = collected()
    recorded = {name: RECORDED[name] for name in now}
    lost = missing(recorded, now)
    assert not lost, "\n".join(["recorded, and no longer there:", *lost])


@pytest.mark.slow
def test_no_key_of_a_slow_bench_is_missing() -> None:
    lost = missing(RECORDED["json, slow"], json_keys(SLOW))
    assert not lost, "\n".join(lost)


def test_what_a_file_of_ones_own_imports_is_there() -> None:
    lost = missing(RECORDED["authors"], authors_names(RECORDED["authors"]))
    assert not lost, "\n".join(lost)


#: Methods of a selection policy as version 0.1.0 names them, which go on working; with answers.
METHODS: dict[str, Callable[..., Any]] = {
    "inclusion": lambda self, pool: Decision(torch.ones_like(pool.last_loss_N)),
    "moments": lambda self: (0.5,),
    "decision_flops": lambda self, n: float(n),
    "memory": lambda self, n, device: {"seen_N": torch.zeros(n, device=device)},
    "observe": lambda self, memory, seen: None,
    "observing_flops": lambda self, outputs: 1.0,
    "turn": lambda self, memory, pool: None,
    "candidates": lambda self, batch_size: 2 * batch_size,
    "observe_scored": lambda self, memory, scored: None,
    "choose": lambda self, pool, scored, count, uniform: torch.arange(count),
    "looks_besides": lambda self: True,
    "choosing_flops": lambda self, candidates: 1.0,
    "rate_factor": lambda self, drawn: 1.0,
}
#: Of these, those that a policy that scores no candidates is never asked for.
OF_SCORING = {"candidates", "observe_scored", "choose", "choosing_flops"}


def of_ones_own(names: set[str], called: set[str]) -> type[SelectionPolicy]:
    """A registered selection policy with some of the methods, which notes what is called."""

    def noting(name: str) -> Callable[..., Any]:
        def answer(*given: Any) -> Any:
            called.add(name)
            return METHODS[name](*given)

        return answer

    words = {"id": "of-ones-own", "title": "Of one's own", "summary": "A file of an author's."}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old name may warn, as long as it works
        kind = type("OfOnesOwn", (SelectionPolicy,), words | {name: noting(name) for name in names})
        return SELECTIONS.add(dataclass(frozen=True)(kind))


@pytest.mark.parametrize("scores", [False, True], ids=["draws", "scores"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_policy_of_ones_own_is_asked_by_the_names_it_was_written_with(scores: bool) -> None:
    names = set(METHODS) - (set() if scores else OF_SCORING)
    called: set[str] = set()
    policy = of_ones_own(names, called)
    try:
        with tiny_task():
            words = "run --task tiny --epochs 3 --device cpu --threads 1 --policy of-ones-own"
            assert printed(*words.split())["status"] == "finished"
        assert policy().needs_extra_forward()
    finally:
        SELECTIONS.remove("of-ones-own")
    assert called == names


# How the inventory is compared -----------------------------------------------------------


def test_what_is_lost_or_changed_is_named_and_what_is_new_is_not() -> None:
    recorded = {"mass": {"lo": 0, "hi": 0.95}, "options": ["--mass", "--size"]}
    assert missing(recorded, recorded) == []
    assert missing(recorded, recorded | {"joined": 1}) == []
    changed = {"mass": {"lo": 0, "hi": 0.9, "step": 1}, "options": ["--size", "--depth"]}
    assert missing(recorded, changed) == [
        "mass > hi is 0.9, recorded 0.95",
        "options: '--mass' is missing",
    ]
    assert missing(recorded, {}) == ["mass is missing", "options is missing"]


def test_keys_are_told_by_their_path() -> None:
    record = {"rows": [{"a": 1}, {"b": {"joules": {"lo": 1}}}], "tried": {"trial 3": {"c": None}}}
    assert keys_of(record) == [
        "rows", "rows[].a", "rows[].b", "rows[].b.joules", "tried", "tried.*.c",
    ]  # fmt: skip
