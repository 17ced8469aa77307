from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pynvml
import pytest

from effcore.energy import nvml as module
from effcore.energy.base import EnergyUnavailable
from effcore.energy.meter import RunMeter
from effcore.energy.nvml import NvmlSource
from effcore.events import Energy, Quality
from tests.energy.fake_nvml import OTHER_UUID, UUID, FakeNvml, install

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
FIELDS = "nvmlDeviceGetFieldValues"
USAGE = "nvmlDeviceGetPowerUsage"


def constant(t: float) -> float:
    return 200.0


def square(t: float) -> float:
    """100 ms of 600 W, then 300 ms of 80 W: 210 W on average."""
    return 600.0 if round(t * 1000) % 400 < 100 else 80.0


@pytest.fixture
def fake() -> Iterator[FakeNvml]:
    nvml = FakeNvml(constant)
    with install(nvml):
        yield nvml


@contextmanager
def metered(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunMeter]:
    """Run a meter on the fake, in the fake's own time; the thread practically never wakes."""
    monkeypatch.setattr(time, "monotonic", lambda: nvml.t)
    monkeypatch.setattr(NvmlSource, "hz", 1e-6)
    meter = RunMeter(NvmlSource.open("cuda"), lambda: nvml.t)
    meter.start()
    yield meter
    meter.stop()


def run(nvml: FakeNvml, meter: RunMeter, seconds: float) -> Energy:
    for tick in range(1, round(seconds * 10) + 1):
        nvml.t = tick / 10
        meter.sample()
    return meter.stop()


