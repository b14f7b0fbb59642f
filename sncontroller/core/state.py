"""What the core knows of a group at one moment: immutable values.

Owns the shape of run-time state. Configuration is in ``model``; how state changes is in ``group``
and its parts. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sncontroller.core.balance import BalanceMemory
from sncontroller.core.events import Call, Logged, Port
from sncontroller.core.health import Health
from sncontroller.core.layout import PRIMARY_INDEX, Index, Layout
from sncontroller.core.lifecycle import DELIVERABLE, SERVING, STARTING, State
from sncontroller.core.load import Load, Rates, Tracker
from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import Older, View
from sncontroller.core.probe import ProbeState
from sncontroller.core.scaling import Memory

LOG_LENGTH = 100
"""Entries of the event log that a group keeps."""


@dataclass(frozen=True, slots=True)
class Node:
    """One service node."""

    index: Index
    name: str
    port_name: str
    mac: str | None
    ours: bool
    """Whether we created it, and may destroy it."""
    state: State
    since_s: float
    reason: str
    health: Health
    port: Port | None = None
    probe: ProbeState | None = None
    latency_s: float | None = None
    """Of the last good probe."""
    tracker: Tracker = field(default_factory=Tracker)
    rates: Rates = field(default_factory=Rates)
    load: Load | None = None
    requested_s: float | None = None
    """When the hypervisor was first asked for it."""
    call: Call | None = None
    """The hypervisor call under way."""
    called_s: float = 0.0
    attempts: int = 0
    retry_s: float = 0.0
    """No hypervisor call before this."""
    seen_packets: int | None = None
    """The packet counter of its pinned flows, as last polled."""
    quiet_since_s: float | None = None
    """Since when no packet of its pinned flows was seen."""
    asked: bool = False
    """Whether an operator, not the policy, drained it."""

    @property
    def linked(self) -> bool:
        """Whether its port is on the switch and up."""
        return self.port is not None and self.port.up

    @property
    def serving(self) -> bool:
        """Whether it takes new flows."""
        return self.state in SERVING

    @property
    def starting(self) -> bool:
        """Whether it is on its way to serving."""
        return self.state in STARTING

    @property
    def deliverable(self) -> bool:
        """Whether flows pinned to it reach it."""
        return self.state in DELIVERABLE


@dataclass(frozen=True, slots=True)
class Group:
    """One service node group."""

    spec: GroupSpec
    layout: Layout
    born_s: float
    nodes: Mapping[Index, Node] = field(default_factory=dict)
    primary: Index = PRIMARY_INDEX
    """The node in whose name the address is answered for; the configured one, or a promoted."""
    slots: tuple[int, ...] = ()
    weights: Mapping[int, float] = field(default_factory=dict)
    """The weights that ``slots`` were made for."""
    older: Older = Older.PRIMARY
    adopts_since_s: float = math.inf
    """When the switch first got our entries from this controller."""
    datapath: int | None = None
    bridge: str | None = None
    ports: Mapping[str, Port] = field(default_factory=dict)
    """The switch's ports by name."""
    ask_mac_s: float = 0.0
    """When to ask for the primary's hardware address again."""
    wanted: int = 1
    override: int | None = None
    """The number of nodes an operator asked for."""
    memory: Memory = field(default_factory=Memory)
    balance: BalanceMemory = field(default_factory=BalanceMemory)
    boot_s: float | None = None
    """How long the last node took from request to rotation."""
    listed: bool = False
    """Whether the hypervisor said once which nodes there are."""
    settled: bool = False
    """Whether switch and hypervisor both did: nothing is started or drained before that."""
    listing_s: float | None = None
    """When the list call under way began."""
    list_next_s: float = 0.0
    list_attempts: int = 0
    no_start_before_s: float = 0.0
    """After a permanent error, or a node that never served, no new node before this."""
    boot_failures: int = 0
    """Nodes in a row that never came into service."""
    held: frozenset[int] = frozenset()
    """Nodes that the breaker keeps in rotation."""
    waits: frozenset[int] = frozenset()
    """Nodes that it would keep if those whose last probe was bad turn out to be dead too."""
    view: View | None = None
    """What the switch was last told, ``None`` when that is not known."""
    apply_again_s: float | None = None
    """When to tell it again after it refused."""
    version: int = 0
    live_version: int = 0
    slots_moved: int = 0
    log: tuple[Logged, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether its switch is connected."""
        return self.datapath is not None

    @property
    def ingress(self) -> tuple[int, ...]:
        """Port numbers of the specification's ingress ports, those that the switch has."""
        ports = (self.ports.get(name) for name in self.spec.match.ingress)
        return tuple(port.number for port in ports if port is not None)

    def having(self, *states: State) -> Iterator[Node]:
        """The nodes in one of these states, by index."""
        return (node for _, node in sorted(self.nodes.items()) if node.state in states)

    @property
    def serving(self) -> tuple[Node, ...]:
        """The nodes that take new flows, by index."""
        return tuple(self.having(*SERVING))

    @property
    def starting(self) -> tuple[Node, ...]:
        """The nodes on their way to serving, by index."""
        return tuple(self.having(*STARTING))

    @property
    def load(self) -> float | None:
        """The mean load of the serving nodes whose load is known."""
        known = [node.load.value for node in self.serving if node.load is not None]
        return sum(known) / len(known) if known else None
