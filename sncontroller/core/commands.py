"""What the core asks for: commands, plain values.

Owns one half of the vocabulary between the core and its shell; ``core/events.py`` is the other. A
command is idempotent and carries all it needs. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from sncontroller.core import frames
from sncontroller.core.entries import Actions, FlowEntry, Table
from sncontroller.core.health_spec import HealthSpec
from sncontroller.core.hypervisor import NodeRequest
from sncontroller.core.layout import Index, Zone
from sncontroller.core.report import ReportSpec


@dataclass(frozen=True, slots=True)
class Apply:
    """Make this the group's table on the switch, and confirm it as ``version``."""

    datapath: int
    zone: Zone
    version: int
    desired: Table


@dataclass(frozen=True, slots=True)
class AddPin:
    """``reactive``: pin one flow, then do with its first packet what the actions say."""

    datapath: int
    pin: FlowEntry | None
    """An older pin of the flow gives way to it; ``None`` where the flow has, or needs, none."""
    actions: Actions
    in_port: int
    frame: bytes
    given: int = 0
    """How many flows the node was given so far, this one included."""


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Packet-out of these bytes on a port (``OFPP_FLOOD`` for all)."""

    datapath: int
    port: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Transmit:
    """``SendFrame``, not yet written as bytes."""

    datapath: int
    port: int
    frame: frames.Frame


@dataclass(frozen=True, slots=True)
class DropPins:
    """Forget the per-flow entries that pin to a node."""

    datapath: int
    zone: Zone
    index: Index


@dataclass(frozen=True, slots=True)
class StartNode:
    """Ask the group's hypervisor plugin for a node."""

    zone: Zone
    request: NodeRequest


@dataclass(frozen=True, slots=True)
class StopNode:
    """Ask the group's hypervisor plugin to destroy a node."""

    zone: Zone
    name: str


@dataclass(frozen=True, slots=True)
class ListNodes:
    """Ask the group's hypervisor plugin which nodes there are."""

    zone: Zone


@dataclass(frozen=True, slots=True)
class AskNode:
    """Ask a node's service over the management network: ``Heard``, or silence after its timeout."""

    zone: Zone
    index: Index
    asked_s: float
    spec: HealthSpec
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Fetch a node's report: ``Reported``, within its timeout."""

    zone: Zone
    index: Index
    source: int
    asked_s: float
    spec: ReportSpec
    url: str


@dataclass(frozen=True, slots=True)
class SetBfd:
    """Set these keys of a port's ``bfd`` column in the switch's database, or remove them."""

    zone: Zone
    port: str
    ovsdb: str
    column: tuple[tuple[str, str], ...]
    on: bool


class Kind(Enum):
    """What an entry of the event log is about."""

    STARTED = "started"
    ACTIVE = "active"
    STANDBY = "standby"
    DRAINING = "draining"
    UNDRAINED = "undrained"
    DRAINED = "drained"
    STOPPED = "stopped"
    FAILED = "failed"
    WANTED = "wanted"
    PRIMARY = "primary"
    BREAKER = "breaker"
    SWITCH_UP = "switch_up"
    SWITCH_DOWN = "switch_down"
    REFUSED = "refused"
    PLUGIN_ERROR = "plugin_error"
    PINS = "pins"
    REPORT = "report"
    BFD = "bfd"
    RELOADED = "reloaded"
    RELOAD_REFUSED = "reload_refused"


@dataclass(frozen=True, slots=True)
class Logged:
    """Something an operator wants to know, with the reason in words."""

    time_s: float
    kind: Kind
    node: str | None
    reason: str
    took_s: float | None = None


Command: TypeAlias = (
    Apply
    | AddPin
    | SendFrame
    | Transmit
    | DropPins
    | StartNode
    | StopNode
    | ListNodes
    | AskNode
    | FetchReport
    | SetBfd
    | Logged
)
