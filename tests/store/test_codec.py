from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.records import (
    Energy,
    EnergyQuality,
    KnobChange,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
)
from effcore.records.attribution import AttributedPhaseEnergy, PhaseAttribution
from effcore.store.serialization import (
    decode_knob_values,
    decode_optional_record,
    decode_record,
    encode_record,
)
from tests.store.samples import CONFIG, END, ESTIMATE

HISTOGRAM = LossHistogram(5, np.array([0.0, 0.5, 2.0]), np.array([3, 4]), math.nan, 2)
ATTRIBUTED = PhaseAttribution((AttributedPhaseEnergy("data", None, 0.0, 1.0, 0.5),))
any_float = st.floats()
knob_value = st.floats(allow_nan=False) | st.integers()
optional = st.none() | any_float
energies = st.builds(
    Energy,
    optional,
    optional,
    optional,
    any_float,
    st.sampled_from(EnergyQuality),
    st.text(),
    st.text(),
    st.lists(st.text(), max_size=3).map(tuple),
    st.none() | st.text(),
    st.integers(),
    any_float,
    optional,
    st.booleans(),
    any_float,
)
ends = st.builds(
    RunEnd, st.sampled_from(RunStatus), st.text(), st.text(), optional, st.integers(),
    st.integers(), st.integers(), any_float, any_float, any_float, st.none() | st.text(),
)  # fmt: skip
configs = st.builds(
    RunConfig, st.text(), st.text(), st.text(), st.text(), st.integers(), st.integers(),
    any_float, st.integers(), st.text(), optional, st.text(), st.text(), st.integers(),
    st.dictionaries(st.text(), st.none() | knob_value, max_size=3),
    st.lists(st.builds(KnobChange, st.integers(), st.text(), knob_value), max_size=3).map(tuple),
    any_float, st.text(), st.dictionaries(st.text(), knob_value, max_size=3),
)  # fmt: skip
starts = st.builds(
    RunStart, st.integers(), any_float, any_float, optional, st.integers()
)  # fmt: skip


@given(energies | ends | configs | starts)
def test_a_record_comes_back_as_it_was(record: Any) -> None:
    # repr and not ==, which NaN fails and which cannot tell 1 from 1.0.
    assert repr(decode_record(type(record), encode_record(record))) == repr(record)


def test_a_configuration_from_before_sizes_and_settings_means_what_it_meant() -> None:
    written = json.loads(encode_record(CONFIG))
    del written["size"], written["data"]
    old = decode_record(RunConfig, json.dumps(written))
    assert (old.size, old.data) == ("medium", {})
    assert old == CONFIG
    written["model"] = "fourier-mlp-small"
    small = decode_record(RunConfig, json.dumps(written))
    assert (small.model, small.size) == ("fourier-mlp", "small")
    del written["epochs"]
    with pytest.raises(ValueError, match="is damaged"):
        decode_record(RunConfig, json.dumps(written))


def test_energy_from_before_boards_were_named_is_read() -> None:
    written = json.loads(
        encode_record(Energy(1.0, 0.9, 1.1, 2.0, EnergyQuality.MEASURED, "s", "c", ("n",)))
    )
    new = ("device_uuid", "ticks", "max_gap_s", "crosscheck", "contended", "throttled_s")
    for name in (
        *new,
        "left_out",
        "card",
        "driver",
        "power_limit_w",
        "hz",
        "step_s",
        "idle_w",
        "idle_s",
    ):
        del written[name]
    old = decode_record(Energy, json.dumps(written))
    assert old == Energy(1.0, 0.9, 1.1, 2.0, EnergyQuality.MEASURED, "s", "c", ("n",))


@pytest.mark.parametrize("quality", EnergyQuality)
def test_energy_keeps_its_quality(quality: EnergyQuality) -> None:
    energy = Energy(1.0, None, None, 2.0, quality, "s", "c")
    assert decode_record(Energy, encode_record(energy)).quality is quality


