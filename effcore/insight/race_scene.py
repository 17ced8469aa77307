"""What is seen of a run at one moment: its numbers, and the pictures it has drawn by then."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effcore.records import Snapshot, ViewEvent

#: Views of a task that are shown, in this order: what was learned, and where it works.
SHOWN_VIEWS: Final = ("reconstruction", "compute")
#: Of JPEGs, for a screen beside this process and for a file.
_LIVE_JPEG_QUALITY, _FILE_JPEG_QUALITY = 80, 60


class RaceScene(NamedTuple):
    """A run at one moment.

    Attributes:
        snapshot: Its numbers.
        pictures: By name, as addresses that a browser shows.
    """

    snapshot: Snapshot
    pictures: Mapping[str, str]


def current_scene(snapshot: Snapshot) -> RaceScene:
    """Return a run as it is seen now."""
    return RaceScene(snapshot, view_pictures(snapshot.view))


def view_pictures(view: ViewEvent | None, width: int | None = None) -> dict[str, str]:
    """Return a view's pictures as addresses.

    Args:
        view: What a task shows of itself.
        width: Pixels across at most, to be kept in a file; as they are by default.
    """
    items: Mapping[str, Any] = view.items if view is not None else {}
    found = {name: items[name] for name in SHOWN_VIEWS if isinstance(items.get(name), np.ndarray)}
    return {name: _jpeg_data_url(pixels, width) for name, pixels in found.items()}


def _jpeg_data_url(pixels: NDArray[np.uint8], width: int | None) -> str:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if width is not None and width < picture.width:
        picture = picture.resize((width, round(width * picture.height / picture.width)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_LIVE_JPEG_QUALITY if width is None else _FILE_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
