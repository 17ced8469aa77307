from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pynvml
import pytest
import torch

from effcore.energy.sources import nvml as module
from effcore.energy.sources.base import EnergyUnavailable
from effcore.energy.sources.nvml import (
    REASONS_AND_REMEDIES,
    THROTTLE_REASONS,
    NvmlSource,
    board_uuid,
)
from tests.energy.fake_nvml import (
    OTHER_BOARD_J,
    OTHER_UUID,
    SLICE_UUID,
    UUID,
    FakeNvml,
    install,
)
from tests.energy.nvml_runs import COUNTER, EVERY_CODE, FIELDS, USAGE, constant

# Readings ------------------------------------------------------------------------------


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
def test_each_power_field_is_checked(
    refused: tuple[int, ...], watts: float, fake: FakeNvml
) -> None:
    for code in EVERY_CODE:
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


@pytest.mark.parametrize("call", OPENING)
def test_every_refusal_has_a_reason_and_a_remedy(call: str, fake: FakeNvml) -> None:
    for code in EVERY_CODE:
        fake.codes = {call: code}
        before_slices = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
        if call == "nvmlDeviceGetMigMode" and code in before_slices:
            NvmlSource.open("cuda").close()
            continue
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


def test_closing_never_raises(fake: FakeNvml) -> None:
    for code in EVERY_CODE:
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


# The board that torch uses -------------------------------------------------------------


FAST, SLOW = f"GPU-{UUID}", f"GPU-{OTHER_UUID}"
#: What CUDA calls the boards, fastest first: the other way round than NVML.
FORMS = [
    (None, [FAST, SLOW]),
    ("0", [FAST]),
    ("1", [SLOW]),
    ("0,1", [FAST, SLOW]),
    ("1,0", [SLOW, FAST]),
    (" 1 , 0 ", [SLOW, FAST]),
    ("1,-1,0", [SLOW]),
    ("1,7,0", [SLOW]),
    (FAST, [FAST]),
    (SLOW, [SLOW]),
    (f"{SLOW},{FAST}", [SLOW, FAST]),
    (SLOW[:-1], []),  # both boards begin like this
    (f"{FAST[:-1]}a", [FAST]),
    (f"1,{FAST}", [SLOW, FAST]),
    ("GPU-no,0", []),
    ("", []),
    ("-1", []),
    ("0,0", []),
    ("NoDevFiles", []),
]


@pytest.mark.parametrize(("form", "boards"), FORMS)
def test_the_board_is_the_one_that_torch_uses(
    form: str | None, boards: list[str], fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", form)
    for index, uuid in enumerate(boards):
        for device in [f"cuda:{index}", *(["cuda"] if index == 0 else [])]:
            source = NvmlSource.open(device)
            assert source.device_uuid == uuid
            assert source.read().energy_j == (7000.0 if uuid == FAST else OTHER_BOARD_J)
            source.close()
    with pytest.raises(EnergyUnavailable, match=f"cuda:{len(boards)}") as refusal:
        NvmlSource.open(f"cuda:{len(boards)}")
    assert (f"CUDA_VISIBLE_DEVICES={form!r}" in str(refusal.value)) is (form is not None)
    assert fake.users == 0


def test_a_board_that_nvml_lacks_is_refused(fake: FakeNvml) -> None:
    fake.handles = {SLOW: 0x1000}
    with pytest.raises(EnergyUnavailable, match="does not know the GPU"):
        NvmlSource.open("cuda")
    assert fake.users == 0


def test_a_run_on_the_cpu_leaves_nvml_alone(fake: FakeNvml) -> None:
    with pytest.raises(EnergyUnavailable, match="does not cover"):
        NvmlSource.open("cpu")
    assert fake.calls == []


@pytest.mark.parametrize(
    "form", [f"MIG-{SLICE_UUID}", f"MIG-{FAST}/1/0", f"MIG-{SLICE_UUID},0", "MIG-77c0"]
)
def test_a_slice_by_name_is_refused(
    form: str, fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", form)
    with pytest.raises(EnergyUnavailable, match="MIG") as refusal:
        NvmlSource.open("cuda")
    assert form in refusal.value.reason
    assert "whole board" in refusal.value.reason
    assert "MIG off" in refusal.value.remedy
    assert fake.calls == []


def test_a_board_in_slices_is_refused(fake: FakeNvml) -> None:
    fake.mig = pynvml.NVML_DEVICE_MIG_ENABLE
    with pytest.raises(EnergyUnavailable, match="MIG") as refusal:
        NvmlSource.open("cuda")
    assert "MIG off" in refusal.value.remedy
    assert fake.users == 0


@pytest.mark.parametrize("prefix", ["", "MIG-"])
def test_a_slice_that_cuda_calls_by_its_own_name_is_refused(prefix: str) -> None:
    """Without the variable, CUDA takes the first slice of a board, and may tell its UUID."""
    fake = FakeNvml(constant)
    fake.mig = pynvml.NVML_DEVICE_MIG_ENABLE
    fake.handles[f"MIG-{SLICE_UUID}"] = 0x3000
    with install(fake) as cuda:
        cuda.uuids = (f"{prefix}{SLICE_UUID}",)
        with pytest.raises(EnergyUnavailable, match="MIG"):
            NvmlSource.open("cuda")
    assert fake.users == 0


def test_an_uuid_with_its_prefix_is_taken_as_it_is(fake: FakeNvml) -> None:
    with install(fake) as cuda:
        cuda.uuids = (FAST,)
        assert board_uuid("cuda:0") == FAST


def test_of_what_torch_answers_only_the_first_sentence_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Advice and addresses, as a CUDA build gives them where there is no driver, are left out."""

    def refused(device: object) -> None:
        raise RuntimeError(
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU "
            "and installed a driver from http://www.nvidia.com/Download/index.aspx"
        )

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_properties", refused)
        with pytest.raises(EnergyUnavailable) as refusal:
            board_uuid("cuda:0")
    assert refusal.value.reason.endswith("(Found no NVIDIA driver on your system)")


# State of the board --------------------------------------------------------------------


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
def source(fake: FakeNvml) -> Iterator[NvmlSource]:
    source = NvmlSource.open("cuda")
    yield source
    source.close()


def test_the_state_has_what_the_board_says(source: NvmlSource) -> None:
    state = source.state()
    assert state is not None
    assert state[:5] == (61.0, 1755.0, 700.0, (), 0.87)
    assert not state.throttled


@pytest.mark.parametrize("call", CALLS)
def test_what_fails_is_unknown_and_the_rest_is_not(
    call: str, fake: FakeNvml, source: NvmlSource
) -> None:
    for code in EVERY_CODE:
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
