"""How long a green thread works before it leaves the others a turn.

Owns the lengths of turns. Nothing else interrupts a green thread: whoever works through many things
asks here after each of them.
"""

from __future__ import annotations

import time

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
        self._since_s = time.monotonic()

    def pause(self, at_once: bool = False) -> None:
        """Leave the others a turn, if this one has lasted, or ``at_once``."""
        if at_once or time.monotonic() - self._since_s >= self._turn_s:
            hub.sleep(0)
            self._since_s = time.monotonic()
