"""What keeps a policy in bounds: windows, cooldowns, step limits, minimum and maximum.

Owns the semantics of Kubernetes' HPA v2 ``behavior`` (autoscaling/v2, "Scaling policies" and
"Stabilization window"): a window takes the most cautious wish in it; a step limit allows a change
relative to the number at its period's start; of several limits the widest holds, or the narrowest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from sncontroller.core.scaling.spec import (
    LONGEST_PERIOD_S,
    Behavior,
    Direction,
    LimitKind,
    Select,
)

STEADY_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the wanted number."""

    at_s: float
    delta: int


class Wish(NamedTuple):
    """What a policy would like: more if fewer than ``up``, fewer if more than ``down``."""

    up: int
    down: int


class PastWish(NamedTuple):
    """A wish and when it was made."""

    at_s: float
    up: int
    down: int


def remembered(
    past: tuple[PastWish, ...], wish: Wish, now: float, window_s: float
) -> tuple[PastWish, ...]:
    """The wishes of the last ``window_s`` that may still matter, with one more, newest last.

    One that a newer wish outdoes in both directions matters no longer, so few are kept.
    """
    newest = PastWish(now, wish.up, wish.down)
    kept = [
        old
        for old in past
        if now - window_s < old.at_s <= now and (old.up < wish.up or old.down > wish.down)
    ]
    return (*kept, newest)


def steadied(past: tuple[PastWish, ...], behavior: Behavior, now: float, steady: bool) -> Wish:
    """The most cautious wish of each direction's window; the newest is always in it.

    A policy that is ``steady`` looked ahead itself, and does not look back as long.
    """
    up_s = now - behavior.scale_up.stabilization_window_s
    window_s = behavior.scale_down.stabilization_window_s
    down_s = now - (min(STEADY_WINDOW_S, window_s) if steady else window_s)
    newest = past[-1]
    up = min(old.up for old in past if old is newest or old.at_s > up_s)
    down = max(old.down for old in past if old is newest or old.at_s > down_s)
    return Wish(up, max(up, down))


def rested(changes: tuple[Change, ...], cooldown_s: float, now: float, grew: bool = False) -> bool:
    """Whether the last change is a cooldown ago; ``grew`` looks at growth only."""
    return not any(
        now - change.at_s < cooldown_s for change in changes if change.delta > 0 or not grew
    )


def kept(changes: tuple[Change, ...], newest: Change) -> tuple[Change, ...]:
    """The changes that a limit or a cooldown may still ask for, with one more."""
    oldest_s = newest.at_s - LONGEST_PERIOD_S
    return (*(change for change in changes if change.at_s > oldest_s), newest)


def highest(direction: Direction, changes: tuple[Change, ...], current: int, now: float) -> float:
    """The highest number that growing may reach now."""
    if direction.select_policy is Select.DISABLED:
        return current
    bounds = [
        max(current, math.ceil(start + by))
        for start, by in _steps(direction, changes, current, now)
    ]
    widest = max if direction.select_policy is Select.MAX else min
    return widest(bounds, default=math.inf)


def lowest(direction: Direction, changes: tuple[Change, ...], current: int, now: float) -> float:
    """The lowest number that shrinking may reach now."""
    if direction.select_policy is Select.DISABLED:
        return current
    bounds = [
        min(current, math.floor(start - by))
        for start, by in _steps(direction, changes, current, now)
    ]
    widest = min if direction.select_policy is Select.MAX else max
    return widest(bounds, default=0)


def _steps(
    direction: Direction, changes: tuple[Change, ...], current: int, now: float
) -> list[tuple[int, float]]:
    """For each limit the number at its period's start, and the step it allows from there."""
    steps = []
    for limit in direction.policies:
        start = current - _changed(changes, now - limit.period_s)
        by_nodes = limit.type is LimitKind.NODES
        steps.append((start, limit.value if by_nodes else start * limit.value / 100))
    return steps


def _changed(changes: tuple[Change, ...], since_s: float) -> int:
    """By how much the number changed since then, all in all."""
    return sum(change.delta for change in changes if change.at_s > since_s)
