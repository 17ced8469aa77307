from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from effcore.energy.sources.base import (
    SOURCES,
    EnergyUnavailable,
    Reading,
    error_text_without_paths,
)
from effcore.records import Energy, EnergyQuality

JOULES = st.none() | st.floats(min_value=0, max_value=1e15)


def test_the_measuring_source_is_tried_before_the_estimating_one() -> None:
    assert SOURCES.ids() == ["nvml", "rapl", "apple", "cpu-model"]
    qualities = [kind.quality for kind in SOURCES]
    assert qualities == [
        *[EnergyQuality.MEASURED] * 2,
        EnergyQuality.MODELLED,
        EnergyQuality.ESTIMATED,
    ]
    assert all(kind.title and kind.summary and kind.hz > 0 for kind in SOURCES)


def test_unavailable_says_why_and_what_to_do() -> None:
    refusal = EnergyUnavailable("no driver", "install it")
    assert (refusal.reason, refusal.remedy, str(refusal)) == (
        "no driver",
        "install it",
        "no driver; install it",
    )


def test_an_interval_reading_has_no_points() -> None:
    reading = Reading.interval(1.0, (2.0, 3.0), (4.0, 5.0))
    assert math.isnan(reading.power_w)
    assert math.isnan(reading.energy_j)
    assert (reading.power_lo_w, reading.power_hi_w) == (2.0, 3.0)
    assert (reading.energy_lo_j, reading.energy_hi_j) == (4.0, 5.0)


@given(JOULES, JOULES, JOULES, st.sampled_from(EnergyQuality))
def test_energy_is_never_written_without_its_quality(
    joules: float | None, lo: float | None, hi: float | None, quality: EnergyQuality
) -> None:
    text = str(Energy(joules, lo, hi, 1.0, quality, "a meter", "a board"))
    assert quality.value.upper() in text
    assert "a meter" in text
    assert "a board" in text


def test_a_faults_words_name_no_folder() -> None:
    missing = FileNotFoundError(2, "No such file or directory", "/home/alice/lib/libx.so")
    assert error_text_without_paths(missing) == "No such file or directory"
    assert (
        error_text_without_paths(RuntimeError("cannot load /home/alice/lib/libx.so"))
        == "cannot load libx.so"
    )
