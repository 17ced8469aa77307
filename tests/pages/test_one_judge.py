"""The same numbers come to the same verdict by every way that leads to one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcore.bench import savings_study
from effcore.bench.bench_store import BenchStore
from effcore.bench.savings_study import run_savings_study, savings_text
from effcore.bench.savings_variants import SavingsStudy, SavingsVariant
from effcore.cli.studies import compare_text
from effcore.policies.combination import DENSE_POLICIES
from effcore.records import Snapshot
from effcore.runs.manager import shared_run_manager
from effcore.studies.comparison import CompletedRuns, open_study, result_record, study_result
from effcore.studies.plan import BASELINES, StudyPlan
from effcore.studies.verdict import Outcome
from effcore.testing.tiny_task import TinyTask, tiny_task
from pages.ui.studies import stored_study
from tests.bench_runs import runs_with_metrics
from tests.fakes import config
from tests.pages.visit import visit
from tests.studies.sweeps import SHARED, look

MARGIN = TinyTask.metric.margin
#: True difference to full training and scatter between seeds, in margins, of each policy.
PLANTED = {
    **{f"win {n}": (2.0, 0.3) for n in range(3)},
    **{f"tie {n}": (-0.3, 0.2) for n in range(3)},
    **{f"loss {n}": (-6.0, 0.3) for n in range(3)},
    **{f"less {n}": (-1.6, 0.1) for n in range(3)},
    # Worse by exactly the margin, on every seed or in the mean.
    "margin 0": (-1.0, 0.0),
    "margin 1": (-1.0, 0.3),
    "margin 2": (-1.0, 1.0),
}
#: So many margins does the same compute spent densely lose, and it scatters.
MATCHED = {"win": (-2.5, 0.3), "tie": (-0.9, 2.0)}

Metrics = dict[str, list[float]]


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def planted(seeds: int, matched: str) -> Metrics:
    """Return the metrics of every variant by seed, of exactly the means that were planted."""
    rng = np.random.default_rng(5)
    full = 0.7 + rng.normal(0.0, MARGIN, seeds)
    metrics = {"D100": full.tolist()}
    for name, (difference, scatter) in {"D-B": MATCHED[matched], **PLANTED}.items():
        noise = rng.normal(0.0, 1.0, seeds)
        noise = (noise - noise.mean()) / noise.std(ddof=1) * scatter
        metrics[name] = (full + MARGIN * (difference + noise)).tolist()
    metrics["random"] = metrics["D-B"]
    return metrics


def compared(seeds: int, metrics: Metrics) -> tuple[StudyPlan, CompletedRuns]:
    """A study of ``compare`` that found these metrics."""
    own = tuple(range(100, 100 + seeds))
    arms = {name: {"selection": "auto"} for name in PLANTED}
    plan = StudyPlan(SHARED, arms, 0.6, own, MARGIN)
    runs: dict[str, dict[int, Snapshot]] = {}
    for arm in (*BASELINES, *PLANTED):
        runs[arm] = {}
        for seed, metric in zip(own, metrics[arm], strict=True):
            run = look(metric, 1.0 if arm == "D100" else 0.6)
            assert run.end is not None
            end = replace(run.end, metric=metric)
            named = f"{arm}-{seed}"
            runs[arm][seed] = replace(run, end=end, config=config(seed=seed), run_id=named)
    return plan, CompletedRuns(runs, own, {})


def by_compare(plan: StudyPlan, found: CompletedRuns) -> dict[str, str]:
    """Return the verdicts of ``compare``, the same in its JSON and behind its sentences."""
    result = study_result("x", plan, found)
    record = json.loads(json.dumps(result_record(result)))
    assert record["verdict"] == record["outcome"]
    text = compare_text(result)
    for arm, sentence in record["sentences"].items():
        assert f"{arm}: {sentence}" in text
    verdicts: dict[str, str] = record["verdict"]
    return verdicts


def by_page(
    plan: StudyPlan, found: CompletedRuns, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Return the verdicts that the Compare page shows."""
    study, _ = open_study(shared_run_manager().store, plan)
    monkeypatch.setattr(stored_study, "load_completed_runs", lambda *_: found)
    app = visit("compare.py", study=study.study_id)
    assert not app.exception
    heads = [str(each.value) for each in app.markdown if str(each.value).startswith("### :")]
    badge = re.compile(r"### :\w+-badge\[:material/\w+: (.+)\] (.+)")
    pairs = [match.groups() for head in heads if (match := badge.match(head.replace("\\", "")))]
    return {arm: outcome for outcome, arm in pairs}


