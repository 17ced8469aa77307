from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from effcore.records.views import (
    Scatter,
    ShadedText,
    ViewItem,
    view_arrays,
    view_from_parts,
    view_header,
)

SHADE = np.array([0, 128, 255], dtype=np.uint8)
ITEMS: list[ViewItem] = [
    np.zeros((2, 3, 3), dtype=np.uint8),
    ShadedText("abc", SHADE, SHADE // 255, "loss"),
    Scatter(np.zeros((3, 2), np.float32), SHADE, SHADE, ("one", "two")),
]


@pytest.mark.parametrize("item", ITEMS, ids=["picture", "text", "points"])
def test_what_is_taken_apart_comes_together_again(item: ViewItem) -> None:
    head = json.loads(json.dumps(view_header(item)))
    again = view_from_parts(head, view_arrays(item))
    assert type(again) is type(item)
    assert view_header(again) == head
    for name, array in view_arrays(item).items():
        assert view_arrays(again)[name] is array


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) beside 2 places"):
        view_from_parts(
            {"kind": "text", "text": "ab", "meaning": ""}, {"shade": SHADE, "dim": SHADE}
        )
    points: dict[str, NDArray[Any]] = {
        "xy": np.zeros((2, 2), np.float32),
        "group": SHADE,
        "state": SHADE,
    }
    with pytest.raises(ValueError, match="beside 2 places"):
        view_from_parts({"kind": "points", "groups": []}, points)
    with pytest.raises(ValueError, match="'film' is not known"):
        view_from_parts({"kind": "film"}, {})
    with pytest.raises(KeyError):
        view_from_parts({"kind": "picture"}, {})
