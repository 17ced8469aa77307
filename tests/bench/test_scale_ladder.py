from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench import scale_ladder as ladder_module
from effcore.bench.bench_store import BenchRun, BenchStore
from effcore.bench.matched_comparison import train_to_end
from effcore.bench.scale_ladder import ladder_text, measure_ladder, parameter_count
from effcore.config import ConfigError
from effcore.home import default_home
from effcore.impact.saving import SavingBasis
from effcore.impact.scale_ladder import ladder_path, load_ladder, save_ladder
from effcore.records import EnergyQuality, RunConfig
from effcore.records.settings import Settings
from effcore.testing.tiny_task import tiny_task
from tests.bench_runs import scripted_training
from tests.fakes import snapshot
from tests.store.samples import END
from tests.tiny_runs import tiny_config

SETTINGS: Settings = {"task": "tiny", "selection": "random", "device": "cpu", "epochs": 2}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def ignore(_: str) -> None:
    """Take a progress message."""


def test_three_sizes_are_trained_beside_full_training(tmp_path: Path) -> None:
    messages: list[str] = []
    ladder = measure_ladder(
        SETTINGS, [0, 1], BenchStore(tmp_path / "j"), {"cores": 2}, messages.append
    )
    assert len(messages) == 3 * 2 * 2
    assert [step.name for step in ladder.steps] == ["small", "medium", "large"]
    # 2 -> width -> 2, with biases, at widths of 8, 16 and 32.
    assert [step.size for step in ladder.steps] == [5 * width + 2 for width in (8, 16, 32)]
    own = train_to_end(tiny_config(selection="random", epochs=2, size="small", seed=0))
    dense = train_to_end(tiny_config(selection="dense", epochs=2, size="small", seed=0, budget=1.0))
    small = ladder.steps[0]
    assert small.savings[SavingBasis.FLOPS][0] == 1 - own.flops_spent / dense.flops_spent
    assert small.savings[SavingBasis.FLOPS][0] > 0.1
    assert (small.metrics[0], small.dense_metrics[0]) == (own.metric, dense.metric)
    assert (ladder.quality, ladder.bases()) == (None, [SavingBasis.SECONDS, SavingBasis.FLOPS])
    text = ladder_text(ladder)
    assert "| small | 42 |" in text
    assert "over 2 seeds" in text


def test_a_ladder_is_stored_for_the_page_and_resumed(tmp_path: Path) -> None:
    messages: list[str] = []
    store = BenchStore(tmp_path / "j")
    ladder = measure_ladder(SETTINGS, [0], store, {}, ignore)
    save_ladder(ladder_path(tmp_path), ladder)
    assert load_ladder(ladder_path(tmp_path)) == ladder
    assert measure_ladder(SETTINGS, [0], store, {}, messages.append) == ladder
    assert messages == []
    assert "one seed" in ladder_text(ladder)


def put_results(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """Put results by a formula in place of runs."""
    monkeypatch.setattr(BenchStore, "results", lambda _, configs, *rest: list(map(result, configs)))
    monkeypatch.setattr(ladder_module, "train_to_end", lambda config: None)


def scripted(quality: str, joules: float | None, contended: bool = False) -> Any:
    def run(config: RunConfig) -> BenchRun:
        half = config.selection != "dense"
        energy = replace(
            snapshot().energy,
            quality=EnergyQuality(quality),
            joules=joules and joules / (2 if half else 1),
            contended=contended and not half,
        )
        end = replace(END, flops_spent=1.0, seconds=20.0 if half else 1.0)
        return BenchRun(0.9, 0.9, "", end, energy, "")

    return run


@pytest.mark.parametrize(
    ("quality", "joules", "known"),
    [("measured", 100.0, True), ("estimated", None, False), ("measured", None, False)],
)
def test_joules_are_saved_only_where_all_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quality: str, joules: float, known: bool
) -> None:
    put_results(monkeypatch, scripted(quality, joules))
    ladder = measure_ladder(SETTINGS, [0], BenchStore(tmp_path / "j"), {}, ignore)
    assert (SavingBasis.JOULES in ladder.bases()) == known
    assert ladder.quality == (EnergyQuality.MEASURED if known else None)
    assert ladder.steps[0].savings.get(SavingBasis.JOULES) == ((0.5,) if known else None)
    assert ladder.steps[0].savings[SavingBasis.SECONDS] == (-10.0,), "cut where no saving is left"


def test_joules_shared_with_other_processes_are_not_in_a_ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_results(monkeypatch, scripted("measured", 100.0, contended=True))
    ladder = measure_ladder(SETTINGS, [0], BenchStore(tmp_path / "j"), {}, ignore)
    assert (ladder.quality, SavingBasis.JOULES in ladder.bases()) == (None, False)


def test_a_failed_run_and_a_setting_that_is_not_allowed_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="selection"):
        measure_ladder(
            {**SETTINGS, "selection": "randum"}, [0], BenchStore(tmp_path / "j"), {}, ignore
        )
    broken = BenchRun(None, None, None, END, snapshot().energy, "loss is nan")
    put_results(monkeypatch, lambda config: broken)
    with pytest.raises(ArithmeticError, match="random of size small, seed 0, failed: loss is nan"):
        measure_ladder(SETTINGS, [0], BenchStore(tmp_path / "j"), {}, ignore)


def test_the_order_alternates_after_a_warm_up_of_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    warm: list[tuple[str, int]] = []

    def counted(config: RunConfig) -> dict[str, Any]:
        trained.append(config.selection)
        spent = 1.0 if config.selection == "dense" else 0.25 * (1 + config.seed)
        metric = 0.8 if config.selection == "dense" else 0.7
        return {"metric": metric, "flops": spent, "seconds": spent}

    scripted_training(monkeypatch, counted)
    monkeypatch.setattr(
        ladder_module, "train_to_end", lambda c: warm.append((c.selection, c.epochs))
    )
    ladder = measure_ladder(SETTINGS, [0, 1], BenchStore(tmp_path / "j"), {}, ignore)
    assert trained == ["random", "dense", "dense", "random"] * 3
    assert warm == [("random", 1), ("dense", 1)]
    for step in ladder.steps:
        assert step.savings[SavingBasis.FLOPS] == (0.75, 0.5)
        assert (step.metrics, step.dense_metrics) == ((0.7, 0.7), (0.8, 0.8))
    measure_ladder(SETTINGS, [0, 1], BenchStore(tmp_path / "j"), {}, ignore)
    assert len(warm) == 2, "nothing is timed, so nothing is warmed up"


def test_parameters_are_counted_without_drawing_numbers() -> None:

    torch.manual_seed(3)
    assert parameter_count("digits", "mlp", "small") < parameter_count("digits", "mlp", "large")
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_the_command_stores_a_ladder_for_the_page() -> None:
    words = ["bench", "ladder", "--task", "tiny", "--policy", "random", "--quick"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    kept = load_ladder(ladder_path(default_home()))
    assert kept is not None
    assert [step.name for step in kept.steps] == ["small", "medium", "large"]
    assert "| small |" in result.stdout
    refused = CliRunner().invoke(main, [*words, "--policy", "rndom"])
    assert refused.exit_code == 2
    assert "random" in refused.stderr
