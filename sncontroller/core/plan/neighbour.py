"""Who has this address? ARP and neighbour discovery, as matches and actions.

Owns the two families' ways to ask, to answer and to teach where an address is. Which of them a
group's entries need is in ``shared_table``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from sncontroller.core.entries import Actions, InPort, Move, Resubmit, SetField
from sncontroller.core.family import IPV6, Family
from sncontroller.core.plan.compilation import Fields

Answer: TypeAlias = tuple[Fields, Actions]
"""A match and what is done."""

ETH_ARP = 0x0806
ARP_REQUEST, ARP_REPLY = 1, 2
SOLICITATION, ADVERTISEMENT = 135, 136
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
NOBODY6 = "::"
_SOLICITED, _OVERRIDE = 0x4000_0000, 0x2000_0000
"""Flags of an advertisement (RFC 4861, 4.4)."""
_TARGET_LINK_LAYER = 2


class Neighbours(Protocol):
    """A family's way to find a neighbour's hardware address."""

    def question(self, address: str) -> Fields:
        """The packets that ask who has the address."""

    def answer(self, mac: str, address: str, table: int) -> Actions:
        """Turn a question round: ``address`` is at ``mac``. May go on in ``table``."""

    def rest_of_answer(self, mac: str, address: str) -> Answer | None:
        """What ``table`` needs for it, where the answer goes on there."""

    def claim(self, mac: str, address: str) -> Answer | None:
        """A host that wants to take the address, and what tells it that it is taken."""

    def lessons(self, address: str) -> Iterator[Fields]:
        """The packets that teach others who has the address."""

    def reply(self, source: str) -> Fields:
        """The packets that answer a question of ``source``."""


class _Arp:
    """RFC 826, for IPv4."""

    def question(self, address: str) -> Fields:
        return {"eth_type": ETH_ARP, "arp_op": ARP_REQUEST, "arp_tpa": address}

    def answer(self, mac: str, address: str, table: int) -> Actions:
        return (
            Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
            SetField("eth_src", mac),
            SetField("arp_op", ARP_REPLY),
            Move("NXM_NX_ARP_SHA", "NXM_NX_ARP_THA"),
            Move("NXM_OF_ARP_SPA", "NXM_OF_ARP_TPA"),
            SetField("arp_sha", mac),
            SetField("arp_spa", address),
            InPort(),
        )

    def rest_of_answer(self, mac: str, address: str) -> None:
        return None

    def claim(self, mac: str, address: str) -> None:
        """It asks like everybody else (RFC 5227), and is answered."""

    def lessons(self, address: str) -> Iterator[Fields]:
        yield {"eth_type": ETH_ARP, "arp_spa": address}

    def reply(self, source: str) -> Fields:
        return {"eth_type": ETH_ARP, "arp_op": ARP_REPLY, "arp_tpa": source}


class _NeighbourDiscovery:
    """RFC 4861, for IPv6; the fields it takes are in Open vSwitch since 2.11."""

    def question(self, address: str) -> Fields:
        """Whatever it is addressed to: a multicast group, or whoever had the address last."""
        return {**_icmp(SOLICITATION), "ipv6_nd_target": address}

    def answer(self, mac: str, address: str, table: int) -> Actions:
        """All but the option's value: Open vSwitch (3.1.0) takes ``nd_tll`` only where the match
        says that the packet is an advertisement, so another table's entry writes that.

        A solicitation without an option, as one that is addressed to ``mac`` may be, makes an
        advertisement without one, as RFC 4861 (7.2.4) allows.
        """
        return (
            Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
            SetField("eth_src", mac),
            Move(IPV6.nxm_src, IPV6.nxm_dst),
            SetField("ipv6_src", address),
            SetField("icmpv6_type", ADVERTISEMENT),
            SetField("nd_reserved", _SOLICITED | _OVERRIDE),
            SetField("nd_options_type", _TARGET_LINK_LAYER),
            Resubmit(table),
        )

    def rest_of_answer(self, mac: str, address: str) -> Answer:
        asked: Fields = {**_icmp(ADVERTISEMENT), "ipv6_nd_target": address}
        return asked, (SetField("ipv6_nd_tll", mac), InPort())

    def claim(self, mac: str, address: str) -> Answer:
        """Duplicate address detection (RFC 4862, 5.4.3): asked by nobody, answered to everybody.

        There is no option to write a hardware address into, and none is needed.
        """
        actions = (
            SetField("eth_dst", ALL_NODES_MAC),
            SetField("eth_src", mac),
            SetField("ipv6_src", address),
            SetField("ipv6_dst", ALL_NODES),
            SetField("icmpv6_type", ADVERTISEMENT),
            SetField("nd_reserved", _OVERRIDE),
            InPort(),
        )
        return {**self.question(address), "ipv6_src": NOBODY6}, actions

    def lessons(self, address: str) -> Iterator[Fields]:
        """Advertisements, and questions that carry the asker's own address."""
        yield {**_icmp(ADVERTISEMENT), "ipv6_nd_target": address}
        yield {**_icmp(SOLICITATION), "ipv6_src": address}

    def reply(self, source: str) -> Fields:
        return {**_icmp(ADVERTISEMENT), "ipv6_dst": source}


def _icmp(kind: int) -> Fields:
    return {"eth_type": IPV6.eth_type, "ip_proto": IPV6.icmp, "icmpv6_type": kind}


ARP: Neighbours = _Arp()
ND: Neighbours = _NeighbourDiscovery()


def neighbours(family: Family) -> Neighbours:
    """The family's way."""
    return ND if family is IPV6 else ARP
