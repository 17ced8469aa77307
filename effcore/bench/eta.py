"""Messages of long measurements that say how much time is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from effcore.runs.descriptions import time_left_text

ProgressSink = Callable[[str], None]


def with_eta(say: ProgressSink, total: int) -> ProgressSink:
    """Return a way of saying that one of ``total`` parts is done, with the time left.

    Args:
        say: Takes the messages.
        total: How often it will be called; parts are taken to last equally long.
    """
    began, done = time.monotonic(), 0

    def tell(message: str) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - began) / done * max(0, total - done)
        say(message + time_left_text(left))

    return tell
