"""One compilation: a group's specification, its state and the tables it may use.

Owns what the entries of the shared table and those of our own tables have in common: who the
group's packets are, and how a packet is handed to a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from sncontroller.core import layout as at
from sncontroller.core.entries import (
    Action,
    Actions,
    FlowEntry,
    Masked,
    Match,
    Normal,
    Output,
    PopVlan,
    Resubmit,
    SetField,
    Value,
    match,
)
from sncontroller.core.family import Family
from sncontroller.core.layout import Index, Kind, Layout, Zone
from sncontroller.core.model import PROTOCOL_NUMBERS, GroupSpec, Protocol
from sncontroller.core.plan.view import PlanNode, View

Fields: TypeAlias = dict[str, Value | Masked | None]

TCP, UDP = PROTOCOL_NUMBERS["tcp"], PROTOCOL_NUMBERS["udp"]
VLAN_PRESENT, VLAN_NONE = 0x1000, 0
NEW_TCP = Masked(0x002, 0x012)
"""``+syn-ack``: the first packet of a TCP connection."""
NOT_NEW_TCP = Masked(0x000, 0x002)
"""``-syn``: a packet of a connection that is there already."""
ACCEPTED_TCP = Masked(0x012, 0x012)
"""``+syn+ack``: the answer to a connection that the receiver began."""
UNPINNED_SYN = Masked(0x002, 0x006)
"""``+syn-rst``. Where packets have no pin, RST is looked at, and nowhere else (``own_tables``)."""
PINNED_PLAIN = Masked(0x000, 0x020)
"""``-urg``. Where packets have a pin, URG is looked at, and nowhere else."""
PINNED_SYN = Masked(0x002, 0x032)
"""``+syn-ack-urg``: the first packet of a connection on the port of one that has a pin."""
FRAGMENT = Masked(1, 1)
"""First or later fragment. Open vSwitch takes the ports of both as 0 (``OFPC_FRAG_NORMAL``)."""


@dataclass(frozen=True)
class Compilation:
    """The three arguments of ``desired``, and what follows from them."""

    spec: GroupSpec
    view: View
    layout: Layout

    @cached_property
    def zone(self) -> Zone:
        """The group's number."""
        return self.spec.zone

    @cached_property
    def family(self) -> Family:
        """Of the group's address, and so of all its packets."""
        return self.spec.family

    @cached_property
    def address(self) -> str:
        """The address that clients use."""
        return self.spec.address

    @cached_property
    def conntrack(self) -> bool:
        """Whether pins are conntrack's marks."""
        return self.spec.pinning == "conntrack"

    @cached_property
    def nodes(self) -> tuple[PlanNode, ...]:
        """Those that flows may reach."""
        return tuple(node for node in self.view.nodes if node.delivers)

    @property
    def has_primary(self) -> bool:
        """Whether flows may reach the node that stands in for the primary."""
        return any(node.index == self.view.primary for node in self.nodes)

    @property
    def onward(self) -> Action:
        """Where packets go on that leave us."""
        return Normal() if self.layout.onward is None else Resubmit(self.layout.onward)

    @property
    def by_flow(self) -> bool:
        """Whether slots are looked up as flow entries: where the select group's hash will not do.

        ``learn`` must not follow a group (docs/adr/0004). And the group's hash (``sym_l4``) is
        blind to UDP's ports: all flows between two addresses would be one slot's.
        """
        return self.spec.pinning == "learn" or (
            self.conntrack and "udp" in self.spec.match.protocol
        )

    def entry(
        self, kind: Kind, where: Match, actions: Actions, index: int = 0, above: int = 0
    ) -> FlowEntry:
        """An entry in the table that we share with the bridge's owner."""
        cookie = at.cookie(kind, self.zone, index)
        return FlowEntry(
            self.layout.entry_table, self.layout.priority + above, where, actions, cookie
        )

    @cached_property
    def asker_mac(self) -> str:
        """The hardware address that the controller's own questions come from."""
        return at.node_mac(self.zone, Index(0))

    @cached_property
    def own(self) -> Fields:
        """A match on nothing, that tells a group's entries from those of one with its address.

        Two equal matches cannot be in one table. A register that is still 0, under the group's
        number as mask, makes them differ.
        """
        return {"reg3": Masked(0, self.zone)}

    def address_mac(self) -> str | None:
        """The hardware address that clients send the group's packets to, where it is known."""
        if self.spec.arp == "switch":
            return self.asker_mac
        return self.view.primary_mac

    def origins(self) -> Iterator[Fields]:
        """Where clients' packets come from: each ingress port, in the group's VLAN.

        Without a VLAN, untagged ones only: a node could do nothing with a tagged packet. Ingress
        ports that the switch does not have stand for nobody, not for everybody.
        """
        vlan = self.spec.match.vlan
        vid = VLAN_NONE if vlan is None else vlan | VLAN_PRESENT
        for port in self.view.ingress if self.spec.match.ingress else (None,):
            yield {"in_port": port, "vlan_vid": vid}

    def addressed(self, proto: int, **fields: Value | Masked | None) -> Iterator[Match]:
        """Clients' packets of an IP protocol to the group's address.

        The hardware address belongs to it: a packet that a router is still to forward, through the
        same bridge, is not the group's yet.
        """
        for where in self.origins():
            yield match(
                **where,
                eth_dst=self.address_mac(),
                eth_type=self.family.eth_type,
                ip_proto=proto,
                **{self.family.dst: self.address},
                **fields,
            )

    def classified(self) -> Iterator[Match]:
        """The matches that single out the group's packets."""
        for proto in self.spec.match.protocol:
            for port in self.ports():
                yield from self.addressed(PROTOCOL_NUMBERS[proto], **{f"{proto}_dst": port})

    def fragments(self) -> tuple[int, ...]:
        """Protocols whose fragments may be the group's, without showing it.

        Without ports all of a protocol's packets are the group's, its fragments as well; where the
        switch takes the later ones for a protocol of their own, these are apart even then.
        """
        later = self.family.later_fragment
        apart = () if later is None else (later,)
        own = (number for _, number in numbers(self.spec.match.protocol))
        return (*own, *apart) if self.spec.match.ports else apart

    def ports(self) -> tuple[Value | Masked | None, ...]:
        """The group's transport ports, one exact or masked value per match; ``None`` for all."""
        pairs = {pair: None for ports in self.spec.match.ports for pair in ports.masks()}
        return tuple(v if mask == 0xFFFF else Masked(v, mask) for v, mask in pairs) or (None,)

    def to_node(self, node: PlanNode) -> Actions:
        """Hand a packet to the node, whatever its port's state."""
        return to_node(self.spec, node)


def to_node(spec: GroupSpec, node: PlanNode) -> Actions:
    """Hand a packet of the group to the node."""
    strip = () if spec.match.vlan is None else (PopVlan(),)
    return (*strip, SetField("eth_dst", node.mac), Output(node.port))


def numbers(protocols: tuple[Protocol, ...]) -> Iterator[tuple[Protocol, int]]:
    """Each protocol with its IP protocol number."""
    for proto in protocols:
        yield proto, PROTOCOL_NUMBERS[proto]
