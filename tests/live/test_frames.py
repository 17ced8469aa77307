from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from effcore.live.protocol import (
    FRAME_COLUMNS,
    Array,
    decode_frame,
    downsampled_tables,
    encode_frame,
    histogram_part,
    marks_part,
    table_arrays,
    view_part,
)
from effcore.records import KnobChange, ViewEvent
from effcore.records.views import Scatter
from tests.fakes import UNAVAILABLE, histogram, snapshot, view

ARRAYS = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, min_side=0, max_side=5)),
        hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=5)),
    ),
    max_size=4,
)


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3), ARRAYS)
def test_what_is_encoded_is_decoded(header: dict[str, int], arrays: dict[str, Array]) -> None:
    header.pop("arrays", None)
    frame = encode_frame(header, arrays)
    back, found = decode_frame(frame)
    back.pop("arrays")
    assert back == header
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_arrays_lie_where_a_browser_may_read_them_in_place() -> None:
    odd: dict[str, Array] = {
        "a": np.zeros(3, np.uint8),
        "b": np.ones(3, np.float32),
        "c": np.ones(1, np.float32),
    }
    frame = encode_frame({"kind": "é"}, odd)
    start = 4 + int.from_bytes(frame[:4], "little")
    assert start % 8 == 0
    assert len(frame) == start + 8 + 16 + 8


def test_tables_are_matrices_in_the_order_of_their_columns() -> None:
    arrays = table_arrays(downsampled_tables(snapshot()), "ref_")
    assert set(arrays) == {"ref_steps", "ref_evals", "ref_power"}
    steps = arrays["ref_steps"]
    assert steps.dtype == np.float32
    assert steps.shape == (len(FRAME_COLUMNS["steps"]), 20)
    np.testing.assert_array_equal(steps[FRAME_COLUMNS["steps"].index("step")], np.arange(1, 21))
    assert table_arrays(
        downsampled_tables(snapshot(0, start=None, steps=np.empty((8, 0))))
    ).keys() == {"power"}


def test_headers_hold_no_nan() -> None:
    power = np.empty((7, 0))
    look = snapshot(energy=UNAVAILABLE, power=power, changes=(KnobChange(3, "mass", 0.25),))
    header = histogram_part(histogram(math.nan))[0] | marks_part(look, {"mass": "Mass"})
    json.dumps(header, allow_nan=False)
    assert header["histogram"]["threshold"] is None
    assert header["marks"][0]["x"]["joules"] is None
    assert header["marks"][0]["text"] == "Mass 0.5 → 0.25, from step 3"
    assert header["applied"] == {"mass": 3}


def test_pictures_keep_shape_and_words() -> None:
    header, arrays = view_part(view())
    assert header["view"] == {
        "step": 5,
        "captions": {"picture": "What it sees"},
        "items": {"picture": {"kind": "picture"}},
    }
    assert arrays["view/picture/pixels"].shape == (2, 2, 3)
    assert view_part(None) == histogram_part(None) == ({}, {})


def test_a_picture_that_is_the_same_as_before_is_not_sent_again() -> None:
    first = view()
    changed = {"map": np.zeros((2, 2), dtype=np.uint8)}
    second = first._replace(items={**first.items, **changed})
    header, arrays = view_part(second, first)
    assert arrays.keys() == {"view/map/pixels"}
    assert header["view"]["items"].keys() == {"map"}
    assert view_part(second, None)[1].keys() == {"view/map/pixels", "view/picture/pixels"}


def test_of_an_item_only_what_changed_is_sent() -> None:
    xy, group = np.zeros((3, 2), dtype=np.float32), np.zeros(3, dtype=np.uint8)
    looks = [
        ViewEvent(step, {"map": Scatter(xy, group, np.full(3, step, np.uint8), ("one",))}, {})
        for step in range(2)
    ]
    header, arrays = view_part(looks[1], looks[0])
    assert arrays.keys() == {"view/map/state"}
    assert header["view"]["items"] == {"map": {"kind": "points", "groups": ["one"]}}
