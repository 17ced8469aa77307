"""A sweep: planned, searched, cut short and gone on with, its points judged and confirmed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import effcore.studies.sweep
from effcore.__main__ import main
from effcore.config import ConfigError
from effcore.events import Energy, Quality, RunStart, RunStatus, Snapshot
from effcore.store import Store
from effcore.store.studies import Studies
from effcore.studies.candidates import (
    MOST_AGAIN,
    again_left,
    again_missing,
    candidate,
    cost_of,
    proposed,
    second_looks,
)
from effcore.studies.frontier import (
    Confirmed,
    conclusion,
    confirming,
    front,
    hypervolumes,
    importances,
    settled,
    sweep_record,
    sweep_text,
)
from effcore.studies.points import Point, Rival, points_of, rival_of
from effcore.studies.searching import (
    confirm,
    confirmations,
    open_sweep,
    search,
    stored_points,
    suggestions,
)
from effcore.studies.sweep import (
    DENSE_BUDGETS,
    FIRST_BUDGETS,
    SweepPlan,
    again_seeds,
    confirming_seeds,
    defaults,
    dense_cells,
    plan_sweep,
    space,
    sweep_from_text,
    sweep_to_text,
    trial_cells,
)
from effcore.tiny import tiny_task
from effcore.verdict import Kind
from tests.fakes import snapshot
from tests.store.samples import END, ESTIMATE

SHARED = {"task": "tiny", "device": "cpu", "threads": 1, "epochs": 3}
DENSE_RUNS = len(DENSE_BUDGETS)
#: Enough here, where so many runs of a sweep take a second.
AGAIN_SEEDS = 4
AGAIN_MOST = (1 + MOST_AGAIN) * AGAIN_SEEDS


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(effcore.studies.sweep, "AGAIN_SEEDS", AGAIN_SEEDS)
    with tiny_task():
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "home")
    yield opened
    opened.close()


def plan(**changes: Any) -> SweepPlan:
    usual: dict[str, Any] = {"policy": "confident-skip", "trials": 4, "seeds": (0,)}
    settings = SHARED | changes.pop("settings", {})
    return plan_sweep(settings, **usual | changes)


def look(metric: float, share: float = 1.0, way: float = 1.0, **changes: Any) -> Snapshot:
    """A run that spent ``share`` of the dense FLOPs, evaluated at the end of ``way``."""
    flops = np.array([0.0, 0.5 * way, way]) * share * 100
    evals = np.zeros((6, 3))
    evals[3], evals[5] = flops, (0.0, metric, metric)
    start = RunStart(200, 1.0, 100.0, 100.0 * share, 10)
    done = replace(END, flops_spent=100.0 * share * way)
    return replace(snapshot(), status=RunStatus.FINISHED, start=start, end=done, evals=evals,
                   **changes)  # fmt: skip


def point(name: str, budget: float, metric: float, **changes: Any) -> Point:
    knobs = {} if name.startswith("dense") else {"mass": budget / 2, "revisit": 4}
    return Point(name, budget, knobs, {0: look(metric, budget, **changes)}, True)


DENSE = [point("dense 1", 1.0, 0.95), point("dense 0.6", 0.6, 0.93), point("dense 0.3", 0.3, 0.8)]


def again(known: Point, metric: float, scatter: float = 0.0, count: int = AGAIN_SEEDS) -> Point:
    """A point looked at again: every other seed so much above its mean, the rest below."""
    seeds = again_seeds(plan())[:count]
    values = {s: metric + scatter * (1 if n % 2 else -1) for n, s in enumerate(seeds)}
    return known._replace(again={seed: look(value) for seed, value in values.items()})


# Planning --------------------------------------------------------------------------------


def test_the_budget_and_the_knobs_in_force_are_searched() -> None:
    names = [each.name for each in space(plan())]
    assert names == ["budget", "mass", "revisit"], "loss_threshold is of mass's group"
    held = plan(settings={"revisit": 6})
    assert [each.name for each in space(held)] == ["budget", "mass"]
    assert {cell.config.knobs["revisit"] for cell in trial_cells(held, 0, {}, 0.5)} == {6}
    assert [each.name for each in space(plan(policy="auto"))] == ["budget"]


def test_the_dense_curve_has_all_of_the_compute_first() -> None:
    cells = list(dense_cells(plan(seeds=(0, 1))))
    assert [cell.config.budget for cell in cells] == [b for b in DENSE_BUDGETS for _ in range(2)]
    assert {cell.config.selection for cell in cells} == {"dense"}
    assert cells[0].arm == "dense 1"


def test_more_trials_are_the_same_sweep_and_another_margin_is_not() -> None:
    assert plan(trials=9).key == plan().key
    for other in (plan(margin=0.5), plan(seeds=(1,)), plan(settings={"revisit": 6}),
                  plan(by="joules")):  # fmt: skip
        assert other.key != plan().key
    assert sweep_from_text(sweep_to_text(plan())) == plan()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trials": 0}, "trials"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"margin": -1.0}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"policy": "dense"}, "policy"),
        ({"settings": {"beta": 1.0}}, "beta"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_trains(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["[]", "{}", '{"seeds": 3}', "null", "{"])
def test_a_damaged_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not as written|Expecting"):
        sweep_from_text(text)


# Points ----------------------------------------------------------------------------------


def test_the_front_leaves_out_what_another_beats() -> None:
    trials = [point("trial 0", 0.6, 0.95), point("trial 1", 0.5, 0.94), point("trial 2", 0.7, 0.94),
              point("trial 3", 0.3, 0.7)]  # fmt: skip
    names = [p.name for p in front(plan(), [*DENSE, *trials])]
    assert names == ["trial 3", "trial 1", "trial 0"]


def test_the_search_proposes_the_best_within_the_margin_of_each_tenth_of_the_cost() -> None:
    trials = [
        point("trial 0", 0.6004, 0.96),
        point("trial 1", 0.55, 0.95),
        point("trial 2", 0.4, 0.932),
        point("trial 3", 0.42, 0.92),
        point("trial 4", 0.78, 0.97),
        point("trial 5", 0.31, 0.94),
        point("trial 6", 0.32, 0.94),
    ]
    names = [p.name for p in proposed(plan(margin=0.02), [*DENSE, *trials])]
    assert names == ["trial 5", "trial 0", "trial 4"], "of equals the cheaper"
    assert proposed(plan(margin=0.001), [*DENSE, *trials[2:4]]) == []
    assert proposed(plan(), trials) == [], "nothing is as good as what is not there"
    many = [point(f"trial {n}", 0.25 + n / 10, 0.95) for n in range(6)]
    assert [p.number for p in proposed(plan(), [*DENSE, *many])] == list(range(MOST_AGAIN))


def test_the_candidate_is_the_cheapest_that_fresh_seeds_find_not_inferior() -> None:
    task = plan(margin=0.02)
    cheap, middle, dear = (point(f"trial {n}", 0.3 + n / 5, 0.95) for n in range(3))
    seen = [again(DENSE[0], 0.95), *DENSE[1:]]
    found = candidate(task, [*seen, again(cheap, 0.95)])
    assert found is not None
    assert found.name == "trial 0"
    # A mean within the margin is not enough; what is dearer is then asked.
    lost = again(cheap, 0.94, scatter=0.02)
    points = [*seen, lost, again(middle, 0.949, scatter=0.01), again(dear, 0.99)]
    (one, two) = second_looks(task, points)
    assert (one.passed, two.passed, two.point.name) == (False, True, "trial 1")
    assert one.paired is not None
    assert one.paired.bound < -0.02 < one.paired.mean
    assert again_missing(task, points) == []
    # What is not over stops the asking: the cheapest comes first.
    short = [*seen, again(cheap, 0.99, count=3), again(middle, 0.99), dear]
    assert candidate(task, short) is None
    cells = again_missing(task, short)
    assert [(c.arm, c.seed) for c in cells] == [("trial 0", s) for s in again_seeds(task)[3:]]
    assert again_left(task, short) == AGAIN_SEEDS - 3 + 2 * AGAIN_SEEDS
    fresh = again_missing(task, [*DENSE, cheap])
    assert {c.arm for c in fresh} == {"dense 1", "trial 0"}
    assert len(fresh) == 2 * AGAIN_SEEDS


def test_a_point_that_breaks_down_again_is_no_candidate() -> None:
    cheap = again(point("trial 0", 0.3, 0.95), 0.99)
    broken = cheap._replace(again={**cheap.again, 50: look(math.nan)})
    full = again(DENSE[0], 0.95)
    assert candidate(plan(), [full, broken]) is None
    both = full._replace(again={**full.again, 50: look(math.nan)})
    assert candidate(plan(), [both, broken]) is not None, "such a seed says nothing"


def test_the_seeds_of_each_stage_are_its_own() -> None:
    for seeds in ((0,), (50, 57, 58, 101)):
        task = plan(seeds=seeds)
        stages = [set(seeds), set(again_seeds(task)), set(confirming_seeds(task, 20))]
        assert [len(each) for each in stages[1:]] == [AGAIN_SEEDS, 20]
        assert len(set.union(*stages)) == sum(map(len, stages))


def test_nothing_wins_is_said() -> None:
    one = plan(trials=1)
    bad = [*DENSE, point("trial 0", 0.5, 0.5)]
    assert conclusion(one, bad, {}).startswith("Nothing wins: of 1 trials none")
    assert conclusion(plan(), bad, {}).startswith("1 of 4 trials have ended")
    pending = [*DENSE, point("trial 0", 0.5, 0.95)]
    assert "The second look" in conclusion(one, pending, {}), "as of a sweep before there was one"
    full = again(DENSE[0], 0.95)
    lost = [full, *DENSE[1:], again(pending[-1], 0.9)]
    assert "(trial 0) is not shown to be so" in conclusion(one, lost, {})
    good = [full, *DENSE[1:], again(pending[-1], 0.95)]
    assert "not confirmed yet" in conclusion(plan(), good, {})
    for kind, noninferior, begins in [
        (Kind.WIN, True, "Recommended: trial 0 skips 50% of the computation"),
        (Kind.TIE, True, "Recommended"),
        (Kind.OVERTRAINED, True, "Nothing wins: trial 0 skips 50%"),
        (Kind.INCONCLUSIVE, False, "Nothing wins: what looked as good as full dense training (tri"),
        (Kind.TOO_FEW, None, "Nothing wins"),
        (Kind.BROKE, False, "Nothing wins"),
    ]:
        told = Confirmed("s", kind.value, noninferior, "Because.")
        tried = {"trial 0": told}
        assert conclusion(one, good, tried).startswith(begins), kind
        assert told.sentence in conclusion(one, good, tried)
        recommended = sweep_record("x", one, good, tried)["recommended"]
        assert (recommended == "trial 0") is (kind in (Kind.WIN, Kind.TIE))


def test_a_candidate_that_test_does_not_confirm_gives_way_to_the_next() -> None:
    full = again(DENSE[0], 0.95)
    cheap, dear = again(point("trial 0", 0.3, 0.95), 0.95), point("trial 1", 0.5, 0.95)
    points, task = [full, cheap, dear], plan(trials=2)
    lost = {"trial 0": Confirmed("s", Kind.LOSS.value, False, "Worse.")}
    assert not settled(task, points, {}), "it is to be confirmed"
    assert not settled(task, points, lost), "the next is to be looked at"
    assert {cell.arm for cell in again_missing(task, points, lost)} == {"trial 1"}
    assert "is not over" in conclusion(task, points, lost)
    points[-1] = again(dear, 0.95)
    assert conclusion(task, points, lost).startswith("Trial 1 skips 50%")
    assert not settled(task, points, lost), "the next is to be confirmed"
    won = lost | {"trial 1": Confirmed("t", Kind.WIN.value, True, "As good.")}
    assert settled(task, points, won)
    assert sweep_record("x", task, points, won)["recommended"] == "trial 1"
    both = lost | {"trial 1": lost["trial 0"]}
    assert settled(task, points, both)
    assert conclusion(task, points, both).count("on test: Worse.") == 2
    # Where shortening does as well, a dearer point has no better case.
    short = {"trial 0": Confirmed("s", Kind.OVERTRAINED.value, False, "So.")}
    assert settled(task, points, short)


def test_cost_is_of_joules_only_where_both_are_known_in_the_same_way() -> None:
    def joules(value: float, quality: Quality = Quality.MEASURED) -> Energy:
        return Energy(value, value, value, 1.0, quality, "meter", "board")

    by = plan(by="joules")
    full = point("dense 1", 1.0, 0.95, energy=joules(200.0))
    same = point("trial 0", 0.6, 0.95, energy=joules(100.0))
    assert cost_of(by, [full, same], same) == 0.5
    assert cost_of(plan(), [full, same], same) == pytest.approx(0.6)
    other = point("trial 0", 0.6, 0.95, energy=joules(100.0, Quality.SUSPECT))
    assert math.isnan(cost_of(by, [full, other], other))
    shared = point("trial 0", 0.6, 0.95, energy=replace(joules(100.0), contended=True))
    assert math.isnan(cost_of(by, [full, shared], shared)), "others used the board"
    seen = [again(full, 0.95), again(same, 0.95)]
    assert "skips 50% of the MEASURED joules" in conclusion(by, seen, {})
    assert sweep_record("x", by, seen, {})["cost"].endswith("MEASURED joules")
    guessed = [p._replace(looks={0: replace(p.looks[0], energy=ESTIMATE)}) for p in DENSE]
    assert math.isnan(cost_of(by, guessed, guessed[1])), "an estimate is no cost"


def test_a_hopeless_trial_is_told_by_the_next_smaller_dense_run() -> None:
    task = plan(margin=0.01)
    rival = rival_of(task, DENSE, 0.7, 0)
    assert rival is not None
    assert rival.metrics[-1] == 0.93
    assert rival.hopeless(look(0.8, 0.7))
    assert not rival.hopeless(look(0.84, 0.7)), "ten margins are allowed"
    assert not rival.hopeless(look(0.1, 0.7, way=0.45)), "it may still come round"
    least = rival_of(task, DENSE, 0.2, 0)
    assert least is not None
    assert least.metrics[-1] == 0.8, "below the curve its least budget"
    assert rival_of(task, [], 0.5, 0) is None
    lower = Rival(np.array([0.0, 1.0]), np.array([2.0, 1.0]), -1.0, 0.5)
    assert lower.hopeless(look(1.6))
    assert not lower.hopeless(look(0.2))


def test_points_say_what_became_of_them() -> None:
    broken = replace(look(0.9), status=RunStatus.FAILED, reason="the loss is no number")
    runs = {"trial 1": {0: replace(look(0.9), status=RunStatus.STOPPED)}, "trial 0": {0: broken},
            "dense 1": {0: look(0.9)}}  # fmt: skip
    found = points_of(plan(), runs)
    assert [p.name for p in found] == ["dense 1", "trial 0", "trial 1"]
    told = sweep_record("x", plan(), found, {})["points"]
    assert [each["state"] for each in told] == ["done", "failed", "stopped as hopeless"]
    assert told[1]["why"] == "the loss is no number"
    assert found[0].knobs == {}
    json.dumps(told, allow_nan=False)
    assert not points_of(plan(seeds=(0, 1)), {"trial 0": {0: look(0.9)}})[0].whole


def test_hypervolume_grows_and_importance_finds_the_knob_that_matters() -> None:
    draw = np.random.default_rng(0)
    trials = []
    for number in range(12):
        mass, budget = draw.uniform(0, 0.9), draw.uniform(0.3, 0.9)
        each = point(f"trial {number}", budget, 0.9 - mass / 10)
        trials.append(each._replace(knobs={"mass": mass, "revisit": int(draw.integers(2, 20))}))
    volumes = hypervolumes(plan(), [*DENSE, *trials])
    assert len(volumes) == 12
    assert volumes == sorted(volumes)
    assert volumes[-1] > 0
    shares = importances(plan(), [*DENSE, *trials])
    assert max(shares, key=shares.__getitem__) == "mass"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importances(plan(), trials[:7]) == {}
    assert hypervolumes(plan(), trials) == []


# Searching -------------------------------------------------------------------------------


def test_defaults_come_first_and_what_follows_depends_on_what_is_known() -> None:
    task = plan(trials=6)
    first = suggestions(task, DENSE, 2)
    assert [(number, budget) for number, budget, _ in first] == list(enumerate(FIRST_BUDGETS[:2]))
    assert first[0][2] == defaults(task) != {}
    known = [*DENSE, *(point(f"trial {n}", b, 0.9) for n, b in enumerate(FIRST_BUDGETS))]
    later = suggestions(task, known, 8)
    assert [number for number, *_ in later] == [3, 4, 5], "no more than are asked for"
    assert later == suggestions(task, known, 8)
    for _, budget, knobs in later:
        assert 0.2 <= budget <= 0.9
        assert set(knobs) == {"mass", "revisit"}
    short = known[-1]._replace(whole=False)
    assert [n for n, *_ in suggestions(task, [*known[:-1], short], 2)] == [2], "goes on with it"
    assert suggestions(plan(trials=3), known, 2) == []


def test_a_sweep_is_carried_out_gone_on_with_and_confirmed(store: Store) -> None:
    task = plan(trials=2, margin=0.9)
    study, task = open_sweep(store, task)
    steps = list(search(store, study.study_id, task, 1))
    assert (steps[0].done, steps[0].total) == (0, DENSE_RUNS + 2 + AGAIN_MOST)
    assert steps[-1].done == DENSE_RUNS + 2 + 2 * AGAIN_SEEDS
    runs = len(store.runs())
    points = stored_points(store, study.study_id, task)
    assert [len(p.again) for p in points if p.again] == [AGAIN_SEEDS] * 2
    assert {len(p.looks) for p in points} == {1}
    assert [p.name for p in points if not p.dense] == ["trial 0", "trial 1"]
    assert [s.study_id for s in Studies(store).all(sweeps=True)] == [study.study_id]
    assert Studies(store).all() == []
    other, more = open_sweep(store, plan(trials=3, margin=0.9))
    assert other.study_id == study.study_id
    list(search(store, other.study_id, more, 1))
    assert len(store.runs()) == runs + 1 + AGAIN_SEEDS, "one trial, cheaper than the others"
    assert open_sweep(store, plan(trials=1, margin=0.9))[1].trials == 3, "none is taken back"
    points = stored_points(store, study.study_id, more)
    assert confirmations(store, more, points) == {}
    best = candidate(more, points)
    assert best is not None
    assert set(confirming(more, best, 2).seeds) == {100, 101}
    list(confirm(store, more, points, 2, 1))
    tried = confirmations(store, more, points)
    told = tried[best.name]
    record = sweep_record(study.study_id, more, points, tried)
    looks = record["second_look"]["trials"]
    assert [(each["name"], each["passed"]) for each in looks] == [(best.name, True)]
    assert looks[0]["seeds"] == record["second_look"]["seeds"] == list(again_seeds(more))
    assert f"{best.name} again: " in sweep_text(record)
    assert told.verdict == Kind.TOO_FEW.value
    assert told.noninferior is None


def test_a_cancelled_sweep_trains_no_more(store: Store) -> None:
    study, task = open_sweep(store, plan())
    steps = search(store, study.study_id, task, 1)
    next(steps)
    Studies(store).cancel(study.study_id)
    assert list(steps) == []
    assert store.runs() == []


def test_seeds_of_the_sweep_confirm_nothing() -> None:
    fresh = confirming(plan(seeds=(100, 102)), point("trial 0", 0.5, 0.9), 3)
    assert fresh.seeds == (101, 103, 104)


def test_the_command_searches_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "home"))
    words = ["sweep", "--task", "tiny", "--epochs", "2", "--seeds", "1", "--trials", "1"]
    first = CliRunner().invoke(main, [*words, "--confirm-seeds", "0"])
    assert first.exit_code == 0, first.output
    assert "dense 0.45" in first.stdout
    assert f"sweep: {DENSE_RUNS + 1} of at most" in first.stderr
    told = json.loads(CliRunner().invoke(main, [*words, "--confirm-seeds", "0", "--json"]).stdout)
    assert len(told["points"]) == DENSE_RUNS + 1
    assert told["conclusion"] in first.stdout
    bad = CliRunner().invoke(main, [*words, "--margin", "-1"])
    assert bad.exit_code == 2
    assert "margin=-1 is not allowed" in bad.stderr
