"""The NVML source by itself: what it asks for, what it refuses, how it lets go."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pynvml
import pytest

from effcore.energy.sources import nvml as module
from effcore.energy.sources.base import EnergyUnavailable
from effcore.energy.sources.nvml import REASONS_AND_REMEDIES, NvmlSource
from tests.energy.fake_nvml import UUID, FakeNvml, install
from tests.energy.nvml_runs import COUNTER, EVERY_CODE, FIELDS, USAGE, constant

AVERAGE, INSTANT = module.POWER_FIELDS
OPENING = ("nvmlInitWithFlags", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMigMode", COUNTER)


@pytest.fixture
def fake() -> Iterator[FakeNvml]:
    nvml = FakeNvml(constant)
    with install(nvml):
        yield nvml


def test_a_reading_keeps_average_and_instant_power_apart(fake: FakeNvml) -> None:
    fake.watts = lambda t: 100.0 if t < 5 else 300.0
    fake.t = 5.4
    source = NvmlSource.open("cuda")
    reading = source.read()
    assert reading.power_instant_w == 300.0
    assert reading.power_average_w == pytest.approx(0.6 * 100 + 0.4 * 300)
    assert reading.power_w == reading.power_average_w
    assert math.isnan(source.read_counter().power_w)
    source.close()


def test_the_counter_is_no_finer_than_its_refresh(fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    fake.t = 0.199
    early = source.read().energy_j
    fake.t = 0.2
    assert source.read_counter().energy_j - early == pytest.approx(20.0)
    source.close()


@pytest.mark.parametrize(
    ("refused", "watts"),
    [((), 200.0), ((AVERAGE,), 200.0), ((INSTANT,), 200.0),
     ((AVERAGE, INSTANT), 201.0)],  # the old call answers 1 W more in the fake
)  # fmt: skip
@pytest.mark.parametrize("code", EVERY_CODE)
def test_each_power_field_is_checked(
    refused: tuple[int, ...], watts: float, code: int, fake: FakeNvml
) -> None:
    fake.field_codes = dict.fromkeys(refused, code)
    source = NvmlSource.open("cuda")
    reading = source.read()
    assert reading.power_w == watts
    assert math.isnan(reading.power_average_w) is (AVERAGE in refused)
    assert math.isnan(reading.power_instant_w) is (INSTANT in refused)
    source.close()


def test_a_look_and_a_reading_cost_one_and_two_calls(fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    fake.calls.clear()
    source.read()
    assert fake.calls == [COUNTER, FIELDS]
    fake.calls.clear()
    source.read_counter()
    assert fake.calls == [COUNTER]
    source.close()


def test_an_old_driver_without_fields_still_gives_power(fake: FakeNvml) -> None:
    fake.absent = {FIELDS, "nvmlDeviceGetMigMode"}
    source = NvmlSource.open("cuda")
    assert source.read().power_w == 201.0
    source.close()


def test_energy_is_worth_having_without_power(fake: FakeNvml) -> None:
    fake.codes = {FIELDS: pynvml.NVML_ERROR_NOT_SUPPORTED, USAGE: pynvml.NVML_ERROR_NOT_SUPPORTED}
    source = NvmlSource.open("cuda")
    reading = source.read()
    assert math.isnan(reading.power_w)
    assert reading.energy_j == 7000.0
    source.close()


def test_no_library() -> None:
    with install(None), pytest.raises(EnergyUnavailable) as refusal:
        NvmlSource.open("cuda")
    assert "library is not on this machine" in refusal.value.reason
    assert "driver" in refusal.value.remedy


@pytest.mark.parametrize("code", EVERY_CODE)
@pytest.mark.parametrize("call", OPENING)
def test_every_refusal_has_a_reason_and_a_remedy(call: str, code: int, fake: FakeNvml) -> None:
    fake.codes = {call: code}
    before_slices = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
    if call == "nvmlDeviceGetMigMode" and code in before_slices:
        NvmlSource.open("cuda").close()
        return
    with pytest.raises(EnergyUnavailable) as refusal:
        NvmlSource.open("cuda")
    expected = REASONS_AND_REMEDIES.get(code)
    if expected is None:
        assert refusal.value.reason.startswith("NVML answered: ")
        assert "nvidia-smi" in refusal.value.remedy
    else:
        assert (refusal.value.reason, refusal.value.remedy) == expected
    assert fake.users == 0


def test_the_board_that_was_read_is_named(fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    assert source.device_uuid == f"GPU-{UUID}"
    assert source.scope == "GPU board NVIDIA Fake"
    source.close()
    fake.codes = {"nvmlDeviceGetName": pynvml.NVML_ERROR_UNKNOWN}
    source = NvmlSource.open("cuda")
    assert source.scope == "GPU board of unknown name"
    source.close()


def test_closing_leaves_other_users_be(fake: FakeNvml) -> None:
    one, two = NvmlSource.open("cuda"), NvmlSource.open("cuda")
    one.close()
    assert fake.users == 1
    assert two.read().energy_j == 7000.0
    two.close()
    assert fake.users == 0


@pytest.mark.parametrize("code", EVERY_CODE)
def test_closing_never_raises(code: int, fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    fake.codes = {"nvmlShutdown": code}
    source.close()


def test_a_forked_process_refuses_and_leaves_the_library_alone(
    fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = NvmlSource.open("cuda")
    fake.calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        for ask in (source.read, source.read_counter):
            with pytest.raises(EnergyUnavailable, match="does not work after a fork"):
                ask()
        assert (source.state(), source.shared_use()) == (None, None)
        source.close()
        assert fake.calls == []
        child = NvmlSource.open("cuda")  # one of its own works
        assert child.read().energy_j == 7000.0
        child.close()
    assert source.read().energy_j == 7000.0
    source.close()
