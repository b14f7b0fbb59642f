"""Which node a new flow gets, where the controller is asked for every flow.

Owns the exact policies, round robin and least connections, and the memory behind them: whose turn
it is, how many flows each node has, and which flows were given away just now, so that a first
packet that comes twice is one flow. Which nodes may be chosen, and their weights, comes in as
``weights``. One choice costs time in the number of nodes, never in the number of flows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sncontroller.core.balance import BalanceKind
from sncontroller.core.events import FiveTuple
from sncontroller.core.layout import Index

ROUND = 232_792_560
"""A turn at weight 1: the least common multiple of 1 to 20, so that such weights divide it."""
KEEP_S = 8.0
"""A flow is known for this long after it was given away: TCP repeats a SYN after 1, 3 and 7 s."""
_BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Last:
    """A node's last turn."""

    time: int
    nth: int
    """Which choice it was, counted over all nodes."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Stride scheduling (Waldspurger 1995): a turn takes a node ``ROUND`` over its weight.

    Among nodes of one weight the next is always the one whose last turn is the longest ago.
    """

    time: int = 0
    taken: int = 0
    last: Mapping[Index, Last] = field(default_factory=dict)

    def due(self, index: Index, weight: float) -> tuple[int, int, Index]:
        """When the node's next turn is, as a key to sort by; a newcomer's is in this round."""
        last = self.last.get(index)
        if last is None:
            return self.time, self.taken, index
        return max(self.time, last.time + round(ROUND / weight)), last.nth, index

    def after(self, index: Index, weights: Mapping[Index, float]) -> Turns:
        """The turns once the node has taken its; those without a weight are forgotten."""
        time, _, _ = self.due(index, weights[index])
        known = {other: last for other, last in self.last.items() if other in weights}
        known[index] = Last(time, self.taken)
        return Turns(max(self.time, time), self.taken + 1, known)


@dataclass(frozen=True, slots=True)
class Given:
    """To which node a flow went, and when."""

    node: Index
    opening: int | None
    at_s: float


@dataclass(frozen=True, slots=True)
class Recent:
    """The flows of the last ``KEEP_S``, in buckets: replacing one does not copy all others."""

    buckets: tuple[Mapping[FiveTuple, Given], ...] = ({},) * _BUCKETS

    def node(self, flow: FiveTuple, opening: int | None, now: float) -> Index | None:
        """The node that the flow was given to just now.

        ``opening`` is a SYN's sequence number. With another one than last time it is another
        connection; a packet that opens nothing belongs to the one that is known.
        """
        given = self.buckets[_hash(flow) % _BUCKETS].get(flow)
        if given is None or not _is_recent(given, now):
            return None
        return given.node if opening in (None, given.opening) else None

    def with_flow(self, flow: FiveTuple, given: Given) -> Recent:
        """With one more flow; what is old in its bucket goes."""
        at = _hash(flow) % _BUCKETS
        bucket = {
            known: old for known, old in self.buckets[at].items() if _is_recent(old, given.at_s)
        }
        bucket[flow] = given
        return Recent((*self.buckets[:at], bucket, *self.buckets[at + 1 :]))


@dataclass(frozen=True, slots=True)
class Count:
    """A node's flows as the switch counted them, and how many it had been given until then."""

    flows: int
    given: int


@dataclass(frozen=True, slots=True)
class Choices:
    """What the next choice needs of those before it."""

    given: Mapping[Index, int] = field(default_factory=dict)
    """Flows that each node was ever given: a counter, as a switch has it for other pinnings."""
    counts: Mapping[Index, Count] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)
    recent: Recent = field(default_factory=Recent)

    def flows(self, index: Index) -> int:
        """The node's flows now: those that the switch counted, and those given to it since."""
        count = self.counts.get(index, Count(0, 0))
        return count.flows + max(0, self.given.get(index, 0) - count.given)

    def counted(self, index: Index, flows: int, given: int | None) -> Choices:
        """The switch has this many pins of the node, ``given`` of its flows having been written.

        ``None``: none was written since the switch connected.
        """
        upto = self.given.get(index, 0) if given is None else given
        return replace(self, counts={**self.counts, index: Count(flows, upto)})

    def chosen(self, flow: FiveTuple, given: Given, weights: Mapping[Index, float]) -> Choices:
        """The memory once the flow was given to the node."""
        index = given.node
        return replace(
            self,
            given={**self.given, index: self.given.get(index, 0) + 1},
            turns=self.turns.after(index, weights) if index in weights else self.turns,
            recent=self.recent.with_flow(flow, given),
        )


def choose(
    kind: BalanceKind,
    choices: Choices,
    weights: Mapping[Index, float],
    slots: tuple[int, ...],
    flow: FiveTuple,
) -> Index:
    """The node for a new flow, of those with a weight above 0; ``slots`` is their slot table.

    * round robin: the node whose turn it is, a heavier one's turn coming sooner;
    * least connections: the node with the fewest flows per weight once it has this one too; among
      equals, as round robin;
    * else the owner of the flow's slot; whose turn it is, if that serves no longer: slots are dealt
      anew only when the switch can be told.
    """
    if kind is BalanceKind.LEAST_CONNECTIONS:
        return min(
            weights,
            key=lambda index: (
                (choices.flows(index) + 1) / weights[index],
                choices.turns.due(index, weights[index]),
            ),
        )
    if kind is not BalanceKind.ROUND_ROBIN:
        owner = Index(slots[_hash(flow) % len(slots)])
        if owner in weights:
            return owner
    return min(weights, key=lambda index: choices.turns.due(index, weights[index]))


def _hash(flow: FiveTuple) -> int:
    key = f"{flow.ip_proto} {flow.src} {flow.src_port} {flow.dst} {flow.dst_port}"
    return zlib.crc32(key.encode())


def _is_recent(given: Given, now: float) -> bool:
    return now - given.at_s <= KEEP_S
