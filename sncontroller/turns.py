"""Green threads among each other: how long one works, and whether one has work.

Owns what the application's loops have in common; it knows nothing of what they do.
"""

from __future__ import annotations

import time
from typing import Any

from ryu.lib import hub

TURN_S = 0.001
"""So long a green thread works before others have their turn, which costs some 0.05 ms itself."""
LONG_TURN_S = 0.004
"""The same for the one that all others give work to."""


class Turns:
    """The turns of one green thread: the others have theirs once one has lasted.

    A switch that is not heard or answered in time disconnects, and a change must not wait until a
    thousand groups were polled.
    """

    def __init__(self, turn_s: float = TURN_S) -> None:
        self._turn_s = turn_s
        self._worked_s = 0.0
        self._since_s = time.monotonic()

    def begin(self) -> None:
        """There is work; the time until now was spent waiting for it."""
        self._since_s = time.monotonic()

    def pause(self, at_once: bool = False) -> None:
        """Leave the others a turn, if work has lasted for one, or ``at_once``."""
        now_s = time.monotonic()
        self._worked_s += now_s - self._since_s
        self._since_s = now_s
        if at_once or self._worked_s >= self._turn_s:
            hub.sleep(0)
            self._worked_s = 0.0
            self.begin()


def is_free(line: Any) -> bool:
    """Whether nothing is in the queue, nor in the hands of the green thread that empties it."""
    return bool(line.empty() and line.getting())
