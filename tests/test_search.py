"""The log of what was tried: on the validation split, against dense, with nothing left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench import runner as trial_module
from effcore.bench.journal import Journal
from effcore.bench.runner import journal_key, settings_from_key
from effcore.bench.tuning_log import try_settings, tuning_log, tuning_log_text
from effcore.config import resolve
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.testing.tiny_task import tiny_task

USUAL: Settings = {"task": "tiny", "model": "mlp", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def heard(_: str) -> None:
    """Take a progress message."""


def kept(journal: Journal, validation: float | None, **settings: Any) -> None:
    """Put a run's result into a journal."""
    config = resolve({**USUAL, "budget": 0.6, "selection": "dense", **settings})
    reason = "" if validation is not None else "the loss is no longer a number"
    journal.append(
        journal_key(config), {"validation": validation, "metric": 0.99, "reason": reason}
    )


def test_a_key_says_which_run_it_stands_for() -> None:
    config = resolve({**USUAL, "budget": 0.6, "mass": 0.5, "seed": 3, "selection": "confident-skip",
                      "learning_rate": 0.1 + 0.2})  # fmt: skip
    assert resolve(settings_from_key(journal_key(config))) == config
    with pytest.raises(ValueError, match="not the key of a run"):
        settings_from_key("0123 realised digits")


def test_everything_tried_is_ranked_against_the_best_dense(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for seed in (0, 1):
        kept(journal, 0.80 + 0.01 * seed, seed=seed)
        kept(journal, 0.85 + 0.01 * seed, seed=seed, learning_rate=0.02)
        kept(journal, 0.90 + 0.01 * seed, seed=seed, selection="random", skip_fraction=0.2)
    kept(journal, None, seed=0, selection="auto")
    rows = tuning_log(journal)
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
    journal = Journal(tmp_path / "j")
    kept(journal, 0.95, seed=0, learning_rate=0.02)  # never tried on the second
    for seed, value in enumerate((0.80, 0.90)):
        kept(journal, value, seed=seed)
        kept(journal, value + 0.02, seed=seed, selection="random", skip_fraction=0.2)
    kept(journal, 0.85, seed=0, selection="random", skip_fraction=0.8)
    told = {row.what: row.against for row in tuning_log(journal)}
    assert told == pytest.approx({
        "dense, learning_rate 0.02": 0.0,
        "dense": 0.0,
        "random, skip_fraction 0.2": 0.02,  # on both seeds, as the plain dense
        "random, skip_fraction 0.8": -0.10,  # on its only one, of which the best is known
    })  # fmt: skip


def test_another_processor_is_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j")
    kept(journal, 0.8)
    monkeypatch.setattr(trial_module, "processor_fingerprint", lambda device: f"other-{device}")
    kept(journal, 0.9, selection="random")
    rows = tuning_log(journal)
    assert [(row.what, row.against) for row in rows] == [("dense", 0.0), ("random", None)]
    assert rows[0].place.code != rows[1].place.code


def test_only_like_is_compared_with_like(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
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
        kept(journal, 0.5 + 0.1 * place, **{**usual, **way})
    old = journal_key(resolve({**USUAL, **usual, "budget": 0.6, "selection": "dense"}))
    journal.append(old.replace(old[:8], "01234567", 1), {"validation": 0.1, "reason": ""})
    rows = tuning_log(journal)
    assert len(rows) == len({row.place for row in rows}) == len(ways) + 1
    assert {row.against for row in rows} == {0.0}
    assert {row.what for row in rows} == {"dense"}
    text = tuning_log_text(rows)
    assert "| `tabular`, mlp, medium, 2 epochs, rows 1000 | " in text
    assert sum("rows 1000" in line and "label_noise 0.1" in line for line in text.splitlines()) == 1
    assert "| 01234567 |" in text
    assert rows[0].to_record()["epochs"] == rows[0].place.epochs


def test_where_less_is_better_the_least_comes_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    code = {"task": "code", "model": "convolution"}
    kept(journal, 2.8, **code)
    kept(journal, 2.7, **code, selection="auto")
    rows = tuning_log(journal, "code")
    assert [row.what for row in rows] == ["auto", "dense"]
    assert rows[0].against == pytest.approx(0.1)


def test_what_verdicts_used_and_what_is_no_run_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    kept(journal, 0.9, seed=100)
    journal.append("0123 realised digits 5 {}", {"ratio": 1.0})
    journal.append(journal_key(resolve(USUAL)).replace("tiny", "gone"), {"validation": 1.0})
    assert tuning_log(journal) == []
    with pytest.raises(ValueError, match="seed 100 is not allowed"):
        try_settings(USUAL, 0.6, [100], journal, 1, heard)


def test_the_test_split_never_shows(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    kept(journal, 0.5)  # its metric on the test split is 0.99
    assert "0.99" not in tuning_log_text(tuning_log(journal)) + json.dumps(tuning_log(journal))


def test_trying_adds_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunConfig] = []

    def trial(config: RunConfig) -> dict[str, Any]:
        asked.append(config)
        return {"validation": 0.9, "metric": 0.9, "reason": ""}

    monkeypatch.setattr(trial_module, "run_metered", trial)
    place = ["--journal", str(tmp_path / "j"), "--json"]
    words = ["--task", "tiny", "--policy", "random", "--skip-fraction", "0.2", "--seeds", "2"]
    result = CliRunner().invoke(main, ["bench", "search", *words, *place])
    assert result.exit_code == 0, result.output
    assert [(run.selection, run.seed) for run in asked] == [
        ("dense", 0), ("random", 0), ("dense", 1), ("random", 1),
    ]  # fmt: skip
    assert {run.budget for run in asked} == {0.6}
    shown = CliRunner().invoke(main, ["bench", "search", *place])
    assert len(asked) == 4
    rows = json.loads(shown.stdout)["rows"]
    assert {row["what"] for row in rows} == {"dense", "random, skip_fraction 0.2"}


def test_nothing_tried_and_a_journal_that_is_none_are_said(tmp_path: Path) -> None:
    empty = CliRunner().invoke(main, ["bench", "search", "--journal", str(tmp_path / "j")])
    assert "nothing was tried yet" in empty.stdout
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for bad in (tmp_path, tmp_path / "bytes"):
        refused = CliRunner().invoke(main, ["bench", "search", "--journal", str(bad)])
        assert refused.exit_code == 2
        assert "name another file with --journal" in refused.stderr
