"""Simulated nodes: they boot, serve, drain and are gone. No decisions here.

A node that drains takes no new flows, so its flows end one by one: it is gone when the last one
has, or at the drain's deadline, when those left have to move. A draining node can be taken back at
once, which a real group does too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sncontroller.core import slots
from sncontroller.core.slots import SlotTable


@dataclass(slots=True)
class Fleet:
    """The nodes of a group. Times are seconds of the simulation."""

    boot_s: float
    drain_deadline_s: float
    flow_life_s: float
    flows_per_node: float
    serving: list[int] = field(default_factory=lambda: [1])
    starting: list[tuple[float, int]] = field(default_factory=list)
    """When each will serve, oldest first, and its index."""
    draining: list[tuple[float, int, float]] = field(default_factory=list)
    """When each will be gone, its index, and the flows it will have left then."""
    slots: SlotTable = ()
    slots_moved: int = 0
    flows_moved: float = 0.0

    def __post_init__(self) -> None:
        self._reslot()

    @property
    def cost(self) -> int:
        """Nodes that exist: each costs the same, whatever it does."""
        return len(self.serving) + len(self.starting) + len(self.draining)

    def advance(self, now: float) -> None:
        """Let nodes that are due serve, and those that are drained go."""
        while self.starting and self.starting[0][0] <= now:
            self.serving.append(self.starting.pop(0)[1])
            self._reslot()
        while self.draining and self.draining[0][0] <= now:
            self.flows_moved += self.draining.pop(0)[2]

    def ensure(self, wanted: int, load: float, now: float) -> None:
        """Have ``wanted`` nodes serving or on their way; ``load`` is that of a serving node."""
        lacking = wanted - len(self.serving) - len(self.starting)
        while lacking > 0 and self.draining:
            self.serving.append(self.draining.pop()[1])
            self._reslot()
            lacking -= 1
        for _ in range(lacking):
            self.starting.append((now + self.boot_s, self._free_index()))
        for _ in range(-lacking):
            if self.starting:
                self.starting.pop()
            else:
                self._drain(load, now)

    def _drain(self, load: float, now: float) -> None:
        """Take the newest serving node out."""
        flows = max(1.0, min(load, 1.0) * self.flows_per_node)
        until_empty_s = self.flow_life_s * math.log(flows)
        takes_s = min(self.drain_deadline_s, until_empty_s)
        left = flows * math.exp(-takes_s / self.flow_life_s) if takes_s < until_empty_s else 0.0
        self.draining.append((now + takes_s, self.serving.pop(), left))
        self.draining.sort()
        self._reslot()

    def _reslot(self) -> None:
        """The slot table for the nodes that serve now."""
        table = slots.slot_table(self.slots, dict.fromkeys(self.serving, 1.0))
        self.slots_moved += slots.moves(self.slots, table) if self.slots else 0
        self.slots = table

    def _free_index(self) -> int:
        """The lowest index that no node has."""
        taken = {*self.serving, *(n for _, n in self.starting), *(n for _, n, _ in self.draining)}
        return next(index for index in range(1, len(taken) + 2) if index not in taken)
