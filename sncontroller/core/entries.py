"""Switch entries as values: flows, groups, buckets and the actions in them.

Owns the vocabulary that the compiler (``plan``), the text form (``ofctl``) and the OpenFlow codec
share. It knows nothing of service nodes and nothing of Ryu. Two entries are equal when Open vSwitch
would treat them as the same configuration; counters are no part of an entry.

What is compared and hashed a hundred times per group is a named tuple: Python does that in C.

Field names are those of OpenFlow's OXM (``ipv4_dst``, ``tcp_flags``) and, for Nicira's registers,
``reg0``, ``ct_mark``. Addresses are strings, everything else is an integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

Value: TypeAlias = int | str
MAX_LEN_WHOLE = 0xFFFF
"""``max_len`` of a packet-in that carries the whole packet (OFPCML_NO_BUFFER)."""


class Masked(NamedTuple):
    """A value with a mask: ``tcp_flags=+syn-ack`` is ``Masked(0x002, 0x012)``."""

    value: int
    mask: int


class Match(NamedTuple):
    """Which packets an entry is for: field name -> exact value or ``Masked``, sorted by name."""

    fields: tuple[tuple[str, Value | Masked], ...]

    def get(self, name: str) -> Value | Masked | None:
        """What the field has to be; ``None`` where it does not matter."""
        return dict(self.fields).get(name)

    def having(self, **fields: Value | Masked) -> Match:
        """The match with these fields, too."""
        return Match(tuple(sorted((*self.fields, *fields.items()))))


def match(**fields: Value | Masked | None) -> Match:
    """The match with these fields; a field that is ``None`` is left out."""
    return Match(tuple(sorted([(k, v) for k, v in fields.items() if v is not None])))


# Actions. Each is one OpenFlow action; a tuple of them is an apply-actions list or a bucket's set.


@dataclass(frozen=True, slots=True)
class Output:
    """Send out of a port."""

    port: int


@dataclass(frozen=True, slots=True)
class Normal:
    """Hand to the switch's own L2 forwarding (OFPP_NORMAL)."""


@dataclass(frozen=True, slots=True)
class InPort:
    """Send back where it came from (OFPP_IN_PORT)."""


@dataclass(frozen=True, slots=True)
class ToController:
    """Packet-in with the whole packet."""

    max_len: int = MAX_LEN_WHOLE


@dataclass(frozen=True, slots=True)
class ToGroup:
    """Process by a group."""

    group_id: int


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a whole header field: ``eth_dst``, ``ipv4_dst``."""

    field: str
    value: Value


@dataclass(frozen=True, slots=True)
class Load:
    """Write an immediate into a whole field (NXAST_REG_LOAD); the field by its NXM name."""

    value: int
    dst: str


@dataclass(frozen=True, slots=True)
class Move:
    """Copy a whole field into another of the same width (NXAST_REG_MOVE), by NXM names."""

    src: str
    dst: str


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look the packet up in another table, then go on with the next action."""

    table: int


@dataclass(frozen=True, slots=True)
class Ct:
    """Conntrack in ``zone``; with ``table``, go on there with the connection's state known.

    With ``commit`` the connection is recorded, and ``mark`` written to it.
    """

    zone: int
    table: int | None = None
    commit: bool = False
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class Learn:
    """Write a flow entry that sends the rest of this connection the same way (NXAST_LEARN2).

    The new entry matches ``eth_type`` and ``ip_proto`` and takes the ``copied`` fields' values from
    the packet at hand; its action loads ``load`` into ``reg0``. ``limit`` bounds how many entries
    of this cookie the table may hold, and 0 does not; over it, nothing is learned and the packet
    goes on.
    """

    table: int
    priority: int
    cookie: int
    idle_timeout_s: int
    fin_idle_timeout_s: int
    limit: int
    eth_type: int
    ip_proto: int
    copied: tuple[str, ...]
    load: int


@dataclass(frozen=True, slots=True)
class HashSlot:
    """Hash the 5-tuple into ``0..slots-1`` and load that into ``reg2`` (NXAST_MULTIPATH).

    Symmetric L3/L4 hash, modulo N. It also makes the cached flow exact in the 5-tuple. With
    ``by_address`` the two addresses are all that counts.
    """

    slots: int
    by_address: bool = False


@dataclass(frozen=True, slots=True)
class FinTimeout:
    """Shorten the entry's idle timeout once a FIN or RST passed (NXAST_FIN_TIMEOUT)."""

    idle_timeout_s: int


@dataclass(frozen=True, slots=True)
class PopVlan:
    """Strip the outer VLAN tag."""


Action: TypeAlias = (
    Output
    | Normal
    | InPort
    | ToController
    | ToGroup
    | SetField
    | Load
    | Move
    | Resubmit
    | Ct
    | Learn
    | HashSlot
    | FinTimeout
    | PopVlan
)
Actions: TypeAlias = tuple[Action, ...]


class FlowKey(NamedTuple):
    """What identifies a flow entry on a switch (OFPFC_*_STRICT)."""

    table: int
    priority: int
    match: Match


class FlowEntry(NamedTuple):
    """One flow entry; no actions means drop. Timeouts in seconds, 0 for none."""

    table: int
    priority: int
    match: Match
    actions: Actions
    cookie: int
    idle_timeout_s: int = 0

    @property
    def key(self) -> FlowKey:
        """What identifies the entry on its switch."""
        return FlowKey(self.table, self.priority, self.match)


class GroupType(Enum):
    """The two group types in use (OpenFlow 1.3.5, 5.6.1)."""

    SELECT = "select"
    FAST_FAILOVER = "ff"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A group's bucket; live while its watched port or group is."""

    actions: Actions
    watch_port: int | None = None
    watch_group: int | None = None


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """One group entry; a select group's buckets all have weight 1."""

    group_id: int
    type: GroupType
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All entries of one owner on one switch: what is desired, or what is installed."""

    flows: Mapping[FlowKey, FlowEntry] = field(default_factory=dict)
    groups: Mapping[int, GroupEntry] = field(default_factory=dict)

    @classmethod
    def of(cls, flows: tuple[FlowEntry, ...], groups: tuple[GroupEntry, ...] = ()) -> Table:
        """The table with these entries. Raises ``ValueError`` when two share a key."""
        table = cls({f.key: f for f in flows}, {g.group_id: g for g in groups})
        if len(table.flows) != len(flows) or len(table.groups) != len(groups):
            raise ValueError("two entries share a key")
        return table


EMPTY = Table()
