"""Progress messages of long measurements, with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from effcore.runs.descriptions import time_left_text

ProgressSink = Callable[[str], None]


def with_eta(say: ProgressSink, total: int) -> ProgressSink:
    """Return a progress sink that adds the time left to each message.

    Args:
        say: Takes the messages.
        total: Number of messages; the parts of work between them should take equally long.
    """
    began, done = time.monotonic(), 0

    def say_with_eta(message: str) -> None:
        nonlocal done
        done += 1
        left_s = (time.monotonic() - began) / done * max(0, total - done)
        say(message + time_left_text(left_s))

    return say_with_eta
