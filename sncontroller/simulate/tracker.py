"""The floor to beat: a target tracker as anyone writes it in 25 lines, told the true demand."""

from __future__ import annotations

import math
from collections import deque


class Tracker:
    """Target 0.85 of the mean over 30 s; shrinks to the most wanted in 300 s."""

    def __init__(self, target: float = 0.85, window_s: float = 30, hold_s: float = 300) -> None:
        self.target, self.window_s, self.hold_s = target, window_s, hold_s
        self.seen: deque[tuple[float, float]] = deque()
        self.total = 0.0
        self.most: deque[tuple[float, int]] = deque()

    def wanted(self, demand: float, now: float) -> int:
        """How many nodes to have, after one more sample of demand in nodes' worth."""
        self.seen.append((now, demand))
        self.total += demand
        while self.seen[0][0] <= now - self.window_s:
            self.total -= self.seen.popleft()[1]
        nodes = max(1, math.ceil(self.total / len(self.seen) / self.target))
        while self.most and self.most[-1][1] <= nodes:
            self.most.pop()
        self.most.append((now, nodes))
        while self.most[0][0] <= now - self.hold_s:
            self.most.popleft()
        return self.most[0][1]
