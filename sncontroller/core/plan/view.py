"""What a group's entries depend on besides its specification, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sncontroller.core.layout import Index


class Older(Enum):
    """Whose connections are that the switch sees in mid-stream and without a pin?"""

    PRIMARY = "primary"
    """They began before us: the primary's."""
    SLOTS = "slots"
    """The switch forgot their pins (it was restarted): their slot's node."""


@dataclass(frozen=True, slots=True)
class Drain:
    """What the next controller has to know of a drain that it did not begin."""

    since_s: int = 0
    """When it began, in whole seconds since the epoch: the deadline counts from here."""
    asked: bool = False
    """Whether an operator wanted it: then no policy undoes it."""


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node whose port is on the switch."""

    index: Index
    port: int
    mac: str
    drain: Drain | None = None
    """Its drain, where it is draining; the switch remembers it for us."""
    delivers: bool = True
    """Whether flows may reach it; a node that is only probed gets nothing else."""
    failed: bool = False
    """Whether an operator took it out, which the switch remembers for us."""
    pins: bool = True
    """Whether its new flows are pinned (``learn``): not while it has as many pins as it may."""

    @property
    def draining(self) -> bool:
        """Whether it takes no new flows, and keeps those it has."""
        return self.drain is not None


@dataclass(frozen=True, slots=True)
class View:
    """All of a group's state that its entries depend on."""

    nodes: tuple[PlanNode, ...]
    slots: tuple[Index, ...]
    """Owner of each slot, 256 of them; empty when no node takes flows."""
    primary: Index
    primary_mac: str | None
    """Hardware address under which clients know the primary."""
    primary_port: int | None = None
    """Port of the configured primary, also while its hardware address is still unknown."""
    primary_serves: bool = True
    ingress: tuple[int, ...] = ()
    """Port numbers of the specification's ingress ports, those that the switch has."""
    older: Older = Older.PRIMARY
    straight: bool = False
    """Whether a SYN goes straight to its slot: no pin that counts names another node."""
