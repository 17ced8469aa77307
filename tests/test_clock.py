from __future__ import annotations

from types import SimpleNamespace

import pytest

from effcore.records import run_clock as clock_module
from effcore.records.run_clock import RunClock


def test_the_clock_stands_still_while_held(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = RunClock()
    now[0] = 103.0
    assert clock() == 3
    clock.pause()
    now[0] = 110.0
    clock.pause()  # a second time changes nothing
    assert clock() == 3
    clock.resume()
    assert clock() == 3
    now[0] = 111.0
    clock.resume()
    assert clock() == 4
