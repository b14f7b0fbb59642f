"""The packets of probes, as values; their bytes are ``openflow/packets.py``'s.

Owns what the controller says to nodes through the switch and what it understands of their answers.
Hardware addresses are in lower case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address

from sncontroller.core.family import Address

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
MSS = 536
"""What we can take per segment: small, so that a packet-in carries it whole."""
WINDOW = MSS
"""One segment at a time: a status line fits in the first one, and the rest is not asked for."""


class ArpOp(IntEnum):
    """ARP opcodes, RFC 826."""

    REQUEST = 1
    REPLY = 2


class TcpFlag(IntFlag):
    """TCP control bits, RFC 9293."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20


@dataclass(frozen=True, slots=True)
class Arp:
    """ARP for IPv4 on Ethernet."""

    op: ArpOp
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address
    target_mac: str = "00:00:00:00:00:00"


class NdKind(IntEnum):
    """The messages of neighbour discovery that we know, by ICMPv6 type (RFC 4861)."""

    SOLICITATION = 135
    ADVERTISEMENT = 136


@dataclass(frozen=True, slots=True)
class Nd:
    """Neighbour discovery: who has ``target``, or that somebody has it."""

    kind: NdKind
    src: IPv6Address
    dst: IPv6Address
    target: IPv6Address
    mac: str | None = None
    """The link-layer address in its option: the asker's, or the one that ``target`` is at."""


@dataclass(frozen=True, slots=True)
class Echo:
    """An ICMP or ICMPv6 echo request or reply."""

    src: Address
    dst: Address
    ident: int
    seq: int
    reply: bool = False
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP segment."""

    src: Address
    dst: Address
    src_port: int
    dst_port: int
    seq: int
    ack: int
    flags: TcpFlag
    payload: bytes = b""
    mss: int = field(default=0, compare=False)
    """Announced when not 0; not read from received segments."""


@dataclass(frozen=True, slots=True)
class Udp:
    """A UDP datagram."""

    src: Address
    dst: Address
    src_port: int
    dst_port: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An ICMP destination unreachable and the ports of the packet it quotes."""

    src: Address
    dst: Address
    code: int
    src_port: int
    dst_port: int


Packet = Arp | Nd | Echo | Tcp | Udp | Unreachable


@dataclass(frozen=True, slots=True)
class Frame:
    """An Ethernet frame; hardware addresses in lower case."""

    eth_src: str
    eth_dst: str
    packet: Packet
    vlan_id: int | None = None
