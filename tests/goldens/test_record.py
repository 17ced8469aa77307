"""A recorded file is replaced only where that is asked for, and the difference is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.goldens import record as module


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recorded file, in place of the real ones; recording it anew gives another number."""
    path = tmp_path / "some.json"
    path.write_text('{\n "a": 1,\n "b": 2\n}\n', encoding="utf-8")
    monkeypatch.setattr(module, "KINDS", {"runs": (path, lambda: {"a": 1, "b": 3})})
    return path


def call(*words: str) -> Result:
    return CliRunner().invoke(module.record, ["runs", *words])


def test_a_difference_is_said_and_nothing_replaced(file: Path) -> None:
    before = file.read_text(encoding="utf-8")
    result = call()
    assert result.exit_code == 1
    assert '- "b": 2\n+ "b": 3' in result.stdout
    assert "some.json stays as it is: add --write to replace it" in result.stderr
    assert file.read_text(encoding="utf-8") == before


def test_it_is_replaced_where_that_is_asked_for_and_the_difference_said(file: Path) -> None:
    result = call("--write")
    assert result.exit_code == 0
    assert '- "b": 2\n+ "b": 3' in result.stdout
    assert file.read_text(encoding="utf-8") == '{\n "a": 1,\n "b": 3\n}\n'
    again = call()
    assert (again.exit_code, again.stdout) == (0, "some.json: no difference\n")
