"""What confirms a candidate: fresh seeds that were planned at once, and the sweep's margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from effcore.store import Store
from effcore.store.studies import Studies
from effcore.studies import searching
from effcore.studies.compare import Results, open_study
from effcore.studies.frontier import confirming
from effcore.studies.points import Point
from effcore.studies.searching import confirmations
from effcore.studies.study import Plan, plan_study
from effcore.studies.sweep import SweepPlan
from effcore.verdict import Kind
from tests.store.samples import END
from tests.studies.sweeps import DENSE, SHARED, again, look, plan, point

pytestmark = pytest.mark.usefixtures("tiny_sweeps")


def swept() -> tuple[SweepPlan, Point, list[Point]]:
    """A sweep whose second look has found a candidate."""
    best = again(point("trial 0", 0.5, 0.95), 0.95)
    return plan(margin=0.02), best, [again(DENSE[0], 0.95), best]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that were judged: the policy loses on seeds up to 105, and wins from then on."""
    plans: list[Plan] = []

    def found(store: Store, study_id: str, part: Plan) -> Results:
        plans.append(part)
        of: dict[str, Callable[[int], float]] = {
            "D100": lambda seed: 0.9 + seed % 3 / 1000,
            "D-B": lambda seed: 0.8 + seed % 3 / 1000,
            "random": lambda seed: 0.7,
            "confident-skip": lambda seed: 0.85 if seed <= 105 else 0.95,
        }
        runs = {
            arm: {s: replace(look(0.9), end=replace(END, metric=value(s))) for s in part.seeds}
            for arm, value in of.items()
        }
        return Results(runs, part.seeds, {})

    monkeypatch.setattr(searching, "missing", lambda *_: [])
    monkeypatch.setattr(searching, "results", found)
    return plans


def test_seeds_that_joined_once_a_verdict_could_be_seen_confirm_nothing(
    store: Store, asked: list[Plan]
) -> None:
    task, best, points = swept()
    first = confirming(task, best, 6)
    study, _ = open_study(store, first)
    Studies(store).note(study.study_id, "D100", 100, "a run")
    assert confirmations(store, task, points)["trial 0"].noninferior is False
    open_study(store, replace(confirming(task, best, 60), margin=5.0))
    told = confirmations(store, task, points)["trial 0"]
    assert (told.noninferior, told.recommended) == (False, False)
    assert {each.seeds for each in asked} == {first.seeds}
    assert {each.margin for each in asked} == {0.02}


def test_seeds_that_chose_and_studies_that_decide_nothing_are_passed_over(
    store: Store, asked: list[Plan]
) -> None:
    task, best, points = swept()
    seen = (*task.seeds, *(seed for seed in best.again), 110, 111)
    settings = {**SHARED, **task.own, **best.knobs}
    open_study(store, plan_study(settings, [task.policy], best.budget, seen, 0.02))
    assert confirmations(store, task, points) == {}, "two fresh seeds are too few"
    open_study(store, replace(confirming(task, best, 10), seeds=tuple(range(112, 122))))
    told = confirmations(store, task, points)["trial 0"]
    assert (told.verdict, told.recommended) == (Kind.WIN.value, True)
    assert asked[-1].seeds == tuple(range(110, 122))
