"""Skipped and saved computation: two quantities, each with one meaning on every surface.

Skipped is 1 − FLOPs spent ÷ dense training over the same examples. Saved is 1 − FLOPs spent ÷
full training, called so only beside a finished reference and with what it cost in quality.
"""

from __future__ import annotations

import ast
import html
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from effcore import report
from effcore.__main__ import main
from effcore.config import incompatibility
from effcore.impact.costs import Cluster, project_saving
from effcore.impact.ranges import exact_range
from effcore.impact.reference_comparison import (
    compare_with_reference,
    computation_not_spent,
    projectable_shares,
)
from effcore.impact.saving import SavingBasis
from effcore.impact.saving_text import saving_and_quality_text
from effcore.insight.race_narration import race_ending
from effcore.live.tiles import run_tiles
from effcore.policies.combination import POLICY_REGISTRIES, PolicyCombination
from effcore.records import RunConfig, RunEnd, RunStart, RunStatus, Snapshot
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import run_summary, saving_lines, summary_text
from effcore.store import Store
from effcore.store.db import DATABASE_FILE
from effcore.tasks.base import TASKS
from effcore.testing.tiny_task import tiny_task
from effcore.training import reporter
from tests.fakes import config, snapshot
from tests.pages.energy import amounts
from tests.pages.visit import visit
from tests.store.samples import CONFIG, END
from tests.tiny_runs import tiny_config

#: So many epochs that one step is under half a percent of full training.
EPOCHS = 20
BUDGETS = (None, 0.6)
ALL_POLICIES = [
    PolicyCombination(**{"selection": "dense", kind: name})
    for kind in ("selection", "update", "intensity")
    for name in POLICY_REGISTRIES[kind].ids()
]
#: The plain ones, one that skips examples, one whose scoring costs more than it skips.
FEW = [
    PolicyCombination(selection="dense"),
    PolicyCombination(selection="confident-skip"),
    PolicyCombination(selection="selective-backprop"),
]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(reporter, "EVALUATIONS", 2)
    monkeypatch.setattr("effcore.report.filled_run_charts", lambda *_: {})
    with tiny_task():
        yield


class Surfaces(NamedTuple):
    """What each place says of one run."""

    snapshot: Snapshot
    reference: Snapshot | None
    tile: dict[str, Any]
    skip_tile: dict[str, Any]
    record: dict[str, Any]
    rows: dict[str, str]  # of the terminal and of the Energy page
    text: str
    report: str
    runs_row: dict[Any, Any]


#: Settings of the tiny task, and of one of pictures for the policies that need them.
TINY: dict[str, Any] = {"task": "tiny", "epochs": EPOCHS}
DIGITS: dict[str, Any] = {"task": "digits", "model": "cnn", "size": "small", "epochs": 3}
#: Models for policies that TINY does not go with: by pictures, by residual stages, by text.
OTHER_MODELS: list[dict[str, Any]] = [
    DIGITS,
    {"task": "tabular-wine", "model": "resnet", "size": "small", "epochs": EPOCHS},
    {"task": "snippets", "model": "bag-of-n-grams", "size": "small", "epochs": 2},
]


def train_run(
    policies: PolicyCombination, budget: float | None, settings: dict[str, Any] = TINY
) -> str:
    chosen = tiny_config(**settings, **policies._asdict(), budget=budget)
    (run,) = shared_run_manager().start(chosen)
    assert run.join(120)
    assert run.snapshot().status is RunStatus.FINISHED, run.snapshot().reason
    return run.run_id


def surfaces_of(run_ids: list[str]) -> list[Surfaces]:
    """Read every surface of stored runs."""
    table = visit("runs.py").dataframe[0].value
    rows = {row["Run"]: row for row in table.to_dict("records")}
    found = []
    for run_id in run_ids:
        run = shared_run_manager().find_run(run_id)
        assert run is not None
        look = run.snapshot()
        reference = shared_run_manager().reference_of(look)
        beside = (
            None if look.reference_id is None else shared_run_manager().find_run(look.reference_id)
        )
        tiles = run_tiles(look, run.description(), None if beside is None else beside.snapshot())
        by_id = {tile["id"]: tile for tile in tiles}
        found.append(
            Surfaces(
                look, reference, by_id["saving"], by_id["skip"], run_summary(look),
                dict(saving_lines(look, reference)), summary_text(look, reference),
                html.unescape(report.run_report(look, reference)), rows[run_id],
            )
        )  # fmt: skip
    return found


