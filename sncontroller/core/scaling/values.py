"""What goes into a scaling decision and what comes out.

Owns the frozen values of the interface. What of them outlives a controller is ``core.lasting``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sncontroller.core.scaling.demand import Demand
from sncontroller.core.scaling.limits import Change, PastWish
from sncontroller.core.scaling.pattern import Pattern
from sncontroller.core.scaling.policies import Marks


class Observation(NamedTuple):
    """A group as scaling sees it, at one moment."""

    loads: Mapping[int, float | None]
    """Load of each serving node by index; None where it is unknown."""
    serving: int
    """Nodes that take new flows, the primary included."""
    starting: int = 0
    """Nodes on their way: requested, booting, probing, warming."""
    draining: int = 0
    boot_s: float | None = None
    """Measured time from request to rotation; None before the first."""
    override: int | None = None
    """What an operator asked for; None for automatic."""
    complete: bool = True
    """Whether every signal of the known loads is known; a load may be higher where one is not."""


class Decision(NamedTuple):
    """How many nodes to have, the primary included, and why."""

    wanted: int
    reason: str
    """Why the number is what it is: the reason of its last change."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Since when so many serving nodes have shown a load at its ceiling."""

    since_s: float
    serving: int


class Memory(NamedTuple):
    """What the next decision needs from the past ones. Small and frozen."""

    wanted: int | None = None
    reason: str = ""
    """Why ``wanted`` is what it is."""
    changes: tuple[Change, ...] = ()
    wishes: tuple[PastWish, ...] = ()
    marks: Marks = Marks()
    ceiling: Ceiling | None = None
    demand: Demand = Demand()
    pattern: Pattern = Pattern()

    def wishing(self, wishes: tuple[PastWish, ...], marks: Marks) -> Memory:
        """The memory with other wishes and marks.

        As ``_replace`` does, in half the time; every decision makes one.
        """
        return Memory(
            self.wanted,
            self.reason,
            self.changes,
            wishes,
            marks,
            self.ceiling,
            self.demand,
            self.pattern,
        )
