"""What each policy would like, before windows, step limits and bounds.

One function per policy: a spec and a situation go in, a proposal with its reason comes out. The
proposal says two numbers, *grow if there are fewer than ``up``* and *shrink if there are more than
``down``*; between them nothing happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sncontroller.core.scaling import cron, pattern
from sncontroller.core.scaling.demand import Demand, climb_per_s, jumped
from sncontroller.core.scaling.limits import Wish
from sncontroller.core.scaling.pattern import Pattern
from sncontroller.core.scaling.spec import (
    AUTO,
    Floor,
    PredictiveSpec,
    ScheduleSpec,
    TargetSpec,
    ThresholdSpec,
)

FULLEST = 0.95
"""Highest load that ``auto`` plans for; above 0.97 a ceiling and demand look the same."""
HYSTERESIS = 0.02
HYSTERESIS_OF_HEADROOM = 0.25
"""A smaller number must fit with this to spare, so that it does not have to grow again: the level
is a mean and trembles about a twelfth as much as demand's peaks."""
LATE_S = 30.0
"""A pattern is only as exact as its minutes; ready this much before."""
CALM_S = 600.0
"""Shrinking on a pattern wants it to stay low for this much longer than a boot takes."""


Reason = Callable[[], str]
"""Puts a reason into words; called only when the number changes, which few decisions do."""


class Situation(NamedTuple):
    """What the policies see."""

    current: int
    """The number wanted so far."""
    serving: int
    demand: Demand
    level: float
    """Demand now, in nodes' worth."""
    lead_s: float
    """How long a node takes from request to rotation."""
    now: float


class Marks(NamedTuple):
    """Since when the load has been above the high mark, and below the low one."""

    above_since_s: float | None = None
    below_since_s: float | None = None


class Proposal(NamedTuple):
    """A policy's wish and the reason for it."""

    wish: Wish
    reason: Reason
    steady: bool = False
    """The policy looked ahead itself: shrinking needs only a short stabilisation window."""


def threshold(spec: ThresholdSpec, seen: Situation, marks: Marks) -> tuple[Proposal, Marks]:
    """Steps up after ``high_for_s`` above the high mark, down after ``low_for_s`` below the low.

    Growth counts the nodes on their way, so that slow ones are not ordered twice; shrinking does
    not, so that nodes that never come make no load look low.
    """
    load, load_now = seen.level / seen.current, seen.level / min(seen.serving, seen.current)
    marks = Marks(
        above_since_s=_since(marks.above_since_s, load > spec.high, seen.now),
        below_since_s=_since(marks.below_since_s, load_now < spec.low, seen.now),
    )
    above_s, below_s = _age_s(marks.above_since_s, seen), _age_s(marks.below_since_s, seen)
    if above_s is not None and above_s >= spec.high_for_s:
        nodes = seen.current + spec.step_up
        text = f"load {load:.2f} above {spec.high:g} for {above_s:.0f} s"
    elif below_s is not None and below_s >= spec.low_for_s:
        nodes = seen.current - spec.step_down
        text = f"load {load_now:.2f} below {spec.low:g} for {below_s:.0f} s"
    else:
        nodes, text = seen.current, "load between the marks"
    return Proposal(Wish(nodes, nodes), lambda: text), marks


def target(spec: TargetSpec, seen: Situation) -> Proposal:
    """As many nodes as keep the mean load at the target; see ``docs/scaling.md`` for ``auto``."""
    if spec.target != AUTO:
        return _fixed(spec.target, spec.tolerance, seen)
    share = _share(spec, seen)
    heading = _heading(seen)
    up, down = _nodes(heading / share), _nodes(heading * (1 + _spare(seen)) / share)

    def reason() -> str:
        text = f"demand is {seen.level:.2f} nodes' worth"
        if heading > 1.05 * seen.level:
            text += f" and heading for {heading:.2f} in {seen.lead_s:.0f} s"
        return f"{text}; a node may be {share:.0%} full"

    return Proposal(Wish(up, down), reason)


