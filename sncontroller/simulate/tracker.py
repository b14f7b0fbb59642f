"""The floor to beat: a target tracker as anyone writes it in 25 lines, told the true demand."""

from __future__ import annotations

import math
from collections import deque


class Tracker:
    """Target 0.85 of the mean over 30 s; shrinks to the most wanted in 300 s."""

    def __init__(self, target: float = 0.85, window_s: int = 30, hold_s: int = 300) -> None:
        self.target = target
        self.window: deque[float] = deque(maxlen=window_s)
        self.hold_s = hold_s
        self.wanted_since: deque[tuple[float, int]] = deque()

    def wanted(self, demand: float, now: float) -> int:
        """How many nodes to have, after one more second's demand in nodes' worth."""
        self.window.append(demand)
        nodes = max(1, math.ceil(sum(self.window) / len(self.window) / self.target))
        while self.wanted_since and self.wanted_since[-1][1] <= nodes:
            self.wanted_since.pop()
        self.wanted_since.append((now, nodes))
        while self.wanted_since[0][0] <= now - self.hold_s:
            self.wanted_since.popleft()
        return self.wanted_since[0][1]
