"""That the probes find what is there, over the fake library."""

from __future__ import annotations

import time

import pytest

from effcore.energy.sources.nvml import NvmlSource
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.nvml_runs import bursty
from tests.gpu.probes import watched


@pytest.mark.parametrize("refresh_s", [0.02, 0.1])
def test_the_refresh_of_what_is_shown_is_found(
    refresh_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeNvml(bursty(4.0), refresh_s, phase_s=0.0137)
    monkeypatch.setattr(time, "monotonic", lambda: fake.t)

    def wait(seconds: float) -> None:
        fake.t += seconds

    with install(fake):
        source = NvmlSource.open("cuda")
        found = watched(source, 2.0, 500.0, wait)
        source.close()
    assert len(found.t) == pytest.approx(1000, abs=2)
    for name in ("counter", "average", "instant"):
        assert found.refresh_s(name) == pytest.approx(refresh_s, abs=0.003)