def shares_of(look: Snapshot) -> tuple[float, float]:
    """Saved and skipped, by the formulas and nothing else."""
    end, start = look.end, look.start
    assert end is not None
    assert start is not None
    batch = look.config.batch_size
    full_flops = start.n_train * look.config.epochs // batch * batch * start.flops_per_example
    return 1 - end.flops_spent / full_flops, 1 - end.flops_spent / end.flops_dense


def check_numbers(each: Surfaces) -> None:
    """The record, the tiles and the list say the same two numbers, however they are worded."""
    saved, skipped = shares_of(each.snapshot)
    assert each.record["saved_compute_frac"] == pytest.approx(saved, abs=1e-12)
    assert each.record["skipped_compute_frac"] == pytest.approx(skipped, abs=1e-12)
    assert each.record["flops_full"] == pytest.approx(
        each.record["flops_spent"] / (1 - saved), rel=1e-12
    )
    assert each.runs_row["Skipped"] == pytest.approx(100 * skipped, abs=0.051)
    percent = f"{100 * skipped:z.1f}%"
    assert each.skip_tile["lines"][0] == f"{percent} since the start"
    assert each.rows["Computation skipped"].startswith(percent)
    assert each.rows["Computation skipped"] in each.text
    assert each.rows["Computation skipped"] in each.report
    assert "saved" not in each.rows["Computation skipped"]
    if each.snapshot.config.budget == 0.6:
        assert 40 - 1e-9 <= 100 * saved < 41  # what is left does not pay for one more step


def check_without_reference(each: Surfaces) -> None:
    check_numbers(each)
    saved, _ = shares_of(each.snapshot)
    assert each.reference is None
    percent = "0%" if abs(saved) < 0.005 else f"{100 * saved:.0f}%".replace("-", "−")
    tile = [each.tile["label"], each.tile["value"], each.tile["unit"], *each.tile["lines"]]
    assert tile[:3] == ["Computation not spent", percent, "of full training's computation"]
    assert each.runs_row["Not spent"] == pytest.approx(100 * saved, abs=0.051)
    said = each.rows["Computation not spent"]
    assert said.startswith(f"{percent} of full training's computation not spent; no reference")
    assert said in each.text
    assert said in each.report
    assert "Saved" not in each.runs_row or not isinstance(each.runs_row["Saved"], str)
    assert "saved" not in " ".join([*tile, *each.rows, *each.rows.values(), each.text]).lower()
    assert "saved" not in each.report.replace("saved_compute_frac", "").lower()
    shares = projectable_shares(each.snapshot, None)
    assert shares[SavingBasis.FLOPS].fraction == pytest.approx((saved, saved))


def check_with_reference(each: Surfaces) -> None:
    check_numbers(each)
    saved, _ = shares_of(each.snapshot)
    assert each.reference is not None
    own, dense = each.snapshot.end, each.reference.end
    assert own is not None
    assert own.metric is not None
    assert dense is not None
    assert dense.metric is not None
    assert saved == pytest.approx(1 - own.flops_spent / dense.flops_spent, abs=1e-12)
    percent = f"{round(-100 * saved):+d}%".replace("-", "−").replace("+0%", "±0%")
    metric = TASKS.get(each.snapshot.config.task).metric
    change = f"{100 * (own.metric - dense.metric):+.{metric.digits}f}".replace("-", "−")
    nothing = f"{0:.{metric.digits}f}"
    points = f"{f'±{nothing}' if change[1:] == nothing else change} points"
    sentence = f"{percent} computation, {points}, one seed"
    assert each.rows["Saved"] == sentence
    assert each.rows["Time, against full training"].endswith(
        f"{own.seconds:.1f} s against {dense.seconds:.1f} s"
    )
    for name in ("Saved", "Time, against full training"):
        assert each.rows[name] in each.text
        assert each.rows[name] in each.report
    assert each.runs_row["Saved"] == sentence
    assert "Not spent" not in each.runs_row or np.isnan(each.runs_row["Not spent"])
    assert (each.tile["label"], each.tile["value"]) == ("Saved", percent)
    assert each.tile["lines"][0].startswith(f"{points}, one seed")
    worse = own.metric - dense.metric < -metric.margin
    assert each.tile["tone"] == ("worse" if worse else "")
    assert race_ending(each.reference, each.snapshot).cost[-1] == f"In short: {sentence}."
    saving = compare_with_reference([(each.snapshot, each.reference)])
    shares = projectable_shares(each.snapshot, saving)
    assert shares[SavingBasis.FLOPS].fraction == pytest.approx((saved, saved))


