"""What the demo measures: the clients' view, the controller's view, and both at one moment.

Owns these values and their serial forms. No sockets and no processes: ``clients`` makes the
traffic samples, ``controller`` reads the group's status, ``report``, ``plot`` and ``view`` show
them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_BUCKET_RATIO = 1.04
"""Latencies are counted in buckets 4 % wide: percentiles are that exact, and can be merged."""

NodeState = Literal[
    "requested",
    "booting",
    "probing",
    "standby",
    "warming",
    "active",
    "draining",
    "gone",
    "failed",
]


class _Seen(BaseModel):
    """Part of an answer: what the demo reads of it, whatever else it may have."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Traffic(_Seen):
    """What the clients saw in ``span_s`` seconds; those named totals count from the start."""

    time_s: float
    span_s: float
    users: int
    """Users at work; each has one connection at most."""
    requests: int
    """Requests answered in full in this span."""
    made_total: int = 0
    """Connections that were opened and answered something."""
    held_total: int = 0
    """Of these, long-lived ones."""
    failed_total: int = 0
    """Connections refused, reset, timed out or cut short."""
    moved_total: int = 0
    """Connections that were answered by more than one node."""
    latency: dict[int, int] = Field(default_factory=dict)
    """Requests by latency bucket: ``percentile_ms``."""
    by_node: dict[str, int] = Field(default_factory=dict)
    """Requests of this span by the node that answered."""
    held: dict[str, int] = Field(default_factory=dict)
    """Long-lived connections open now, by their node."""
    errors: tuple[str, ...] = ()
    """What went wrong in this span, in words; the first few."""

    @property
    def rate(self) -> float:
        """Requests answered per second."""
        return self.requests / self.span_s if self.span_s > 0 else 0.0


class NodeSeen(_Seen):
    """A node as the controller reports it."""

    name: str
    index: int
    role: str
    state: NodeState
    port: str | None = None
    slots: int = 0
    load: float | None = None
    since_s: float = 0.0
    reason: str = ""

    @property
    def serves(self) -> bool:
        """Whether new flows go to it."""
        return self.slots > 0


class EventSeen(_Seen):
    """An entry of the controller's event log."""

    time_s: float
    kind: str
    node: str | None = None
    reason: str = ""
    took_s: float | None = None


class GroupSeen(_Seen):
    """A group as the controller reports it."""

    name: str
    addresses: tuple[str, ...] = ()
    load: float | None = None
    wanted: int | None = None
    active: int | None = None
    slots_moved_total: int = 0
    connected: bool = False
    nodes: tuple[NodeSeen, ...] = ()
    events: tuple[EventSeen, ...] = ()

    @property
    def present(self) -> tuple[NodeSeen, ...]:
        """The nodes that exist."""
        return tuple(node for node in self.nodes if node.state != "gone")

    @property
    def serving(self) -> tuple[NodeSeen, ...]:
        """The nodes that take new flows."""
        return tuple(node for node in self.nodes if node.serves)


class StatusSeen(_Seen):
    """The answer of ``GET /v1/status``."""

    groups: tuple[GroupSeen, ...] = ()

    def group(self, name: str) -> GroupSeen | None:
        """The group of that name."""
        return next((group for group in self.groups if group.name == name), None)


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that was known at one moment of the demo."""

    time_s: float
    phase: str
    offered_users: int
    traffic: Traffic | None
    """The clients' newest sample, if it came since the moment before."""
    group: GroupSeen | None
    """None while the controller does not answer."""


def bucket(latency_s: float) -> int:
    """The bucket that a latency is counted in."""
    return max(0, round(math.log(max(latency_s * 1000, 0.01) / 0.01, _BUCKET_RATIO)))


def percentile_ms(latency: Mapping[int, int], share: float) -> float | None:
    """The latency in ms that ``share`` (0..1) of the requests did not exceed; None without any."""
    left = share * sum(latency.values())
    for number, count in sorted(latency.items()):
        left -= count
        if left <= 1e-9:
            return float(0.01 * _BUCKET_RATIO**number)
    return None


def merged(samples: Iterable[Traffic]) -> dict[int, int]:
    """The latencies of all the samples together."""
    total: Counter[int] = Counter()
    for sample in samples:
        total.update(sample.latency)
    return dict(total)
