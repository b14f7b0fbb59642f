"""Who has this address? ARP and neighbour discovery, as packets of the controller's own.

Owns what is asked, announced and understood, for either family; ``plan/neighbour.py`` has the
same as switch entries.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from sncontroller.core.family import Address, multicast_mac, solicited_node
from sncontroller.core.frames import BROADCAST_MAC, Arp, ArpOp, Frame, Nd, NdKind, Packet

ALL_NODES = IPv6Address("ff02::1")


def question(mac: str, source: Address, wanted: Address) -> Packet:
    """``source``, at ``mac``, asks who has ``wanted``.

    A solicitation goes to the group of those who may have it, never to the address itself: only
    then an answer must name the hardware address (RFC 4861, 7.2.4).
    """
    if isinstance(source, IPv4Address) and isinstance(wanted, IPv4Address):
        return Arp(ArpOp.REQUEST, mac, source, wanted)
    asker, target = IPv6Address(source), IPv6Address(wanted)
    return Nd(NdKind.SOLICITATION, asker, solicited_node(target), target, mac)


def question_to_all(mac: str, source: Address, wanted: Address) -> Frame:
    """The same in a frame for everybody who may know."""
    asked = question(mac, source, wanted)
    to = multicast_mac(asked.dst) if isinstance(asked, Nd) else BROADCAST_MAC
    return Frame(mac, to, asked)


def announcement(mac: str, address: Address, vlan: int | None) -> Frame:
    """To everybody: ``address`` is at ``mac`` now."""
    if isinstance(address, IPv4Address):
        said = Arp(ArpOp.REQUEST, mac, address, address)
        return Frame(mac, BROADCAST_MAC, said, vlan)
    told = Nd(NdKind.ADVERTISEMENT, address, ALL_NODES, address, mac)
    return Frame(mac, multicast_mac(ALL_NODES), told, vlan)


def answer(packet: Packet) -> tuple[Address, str] | None:
    """Who is where, as an answer to such a question says; ``None`` for what is none."""
    match packet:
        case Arp(op=ArpOp.REPLY):
            return packet.sender, packet.sender_mac
        case Nd(kind=NdKind.ADVERTISEMENT, mac=str(mac)):
            return packet.target, mac
        case _:
            return None