def check_matrix(
    chosen: list[PolicyCombination], energy_pages: int, settings: dict[str, Any] = TINY
) -> None:
    """Train each policy with and without a budget; look before and after the reference."""
    full = PolicyCombination(selection="dense")
    ids = [
        train_run(policies, budget, settings)
        for policies in chosen
        for budget in BUDGETS
        if policies != full or budget is not None
    ]
    for each in surfaces_of(ids):
        check_without_reference(each)
    for run_id in ids[:energy_pages]:
        rows = amounts(visit("energy.py", run=run_id), 0)
        assert "Saved" not in rows
        known = next(each for each in surfaces_of([run_id]))
        assert rows["Computation not spent"] == known.rows["Computation not spent"]
        assert rows["Computation skipped"] == known.rows["Computation skipped"]
    reference = train_run(full, None, settings)
    (own,) = surfaces_of([reference])
    check_numbers(own)
    assert own.rows["Full training"] == "other runs of its seed are compared with it"
    assert (own.record["saved_compute_frac"], own.record["skipped_compute_frac"]) == (0.0, 0.0)
    looked = surfaces_of(ids)
    for each in looked:
        check_with_reference(each)
    for each in looked[:energy_pages]:
        rows = amounts(visit("energy.py", run=each.snapshot.run_id), 0)
        for name, text in each.rows.items():
            assert rows[name] == text


def test_every_surface_agrees_on_saved_and_skipped() -> None:
    check_matrix(FEW, energy_pages=1)


def fitting(settings: dict[str, Any]) -> list[PolicyCombination]:
    """The policies, one beside the plain ones each, that go with a task's model."""
    choice = TASKS.get(settings["task"]).model_choice(settings.get("model", "mlp"))
    size = settings.get("size", "medium")
    return [
        policies
        for policies in dict.fromkeys(ALL_POLICIES)
        if incompatibility(policies, settings["task"], choice, size) is None
    ]


@pytest.mark.slow
def test_every_surface_agrees_for_every_policy() -> None:
    chosen = fitting(TINY)
    assert len(chosen) > 10
    check_matrix(chosen, energy_pages=2 * len(chosen) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(OTHER_MODELS)))
def test_every_surface_agrees_for_policies_of_other_models(place: int) -> None:
    known = {policies for each in (TINY, *OTHER_MODELS[:place]) for policies in fitting(each)}
    settings = OTHER_MODELS[place]
    chosen = [policies for policies in fitting(settings) if policies not in known]
    assert chosen
    check_matrix(chosen, energy_pages=0, settings=settings)


def test_no_policy_is_left_out_of_these() -> None:
    covered = {policies for each in (TINY, *OTHER_MODELS) for policies in fitting(each)}
    assert covered == set(ALL_POLICIES)


def test_the_command_line_says_so_too() -> None:
    command = ["run", "--task", "tiny", "--device", "cpu", "--epochs", str(EPOCHS)]
    budgeted = [*command, "--policy", "confident-skip", "--budget", "0.6"]
    shared_run_manager()
    said = CliRunner().invoke(main, budgeted)
    assert said.exit_code == 0, said.output
    assert "40% of full training's computation not spent" in said.output
    assert "saved" not in said.output.lower()
    full = CliRunner().invoke(main, [*command, "--policy", "dense", "--json"])
    record = json.loads(full.stdout.splitlines()[-1])
    assert (record["saved_compute_frac"], record["flops_full"]) == (0.0, record["flops_spent"])
    said = CliRunner().invoke(main, budgeted)
    assert "saved " in said.output
    assert "−40% computation, " in said.output
    assert "one seed" in said.output


