"""The race of published methods against ours: its clock, its target, its table."""

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


def test_a_watch_counts_reads_only_while_it_runs() -> None:
    watch, x = HostSyncCounter(counts=True), torch.ones(2)
    with watch:
        x[0].item()
        with watch.running():
            assert (x > 0).all()  # asks a tensor for its truth
            x.tolist(), x.cpu(), x.nonzero(), float(x[0]), int(x[1]), x.sum()
            with watch.running(False):
                x[0].item()
            x[x > 0], torch.where(x > 0), torch.where(x > 0, x, 0.0), x[torch.tensor([1])]
            x[1].item()
    assert watch.reads == 9
    assert watch.clock() < 1e-3


def test_a_watch_tells_time_only_while_it_runs() -> None:
    watch = HostSyncCounter()
    before = watch.clock()
    assert before == watch.clock() < 1e-3
    with watch.running(), watch.running(False):
        stood = watch.clock()
        assert before < stood == watch.clock()
    assert stood < watch.clock() == watch.clock()


def test_the_target_is_reached_at_the_first_point_as_good() -> None:
    points = tuple(
        EvaluationPoint(float(i), 0.0, metric) for i, metric in enumerate([0.1, 0.8, 0.7, 0.9])
    )
    course = TrainingCurve(points, 4.0, 1, 1.0)
    up = Metric("a", "A", "%", higher_is_better=True, digits=1, margin=0.01)
    down = Metric("b", "B", "", higher_is_better=False, digits=1, margin=0.01)
    assert course.seconds_to_target(0.75, up) == 1.0
    assert course.seconds_to_target(0.85, up) == 3.0
    assert course.seconds_to_target(0.95, up) is None
    assert course.seconds_to_target(0.7, down) == 0.0
    assert course.seconds_to_target(0.05, down) is None


SAID: list[str] = []


@pytest.fixture(scope="module")
def raced(tiny: None) -> BaselineComparison:
    return compare_published_baselines("tiny", None, "small", 3, range(5, 8), "cpu", SAID.append)


def test_the_race_says_for_every_method_and_side_what_was_promised(
    raced: BaselineComparison,
) -> None:
    assert len(SAID) == 10 * 3
    assert all(message.endswith(" left") for message in SAID)
    rows = {(row.name, row.side): row for row in raced.rows}
    ours = {(first_pairing_name(rival), "ours") for rival in BASELINE_PAIRINGS}
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
    margin = raced.margin
    assert raced.targets == pytest.approx([metric - margin for metric in dense.metric])
    assert None not in dense.seconds_to_target
    for name in ("selective-backprop", "kakurenbo"):  # who reads example by example
        assert rows[name, "published"].reads_per_step > 30
        assert rows[name, "ours"].reads_per_step < 8, "of a pass of twelve steps, its end too"
    assert rows["infobatch", "published"].reads_per_step == pytest.approx(1.0)


def test_the_ratios_are_ours_over_published_of_the_same_seed(raced: BaselineComparison) -> None:
    rows = {(row.name, row.side): row for row in raced.rows}
    assert list(raced.ratios) == [rival.name for rival in BASELINE_PAIRINGS]
    for rival in BASELINE_PAIRINGS:
        ratios = raced.ratios[rival.name]
        pairs = zip(
            rows[first_pairing_name(rival), "ours"].seconds,
            rows[rival.name, "published"].seconds,
            strict=True,
        )
        assert ratios.seconds == pytest.approx([ours / other for ours, other in pairs])
        assert ratios.seconds_interval is not None
        assert ratios.seconds_interval.n == 3
        assert len(ratios.seconds_to_target) == 3


def test_the_text_is_a_table_of_runs_and_one_of_ratios(raced: BaselineComparison) -> None:
    lines = published_baselines_text(raced).splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + 10 + 5
    assert any(line.startswith("| kakurenbo-coded | published | ") for line in lines)
    assert "Medians over 3 seeds" in lines[-1]
    never = replace(raced.ratios["composer"], seconds_to_target=[None] * 3)
    text = published_baselines_text(replace(raced, ratios={"composer": never}))
    assert text.splitlines()[-3].endswith("| – |")


def test_the_command_prints_the_race() -> None:
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
def test_the_command_refuses_what_cannot_be_raced(bad: str, words: str) -> None:
    result = CliRunner().invoke(main, ["bench", "peers", "--task", "tiny", *bad.split()])
    assert result.exit_code == 2
    assert words in result.stderr
