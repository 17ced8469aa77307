"""What confirms a candidate: fresh seeds that were planned at once, and the sweep's margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from effcore.records.settings import Settings
from effcore.store import Store
from effcore.store.study_table import StudyTable
from effcore.studies import sweep_executor
from effcore.studies.comparison import CompletedRuns, open_study
from effcore.studies.frontier import confirmation_plan
from effcore.studies.plan import StudyPlan, plan_study
from effcore.studies.sweep import SweepPlan
from effcore.studies.sweep_executor import load_confirmations
from effcore.studies.trials import SweepPoint
from effcore.studies.verdict import Outcome
from tests.store.samples import END
from tests.studies.sweeps import DENSE, SHARED, again, look, plan, point

pytestmark = pytest.mark.usefixtures("tiny_sweeps")


def swept() -> tuple[SweepPlan, SweepPoint, list[SweepPoint]]:
    """A sweep whose replications gave a candidate."""
    best = again(point("trial 0", 0.5, 0.95), 0.95)
    return plan(margin=0.02), best, [again(DENSE[0], 0.95), best]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StudyPlan]:
    """The plans that were judged: the policy loses on seeds up to 105, and wins from then on."""
    plans: list[StudyPlan] = []

    def found(store: Store, study_id: str, part: StudyPlan) -> CompletedRuns:
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
        return CompletedRuns(runs, part.seeds, {})

    monkeypatch.setattr(sweep_executor, "missing_runs", lambda *_: [])
    monkeypatch.setattr(sweep_executor, "load_completed_runs", found)
    return plans


def test_seeds_that_joined_once_a_verdict_could_be_seen_confirm_nothing(
    store: Store, asked: list[StudyPlan]
) -> None:
    task, best, points = swept()
    first = confirmation_plan(task, best, 6)
    study, _ = open_study(store, first)
    StudyTable(store).record_run(study.study_id, "D100", 100, "a run")
    assert load_confirmations(store, task, points)["trial 0"].noninferior is False
    open_study(store, replace(confirmation_plan(task, best, 60), margin=5.0))
    told = load_confirmations(store, task, points)["trial 0"]
    assert (told.noninferior, told.is_recommended) == (False, False)
    assert {each.seeds for each in asked} == {first.seeds}
    assert {each.margin for each in asked} == {0.02}


def test_seeds_that_chose_and_studies_that_decide_nothing_are_passed_over(
    store: Store, asked: list[StudyPlan]
) -> None:
    task, best, points = swept()
    seen = (*task.seeds, *(seed for seed in best.replication_snapshots), 110, 111)
    settings: Settings = {**SHARED, **task.own, **best.knobs}
    open_study(store, plan_study(settings, [task.policy], best.budget, seen, 0.02))
    assert load_confirmations(store, task, points) == {}, "two fresh seeds are too few"
    open_study(store, replace(confirmation_plan(task, best, 10), seeds=tuple(range(112, 122))))
    told = load_confirmations(store, task, points)["trial 0"]
    assert (told.verdict, told.is_recommended) == (Outcome.WIN.value, True)
    assert asked[-1].seeds == tuple(range(110, 122))