# The formulas --------------------------------------------------------------------------------

FLOPS = st.floats(1.0, 1e18)


@given(spent=FLOPS, full=FLOPS, considered=FLOPS, reference_metric=st.floats(0, 1))
def test_saved_follows_the_formula_and_never_from_skipped(
    spent: float, full: float, considered: float, reference_metric: float
) -> None:
    def finished(of: RunConfig, flops: float, metric: float) -> Snapshot:
        end = RunEnd(
            RunStatus.FINISHED, "", "accuracy", metric, 4, 4000, 2000, flops, considered, 1.0, None,
            flops_full=full,
        )  # fmt: skip
        return snapshot(config=of, end=end, status=RunStatus.FINISHED)

    own = finished(config(), spent, 0.5)
    dense = finished(config(selection="dense", knobs={}), full, reference_metric)
    assert own.end is not None
    assert own.end.saved_compute_frac == 1 - spent / full
    assert own.end.skipped_compute_frac == 1 - spent / considered
    record = run_summary(own)
    assert record["saved_compute_frac"] == 1 - spent / full
    assert record["skipped_compute_frac"] == 1 - spent / considered
    saving, share = compare_with_reference([(own, dense)]), computation_not_spent(own)
    assert saving is not None
    assert share is not None
    assert saving.saved_compute_frac == share.share == own.end.saved_compute_frac
    clipped = max(1 - spent / full, -10.0)
    cluster = Cluster(1, exact_range(100.0), exact_range(10.0))
    for each in (share, saving.savings[SavingBasis.FLOPS]):
        assert each.fraction == pytest.approx((clipped, clipped), rel=1e-12, abs=1e-12)
        result = project_saving(each, cluster)
        assert result.energy.saved.lo == pytest.approx(clipped, rel=1e-9, abs=1e-9)
        assert result.name == ("Not spent" if each is share else "Saved")
    percent = round(-100 * (1 - spent / full))
    assert saving_and_quality_text(saving).startswith(
        f"{percent:+d}%".replace("-", "−") if percent else "±0%"
    )


def test_nothing_that_counts_costs_reads_what_was_skipped() -> None:
    root = Path(__file__).parents[1]
    files = [*(root / "effcore" / "impact").glob("*.py"), *(root / "pages/ui/energy").glob("*.py")]
    assert len(files) >= 12
    names = {"skipped_compute_frac", "skipped_frac", "SkippedFrac", "flops_dense"}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            read = getattr(node, "attr", getattr(node, "id", None))
            assert read not in names, f"{path.name} reads {read}"


# Older stores --------------------------------------------------------------------------------


def test_an_older_end_takes_full_training_from_the_start_and_is_not_rewritten(
    tmp_path: Path,
) -> None:
    store, start = Store(tmp_path), RunStart(1437, 5e5, 2e9, None, 1000)
    writer = store.create_run(CONFIG)
    writer.write_event(start)
    writer.finish(replace(END, flops_full=None), replace(snapshot().energy))
    writer.close()
    database = sqlite3.connect(tmp_path / DATABASE_FILE)
    (text,) = database.execute("SELECT data FROM events WHERE kind = 'end'").fetchone()
    older = json.dumps({n: v for n, v in json.loads(text).items() if n != "flops_full"})
    with database:
        database.execute("UPDATE events SET data = ? WHERE kind = 'end'", (older,))
    for end in (store.summary(writer.run_id).end, store.load_snapshot(writer.run_id).end):
        assert end is not None
        assert end.flops_full == start.flops_dense
        assert end.saved_compute_frac == 1 - END.flops_spent / start.flops_dense
    assert database.execute("SELECT data FROM events WHERE kind = 'end'").fetchone() == (older,)
    database.close()
    store.close()
