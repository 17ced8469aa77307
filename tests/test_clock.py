from __future__ import annotations

from types import SimpleNamespace

import pytest

from effcore import clock as clock_module
from effcore.clock import RunClock


def test_the_clock_stands_still_while_held(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = RunClock()
    now[0] = 103.0
    assert clock() == 3
    clock.hold()
    now[0] = 110.0
    clock.hold()  # a second time changes nothing
    assert clock() == 3
    clock.go_on()
    assert clock() == 3
    now[0] = 111.0
    clock.go_on()
    assert clock() == 4
