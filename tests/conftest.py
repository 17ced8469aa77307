"""What holds for every test: its own store, fixed seeds, and no thread left behind."""

from __future__ import annotations

import gc
import itertools
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

# Tests must give the same answer every time; a slow machine is no failure.
settings.register_profile("effcore", deadline=None, derandomize=True, database=None)
settings.load_profile("effcore")

# While tests are collected much is imported, and nothing of it is garbage.
gc.disable()

_THREAD_NAMES = ("run-", "power-", "store-", "study-")
_JOIN_S = 10.0
_numbers = itertools.count()


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collector's sight: looking at it takes long."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which those tests find a store that ask for one."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a run, a meter, a writer or any non-daemon thread alive."""
    before = set(threading.enumerate())
    yield
    started = [thread for thread in threading.enumerate() if thread not in before]
    ours = [t for t in started if not t.daemon or t.name.startswith(_THREAD_NAMES)]
    for thread in ours:
        thread.join(_JOIN_S)  # one that is just ending is no leak
    leaked = [thread.name for thread in ours if thread.is_alive()]
    assert not leaked, f"threads outlived the test: {leaked}"


@pytest.fixture(autouse=True)
def own_store(
    homes: Path, monkeypatch: pytest.MonkeyPatch, no_leaked_threads: None
) -> Iterator[None]:
    """Give each test a store of its own and close it afterwards, with all its runs.

    The processor's rated power is stated, without which a run has no joules.
    """
    monkeypatch.setenv("EFFCORE_HOME", str(homes / f"{next(_numbers)}" / "effcore-home"))
    monkeypatch.setenv("EFFCORE_CPU_TDP_W", "65")  # so that there is an estimate of joules
    yield
    manager = sys.modules.get("effcore.runs.manager")
    if manager is not None:
        if studying := sys.modules.get("effcore.studies.study_job"):
            studying.stop_study_job()
        manager.close_shared_run_manager()


@pytest.fixture(autouse=True)
def no_meter_of_this_machine(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the counters of this machine's CPU: what a test sees must not depend on them."""
    monkeypatch.setattr("effcore.energy.sources.rapl.POWERCAP_ROOT", homes / "no-powercap")
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", None)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Fix what a test might draw from, and the threads torch may use."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate a few times a run, not thirty: that is most of what so short a run does."""
    monkeypatch.setattr("effcore.training.reporter.EVALUATIONS", 4)
