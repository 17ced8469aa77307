"""Comparison with published methods: timing, targets, ratios and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench.host_sync_counter import EvaluationPoint, HostSyncCounter, TrainingCurve
from effcore.bench.published_baselines import (
    BASELINE_PAIRINGS,
    BaselineComparison,
    compare_published_baselines,
    first_pairing_name,
    published_baselines_text,
)
from effcore.tasks.base import Metric
from effcore.testing.tiny_task import tiny_task

TABLE = ("seconds", "metric", "seconds_to_target", "trained_share", "steps")


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def test_a_counter_counts_reads_only_while_it_runs() -> None:
    counter, x = HostSyncCounter(counts=True), torch.ones(2)
    with counter:
        x[0].item()
        with counter.running():
            assert (x > 0).all()  # asks a tensor for its truth
            x.tolist(), x.cpu(), x.nonzero(), float(x[0]), int(x[1]), x.sum()
            with counter.running(False):
                x[0].item()
            x[x > 0], torch.where(x > 0), torch.where(x > 0, x, 0.0), x[torch.tensor([1])]
            x[1].item()
    assert counter.reads == 9
    assert counter.clock() < 1e-3


def test_a_counter_measures_time_only_while_it_runs() -> None:
    counter = HostSyncCounter()
    before = counter.clock()
    assert before == counter.clock() < 1e-3
    with counter.running(), counter.running(False):
        stood = counter.clock()
        assert before < stood == counter.clock()
    assert stood < counter.clock() == counter.clock()


def test_the_target_is_reached_at_the_first_evaluation_as_good() -> None:
    points = tuple(
        EvaluationPoint(float(i), 0.0, metric) for i, metric in enumerate([0.1, 0.8, 0.7, 0.9])
    )
    curve = TrainingCurve(points, 4.0, 1, 1.0)
    up = Metric("a", "A", "%", higher_is_better=True, digits=1, margin=0.01)
    down = Metric("b", "B", "", higher_is_better=False, digits=1, margin=0.01)
    assert curve.seconds_to_target(0.75, up) == 1.0
    assert curve.seconds_to_target(0.85, up) == 3.0
    assert curve.seconds_to_target(0.95, up) is None
    assert curve.seconds_to_target(0.7, down) == 0.0
    assert curve.seconds_to_target(0.05, down) is None


MESSAGES: list[str] = []


@pytest.fixture(scope="module")
def comparison(tiny: None) -> BaselineComparison:
    return compare_published_baselines(
        "tiny", None, "small", 3, range(5, 8), "cpu", MESSAGES.append
    )


def test_every_method_and_side_has_a_row(
    comparison: BaselineComparison,
) -> None:
    assert len(MESSAGES) == 10 * 3
    assert all(message.endswith(" left") for message in MESSAGES)
    rows = {(row.name, row.side): row for row in comparison.rows}
    ours = {(first_pairing_name(pairing), "ours") for pairing in BASELINE_PAIRINGS}
    assert set(rows) == {
        ("dense", "ours"),
        *((r.name, "published") for r in BASELINE_PAIRINGS),
        *ours,
    }
    assert len(rows) == 10
    for row in rows.values():
        assert [len(getattr(row, name)) for name in TABLE] == [3] * 5
        assert all(seconds > 0 for seconds in row.seconds)
        assert all(0 < share <= 1 for share in row.trained_share)
        assert all(s is None or s >= 0 for s in row.seconds_to_target)
    dense = rows["dense", "ours"]
    margin = comparison.margin
    assert comparison.targets == pytest.approx([metric - margin for metric in dense.metric])
    assert None not in dense.seconds_to_target
    for name in ("selective-backprop", "kakurenbo"):  # who reads example by example
        assert rows[name, "published"].reads_per_step > 30
        assert rows[name, "ours"].reads_per_step < 8, "of a pass of twelve steps, its end too"
    assert rows["infobatch", "published"].reads_per_step == pytest.approx(1.0)


def test_the_ratios_are_ours_over_published_of_the_same_seed(
    comparison: BaselineComparison,
) -> None:
    rows = {(row.name, row.side): row for row in comparison.rows}
    assert list(comparison.ratios) == [pairing.name for pairing in BASELINE_PAIRINGS]
    for pairing in BASELINE_PAIRINGS:
        ratios = comparison.ratios[pairing.name]
        pairs = zip(
            rows[first_pairing_name(pairing), "ours"].seconds,
            rows[pairing.name, "published"].seconds,
            strict=True,
        )
        assert ratios.seconds == pytest.approx([ours / other for ours, other in pairs])
        assert ratios.seconds_interval is not None
        assert ratios.seconds_interval.n == 3
        assert len(ratios.seconds_to_target) == 3


def test_the_text_has_a_table_of_runs_and_one_of_ratios(comparison: BaselineComparison) -> None:
    lines = published_baselines_text(comparison).splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + 10 + 5
    assert any(line.startswith("| kakurenbo-coded | published | ") for line in lines)
    assert "Medians over 3 seeds" in lines[-1]
    never = replace(comparison.ratios["composer"], seconds_to_target=[None] * 3)
    text = published_baselines_text(replace(comparison, ratios={"composer": never}))
    assert text.splitlines()[-3].endswith("| – |")


def test_the_command_prints_the_comparison() -> None:
    words = "bench peers --task tiny --epochs 2 --seeds 1 --json"
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout.splitlines()[-1])
    named = {"task": "tiny", "model": "mlp", "size": "medium", "epochs": 2, "device": "cpu"}
    assert data["settings"] == named
    assert data["seeds"] == [100]
    assert len(data["rows"]) == 10
    assert data["ratios"]["infobatch"]["seconds_interval"] is None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("--task=tinny", "unknown task"),
        ("--model=cnn --quick", "unknown model"),
        ("--size=huge", "unknown size"),
        ("--epochs=0", "epochs=0 is not allowed"),
        ("--seeds=0", "is not in the range"),
        ("--device=cuda:77", "device='cuda:77' is not available"),
    ],
)
def test_the_command_refuses_settings_that_are_not_allowed(bad: str, words: str) -> None:
    result = CliRunner().invoke(main, ["bench", "peers", "--task", "tiny", *bad.split()])
    assert result.exit_code == 2
    assert words in result.stderr
