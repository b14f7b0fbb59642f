"""What differs between IPv4 and IPv6, in one place: numbers, and the names of fields.

Owns the two families as values. How each finds a neighbour's hardware address, as packets, is in
``neighbour.py``, and as switch entries in ``plan/neighbour.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Family:
    """One of the two: its names for what both have."""

    version: int
    eth_type: int
    src: str
    """OXM name of the source address; ``dst`` of the destination."""
    dst: str
    nxm_src: str
    """The same fields by their NXM names, as ``move`` and ``learn`` want them."""
    nxm_dst: str
    icmp: int
    """Number of the family's ICMP as an IP protocol."""
    icmp_type: str
    icmp_errors: tuple[int, ...]
    """Unreachable, too big, time exceeded, parameter problem: path MTU discovery lives on them."""
    echo_request: int
    echo_reply: int
    later_fragment: int | None
    """What Open vSwitch takes for the protocol of a fragment but the first (ovs-fields(7)); where
    it knows the datagram's own, there is no need for a number."""

    @property
    def name(self) -> str:
        """``IPv4`` or ``IPv6``."""
        return f"IPv{self.version}"


IPV4 = Family(
    version=4,
    eth_type=0x0800,
    src="ipv4_src",
    dst="ipv4_dst",
    nxm_src="NXM_OF_IP_SRC",
    nxm_dst="NXM_OF_IP_DST",
    icmp=1,
    icmp_type="icmpv4_type",
    icmp_errors=(3, 11, 12),
    echo_request=8,
    echo_reply=0,
    later_fragment=None,
)
IPV6 = Family(
    version=6,
    eth_type=0x86DD,
    src="ipv6_src",
    dst="ipv6_dst",
    nxm_src="NXM_NX_IPV6_SRC",
    nxm_dst="NXM_NX_IPV6_DST",
    icmp=58,
    icmp_type="icmpv6_type",
    icmp_errors=(1, 2, 3, 4),
    echo_request=128,
    echo_reply=129,
    later_fragment=44,
)


def family_of(address: Address | str) -> Family:
    """The family that an address, or its text, belongs to."""
    version = (6 if ":" in address else 4) if isinstance(address, str) else address.version
    return IPV6 if version == 6 else IPV4


def link_local(mac: str) -> IPv6Address:
    """The link-local address that belongs to a hardware address (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 0x02
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:]))


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group in which an address is asked for (RFC 4291, 2.7.1)."""
    return IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[-3:])


def multicast_mac(address: IPv6Address) -> str:
    """The hardware address that stands for an IPv6 multicast group (RFC 2464, 7)."""
    return f"33:33:{address.packed[-4:].hex(':')}"


def unnumbered(family: Family, mac: str) -> Address:
    """What a host asks its neighbours as that has no address of its own in their network."""
    return link_local(mac) if family is IPV6 else IPv4Address(0)
