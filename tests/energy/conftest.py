"""What several tests of energy begin with."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.energy.bench import Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A meter that runs, in a time that the test passes."""
    bench = Bench()
    monkeypatch.setattr(time, "monotonic", lambda: bench.time.t)
    bench.meter.start()
    yield bench
    bench.meter.stop()
