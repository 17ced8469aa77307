from __future__ import annotations

import dataclasses
import math
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.knobs import Controls, KnobError, knob, knobs_of, values_of, with_knob, with_knobs


@dataclass(frozen=True)
class Policy:
    share: float | None = knob(0.5, lo=0, hi=1, step=0.1, label="Share", help="A.", group="cut")
    level: float | None = knob(
        None, lo=1e-3, hi=9, step=0.1, label="Level", help="B.", group="cut", log=True, start=0.01
    )
    every_n: int = knob(4, lo=1, hi=8, step=1, label="Every", help="C.")
    plain: int = 7


SHARE, LEVEL, EVERY = knobs_of(Policy)


def test_knobs_are_the_declared_fields_in_order() -> None:
    assert [spec.name for spec in knobs_of(Policy())] == ["share", "level", "every_n"]
    assert (EVERY.option, EVERY.integer, EVERY.default) == ("--every-n", True, 4)
    assert (LEVEL.default, LEVEL.start, LEVEL.log, LEVEL.integer) == (None, 0.01, True, False)
    assert SHARE.start == 0.5
    assert values_of(Policy()) == {"share": 0.5, "level": None, "every_n": 4}


def test_a_knob_needs_somewhere_to_stand() -> None:
    with pytest.raises(TypeError, match="'Nowhere' needs a default or a start"):
        knob(None, lo=0, hi=1, step=1, label="Nowhere", help="D.")


@given(st.floats(0, 1))
def test_a_value_in_range_is_kept_to_the_last_bit(value: float) -> None:
    assert SHARE.validate(value) == value
    assert SHARE.validate(repr(value)) == value


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf, "x", "", None, [1], True + 1])
def test_a_value_out_of_range_is_refused_with_the_range(value: Any) -> None:
    with pytest.raises(KnobError, match=r"share=.* expected a number from 0 to 1; choose"):
        SHARE.validate(value)


@pytest.mark.parametrize("value", [0, 9, 2.5, "2.5", math.nan])
def test_a_whole_number_is_demanded_where_something_is_counted(value: Any) -> None:
    with pytest.raises(KnobError, match=r"every_n=.* expected a whole number from 1 to 8"):
        EVERY.validate(value)


def test_whole_numbers_come_back_as_integers() -> None:
    for given_ in (3, 3.0, "3", "3.0"):
        value = EVERY.validate(given_)
        assert value == 3
        assert isinstance(value, int)


def test_setting_one_of_a_group_unsets_the_others() -> None:
    cut = with_knob(Policy(), "level", 0.2)
    assert values_of(cut) == {"share": None, "level": 0.2, "every_n": 4}
    assert values_of(with_knob(cut, "share", 0.3)) == {"share": 0.3, "level": None, "every_n": 4}


def test_a_policy_is_never_changed() -> None:
    policy = Policy()
    with_knob(policy, "every_n", 8)
    assert policy == Policy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.every_n = 8  # type: ignore[misc]


def test_several_knobs_at_once_leave_none_values_alone() -> None:
    policy = with_knobs(Policy(), {"share": None, "level": 2, "every_n": "6"})
    assert values_of(policy) == {"share": None, "level": 2.0, "every_n": 6}


def test_an_unknown_knob_suggests_the_nearest() -> None:
    with pytest.raises(KnobError, match=r"'evry_n'.*did you mean 'every_n'\?"):
        with_knob(Policy(), "evry_n", 1)


def test_a_policy_without_knobs_says_so() -> None:
    @dataclass(frozen=True)
    class Plain:
        pass

    with pytest.raises(KnobError, match="there are no knobs"):
        with_knob(Plain(), "share", 1)


def test_controls_hand_over_the_latest_wish_for_each_knob_oldest_first() -> None:
    controls = Controls()
    assert controls.take_requests() == (0, {})
    assert [
        controls.request_value("a", 1),
        controls.request_value("b", 2),
        controls.request_value("a", 3),
    ] == [1, 2, 3]
    version, wishes = controls.take_requests()
    assert version == controls.version == 3
    assert list(wishes.items()) == [("b", 2), ("a", 3)]
    assert controls.take_requests() == (3, {})


def test_stopping_is_a_wish_too() -> None:
    controls = Controls()
    assert not controls.stop_requested
    controls.request_stop()
    assert controls.stop_requested


def test_no_wish_is_lost_between_threads() -> None:
    controls = Controls()
    count, writers = 200, 4
    taken: dict[str, float] = {}
    over = threading.Event()

    def write(name: str) -> None:
        for value in range(1, count + 1):
            controls.request_value(name, value)

    def read() -> None:
        while not over.is_set():
            taken.update(controls.take_requests()[1])

    threads = [threading.Thread(target=write, args=(f"k{i}",)) for i in range(writers)]
    reader = threading.Thread(target=read)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    reader.join()
    taken.update(controls.take_requests()[1])
    assert controls.version == count * writers
    assert taken == {f"k{i}": count for i in range(writers)}
