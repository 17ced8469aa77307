from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from effcore.views import Scatter, ShadedText, ViewItem, arrays_of, head_of, rebuild

SHADE = np.array([0, 128, 255], dtype=np.uint8)
ITEMS: list[ViewItem] = [
    np.zeros((2, 3, 3), dtype=np.uint8),
    ShadedText("abc", SHADE, SHADE // 255, "loss"),
    Scatter(np.zeros((3, 2), np.float32), SHADE, SHADE, ("one", "two")),
]


@pytest.mark.parametrize("item", ITEMS, ids=["picture", "text", "points"])
def test_what_is_taken_apart_comes_together_again(item: ViewItem) -> None:
    head = json.loads(json.dumps(head_of(item)))
    again = rebuild(head, arrays_of(item))
    assert type(again) is type(item)
    assert head_of(again) == head
    for name, array in arrays_of(item).items():
        assert arrays_of(again)[name] is array


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) beside 2 places"):
        rebuild({"kind": "text", "text": "ab", "meaning": ""}, {"shade": SHADE, "dim": SHADE})
    points: dict[str, NDArray[Any]] = {
        "xy": np.zeros((2, 2), np.float32),
        "group": SHADE,
        "state": SHADE,
    }
    with pytest.raises(ValueError, match="beside 2 places"):
        rebuild({"kind": "points", "groups": []}, points)
    with pytest.raises(ValueError, match="'film' is not known"):
        rebuild({"kind": "film"}, {})
    with pytest.raises(KeyError):
        rebuild({"kind": "picture"}, {})
