"""The tuning log: complete, on the validation split, beside dense training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench.bench_store import BenchStore
from effcore.bench.tuning import try_settings, tuning_log, tuning_log_text
from effcore.config import resolve
from effcore.records.settings import Settings
from effcore.studies import run_origin
from effcore.testing.tiny_task import tiny_task
from tests.bench_runs import scripted_training

USUAL: Settings = {"task": "tiny", "model": "mlp", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def ignore(_: str) -> None:
    """Take a progress message."""


def kept(store: BenchStore, validation: float | None, **settings: Any) -> None:
    """Put a run's result into a store."""
    config = resolve({**USUAL, "budget": 0.6, "selection": "dense", **settings})
    broke = {"metric": None, "reason": "the loss is no longer a number"}
    with pytest.MonkeyPatch.context() as patch:
        result = {"validation": validation, "metric": 0.99, **(broke if validation is None else {})}
        scripted_training(patch, lambda config: result)
        store.train([config], 1, ignore)


def test_a_store_says_which_run_it_holds(tmp_path: Path) -> None:
    store = BenchStore(tmp_path / "j")
    own: dict[str, Any] = {"mass": 0.5, "seed": 3, "selection": "confident-skip"}
    own |= {"learning_rate": 0.1 + 0.2}
    kept(store, 0.9, **own)
    (run,) = store.kept_runs()
    assert run.snapshot.config == resolve({**USUAL, "budget": 0.6, **own})


def test_all_settings_are_ranked_against_the_best_dense_setting(tmp_path: Path) -> None:
    store = BenchStore(tmp_path / "j")
    for seed in (0, 1):
        kept(store, 0.80 + 0.01 * seed, seed=seed)
        kept(store, 0.85 + 0.01 * seed, seed=seed, learning_rate=0.02)
        kept(store, 0.90 + 0.01 * seed, seed=seed, selection="random", skip_fraction=0.2)
    kept(store, None, seed=0, selection="auto")
    rows = tuning_log(store)
    assert [row.what for row in rows] == [
        "random, skip_fraction 0.2",
        "dense, learning_rate 0.02",
        "dense",
        "auto",
    ]
    assert [row.against for row in rows[:3]] == pytest.approx([0.05, 0.0, -0.05])
    assert rows[0].seeds == (0, 1)
    assert rows[-1].validation is None
    assert "no longer a number" in tuning_log_text(rows)


def test_one_lucky_seed_does_not_stand_for_a_dense_setting(tmp_path: Path) -> None:
    store = BenchStore(tmp_path / "j")
    kept(store, 0.95, seed=0, learning_rate=0.02)  # never tried on the second
    for seed, value in enumerate((0.80, 0.90)):
        kept(store, value, seed=seed)
        kept(store, value + 0.02, seed=seed, selection="random", skip_fraction=0.2)
    kept(store, 0.85, seed=0, selection="random", skip_fraction=0.8)
    against = {row.what: row.against for row in tuning_log(store)}
    assert against == pytest.approx({
        "dense, learning_rate 0.02": 0.0,
        "dense": 0.0,
        "random, skip_fraction 0.2": 0.02,  # on both seeds, as the plain dense
        "random, skip_fraction 0.8": -0.10,  # on its only one, of which the best is known
    })  # fmt: skip


def test_runs_of_another_processor_are_not_comparable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BenchStore(tmp_path / "j")
    kept(store, 0.8)
    monkeypatch.setattr(run_origin, "processor_fingerprint", lambda device: f"other-{device}")
    kept(store, 0.9, selection="random")
    rows = tuning_log(store)
    assert [(row.what, row.against) for row in rows] == [("dense", 0.0), ("random", None)]
    assert rows[0].place.code != rows[1].place.code


def test_only_comparable_runs_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BenchStore(tmp_path / "j")
    usual: Settings = {"task": "tabular", "model": "mlp", "rows": 1000}
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"epochs": 2},
        {"size": "small"},
        {"rows": 2000},
        {"label_noise": 0.1},
        {"budget": 0.5},
    )
    for place, way in enumerate(ways):
        kept(store, 0.5 + 0.1 * place, **{**usual, **way})
    monkeypatch.setattr(run_origin, "code_version", lambda: "01234567" + 8 * "0")
    kept(store, 0.1, **usual)
    rows = tuning_log(store)
    assert len(rows) == len({row.place for row in rows}) == len(ways) + 1
    assert {row.against for row in rows} == {0.0}
    assert {row.what for row in rows} == {"dense"}
    text = tuning_log_text(rows)
    assert "| `tabular`, mlp, medium, 2 epochs, rows 1000 | " in text
    assert sum("rows 1000" in line and "label_noise 0.1" in line for line in text.splitlines()) == 1
    assert "| 01234567 |" in text
    assert rows[0].to_record()["epochs"] == rows[0].place.epochs


def test_the_lowest_comes_first_where_lower_is_better(tmp_path: Path) -> None:
    store = BenchStore(tmp_path / "j")
    code = {"task": "code", "model": "convolution"}
    kept(store, 2.8, **code)
    kept(store, 2.7, **code, selection="auto")
    rows = tuning_log(store, "code")
    assert [row.what for row in rows] == ["auto", "dense"]
    assert rows[0].against == pytest.approx(0.1)


def test_seeds_of_verdicts_and_records_without_a_run_are_excluded(tmp_path: Path) -> None:
    store = BenchStore(tmp_path / "j")
    kept(store, 0.9, seed=100)
    store.timings.append("0123 realised digits 5 {}", {"ratio": 1.0})
    kept(store, 1.0, seed=0)
    assert len(tuning_log(store)) == 1
    gone = "UPDATE runs SET config = replace(config, 'tiny', 'gone')"
    store._store.execute_write(gone)
    assert tuning_log(store) == []
    with pytest.raises(ValueError, match="seed 100 is not allowed"):
        try_settings(USUAL, 0.6, [100], store, 1, ignore)


def test_the_test_split_is_never_shown(tmp_path: Path) -> None:
    store = BenchStore(tmp_path / "j")
    kept(store, 0.5)  # its metric on the test split is 0.99
    assert "0.99" not in tuning_log_text(tuning_log(store)) + json.dumps(tuning_log(store))


def test_trying_settings_adds_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = scripted_training(monkeypatch, lambda config: {"validation": 0.9, "metric": 0.9})
    place = ["--journal", str(tmp_path / "j"), "--json"]
    words = ["--task", "tiny", "--policy", "random", "--skip-fraction", "0.2", "--seeds", "2"]
    result = CliRunner().invoke(main, ["bench", "search", *words, *place])
    assert result.exit_code == 0, result.output
    assert [(run.selection, run.seed) for run in trained] == [
        ("dense", 0), ("random", 0), ("random", 1), ("dense", 1),
    ]  # fmt: skip
    assert {run.budget for run in trained} == {0.6}
    shown = CliRunner().invoke(main, ["bench", "search", *place])
    assert len(trained) == 4
    rows = json.loads(shown.stdout)["rows"]
    assert {row["what"] for row in rows} == {"dense", "random, skip_fraction 0.2"}


def test_an_empty_log_and_an_unusable_journal_are_reported(tmp_path: Path) -> None:
    empty = CliRunner().invoke(main, ["bench", "search", "--journal", str(tmp_path / "j")])
    assert "nothing was tried yet" in empty.stdout
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for bad in (tmp_path / "bytes", tmp_path / "bytes" / "j"):
        words = ["bench", "search", "--task", "tiny", "--journal", str(bad)]
        refused = CliRunner().invoke(main, words)
        assert refused.exit_code == 2
        assert "name another folder with --journal" in refused.stderr
