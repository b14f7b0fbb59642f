"""How much work there is now.

Demand is counted in *nodes' worth*: the sum of the serving nodes' loads, which does not change when
nodes come or go. Owns the last samples and the three quick questions to them: did it jump, does it
climb, is it hidden (saturated nodes show what they serve, not what they are offered). Level, slope
and headroom come from the tick modules. Nothing here decides.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from sncontroller.core.scaling import headroom as headrooms
from sncontroller.core.scaling import trend as trends
from sncontroller.core.scaling.headroom import Forecast, Headroom
from sncontroller.core.scaling.trend import TICK_S, Tick, Trend

RECENT_SAMPLES = 12
LEAST_SPACING_S = 0.05
JUMP_SAMPLES = 3
JUMP_HEADROOMS = 1.25
"""A jump is this much beyond the headroom: now and then noise passes the headroom, and while the
level happens to be low, three samples in a row do."""
CLIMB_PARTS = 4
STEADY_SHARE = 0.25
"""A climb's slowest quarter has at least this share of its mean speed; a step's has none."""

PINNED_FROM = 0.97
PINNED_TO = 1.02
PINNED_SPREAD = 0.03
"""A load that stays in this narrow band at the top may be a ceiling rather than demand."""


class Recent(NamedTuple):
    """The last samples and the open tick."""

    at_s: float
    spacing_s: float
    """Time between the last two samples."""
    values: tuple[float, ...]
    """Demand in nodes' worth, newest last."""
    loads: tuple[float, ...]
    """The mean load of the serving nodes, newest last."""
    tick: int
    tick_sum: float
    tick_count: int
    tick_peak: float


class Demand(NamedTuple):
    """The memory of demand."""

    recent: Recent | None = None
    trend: Trend = Trend()
    headroom: Headroom = Headroom()

    @property
    def level(self) -> float:
        """Demand now: the latest jump, else the level, else all that was seen; 0 if nothing."""
        if self.recent is None:
            return 0.0
        jump = jumped(self)
        if jump is not None:
            return jump
        if self.trend.level is not None:
            return self.trend.level
        return self.recent.tick_sum / self.recent.tick_count


def observed(memory: Demand, demand: float, load: float, now: float, lead_s: float) -> Demand:
    """The memory after one more sample: ``demand`` in nodes' worth, ``load`` the mean load.

    A sample that is hardly newer than the last one is taken for the same and changes nothing.
    """
    last = memory.recent
    tick = int(now // TICK_S)
    if last is None:
        return Demand(Recent(now, 1.0, (demand,), (load,), tick, demand, 1, demand))
    if now - last.at_s < LEAST_SPACING_S:
        return memory
    values = (*last.values[1 - RECENT_SAMPLES :], demand)
    loads = (*last.loads[1 - RECENT_SAMPLES :], load)
    if tick == last.tick:
        total, count, peak = last.tick_sum + demand, last.tick_count + 1, last.tick_peak
        recent = Recent(now, now - last.at_s, values, loads, tick, total, count, max(peak, demand))
        return Demand(recent, memory.trend, memory.headroom)
    memory = _ticked(memory, last, lead_s)
    recent = Recent(now, now - last.at_s, values, loads, tick, demand, 1, demand)
    return Demand(recent, memory.trend, memory.headroom)


def _ticked(memory: Demand, last: Recent, lead_s: float) -> Demand:
    """The memory with its open tick closed."""
    start_s = last.tick * TICK_S
    if pinned(memory):
        return Demand(last, memory.trend, headrooms.hidden(memory.headroom))
    jump = jumped(memory)
    headroom = memory.headroom if jump is None else headrooms.outdated(memory.headroom)
    trend = memory.trend if jump is None else Trend()
    mean = last.tick_sum / last.tick_count if jump is None else jump
    trend = trends.ticked(trend, Tick(start_s, mean))
    made = Forecast(start_s + TICK_S + lead_s, trend.forecast(lead_s))
    return Demand(last, trend, headrooms.ticked(headroom, start_s, last.tick_peak, made))


def pinned(memory: Demand) -> bool:
    """Whether the nodes are at their ceiling, so that more may be offered than is seen.

    Flat at the top after a jump, or flat at the top for a dozen samples: three samples alone are
    flat by chance now and then where nodes are meant to be 95 % full.
    """
    recent = memory.recent
    if recent is None or recent.loads[-1] < PINNED_FROM or not _flat(recent.loads[-JUMP_SAMPLES:]):
        return False
    if jumped(memory) is not None:
        return True
    return len(recent.loads) == RECENT_SAMPLES and _flat(recent.loads)


def _flat(loads: tuple[float, ...]) -> bool:
    """Whether all these loads lie in a narrow band at the top."""
    low, high = min(loads), max(loads)
    return low >= PINNED_FROM and high <= PINNED_TO and high - low <= PINNED_SPREAD


def jumped(memory: Demand) -> float | None:
    """The new level after a sudden rise that noise does not explain; None without one."""
    level, recent = memory.trend.level, memory.recent
    if level is None or recent is None:
        return None
    usual = level + JUMP_HEADROOMS * memory.headroom.share * max(1.0, level)
    if recent.values[-1] <= usual:  # nearly always, so those before are not looked at
        return None
    newest = recent.values[-JUMP_SAMPLES:]
    if len(newest) < JUMP_SAMPLES or min(newest) <= usual:
        return None
    return sum(newest) / JUMP_SAMPLES


def climb_per_s(memory: Demand) -> float:
    """How fast demand climbs within the last dozen samples; 0 for noise and for a single step."""
    recent = memory.recent
    if recent is None or len(recent.values) < RECENT_SAMPLES:
        return 0.0
    size = RECENT_SAMPLES // CLIMB_PARTS
    means = [sum(recent.values[i : i + size]) / size for i in range(0, RECENT_SAMPLES, size)]
    rises = [after - before for before, after in pairwise(means)]
    mean_rise = sum(rises) / len(rises)
    if min(rises) <= STEADY_SHARE * mean_rise or mean_rise <= 0:
        return 0.0
    return mean_rise / (size * recent.spacing_s)