@pytest.mark.parametrize(("watts", "mean_w"), [(constant, 200.0), (square, 210.0)])
def test_joules_are_the_counters_whatever_the_power_samples_show(
    watts: Callable[[float], float],
    mean_w: float,
    fake: FakeNvml,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake.watts = watts
    with metered(fake, monkeypatch) as meter:
        energy = run(fake, meter, 8.0)
    assert energy.joules == pytest.approx(mean_w * 8.0, abs=0.1)
    assert energy.lo == pytest.approx(mean_w * 8.0 * 0.95, abs=0.1)
    assert energy.hi == pytest.approx(mean_w * 8.0 * 1.05, abs=0.1)
    assert energy.quality is Quality.MEASURED
    assert str(energy).startswith(f"{mean_w * 8.0:,.1f} J MEASURED · GPU board NVIDIA Fake")


def test_the_counter_is_no_finer_than_its_refresh(fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    fake.t = 0.199
    early = source.read().energy_j
    fake.t = 0.2
    assert source.read().energy_j - early == pytest.approx(20.0)
    source.close()


@pytest.mark.parametrize(
    ("refused", "watts"),
    [
        ((), 200.0),
        ((pynvml.NVML_FI_DEV_POWER_AVERAGE,), 200.0),
        ((pynvml.NVML_FI_DEV_POWER_INSTANT,), 200.0),
        (module.POWER_FIELDS, 201.0),  # the old call answers 1 W more in the fake
    ],
)
def test_each_power_field_is_checked(
    refused: tuple[int, ...], watts: float, fake: FakeNvml
) -> None:
    fake.field_codes = dict.fromkeys(refused, pynvml.NVML_ERROR_NOT_SUPPORTED)
    source = NvmlSource.open("cuda")
    assert source.read().power_w == watts
    source.close()


def test_powers_are_asked_for_in_one_call(fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    fake.calls.clear()
    source.read()
    assert fake.calls == [COUNTER, FIELDS]
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


def test_the_board_is_found_by_uuid_and_not_by_order(fake: FakeNvml) -> None:
    assert module.board_uuid("cuda:0") == f"GPU-{UUID}"
    source = NvmlSource.open("cuda:0")  # the fake asserts that the second board is read
    source.close()
    fake.handles = {f"GPU-{OTHER_UUID}": 0x1000}
    with pytest.raises(EnergyUnavailable, match="does not know the GPU"):
        NvmlSource.open("cuda")


def test_a_run_on_the_cpu_leaves_nvml_alone(fake: FakeNvml) -> None:
    with pytest.raises(EnergyUnavailable, match="does not see"):
        NvmlSource.open("cpu")
    assert fake.calls == []


def test_a_device_that_torch_lacks_is_refused(fake: FakeNvml) -> None:
    with pytest.raises(EnergyUnavailable, match="cuda:5"):
        NvmlSource.open("cuda:5")


def test_no_library() -> None:
    with install(None), pytest.raises(EnergyUnavailable) as refusal:
        NvmlSource.open("cuda")
    assert "library is not on this machine" in refusal.value.reason
    assert "driver" in refusal.value.remedy


@pytest.mark.parametrize("code", [*module.PROBLEMS, 999])
@pytest.mark.parametrize("call", ["nvmlInitWithFlags", COUNTER])
def test_every_refusal_has_a_reason_and_a_remedy(call: str, code: int, fake: FakeNvml) -> None:
    fake.codes = {call: code}
    with pytest.raises(EnergyUnavailable) as refusal:
        NvmlSource.open("cuda")
    expected = module.PROBLEMS.get(code, ("NVML answered: Unknown Error", "nvidia-smi"))
    assert refusal.value.reason == expected[0]
    assert expected[1] in refusal.value.remedy
    assert fake.users == 0


def test_a_gpu_in_slices_is_refused(fake: FakeNvml) -> None:
    fake.mig = pynvml.NVML_DEVICE_MIG_ENABLE
    with pytest.raises(EnergyUnavailable, match="MIG") as refusal:
        NvmlSource.open("cuda")
    assert "MIG off" in refusal.value.remedy
    assert fake.users == 0


def test_closing_leaves_other_users_be(fake: FakeNvml) -> None:
    one, two = NvmlSource.open("cuda"), NvmlSource.open("cuda")
    one.close()
    assert fake.users == 1
    assert two.read().energy_j == 7000.0
    two.close()
    assert fake.users == 0


def test_closing_never_raises(fake: FakeNvml) -> None:
    source = NvmlSource.open("cuda")
    fake.codes = {"nvmlShutdown": pynvml.NVML_ERROR_UNINITIALIZED}
    source.close()


def test_a_passing_error_costs_nothing(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with metered(fake, monkeypatch) as meter:
        fake.codes = {COUNTER: pynvml.NVML_ERROR_TIMEOUT}
        meter.sample()
        meter.sample()
        fake.codes = {}
        energy = run(fake, meter, 6.0)
    assert energy.joules == pytest.approx(1200.0)
    assert any(note.startswith("2 of ") for note in energy.notes)


def test_a_lost_gpu_ends_the_metering_and_not_the_run(
    fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metered(fake, monkeypatch) as meter:
        fake.t = 6.0
        meter.sample()
        fake.codes = dict.fromkeys((COUNTER, FIELDS), pynvml.NVML_ERROR_GPU_IS_LOST)
        energy = run(fake, meter, 10.0)
    assert energy.quality is Quality.UNAVAILABLE
    assert (energy.joules, energy.lo, energy.hi) == (None, None, None)
    assert "3 readings in a row failed: the GPU has dropped off the bus" in energy.notes[0]
    assert fake.calls.count(COUNTER) == 1 + 2 + 3  # opening, two good readings, three bad
    assert fake.users == 0


def test_a_driver_reload_voids_the_window(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with metered(fake, monkeypatch) as meter:
        fake.t = 6.0
        meter.sample()
        fake.base_mj = -1_000_000  # the counter starts anew, and the load goes on
        energy = run(fake, meter, 10.0)
    assert energy.quality is Quality.UNAVAILABLE
    assert energy.joules is None
    assert "the counter fell" in energy.notes[0]
    rows = meter.table.view()
    assert math.isnan(rows[4, -1])
    assert rows[1, -1] == 200.0  # power is still worth drawing