def by_savings(seeds: int, metrics: Metrics, path: Path, patch: pytest.MonkeyPatch) -> Any:
    """Return the rows of ``bench savings`` by policy."""
    variants = [
        SavingsVariant(name, DENSE_POLICIES, (), 1.0 if name == "D100" else 0.6)
        for name in ("D100", "D-B")
    ]
    auto = DENSE_POLICIES._replace(selection="auto")
    variants += [SavingsVariant(name, auto, ({},), 0.6) for name in PLANTED]

    def complete(_: BenchStore, plans: Any, *rest: Any) -> Any:
        return [(plan, runs_with_metrics(plan, {v.name: metrics[v.name] for v in variants}))
                for plan in plans]  # fmt: skip

    patch.setattr(savings_study, "chosen_variants", lambda study: variants)
    patch.setattr(BenchStore, "complete", complete)
    study = SavingsStudy(
        task="tiny", model="mlp", budget=0.6, tries=1, tuning_seeds=[0],
        seeds=range(100, 100 + seeds), arms=[], settings={"device": "cpu", "epochs": 3},
    )  # fmt: skip
    rows = run_savings_study(study, BenchStore(path), 1, lambda _: None)
    records = {row.name: row.to_record() for row in rows}
    for row in rows:
        record = records[row.name]
        assert record["verdict"] == record["outcome"]
        assert f"| {record['verdict'] or ''} | " in savings_text([row])
    return {name: record for name, record in records.items() if name in PLANTED}


@pytest.mark.parametrize("matched", ["win", "tie"])
@pytest.mark.parametrize("seeds", [6, 12])
def test_compare_savings_and_the_page_come_to_the_same(
    seeds: int, matched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = planted(seeds, matched)
    plan, found = compared(seeds, metrics)
    compare = by_compare(plan, found)
    rows = by_savings(seeds, metrics, tmp_path / "store", monkeypatch)
    savings = {arm: row["verdict"] for arm, row in rows.items()}
    assert len(compare) == 15
    assert compare == savings == by_page(plan, found, monkeypatch)
    result = study_result("x", plan, found)
    for verdict in result.verdicts:
        row = rows[verdict.arm]
        assert (row["noninferior"], row["beats_db"]) == (verdict.noninferior, verdict.superior)
        assert row["overtrained"] == verdict.overtrained
        assert row["p"] == pytest.approx(verdict.against_full.p, rel=1e-9)
    if seeds == 6:
        assert set(compare.values()) == {Outcome.TOO_FEW_SEEDS}, "of 15 policies it takes 10"
        return
    for name, outcome in compare.items():
        kind = name.split()[0]
        assert (outcome in (Outcome.WIN, Outcome.TIE)) is (kind in ("win", "tie")), name
        assert (outcome == Outcome.LOSS) is (kind == "loss" or (kind, matched) == ("less", "tie"))
        if kind == "margin":
            assert rows[name]["noninferior"] is False
        if kind in ("win", "tie") and matched == kind:
            assert outcome == kind
        if kind == "less" and matched == "win":
            assert outcome == Outcome.BETTER_FOR_LESS
            assert "but is worse than full training by more than" in rows[name]["sentence"]
