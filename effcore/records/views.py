"""What a task shows of itself: a picture, shaded text, or points, as plain arrays; an example.

Each takes apart into arrays by name and comes together from them again, so that store and
stream carry any of them without knowing which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.records.deprecation import with_old_names

#: uint8 of shape (height, width, 3) or (height, width).
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ShadedText:
    """Text in which every character has a shade and may be dimmed.

    Attributes:
        text: T characters.
        shade_T: uint8, 0 plain to 255 strongest.
        dim_T: uint8, 1 where the character belongs to what is being skipped.
        meaning: What a strong shade says, in words.
    """

    text: str
    shade_T: NDArray[np.uint8]
    dim_T: NDArray[np.uint8]
    meaning: str


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """Points in the plane, coloured by group; those skipped fade.

    Attributes:
        xy_N2: float32 in [0, 1]; x to the right, y upwards.
        group_N: uint8, index into ``groups``.
        state_N: uint8, 0 skipped in this pass, 1 drawn, 2 trained on in the last step.
        groups: Names of the groups.
    """

    xy_N2: NDArray[np.float32]
    group_N: NDArray[np.uint8]
    state_N: NDArray[np.uint8]
    groups: tuple[str, ...]


ViewItem = Picture | ShadedText | Scatter


@with_old_names
class ExampleDisplay(NamedTuple):
    """What one training example is, for people to look at.

    Attributes:
        item: A picture, a text, or the columns of a table's row by name.
        target_text: What is to be learned of it, in words; empty where the item says so itself.
        picture_position: Its row and column in the picture that it is a part of, where it is.
    """

    item: Picture | str | Mapping[str, float]
    target_text: str = ""
    picture_position: tuple[int, int] | None = None


def view_header(item: ViewItem) -> dict[str, Any]:
    """Return all of an item that is no array, as JSON types."""
    match item:
        case ShadedText():
            return {"kind": "text", "text": item.text, "meaning": item.meaning}
        case Scatter():
            return {"kind": "points", "groups": list(item.groups)}
        case _:
            return {"kind": "picture"}


def view_arrays(item: ViewItem) -> dict[str, NDArray[Any]]:
    """Return an item's arrays by name."""
    match item:
        case ShadedText():
            return {"shade": item.shade_T, "dim": item.dim_T}
        case Scatter():
            return {"xy": item.xy_N2, "group": item.group_N, "state": item.state_N}
        case _:
            return {"pixels": item}


def view_from_parts(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ViewItem:
    """Put an item together again.

    Raises:
        ValueError: Its parts do not fit each other.
        KeyError: A part is missing.
    """
    match head["kind"]:
        case "text":
            text = ShadedText(str(head["text"]), arrays["shade"], arrays["dim"], head["meaning"])
            _check_lengths(len(text.text), text.shade_T, text.dim_T)
            return text
        case "points":
            groups = tuple(str(name) for name in head["groups"])
            points = Scatter(arrays["xy"], arrays["group"], arrays["state"], groups)
            _check_lengths(len(points.xy_N2), points.group_N, points.state_N)
            return points
        case "picture":
            return arrays["pixels"]
        case kind:
            raise ValueError(f"a view of kind {kind!r} is not known")


def _check_lengths(length: int, *arrays: NDArray[Any]) -> None:
    for array in arrays:
        if array.shape != (length,):
            raise ValueError(f"an array of shape {array.shape} beside {length} places")
