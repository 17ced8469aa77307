"""What only a real board can show, in this order; clocks and limits are left as they are.

``python -m pytest -m gpu tests/gpu -s`` on a machine with an NVIDIA GPU that nobody else uses,
about a quarter of an hour. What is found is printed; what must hold is asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from effcore.bench.command_line import echo_progress
from effcore.bench.error_rates import MIN_PAIRS, run_aa_test
from effcore.bench.step_overhead import meter_speed_ratio
from effcore.config import resolve
from effcore.energy.meter import MeterWindow, RunMeter
from effcore.energy.phase_attribution import PhaseAttributor, PhaseSpan
from effcore.energy.sources.nvml import NvmlSource
from effcore.records import Energy, EnergyQuality
from effcore.training.ledger import UncountedOperationError, count_flops
from effcore.training.trainer import train
from tests.gpu.probes import Load, watched

DEVICE = "cuda:0"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU here"),
]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    load = Load(DEVICE)
    load.busy(5.0)  # the context is there, and the board warm
    yield load
    torch.cuda.empty_cache()


def metered(work: Callable[[], None]) -> Energy:
    """Return the joules of a piece of work."""
    with RunMeter.open(DEVICE) as meter:
        work()
    energy = meter.energy()
    echo_progress("\n  ".join([str(energy), f"ratio {energy.crosscheck}", *energy.notes]))
    assert energy.quality is EnergyQuality.MEASURED
    assert energy.joules is not None
    assert not energy.contended
    return energy


def watts(work: Callable[[], None]) -> float:
    energy = metered(work)
    return (energy.joules or 0.0) / energy.seconds


def test_1_what_the_board_shows_is_refreshed_every_20_to_100_ms(load: Load) -> None:
    source = NvmlSource.open(DEVICE)
    found = watched(source, 60.0, 1000.0)
    source.close()
    for name in found.shown:
        echo_progress(f"{name}: every {1000 * found.refresh_s(name):.1f} ms")
    taken_us = np.quantile(1e6 * found.taken_s, [0.5, 0.95, 0.999]).round().tolist()
    echo_progress(f"a reading takes, microseconds at 50, 95 and 99.9 %: {taken_us}")
    assert 0.005 <= found.refresh_s("counter") <= 0.15
    assert np.median(found.taken_s) < 0.001


def training(seconds: float) -> None:
    until_s = time.monotonic() + seconds
    for _ in train(resolve({"task": "digits", "selection": "dense", "epochs": 10_000,
                            "device": DEVICE})):  # fmt: skip
        if time.monotonic() > until_s:
            return


@pytest.mark.parametrize("what", ["idle", "products", "training"])
def test_2_counter_and_average_power_agree_within_3_percent(load: Load, what: str) -> None:
    work = {"idle": time.sleep, "products": load.busy, "training": training}[what]
    ratio = metered(lambda: work(20.0)).crosscheck
    assert ratio == pytest.approx(1.0, abs=0.03)


def test_3_the_counter_follows_the_duty_of_a_square_load_at_every_phase(load: Load) -> None:
    idle_w, steady_w = watts(lambda: time.sleep(12.0)), watts(lambda: load.busy(12.0))
    quarter = {
        (period_s, late_s): watts(partial(load.square, period_s, 0.25, 12.0, late_s))
        for period_s in (0.09, 0.1, 0.11)
        for late_s in (0.0, 0.025, 0.05, 0.075)
    }
    echo_progress(f"idle {idle_w:.0f} W, steady {steady_w:.0f} W, a quarter {quarter}")
    # Of a counter that looks at 25 of 100 ms, phases at 100 ms would differ by far more.
    values = np.array(list(quarter.values()))
    assert np.ptp(values) < 0.1 * (steady_w - idle_w)


def test_4_short_windows_of_a_steady_load_are_as_exact_as_is_said(load: Load) -> None:
    spans: list[MeterWindow] = []
    with RunMeter.open(DEVICE) as meter:
        load.busy(2.0)
        for seconds in (1.0,) * 30 + (5.0,) * 6:
            span = meter.begin(f"{len(spans)}")
            load.busy(seconds)
            meter.end(span)
            spans.append(span)
    mean_w = (meter.energy().joules or 0.0) / meter.energy().seconds
    for lo_s, hi_s, allowed in ((0.5, 2.0, 0.05), (4.0, 6.0, 0.02)):
        told = [span.energy() for span in spans if lo_s < span.energy().seconds < hi_s]
        off = [abs((each.joules or 0.0) / each.seconds / mean_w - 1) for each in told]
        echo_progress(f"{len(told)} windows of {hi_s / 2:g} s: p95 {np.quantile(off, 0.95):.2%}")
        assert np.quantile(off, 0.95) <= allowed  # what the load itself wanders is in it


def test_5_the_meter_costs_the_training_less_than_half_a_percent() -> None:
    interval, _, name = meter_speed_ratio("digits", 20, 2.0, echo_progress, DEVICE)
    echo_progress(f"{name}: metered / not = {interval}")
    assert interval.hi >= 0.995


def test_6_phases_take_what_each_takes_alone(load: Load) -> None:
    alone = {"busy": watts(lambda: load.busy(8.0)), "waiting": watts(lambda: time.sleep(8.0))}
    lengths, spans = {"busy": 0.023, "waiting": 0.014}, []
    draw = np.random.default_rng(0)
    meter = RunMeter.open(DEVICE, phases=True)
    with meter:
        until_s = time.monotonic() + 90.0
        while time.monotonic() < until_s:
            for phase, work in (("busy", load.busy), ("waiting", time.sleep)):
                begin_s = time.monotonic()
                work(lengths[phase] * draw.lognormal(0, 0.15))
                spans.append(PhaseSpan(phase, begin_s, time.monotonic()))
    attributor = PhaseAttributor(list(lengths))
    attributor.add_stretch(meter.counter_updates(), spans)
    found = {each.phase: each for each in attributor.attribute()}
    for phase, alone_w in alone.items():
        echo_progress(f"{phase}: {found[phase].short_text()}, alone {alone_w:.0f} W")
    busy = found["busy"]
    # A board that has just waited is cooler, and its clocks are higher.
    assert (busy.joules or 0.0) / busy.seconds == pytest.approx(alone["busy"], rel=0.15)


def test_7_attention_and_grouped_convolution_are_counted_or_refused() -> None:
    q = torch.randn(2, 4, 128, 64, device=DEVICE, dtype=torch.bfloat16)
    products = 2 * 2 * 2 * 4 * 128 * 128 * 64  # queries by keys, and weights by values
    with suppress(UncountedOperationError):  # which is right, too; 0 would not be
        assert count_flops(lambda: functional.scaled_dot_product_attention(q, q, q)) == products
    image, kernel = torch.randn(2, 32, 16, 16, device=DEVICE), torch.randn(32, 8, 3, 3)
    with pytest.raises(UncountedOperationError, match="groups"):
        count_flops(lambda: functional.conv2d(image, kernel.to(DEVICE), groups=4))


def test_8_equal_trainings_show_no_saving() -> None:
    found = run_aa_test("digits", 40, MIN_PAIRS, DEVICE, echo_progress)
    echo_progress(str(found))
    assert abs(found.ratio - 1) < 0.02