def test_a_histogram_comes_back_with_its_types() -> None:
    histogram = LossHistogram(5, np.array([0.0, 0.5, np.inf]), np.array([3, 4]), math.nan, 2)
    again = decode_record(LossHistogram, encode_record(histogram))
    np.testing.assert_array_equal(again.edges, histogram.edges)
    np.testing.assert_array_equal(again.counts, histogram.counts)
    assert [str(again.edges.dtype), str(again.counts.dtype)] == ["float64", "int64"]
    assert (again.step, again.n_unseen) == (5, 2)
    assert math.isnan(again.threshold)


def test_numpy_numbers_are_stored_as_numbers() -> None:
    start = RunStart(np.int64(3), np.float64(0.5), 1.0, None, 2)  # type: ignore[arg-type]
    assert decode_record(RunStart, encode_record(start)) == RunStart(3, 0.5, 1.0, None, 2)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot store a set"):
        encode_record(RunStart({1}, 0.5, 1.0, None, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (ESTIMATE, "quality", "guessed"),
        (ESTIMATE, "joules", "12"),
        (ESTIMATE, "notes", [1]),
        (END, "status", "done"),
        (END, "passes", 1.5),
        (END, "passes", True),
        (CONFIG, "epochs", None),
        (CONFIG, "knobs", {"mass": "much"}),
        (CONFIG, "knobs", [0.5]),
        (CONFIG, "changes", [[1, "mass", None]]),
        (CONFIG, "changes", [[1, "mass"]]),
        (CONFIG, "budget", True),
        (CONFIG, "data", {"noise": True}),
        (HISTOGRAM, "counts", [3, 4.5]),
        (HISTOGRAM, "counts", [3, 2**70]),
        (HISTOGRAM, "edges", [0.0, "1", 2.0]),
        (HISTOGRAM, "edges", [[0.0], [1.0], [2.0]]),
        (ATTRIBUTED, "phases", [{"phase": "data"}]),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(record: Any, field: str, value: Any) -> None:
    data = json.loads(encode_record(record))
    assert field in data
    data[field] = value
    with pytest.raises(
        ValueError, match=f"its {type(record).__name__} is damaged: it has {field}="
    ):
        decode_record(type(record), json.dumps(data))
    with pytest.raises(ValueError, match="is damaged: it lacks"):
        decode_record(type(record), json.dumps({}))
    with pytest.raises(ValueError, match="is damaged: it has the unknown field 'later'"):
        decode_record(type(record), json.dumps(json.loads(encode_record(record)) | {"later": 1}))


def test_an_unknown_field_of_a_phase_is_refused_by_name() -> None:
    data = json.loads(encode_record(ATTRIBUTED))
    data["phases"][0]["later"] = 1
    with pytest.raises(ValueError, match="it has phases=.* it has the unknown field 'later'"):
        decode_record(PhaseAttribution, json.dumps(data))


def test_a_whole_number_stays_one_where_a_float_is_expected() -> None:
    """The text of a configuration identifies it, so that reading must not change it."""
    config = dataclasses.replace(CONFIG, budget=1, clip_norm=0)
    assert encode_record(decode_record(RunConfig, encode_record(config))) == encode_record(config)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"text"'])
@pytest.mark.parametrize(
    "cls", [RunConfig, RunStart, RunEnd, Energy, LossHistogram, PhaseAttribution]
)
def test_text_that_is_no_record_is_refused(cls: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"its {cls.__name__} is damaged"):
        decode_record(cls, text)


def test_a_histogram_needs_one_edge_more_than_counts() -> None:
    text = encode_record(LossHistogram(5, np.zeros(3), np.zeros(3, dtype=np.int64), 0.0, 0))
    with pytest.raises(ValueError, match=r"edges of shape \(3,\) for counts of shape \(3,\)"):
        decode_record(LossHistogram, text)


def test_nothing_written_yet_is_none() -> None:
    assert decode_optional_record(RunEnd, None) is None
    assert decode_optional_record(RunEnd, encode_record(END)) == END


def test_knobs_come_back_and_are_checked() -> None:
    knobs = {"mass": 0.5, "revisit": 4, "loss_threshold": None}
    assert repr(decode_knob_values(encode_record(knobs))) == repr(knobs)
    with pytest.raises(ValueError, match="not numbers by name"):
        decode_knob_values('{"mass": "0.5"}')
