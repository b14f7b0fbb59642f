"""Where our entries live: cookies, tables, group identifiers and the marks of nodes.

Owns every number that tells our entries from a bridge's other ones. All of them are functions of
the group's ``zone`` (1..65535) and the node's ``index`` (1..4095), so a switch's dump says whose
each entry is, and a restart needs no file to find its entries again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

Zone = NewType("Zone", int)
"""A group's number, also its conntrack zone."""
Index = NewType("Index", int)
"""A node's number in its group; the configured primary is 1."""

PRIMARY_INDEX = Index(1)
MAX_INDEX = 0xFFF
MAX_ZONE = 0xFFFF
COOKIE_MAGIC = 0x534E_0000_0000_0000
COOKIE_MAGIC_MASK = 0xFFFF_0000_0000_0000
COOKIE_EXACT = 0xFFFF_FFFF_FFFF_FFFF
_GROUP_ID_PREFIX = 0xA000_0000


class Kind(IntEnum):
    """What an entry is for; part of its cookie."""

    CLASSIFY = 1
    """Takes the group's packets out of the bridge's other traffic."""
    PINNED = 2
    """Delivers a pinned flow's packets to its node: its counters are the node's traffic."""
    SELECT = 3
    """Sends packets without a pin to the slot table."""
    COMMIT = 4
    """Pins a new flow to a node: its packet counter is the node's new flows."""
    RETURN = 5
    """Takes a node's replies on their way."""
    PIN = 6
    """A single flow's pin, made by ``learn`` or by the controller; not part of a desired table."""
    SERVICE = 7
    """Answers ARP or ND for the group's address, carries probes."""


_KINDS = {int(kind): kind for kind in Kind}


def cookie(kind: Kind, zone: Zone, index: int = 0) -> int:
    """``SN`` (16 bits), kind (16), zone (16), node index (16)."""
    return COOKIE_MAGIC | kind << 32 | zone << 16 | index


@dataclass(frozen=True, slots=True)
class Origin:
    """What a cookie of ours says."""

    kind: Kind
    zone: Zone
    index: Index


def origin(value: int) -> Origin | None:
    """What the cookie says, or ``None`` for a foreign one."""
    kind = _KINDS.get(value >> 32 & 0xFFFF)
    if kind is None or value & COOKIE_MAGIC_MASK != COOKIE_MAGIC:
        return None
    return Origin(kind, Zone(value >> 16 & 0xFFFF), Index(value & 0xFFFF))


def mark(zone: Zone, index: Index) -> int:
    """The node's value in ``ct_mark`` and ``reg0``: unique on a switch, never 0."""
    return zone << 12 | index


def select_group(zone: Zone) -> int:
    """The identifier of the group's slot table."""
    return _GROUP_ID_PREFIX | zone << 12


def deliver_group(zone: Zone, index: Index) -> int:
    """The identifier of the fast-failover group that delivers to one node."""
    return _GROUP_ID_PREFIX | mark(zone, index)


def group_origin(group_id: int) -> tuple[Zone, Index] | None:
    """Whose group entry this is (index 0: the slot table), or ``None`` for a foreign one."""
    if group_id & 0xF000_0000 != _GROUP_ID_PREFIX:
        return None
    return Zone(group_id >> 12 & 0xFFFF), Index(group_id & 0xFFF)


def node_mac(zone: Zone, index: Index) -> str:
    """The hardware address that we give to a secondary: locally administered, ``02:53:...``."""
    return (0x0253 << 32 | zone << 16 | index).to_bytes(6).hex(":")


def port_name(zone: Zone, index: Index) -> str:
    """The name of a secondary's OVS port, 12 characters at most: ``sn00a1-2``."""
    return f"sn{zone:04x}-{index}"


def node_index(port: str, zone: Zone) -> Index | None:
    """The index that a port's name says, or ``None`` when it is no secondary's of this group."""
    head, _, tail = port.partition("-")
    if head != f"sn{zone:04x}" or not tail.isdigit() or not 1 < int(tail) <= MAX_INDEX:
        return None
    return Index(int(tail))


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables of one bridge that we may use, and what happens to packets that leave us."""

    entry_table: int = 0
    first_table: int = 200
    priority: int = 40000
    onward: int | None = None
    """Table in which returning packets go on; ``None`` for the bridge's own forwarding."""

    @property
    def dispatch_table(self) -> int:
        """Here a packet's pin, if it has one, is known."""
        return self.first_table

    @property
    def commit_table(self) -> int:
        """Here a new flow's node is known and becomes its pin."""
        return self.first_table + 1

    @property
    def pin_table(self) -> int:
        """Per-flow entries of ``learn`` and ``reactive``."""
        return self.first_table + 2

    @property
    def slot_table(self) -> int:
        """The slot table as flow entries, for ``learn``."""
        return self.first_table + 3
