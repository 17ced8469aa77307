"""What is told of a study, of runs made of plain numbers."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest

from effcore.cli.studies import compare_text
from effcore.impact.ranges import Range
from effcore.impact.saving import SavingBasis
from effcore.report import study_report, study_table, to_parquet
from effcore.studies.comparison import (
    CompletedRuns,
    policy_sentence,
    result_record,
    study_record,
    study_result,
    variant_savings,
)
from effcore.studies.difference_table import difference_table
from effcore.studies.plan import StudyPlan, plan_study
from effcore.studies.savings import savings_sentence
from effcore.testing.tiny_task import tiny_task
from tests.bench_runs import runs_with_metrics
from tests.fakes import ESTIMATED, MEASURED, config
from tests.store.samples import END
from tests.studies.sweeps import SHARED, look

METRICS = {"D100": 0.9, "D-B": 0.7, "random": 0.6, "auto": 0.9}


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def studied(planned: int, ended: int) -> tuple[StudyPlan, CompletedRuns]:
    """A study that wins, of which the last seeds are missing."""
    seeds = tuple(range(100, 100 + planned))
    runs = {
        arm: {
            seed: replace(
                look(metric),
                end=replace(
                    END,
                    metric=metric + seed % 3 / 1000,
                    flops_spent=share,
                    flops_full=1.0,
                    seconds=share + 0.1,
                ),
                config=config(
                    seed=seed,
                    selection="dense" if arm.startswith("D") else arm,
                    budget=None if arm == "D100" else 0.6,
                    knobs={},
                ),
                energy=replace(MEASURED, joules=10 * share, lo=9 * share, hi=11 * share),
                run_id=f"{arm}-{seed}",
            )
            for seed in seeds[:ended]
        }
        for arm, metric in METRICS.items()
        for share in [1.0 if arm == "D100" else 0.6]
    }
    left = len(METRICS) * (planned - ended)
    return plan_study(SHARED, ["auto"], 0.6, seeds), CompletedRuns(runs, seeds[:ended], {}, left)


def test_a_policy_that_broke_down_is_counted_among_compared_seeds_and_saves_nothing() -> None:
    plan = plan_study(SHARED, ["auto"], 0.6, range(12))
    good: list[float | None] = [0.9 + 0.001 * seed for seed in range(12)]
    metrics = {
        "D100": [None, None, None, *good[3:]],
        "D-B": good,
        "random": good,
        "auto": [*good[:11], None],
    }
    result = study_result("x", plan, runs_with_metrics(plan, metrics))
    (policy,) = result.policies
    assert "broke down on 1 of 9 seeds that full and same-budget training" in policy_sentence(
        policy
    )
    assert variant_savings(result.completed, "auto") == {}
    assert set(result_record(result)["saved"]["auto"].values()) == {None}


def test_a_verdict_before_the_last_planned_run_is_exploratory() -> None:
    told = study_record("x", *studied(6, 6))
    assert (told["verdict"], told["exploratory"]) == ({"auto": "win"}, [])
    early = study_record("x", *studied(20, 6))
    assert early["verdict"] == {"auto": "win"}
    assert early["runs_left"] == 56
    (why,) = early["exploratory"]
    assert "not complete: 56 of 80 planned runs are missing" in why
    assert study_record("x", *studied(20, 5))["exploratory"] == [], (
        "of too few seeds nothing is told"
    )


def test_what_was_saved_is_told_beside_the_verdict() -> None:
    plan, found = studied(6, 6)
    saved = study_record("x", plan, found)["saved"]["auto"]
    assert (saved["FLOPs"]["lo"], saved["FLOPs"]["hi"]) == pytest.approx((0.4, 0.4))
    assert saved["joules"]["quality"] == "measured"
    savings = variant_savings(found, "auto")
    assert savings_sentence(savings) == (
        "Saved against full training: 40.0% of the FLOPs, 36.4% of the seconds, 40.0% of the "
        "MEASURED joules (95% intervals over seeds)."
    )
    seconds = replace(savings[SavingBasis.SECONDS], fraction=Range(-0.1, 0.3))
    doubtful = {**savings, SavingBasis.SECONDS: seconds}
    assert "; no saving shown in seconds (−10.0% to 30.0%) (95%" in savings_sentence(doubtful)
    guessed = {
        arm: {seed: replace(run, energy=ESTIMATED) for seed, run in own.items()}
        for arm, own in found.snapshots.items()
    }
    found = found._replace(snapshots=guessed)
    assert study_record("x", plan, found)["saved"]["auto"]["joules"] is None
    assert savings_sentence(variant_savings(found, "auto")).endswith(
        "not measured, or not in the same way in all runs."
    )
    assert savings_sentence(variant_savings(studied(6, 0)[1], "auto")) == ""


def test_the_table_has_every_run_and_what_it_took() -> None:
    plan, found = studied(6, 6)
    lost = replace(found.snapshots["D-B"][105], end=None, reason="the loss became infinite")
    runs = {**found.snapshots, "D-B": {**found.snapshots["D-B"], 105: lost}}
    completed = CompletedRuns(runs, found.counted_seeds[:-1], {})
    json.dumps(study_record("x", plan, completed), allow_nan=False)
    table = study_table(study_result("x", plan, completed))
    assert len(table) == 24
    assert set(table["run"]) == {f"{arm}-{seed}" for arm in METRICS for seed in plan.seeds}
    assert set(table.loc[table["arm"] == "D100", "flops"]) == {1.0}
    assert set(table.loc[table["seed"] == 105, "counts"]) == {False}
    (row,) = table[table["run"] == "D-B-105"].to_dict("records")
    assert row["why"] == "the loss became infinite"
    assert math.isnan(row["accuracy"])
    back = pd.read_parquet(io.BytesIO(to_parquet(table)))
    pd.testing.assert_frame_equal(back, table)


def test_bootstrap_and_sign_flips_are_shown_beside_what_decides() -> None:
    plan, found = studied(6, 6)
    result = study_result("x", plan, found)
    full, matched = difference_table(result.verdicts, "{:+.2f}".format)
    assert (full["against"], full["shown"]) == ("D100", "matches: yes")
    assert (matched["mean"], matched["shown"]) == ("+0.20", "beats: yes")
    assert matched["95% bootstrap (BCa)"] == "+0.20 to +0.20"
    assert matched["sign-flip p"] == "0.0312"
    for text in (study_report("x", plan, found, "again"), compare_text(result)):
        assert "sign-flip p" in text
        assert "+20.0 to +20.0" in text
    few = difference_table(study_result("x", *studied(3, 3)).verdicts, "{:+.2f}".format)[0]
    assert few["shown"].endswith("too few seeds")
