"""The benches' commands: options, errors in one line before anything trains, help and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from effcore.__main__ import main
from effcore.bench.bench_store import Journal
from effcore.bench.command_line import BenchGroup, bench, print_result, with_eta
from effcore.runs.descriptions import time_left_text
from effcore.testing.tiny_task import tiny_task
from tests.bench_runs import scripted_training


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["bench", *words])


def test_json_has_null_for_numbers_that_are_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Part:
        value: float

    rows = [{"metric": math.nan, "parts": (Part(math.inf), Part(0.5)), "seeds": [1]}]
    print_result({"rows": rows}, True, "")
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    parts = [{"value": None}, {"value": 0.5}]
    assert printed["rows"] == [{"metric": None, "parts": parts, "seeds": [1]}]
    assert printed["circumstances"]["cores"] > 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("overhead --task nosuch --quick", "unknown task"),
        ("overhead --task nosuch --policies --quick", "unknown task"),
        ("sampler --task nosuch", "unknown task"),
        ("realised --task nosuch --quick", "unknown task"),
        ("realised --task tiny --quick --policies nosuch", "unknown selection policy"),
        ("matched --task nosuch --quick", "unknown task"),
        ("ladder --task nosuch --quick", "unknown task"),
        ("search --task tiny --size huge", "unknown size"),
        ("viewers --counts a", "expected whole numbers from 1 on"),
        ("viewers --counts 0", "expected whole numbers from 1 on"),
        ("viewers --blocks 0", "is not in the range"),
        ("page --starts 0", "is not in the range"),
        ("length --task tiny --epochs a,b", "expected whole numbers from 1 on"),
        ("claim --part families --quick --models tiny/mlp --device cuda:77", "is not available"),
    ],
)
def test_values_that_are_not_allowed_are_reported_in_a_line(line: str, words: str) -> None:
    result = call(*line.split())
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("command", ["overhead", "viewers", "page", "sampler"])
def test_a_block_must_last_some_time(command: str) -> None:
    for seconds in ("0", "-1", "nan", "inf", "x"):
        result = call(command, "--seconds", seconds)
        assert result.exit_code == 2
        assert "--seconds" in result.stderr


@pytest.mark.parametrize("line", ["matched --quick", "length --quick", "search", "ladder --quick"])
def test_a_journal_that_cannot_be_kept_is_refused_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    scripted_training(monkeypatch, lambda config: pytest.fail("it trained"))
    monkeypatch.setattr("effcore.bench.scale_ladder.train_to_end", lambda config: None)
    (tmp_path / "file").write_text("")
    command, *rest = line.split()
    result = call(command, "--task", "tiny", *rest, "--journal", str(tmp_path / "file" / "j"))
    assert result.exit_code == 2, result.output
    assert "cannot be written" in result.stderr
    assert "name another folder with --journal" in result.stderr


def test_a_run_that_breaks_ends_a_bench_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"metric": None, "validation": None, "reason": "the loss is no number"}
    scripted_training(monkeypatch, lambda config: broken)
    for command in ("matched", "length"):
        result = call(command, "--task", "tiny", "--quick")
        assert result.exit_code == 1
        assert "failed: the loss is no number" in result.stderr
        assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("no such thing"), 2, "no such thing"),
        (ArithmeticError("it broke"), 1, "it broke"),
        (RuntimeError("no browser"), 1, "no browser"),
        (OSError(28, "No space left on device", "j"), 1, "'j': No space left on device"),
        (click.ClickException("as it is"), 1, "as it is"),
        (click.exceptions.Exit(7), 7, ""),
    ],
)
def test_errors_of_every_command_are_reported_alike(
    error: Exception, code: int, message: str
) -> None:
    group = BenchGroup("group")

    @group.command()
    def broken() -> None:
        raise error

    result = CliRunner().invoke(group, ["broken"])
    assert result.exit_code == code
    assert message in result.stderr


def test_given_options_outweigh_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measured(settings: Any, budget: float, seeds: range, *_: Any) -> Any:
        seen.append((settings["size"], settings["epochs"], len(seeds), settings["device"]))
        raise ArithmeticError("seen")

    monkeypatch.setattr("effcore.bench.matched_comparison.compare_matched", measured)
    call("matched", "--task", "tiny", "--quick")
    call("matched", "--task", "tiny", "--quick", "--size", "large", "--epochs", "9", "--seeds", "3")
    call("matched", "--task", "tiny", "--device", "cuda")
    assert seen == [("small", 4, 2, "cpu"), ("large", 9, 3, "cpu"), (None, None, 6, "cuda")]


def test_help_says_which_benches_are_resumable() -> None:
    names = bench.list_commands(click.Context(bench))
    assert len(names) > 10
    for name in names:
        command = bench.commands[name]
        text = command.help or ""
        has_journal = any(param.name == "journal" for param in command.params)
        assert ("esumable" in text) is (has_journal or "ot resumable" in text), name
        assert has_journal or "ot resumable" in text or name in ("power", "page"), name


def test_creating_a_journal_twice_keeps_its_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "folder" / "j")
    assert not (tmp_path / "folder").exists()
    journal.create_file()
    journal.append("a", {"x": 1})
    journal.create_file()
    assert Journal(tmp_path / "folder" / "j").get("a") == {"x": 1}


def test_each_message_has_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 100.0, 200.0, 300.0])
    monkeypatch.setattr("effcore.bench.command_line.time.monotonic", lambda: next(now))
    messages: list[str] = []
    say = with_eta(messages.append, 3)
    for part in "abc":
        say(part)
    assert messages == ["a, about 3 min left", "b, about 2 min left", "c, about 0 s left"]
    assert time_left_text(89.0) == ", about 89 s left"
    assert time_left_text(None) == ""
