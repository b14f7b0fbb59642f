"""Waiting for what a cloud does in its own time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

POLL_FIRST_S: Final = 0.05
POLL_MAX_S: Final = 2.0
POLL_GROWTH: Final = 1.5


def moments(seconds: float) -> Iterator[None]:
    """At once, and then again and again with growing pauses, until the time is over."""
    deadline, pause = time.monotonic() + seconds, POLL_FIRST_S
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * POLL_GROWTH, POLL_MAX_S)
        yield
