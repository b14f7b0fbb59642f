"""Where demand stands and where it is heading, from means over ticks of 10 s.

Owns the slow estimate: it is right on average and late by design. What must be seen at once is
demand's jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TICK_S = 10.0
LEVEL_TICKS = 3
TREND_TICKS = 12
SIGNIFICANCE = 3.0
"""A slope counts when it is this many times its own standard error."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The mean demand of one tick, in nodes' worth."""

    start_s: float
    mean: float


@dataclass(frozen=True, slots=True)
class Trend:
    """The last ticks, and what they say. Demand in nodes' worth."""

    ticks: tuple[Tick, ...] = ()
    level: float | None = None
    """Mean of the last three ticks."""
    slope_per_s: float = 0.0
    """How fast demand rises; 0 when it does not clearly do so."""

    def forecast(self, lead_s: float) -> float:
        """Expected demand ``lead_s`` after the last tick's end; 0 before the first tick."""
        age_s = min(LEVEL_TICKS, len(self.ticks)) * TICK_S / 2
        return (self.level or 0.0) + self.slope_per_s * (lead_s + age_s)


def ticked(trend: Trend, tick: Tick) -> Trend:
    """The trend after one more tick; after a gap it starts anew."""
    oldest_s = tick.start_s - (TREND_TICKS - 0.5) * TICK_S
    ticks = (*(old for old in trend.ticks if old.start_s > oldest_s), tick)
    newest = ticks[-LEVEL_TICKS:]
    level = sum(old.mean for old in newest) / len(newest)
    return Trend(ticks, level, max(0.0, _significant_slope(ticks)))


def _significant_slope(ticks: tuple[Tick, ...]) -> float:
    """Least-squares slope per second, or 0 when chance explains it."""
    count = len(ticks)
    if count < TREND_TICKS // 2:
        return 0.0
    mid_s = sum(tick.start_s for tick in ticks) / count
    mean = sum(tick.mean for tick in ticks) / count
    spread = sum((tick.start_s - mid_s) ** 2 for tick in ticks)
    slope = sum((tick.start_s - mid_s) * (tick.mean - mean) for tick in ticks) / spread
    residue = sum((t.mean - mean - slope * (t.start_s - mid_s)) ** 2 for t in ticks)
    error = math.sqrt(residue / (count - 2) / spread)
    return slope if abs(slope) > SIGNIFICANCE * error else 0.0
