from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.impact.ranges import ImpactError
from effcore.impact.saving import SavingBasis
from effcore.impact.scale_ladder import (
    Ladder,
    LadderStep,
    ladder_path,
    load_ladder,
    save_ladder,
)
from effcore.records import EnergyQuality


def step(size: int, **changes: Any) -> LadderStep:
    plain: dict[str, Any] = {
        "name": f"of {size}",
        "size": size,
        "savings": {SavingBasis.FLOPS: (0.2, 0.21), SavingBasis.SECONDS: (0.1, 0.12)},
        "metrics": (0.9, 0.91),
        "dense_metrics": (0.92, 0.91),
    }
    return LadderStep(**plain | changes)


LADDER = Ladder(
    "digits", "cnn", "auto", "accuracy", (step(10), step(100), step(1000)),
    circumstances={"cores": 2, "cpu": "a processor"},
)  # fmt: skip


def written(path: Path, **changes: Any) -> Path:
    save_ladder(path, LADDER)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | changes))
    return path


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    path = ladder_path(tmp_path)
    assert path == tmp_path / "bench" / "ladder.json"
    assert load_ladder(path) is None
    save_ladder(path, LADDER)
    assert load_ladder(path) == LADDER
    assert [p.name for p in path.parent.iterdir()] == ["ladder.json"]
    assert LADDER.bases() == [SavingBasis.SECONDS, SavingBasis.FLOPS]
    assert LADDER.rungs(SavingBasis.FLOPS)[0].saving == pytest.approx(0.205)


def test_joules_come_first_with_their_quality(tmp_path: Path) -> None:
    savings = {SavingBasis.FLOPS: (0.2, 0.2), SavingBasis.JOULES: (0.1, 0.1)}
    steps = tuple(step(size, savings=savings) for size in (1000, 10, 100))
    ladder = Ladder("digits", "cnn", "auto", "accuracy", steps, EnergyQuality.MEASURED)
    save_ladder(tmp_path / "l.json", ladder)
    found = load_ladder(tmp_path / "l.json")
    assert found is not None
    assert found.bases()[0] is SavingBasis.JOULES
    assert [found.basis_text(basis) for basis in found.bases()] == ["MEASURED joules", "FLOPs"]
    assert [s.size for s in found.steps] == [10, 100, 1000]


GOOD = {"name": "a", "size": 7, "metrics": [1], "dense_metrics": [1]}


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"format": "other"}, "format"),
        ({"task": "x" * 300}, "task"),
        ({"policy": 3}, "policy"),
        ({"steps": []}, "steps"),
        ({"steps": "abc"}, "steps"),
        ({"steps": [1, 2, 3]}, "steps"),
        ({"steps": [{**GOOD, "savings": {"FLOPs": [0.1]}}] * 3}, "steps"),
        ({"steps": [{**GOOD, "savings": {"watts": [0.1]}}]}, "savings"),
        ({"steps": [{**GOOD, "savings": {"FLOPs": [1.5]}}]}, "savings"),
        ({"steps": [{**GOOD, "savings": {"FLOPs": ["0.1"]}}]}, "savings"),
        ({"steps": [{**GOOD, "savings": {"FLOPs": [True]}}]}, "savings"),
        ({"steps": [{**GOOD, "savings": [0.1]}]}, "savings"),
        ({"steps": [{**GOOD, "size": 0, "savings": {}}]}, "size"),
        ({"steps": [{**GOOD, "size": 10**400, "savings": {}}]}, "size"),
        ({"steps": [{**GOOD, "metrics": [10**400], "savings": {}}]}, "metrics"),
        ({"quality": "golden"}, "quality"),
        ({"quality": ["measured"]}, "quality"),
        ({"quality": "estimated"}, "quality"),
        ({"quality": "unavailable"}, "quality"),
        ({"steps": [{**GOOD, "size": 10**17 + i, "savings": {}} for i in range(3)]}, "steps"),
        ({"quality": "measured"}, "quality"),
        ({"circumstances": {"a": [1]}}, "circumstances"),
        ({"circumstances": None}, "circumstances"),
    ],
)
def test_what_is_no_ladder_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], argument: str
) -> None:
    path = written(tmp_path / "ladder.json", **changes)
    with pytest.raises(ImpactError, match=f"(?s)^{argument}=.*; make it again with") as refusal:
        load_ladder(path)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "text", ["", "[", "null", "[" * 100_000, '{"a": NaN}', "\xff\x00", "1" * 5000]
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ladder.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ImpactError):
        load_ladder(path)


def test_a_file_too_large_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "ladder.json"
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(ImpactError, match="at most 1048576 bytes"):
        load_ladder(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["steps", "task", "quality", "circumstances", "format"]), JSON)
def test_any_value_anywhere_is_read_or_refused(field: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "ladder.json", **{field: value})
        with contextlib.suppress(ImpactError):
            assert load_ladder(path) is not None
