"""A store, and the tiny task with replications on few seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import effcore.studies.sweep
from effcore.store import Store
from effcore.testing.tiny_task import tiny_task
from tests.studies.sweeps import AGAIN_SEEDS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def tiny_sweeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(effcore.studies.sweep, "REPLICATION_SEEDS", AGAIN_SEEDS)
    with tiny_task():
        yield
