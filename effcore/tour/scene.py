"""What is seen of a run at one moment: its numbers, and the pictures it has drawn by then."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effcore.events import Snapshot, ViewEvent

#: Views of a task that are shown, in this order: what was learned, and where it works.
SHOWN: Final = ("reconstruction", "compute")
#: Of JPEGs, for a screen beside this process and for a file.
_QUALITY, _QUALITY_KEPT = 80, 60


class Scene(NamedTuple):
    """A run at one moment.

    Attributes:
        look: Its numbers.
        pictures: By name, as addresses that a browser shows.
    """

    look: Snapshot
    pictures: Mapping[str, str]


def scene_of(look: Snapshot) -> Scene:
    """Return a run as it is seen now."""
    return Scene(look, pictures_of(look.view))


def pictures_of(view: ViewEvent | None, width: int | None = None) -> dict[str, str]:
    """Return a view's pictures as addresses.

    Args:
        view: What a task shows of itself.
        width: Pixels across at most, to be kept in a file; as they are by default.
    """
    items: Mapping[str, Any] = view.items if view is not None else {}
    found = {name: items[name] for name in SHOWN if isinstance(items.get(name), np.ndarray)}
    return {name: _address(pixels, width) for name, pixels in found.items()}


def _address(pixels: NDArray[np.uint8], width: int | None) -> str:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if width is not None and width < picture.width:
        picture = picture.resize((width, round(width * picture.height / picture.width)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY if width is None else _QUALITY_KEPT)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
