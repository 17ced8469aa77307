from __future__ import annotations

import math
from collections.abc import Iterator

import pynvml
import pytest

from effcore.energy.sources.nvml import THROTTLE_REASONS, NvmlSource
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.nvml_runs import EVERY_CODE, constant

CALLS = {
    "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetClockInfo": "sm_clock_mhz",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_w",
    "nvmlDeviceGetUtilizationRates": "utilisation_frac",
}
NEW_TEMPERATURE = "nvmlDeviceGetTemperatureV"
REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
OLD_REASONS = "nvmlDeviceGetCurrentClocksThrottleReasons"


@pytest.fixture
def fake() -> Iterator[FakeNvml]:
    nvml = FakeNvml(constant)
    with install(nvml):
        yield nvml


@pytest.fixture
def source(fake: FakeNvml) -> Iterator[NvmlSource]:
    source = NvmlSource.open("cuda")
    yield source
    source.close()


def test_the_state_has_what_the_board_says(source: NvmlSource) -> None:
    state = source.state()
    assert state is not None
    assert state[:5] == (61.0, 1755.0, 700.0, (), 0.87)
    assert not state.throttled


@pytest.mark.parametrize("code", EVERY_CODE)
@pytest.mark.parametrize("call", CALLS)
def test_what_fails_is_unknown_and_the_rest_is_not(
    call: str, code: int, fake: FakeNvml, source: NvmlSource
) -> None:
    fake.codes = {call: code, NEW_TEMPERATURE: code}
    state = source.state()
    assert state is not None
    known = {name: math.isfinite(getattr(state, name)) for name in CALLS.values()}
    assert known == {name: name != CALLS[call] for name in CALLS.values()}


def test_drivers_that_only_have_the_new_temperature_call_are_understood(
    fake: FakeNvml, source: NvmlSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.codes = {"nvmlDeviceGetTemperature": pynvml.NVML_ERROR_DEPRECATED}
    state = source.state()
    assert state is not None
    assert state.temperature_c == 62.0
    monkeypatch.delattr(pynvml, NEW_TEMPERATURE)  # as before version 12.570 of the wrapper
    state = source.state()
    assert state is not None
    assert math.isnan(state.temperature_c)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (pynvml.nvmlClocksThrottleReasonGpuIdle, ()),
        (pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting, ()),
        (pynvml.nvmlClocksThrottleReasonSyncBoost, ()),
        (pynvml.nvmlClocksThrottleReasonSwPowerCap, ("power cap",)),
        (0b1101100, ("power cap", "hardware slowdown", "thermal limit",
                     "hardware thermal slowdown")),
        (pynvml.nvmlClocksThrottleReasonAll, tuple(THROTTLE_REASONS.values())),
    ],
)  # fmt: skip
@pytest.mark.parametrize("absent", [set(), {REASONS}])
def test_what_holds_the_clocks_down_is_said_in_words(
    bits: int, words: tuple[str, ...], absent: set[str], fake: FakeNvml, source: NvmlSource
) -> None:
    fake.absent, fake.throttle = absent, bits
    state = source.state()
    assert state is not None
    assert state.throttle_reasons == words
    assert state.throttled is bool(words)


def test_a_board_that_does_not_tell_what_holds_it_down_was_not_free(
    fake: FakeNvml, source: NvmlSource
) -> None:
    fake.absent, fake.throttle = {REASONS, OLD_REASONS}, pynvml.nvmlClocksThrottleReasonAll
    state = source.state()
    assert state is not None
    assert (state.throttle_reasons, state.throttled) == (None, False)
