"""What comes into the core: events, plain values.

Owns one half of the vocabulary between core and shell; ``core/commands.py`` is the other. An
event says what was seen, never what to do. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from sncontroller.core import frames
from sncontroller.core.entries import Table
from sncontroller.core.hypervisor import NodeInfo
from sncontroller.core.layout import Index, Zone
from sncontroller.core.model import GroupSpec
from sncontroller.core.report import Reading


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a switch, as OpenFlow describes it."""

    number: int
    name: str
    mac: str
    up: bool
    live: bool = True
    """Whether it may carry traffic (OFPPS_LIVE), which Open vSwitch's BFD has a say in."""
    silenced: bool = False
    """Whether it counts as down for not being live, although its link is up."""

    @property
    def down_by(self) -> str:
        """Why it is down, where it is."""
        return "BFD: the switch hears nothing from it" if self.silenced else "its link is down"


@dataclass(frozen=True, slots=True)
class FiveTuple:
    """A flow in the direction of the group; addresses as ``inet_ntop`` writes them."""

    ip_proto: int
    src: str
    dst: str
    src_port: int
    dst_port: int


class NodeCounters(NamedTuple):
    """A node's raw counters in one poll; ``None`` where a reply or an entry was missing.

    A named tuple, as a poll makes thousands.
    """

    new_flows: int | None
    packets: int | None
    bytes: int | None
    reply_packets: int | None
    reply_bytes: int | None
    port_drops: int | None
    active_flows: int | None
    flows_given: int | None = None
    """``AddPin.given`` of the last pin for the node that was written before the question; ``None``
    where there was none since the switch connected."""


@dataclass(frozen=True, slots=True)
class SwitchUp:
    """A switch connected and was dumped: its ports, and our entries that it holds, by zone."""

    datapath: int
    bridge: str
    ports: tuple[Port, ...]
    installed: Mapping[Zone, Table]


@dataclass(frozen=True, slots=True)
class SwitchDown:
    """The connection to a switch ended; it goes on forwarding."""

    datapath: int


@dataclass(frozen=True, slots=True)
class PortSeen:
    """A port appeared or changed."""

    datapath: int
    port: Port


@dataclass(frozen=True, slots=True)
class PortGone:
    """A port was removed."""

    datapath: int
    port: Port


@dataclass(frozen=True, slots=True)
class Applied:
    """The switch confirmed this version of a group's table with a barrier."""

    datapath: int
    zone: Zone
    version: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The switch refused the table; nothing of it was applied."""

    datapath: int
    zone: Zone
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Polled:
    """One round of statistics for one group."""

    datapath: int
    zone: Zone
    at_s: float
    nodes: Mapping[Index, NodeCounters]


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A packet of ``reactive`` pinning without a pin came to the controller."""

    datapath: int
    zone: Zone
    flow: FiveTuple
    in_port: int
    opening: int | None
    """The sequence number of a packet that opens a TCP connection: it tells one that was repeated
    from another connection of the same ports."""
    pinned: Index | None
    """The draining node that the flow's old pin names."""
    frame: bytes
    ending: bool = False
    """Whether the packet ends a TCP connection (FIN or RST)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A packet-in that is no new flow: a reply to a probe, an ARP answer."""

    datapath: int
    zone: Zone
    in_port: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A ``Frame``, read: what came in by a port of the switch."""

    datapath: int
    zone: Zone
    in_port: int
    frame: frames.Frame


class Call(Enum):
    """The calls of the hypervisor protocol."""

    START = "start"
    STOP = "stop"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class HypervisorResult:
    """A hypervisor call ended. ``error`` is ``None`` on success; ``permanent`` as its type said."""

    zone: Zone
    call: Call
    node: str | None
    nodes: tuple[NodeInfo, ...]
    error: str | None
    permanent: bool
    took_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A node answered a question over the management network (``AskNode``), or refused to."""

    zone: Zone
    index: Index
    asked_s: float
    """The question's own."""
    ok: bool
    detail: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Reported:
    """A fetch of a node's report ended (``FetchReport``)."""

    zone: Zone
    index: Index
    source: int
    asked_s: float
    """The question's own."""
    at_s: float
    """When the answer came."""
    readings: Mapping[str, Reading]
    """By signal; empty with an error."""
    error: str | None


@dataclass(frozen=True, slots=True)
class BfdSet:
    """A port's BFD was set (``SetBfd``), or could not be: then ``error`` says why."""

    zone: Zone
    port: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Respecified:
    """The configuration of the group changed."""

    spec: GroupSpec


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


class Verb(Enum):
    """What an operator asks of one node."""

    DRAIN = "drain"
    """No new flows; it goes when those it has ended."""
    UNDRAIN = "undrain"
    """Take new flows again."""
    FAIL = "fail"
    """Treat it as dead: its flows are selected anew at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator asked for something of a node."""

    zone: Zone
    node: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """An operator set the number of nodes, or gave it back to the policy (``None``)."""

    zone: Zone
    nodes: int | None


Event: TypeAlias = (
    SwitchUp
    | SwitchDown
    | PortSeen
    | PortGone
    | Applied
    | Refused
    | Polled
    | NewFlow
    | Frame
    | HypervisorResult
    | Asked
    | ScaleAsked
    | Answer
    | Heard
    | Reported
    | BfdSet
    | Respecified
    | Tick
)
