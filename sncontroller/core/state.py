"""What the core knows of a group at one moment: immutable values.

Owns the shape of run-time state. Configuration is in ``model``; how state changes is in ``group``
and its parts. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sncontroller.core.balance import BalanceMemory
from sncontroller.core.choice import Choices
from sncontroller.core.commands import Logged
from sncontroller.core.events import Call, Port
from sncontroller.core.health import Health
from sncontroller.core.latency import Latency
from sncontroller.core.layout import PRIMARY_INDEX, Index, Layout
from sncontroller.core.lifecycle import DELIVERABLE, SERVING, STARTING, State
from sncontroller.core.load import Load, Rates, Tracker
from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import Older, View
from sncontroller.core.probe import ProbeState
from sncontroller.core.report import Known, Reading
from sncontroller.core.scaling import Memory

LOG_LENGTH = 100
"""Entries of the event log that a group keeps."""


@dataclass(frozen=True, slots=True)
class Source:
    """One report of one node: when it is fetched, and what came last."""

    next_s: float
    """When to fetch it next."""
    asked_s: float | None = None
    """Since when an answer is awaited."""
    read: Mapping[str, Reading] = field(default_factory=dict)
    """What the last report said, by signal."""
    read_s: float = 0.0
    whole_s: float = 0.0
    """When all its signals were in a report the last time."""
    trouble: str = ""
    """Why there was none the last time; empty when there was."""
    complained: bool = False
    """Whether the event log has that."""


@dataclass(frozen=True, slots=True)
class BfdSetting:
    """What a port's BFD was set to, and in which database."""

    number: int
    """Of the port: one that came again has to be told again."""
    ovsdb: str
    column: tuple[tuple[str, str], ...]
    set_s: float | None = field(default=None, compare=False)
    """When the database had it."""


@dataclass(frozen=True)  # no slots: ``values.changed``
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
    address: str | None = None
    """Its own address as the hypervisor plugin names it."""
    latency_s: float | None = None
    """Of the last good probe."""
    latency: Latency | None = None
    """Over the last probes."""
    sources: tuple[Source, ...] = ()
    """Its reports, in the order of the specification; empty before the first was asked for."""
    known: Mapping[str, Known] = field(default_factory=dict)
    """The last values of the signals that it reports."""
    told: Mapping[str, float | None] = field(default_factory=dict)
    """Signals that are not counted by the switch, as they were weighed last."""
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
    full: bool = False
    """Whether it has as many pins as it may (``pin.limit``), or had until just now."""

    @property
    def signals(self) -> Mapping[str, float | None]:
        """All its signals by name; None where one is not known."""
        return {**self.rates.signals(), **self.told}

    @property
    def calm(self) -> bool:
        """Whether it serves or waits, answers, and time alone changes nothing about that."""
        settled = self.state is State.ACTIVE or self.state is State.STANDBY
        return settled and self.linked and self.health.is_sound and not self.health.suppressed

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


@dataclass(frozen=True)  # no slots: ``values.changed``
class Group:
    """One service node group."""

    spec: GroupSpec
    layout: Layout
    born_s: float
    looked_s: float = -math.inf
    """When all that may follow from time alone was looked at last."""
    calm: bool = False
    """Whether it ``is_calm``, as of the last event but for new flows and counters."""
    nodes: Mapping[Index, Node] = field(default_factory=dict)
    """By index, the lowest first."""
    primary: Index = PRIMARY_INDEX
    """The node in whose name the address is answered for; the configured one, or a promoted."""
    slots: tuple[Index, ...] = ()
    moved_s: float = -math.inf
    """When slots last changed hands, or were about to."""
    straight: bool = False
    """Whether the switch may have entries that send SYNs straight to their slots."""
    straight_s: float = -math.inf
    """When it said that it has them no longer."""
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
    polled_s: float = -math.inf
    """When the counters were read last."""
    wanted: int = 1
    override: int | None = None
    """The number of nodes an operator asked for."""
    memory: Memory = field(default_factory=Memory)
    balance: BalanceMemory = field(default_factory=BalanceMemory)
    choices: Choices = field(default_factory=Choices)
    """Which flows went where, with ``pinning: reactive``."""
    boot_s: float | None = None
    """How long the last node took from request to a service that answers."""
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
    held_reason: str = ""
    """Why, in words; empty while it keeps none."""
    waits: frozenset[int] = frozenset()
    """Nodes that it would keep if those whose last probe was bad turn out to be dead too."""
    view: View | None = None
    """What the switch was last told, ``None`` when that is not known."""
    apply_again_s: float | None = None
    """When to tell it again after it refused."""
    bfd: Mapping[str, BfdSetting] = field(default_factory=dict)
    """The ports whose BFD we set, by name."""
    bfd_again_s: float = 0.0
    """After a failure, no setting before this."""
    version: int = 0
    live_version: int = 0
    slots_moved: int = 0
    log: tuple[Logged, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether its switch is connected."""
        return self.datapath is not None

    @property
    def is_calm(self) -> bool:
        """Whether nothing can follow from one more good answer of a node."""
        if self.held or self.waits or self.apply_again_s is not None:
            return False
        return all(node.calm for node in self.nodes.values()) and not self.short

    @property
    def ingress(self) -> tuple[int, ...]:
        """Port numbers of the specification's ingress ports, those that the switch has."""
        ports = (self.ports.get(name) for name in self.spec.match.ingress)
        return tuple(port.number for port in ports if port is not None)

    def port(self, name: str) -> Port | None:
        """The port of that name, down where the group heeds liveness and it is not live."""
        port = self.ports.get(name)
        if port is None or not self.spec.health.heeds_liveness:
            return port
        return replace(port, up=port.up and port.live, silenced=port.up and not port.live)

    def management_address(self, node: Node) -> str | None:
        """Where the node is asked apart from the group's address; ``None`` when nobody knows."""
        own, spec = node.address, self.spec
        if node.index == PRIMARY_INDEX:
            its_own = spec.address if spec.arp == "primary" else None
            own = its_own if spec.primary.address is None else str(spec.primary.address)
        return spec.management.address_of(node.index, own)

    def having(self, *states: State) -> Iterator[Node]:
        """The nodes in one of these states, by index."""
        return (node for node in self.nodes.values() if node.state in states)

    @property
    def serving(self) -> tuple[Node, ...]:
        """The nodes that take new flows, by index."""
        return tuple(self.having(*SERVING))

    @property
    def starting(self) -> tuple[Node, ...]:
        """The nodes on their way to serving, by index."""
        return tuple(self.having(*STARTING))

    @property
    def standby(self) -> tuple[Node, ...]:
        """The nodes of the warm pool, by index."""
        return tuple(self.having(State.STANDBY))

    @property
    def warm_wanted(self) -> int:
        """How many nodes the warm pool is to have: within ``scaling.max``, as all nodes are."""
        return max(0, min(self.spec.pool.warm, self.spec.scaling.max - self.wanted))

    @property
    def short(self) -> int:
        """How many nodes are missing, in rotation and in the warm pool; negative: so many spare."""
        missing = max(0, self.wanted - len(self.serving)) + self.warm_wanted
        return missing - len(self.standby) - len(self.starting)

    @property
    def lead_s(self) -> float | None:
        """How long one more node takes into rotation; ``None`` before the first one did."""
        return 0.0 if self.standby else self.boot_s

    @property
    def load(self) -> float | None:
        """The mean load of the serving nodes whose load is known."""
        known = [node.load.value for node in self.serving if node.load is not None]
        return sum(known) / len(known) if known else None