def predictive(spec: PredictiveSpec, seen: Situation, past: Pattern) -> Proposal:
    """As target, and as many as a trusted pattern needs when a node ordered now is ready."""
    ready_s = seen.now + seen.lead_s + spec.ahead_s
    soon = pattern.expected(past, seen.now, ready_s + LATE_S, spec.trust_error)
    later = pattern.expected(past, seen.now, ready_s + CALM_S, spec.trust_error)
    if soon is None or later is None:
        return target(spec, seen)
    share = _share(spec, seen)
    seen_now = _climbing(seen)
    up = max(_nodes(seen_now / share), _nodes(soon / share))
    down = _nodes(max(later, seen_now) * (1 + _spare(seen) / 2) / share)

    def reason() -> str:
        text = f"demand is {seen_now:.2f} nodes' worth"
        if soon > seen_now:
            text += f", and {soon:.2f} at this time of a day like this"
        return f"{text}; a node may be {share:.0%} full"

    return Proposal(Wish(up, max(up, down)), reason, steady=True)


def schedule(spec: ScheduleSpec, seen: Situation) -> Proposal:
    """As target, but never below a floor that holds now or when a node ordered now is ready."""
    measured = target(spec, seen)
    holding = [floor for floor in spec.floors if _holds(floor, seen)]
    if not holding:
        return measured
    highest = max(holding, key=lambda floor: floor.nodes)
    wish = Wish(max(highest.nodes, measured.wish.up), max(highest.nodes, measured.wish.down))
    if highest.nodes <= measured.wish.up:
        return Proposal(wish, measured.reason)
    return Proposal(wish, lambda: f"floor of {highest.nodes} by {highest.cron!r}")


def _fixed(goal: float, tolerance: float, seen: Situation) -> Proposal:
    """The rule of Kubernetes' HPA: nodes x load / target, unless that is within the tolerance."""
    load = seen.level / seen.current
    near = abs(load / goal - 1) <= tolerance
    nodes = seen.current if near else _nodes(seen.level / goal)
    return Proposal(
        Wish(nodes, nodes), lambda: f"load {load:.2f} on {seen.current}, target {goal:g}"
    )


def _share(spec: TargetSpec, seen: Situation) -> float:
    """How full nodes may be: the numeric target, or what the headroom leaves."""
    if spec.target != AUTO:
        return spec.target
    return min(FULLEST, 1 / (1 + seen.demand.headroom.share))


def _spare(seen: Situation) -> float:
    """The share by which demand must fit a smaller number of nodes."""
    return max(HYSTERESIS, HYSTERESIS_OF_HEADROOM * seen.demand.headroom.share)


def _heading(seen: Situation) -> float:
    """Demand when a node ordered now is ready, by its trend; at least today's."""
    forecast = seen.demand.trend.forecast(seen.lead_s)
    return max(_climbing(seen), forecast or 0.0)


def _climbing(seen: Situation) -> float:
    """Demand now; after a jump that goes on climbing, when a node ordered now is ready."""
    if jumped(seen.demand) is None:
        return seen.level
    return seen.level + climb_per_s(seen.demand) * seen.lead_s


def _nodes(worth: float) -> int:
    """Whole nodes for so many nodes' worth, not fooled by the last digit."""
    return math.ceil(worth - 1e-9)


def _since(since_s: float | None, holds: bool, now: float) -> float | None:
    """Since when something holds, given since when it did."""
    if not holds:
        return None
    return now if since_s is None else since_s


def _age_s(since_s: float | None, seen: Situation) -> float | None:
    """How long something has held."""
    return None if since_s is None else seen.now - since_s


def _holds(floor: Floor, seen: Situation) -> bool:
    """Whether a floor holds now, or when a node ordered now is ready."""
    fires, zone = cron.parsed(floor.cron), cron.zone_of(floor.timezone)
    moments = (seen.now, seen.now + seen.lead_s)
    return any(cron.last_fired(fires, zone, at_s, floor.for_s) is not None for at_s in moments)
