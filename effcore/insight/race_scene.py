"""Scene of a race: a run's snapshot at one time, with its pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effcore.records import Snapshot, ViewEvent

#: Views of a task that are shown, in this order: the reconstruction, and where it computes.
SHOWN_VIEWS: Final = ("reconstruction", "compute")
#: JPEG quality for live display and for a recording's file.
_LIVE_JPEG_QUALITY, _FILE_JPEG_QUALITY = 80, 60


class RaceScene(NamedTuple):
    """A run at one time.

    Attributes:
        snapshot: The run's state.
        pictures: Pictures by view name, as data URLs.
    """

    snapshot: Snapshot
    pictures: Mapping[str, str]


def current_scene(snapshot: Snapshot) -> RaceScene:
    """Return the present scene of a run."""
    return RaceScene(snapshot, view_pictures(snapshot.view))


def view_pictures(view: ViewEvent | None, width: int | None = None) -> dict[str, str]:
    """Return a view's pictures as data URLs.

    Args:
        view: The task's view.
        width: Largest width in pixels, for a file; by default the pictures keep their size.
    """
    items = view.items if view is not None else {}
    return {
        name: _jpeg_data_url(pixels, width)
        for name in SHOWN_VIEWS
        if isinstance(pixels := items.get(name), np.ndarray)
    }


def _jpeg_data_url(pixels: NDArray[np.uint8], width: int | None) -> str:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if width is not None and width < picture.width:
        picture = picture.resize((width, round(width * picture.height / picture.width)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_LIVE_JPEG_QUALITY if width is None else _FILE_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
