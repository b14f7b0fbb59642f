"""Probe packets as bytes: ``encoded`` and ``decoded`` between ``core.frames.Frame`` and Ethernet.

Owns the wire formats, with ryu.lib.packet's headers. What comes in was written by strangers:
``decoded`` takes any bytes and never raises, loops or guesses; it does not check checksums, because
with transmit offload on a virtual interface they are not there yet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ryu.lib.packet import arp, ethernet, icmp, icmpv6, ipv4, ipv6, packet, tcp, udp, vlan
from ryu.lib.packet.ether_types import (
    ETH_TYPE_8021Q,
    ETH_TYPE_ARP,
    ETH_TYPE_IP,
    ETH_TYPE_IPV6,
)
from ryu.lib.packet.in_proto import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP

from sncontroller.core.family import Address
from sncontroller.core.frames import (
    WINDOW,
    Arp,
    ArpOp,
    Echo,
    Frame,
    Nd,
    NdKind,
    Packet,
    Tcp,
    TcpFlag,
    Udp,
    Unreachable,
)

_TTL = 64
_NEVER_FORWARDED = 255
"""Hop limit of neighbour discovery: who hears it knows that no router passed it on."""
_SOLICITED, _OVERRIDE = 0b010, 0b001
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_ALL_ONES = 0xFFFF
_IPV4 = struct.Struct("!BxH2xHxBxx4s4s")  # version and words, length, fragment, protocol, from, to
_IPV6 = struct.Struct("!B3xHBB16s16s")  # version, payload's length, next header, hops, from, to
_DONT_FRAGMENT = 0b010
_FRAGMENT = 0x3FFF
"""More fragments follow, or this is not the first one."""
_REMEMBERED = 8192
"""Frames and headers that are kept at most: a probe of 1,600 nodes has three or four each."""
_LINK, _TAG = 14, 4
_IPV4_SIZE, _IPV6_SIZE = 20, 40
_SEGMENT = struct.Struct("!HHII")  # ports, sequence number, acknowledgement
_SEGMENT_CHECKSUM = 16
_ECHO = struct.Struct("!HH")  # identifier, sequence number
_ECHO_AT, _ECHO_CHECKSUM = 4, 2


class MalformedError(ValueError):
    """Bytes that are none of our packets; never leaves this module."""


def encoded(frame: Frame) -> bytes:
    """The frame's bytes, checksums filled in, padded as Ethernet asks, without an FCS.

    What differs from one probe of a node to the next are four numbers of a TCP segment or two of an
    echo request: all else is written once, and these are written over zeros.
    """
    blank: Packet
    match frame.packet:
        case Tcp(src_port=src, dst_port=dst, seq=seq, ack=ack, mss=mss):
            blank = replace(frame.packet, src_port=0, dst_port=0, seq=0, ack=0)
            numbers, at, checksum = _SEGMENT.pack(src, dst, seq, ack), 0, _SEGMENT_CHECKSUM
        case Echo(ident=ident, seq=seq):
            blank, mss = replace(frame.packet, ident=0, seq=0), 0
            numbers, at, checksum = _ECHO.pack(ident, seq), _ECHO_AT, _ECHO_CHECKSUM
        case _:
            return _written(frame)
    start = _LINK + (_IPV4_SIZE if frame.packet.src.version == 4 else _IPV6_SIZE)
    start += 0 if frame.vlan_id is None else _TAG
    data = bytearray(_remembered(replace(frame, packet=blank), mss))
    data[start + at : start + at + len(numbers)] = numbers
    _add(data, start + checksum, numbers)
    return bytes(data)


def _add(data: bytearray, at: int, numbers: bytes) -> None:
    """Bring the checksum there up to date with numbers that were zero before (RFC 1624)."""
    (before,) = struct.unpack_from("!H", data, at)
    total = (before ^ _ALL_ONES) + sum(struct.unpack(f"!{len(numbers) // 2}H", numbers))
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 16)
    struct.pack_into("!H", data, at, total ^ _ALL_ONES)


@lru_cache(_REMEMBERED)
def _remembered(frame: Frame, mss: int) -> bytes:
    """The frame's bytes; ``mss`` is in it, but makes no difference to whether two are equal."""
    return _written(frame)


def _written(frame: Frame) -> bytes:
    out = packet.Packet()
    layers = _LAYERS[type(frame.packet)](frame.packet)
    ether_type = _ether_type(frame.packet)
    if frame.vlan_id is None:
        out.add_protocol(ethernet.ethernet(frame.eth_dst, frame.eth_src, ether_type))
    else:
        out.add_protocol(ethernet.ethernet(frame.eth_dst, frame.eth_src, ETH_TYPE_8021Q))
        out.add_protocol(vlan.vlan(vid=frame.vlan_id, ethertype=ether_type))
    for layer in layers:
        out.add_protocol(layer)
    out.serialize()
    if isinstance(frame.packet, Udp) and layers[1].csum == 0:  # which says: none (RFC 768)
        layers[1].csum = _ALL_ONES
        out.serialize()
    return bytes(out.data)


def decoded(data: bytes) -> Frame | None:
    """The frame in ``data``; ``None`` for anything that is not a whole packet we know."""
    try:
        return _frame(data)
    except (ValueError, struct.error, IndexError, AssertionError, TypeError):
        return None


def _ether_type(value: Packet) -> int:
    if isinstance(value, Arp):
        return int(ETH_TYPE_ARP)
    return int(ETH_TYPE_IPV6 if isinstance(value.src, IPv6Address) else ETH_TYPE_IP)


def _arp_layers(value: Arp) -> tuple[Any, ...]:
    sender, target = str(value.sender), str(value.target)
    return (arp.arp_ip(value.op, value.sender_mac, sender, value.target_mac, target),)


def _nd_layers(value: Nd) -> tuple[Any, ...]:
    flags, option = 0, icmpv6.nd_option_sla
    if value.kind is NdKind.ADVERTISEMENT:
        flags = _OVERRIDE | (0 if value.dst.is_multicast else _SOLICITED)
        option = icmpv6.nd_option_tla
    carried = None if value.mac is None else option(hw_src=value.mac)
    said = icmpv6.nd_neighbor(flags, str(value.target), carried)
    header = _ip(value, IPPROTO_ICMPV6, _NEVER_FORWARDED)
    return header, icmpv6.icmpv6(value.kind, 0, 0, said)


def _echo_layers(value: Echo) -> tuple[Any, ...]:
    if isinstance(value.src, IPv6Address):
        kind = icmpv6.ICMPV6_ECHO_REPLY if value.reply else icmpv6.ICMPV6_ECHO_REQUEST
        echo = icmpv6.echo(value.ident, value.seq, value.data)
        return _ip(value, IPPROTO_ICMPV6), icmpv6.icmpv6(kind, 0, 0, echo)
    kind = icmp.ICMP_ECHO_REPLY if value.reply else icmp.ICMP_ECHO_REQUEST
    echo = icmp.echo(value.ident, value.seq, value.data)
    return _ip(value, IPPROTO_ICMP), icmp.icmp(kind, 0, 0, echo)


def _tcp_layers(value: Tcp) -> tuple[Any, ...]:
    header = tcp.tcp(
        src_port=value.src_port,
        dst_port=value.dst_port,
        seq=value.seq,
        ack=value.ack,
        bits=int(value.flags),
        window_size=WINDOW,
        option=[tcp.TCPOptionMaximumSegmentSize(value.mss)] if value.mss else None,
    )
    return _ip(value, IPPROTO_TCP), header, value.payload


def _udp_layers(value: Udp) -> tuple[Any, ...]:
    return _ip(value, IPPROTO_UDP), udp.udp(value.src_port, value.dst_port), value.payload


def _unreachable_layers(value: Unreachable) -> tuple[Any, ...]:
    """The error a host sends: it quotes the header and 8 bytes of a datagram of ours, here UDP."""
    quoted = Udp(value.dst, value.src, value.src_port, value.dst_port)
    inner = packet.Packet(protocols=[_ip(quoted, IPPROTO_UDP), *_udp_layers(quoted)[1:2]])
    inner.serialize()
    if isinstance(value.src, IPv6Address):
        quote = bytes(4) + bytes(inner.data)
        error = icmpv6.icmpv6(icmpv6.ICMPV6_DST_UNREACH, value.code, 0, quote)
        return _ip(value, IPPROTO_ICMPV6), error
    error = icmp.dest_unreach(data=bytes(inner.data))
    header = icmp.icmp(icmp.ICMP_DEST_UNREACH, value.code, 0, error)
    return _ip(value, IPPROTO_ICMP), header


def _ip(value: Nd | Echo | Tcp | Udp | Unreachable, protocol: int, hops: int = _TTL) -> object:
    if isinstance(value.src, IPv6Address):
        return ipv6.ipv6(src=str(value.src), dst=str(value.dst), nxt=protocol, hop_limit=hops)
    return ipv4.ipv4(
        src=str(value.src), dst=str(value.dst), proto=protocol, ttl=hops, flags=_DONT_FRAGMENT
    )


_LAYERS: dict[type, Callable[..., tuple[Any, ...]]] = {
    Arp: _arp_layers,
    Nd: _nd_layers,
    Echo: _echo_layers,
    Tcp: _tcp_layers,
    Udp: _udp_layers,
    Unreachable: _unreachable_layers,
}


def _frame(data: bytes) -> Frame:
    """Each header is parsed by itself: ``packet.Packet(data)`` goes on into BGP, DHCP, VXLAN and
    OpenFlow by port number, and drops payloads of nothing but zeros."""
    src, dst, ether_type = _link(data[:_LINK])
    vlan_id, rest = None, data[_LINK:]
    if ether_type == ETH_TYPE_8021Q:
        tag, _, rest = vlan.vlan.parser(rest)
        vlan_id, ether_type = tag.vid, tag.ethertype
    if ether_type == ETH_TYPE_ARP:
        return Frame(src, dst, _arp(rest), vlan_id)
    if ether_type == ETH_TYPE_IP:
        return Frame(src, dst, _ip_payload(rest), vlan_id)
    if ether_type == ETH_TYPE_IPV6:
        return Frame(src, dst, _ipv6_payload(rest), vlan_id)
    raise MalformedError(f"ethertype {ether_type:#06x}")


@lru_cache(_REMEMBERED)
def _link(header: bytes) -> tuple[str, str, int]:
    """From, to and what follows."""
    link, _, _ = ethernet.ethernet.parser(header)
    return link.src, link.dst, link.ethertype


def _arp(data: bytes) -> Arp:
    header, _, _ = arp.arp.parser(data)
    if (header.hwtype, header.proto, header.hlen, header.plen) != (1, ETH_TYPE_IP, 6, 4):
        raise MalformedError("not ARP for IPv4 on Ethernet")
    sender, target = IPv4Address(header.src_ip), IPv4Address(header.dst_ip)
    return Arp(ArpOp(header.opcode), header.src_mac, sender, target, header.dst_mac)


def _ip_payload(data: bytes) -> Packet:
    protocol, src, dst, rest = _ip_header(data, whole=True)
    if protocol == IPPROTO_TCP:
        return _tcp(src, dst, rest)
    if protocol == IPPROTO_UDP:
        return _udp(src, dst, rest)
    if protocol == IPPROTO_ICMP:
        return _icmp(src, dst, rest)
    raise MalformedError(f"IP protocol {protocol}")


def _ip_header(data: bytes, *, whole: bool) -> tuple[int, IPv4Address, IPv4Address, bytes]:
    """Protocol, addresses and payload."""
    first, length, fragment, protocol, src, dst = _IPV4.unpack_from(data)
    if first >> 4 != 4 or first & 0xF < 5:
        raise MalformedError("not IPv4")
    if fragment & _FRAGMENT:
        raise MalformedError("a fragment")
    if whole and len(data) < length:
        raise MalformedError("cut short")
    return protocol, IPv4Address(src), IPv4Address(dst), data[(first & 0xF) * 4 : length]


def _ipv6_payload(data: bytes) -> Packet:
    protocol, hops, src, dst, rest = _ipv6_header(data, whole=True)
    if protocol == IPPROTO_TCP:
        return _tcp(src, dst, rest)
    if protocol == IPPROTO_UDP:
        return _udp(src, dst, rest)
    if protocol == IPPROTO_ICMPV6:
        return _icmpv6(src, dst, hops, rest)
    raise MalformedError(f"IP protocol {protocol}")


def _ipv6_header(data: bytes, *, whole: bool) -> tuple[int, int, IPv6Address, IPv6Address, bytes]:
    """Next header, hop limit, addresses and payload. Nothing that answers a probe has extension
    headers, a fragment's included."""
    version, length, protocol, hops, src, dst = _IPV6.unpack_from(data)
    rest = data[_IPV6.size : _IPV6.size + length]
    if version >> 4 != 6:
        raise MalformedError("not IPv6")
    if whole and len(rest) < length:
        raise MalformedError("cut short")
    return protocol, hops, IPv6Address(src), IPv6Address(dst), rest


def _icmpv6(src: IPv6Address, dst: IPv6Address, hops: int, data: bytes) -> Packet:
    kind, code = struct.unpack_from("!BBxx", data)
    body = data[4:]
    if kind in (icmpv6.ICMPV6_ECHO_REPLY, icmpv6.ICMPV6_ECHO_REQUEST):
        ident, seq = struct.unpack_from("!HH", body)
        return Echo(src, dst, ident, seq, kind == icmpv6.ICMPV6_ECHO_REPLY, body[4:])
    if kind == icmpv6.ICMPV6_DST_UNREACH:
        return _unreachable6(src, dst, code, body[4:])
    if hops != _NEVER_FORWARDED or code:
        raise MalformedError("neighbour discovery from beyond the link")
    return _nd(src, dst, NdKind(kind), body)


def _nd(src: IPv6Address, dst: IPv6Address, kind: NdKind, body: bytes) -> Nd:
    (target,) = struct.unpack_from("!4x16s", body)
    asks = kind is NdKind.SOLICITATION
    wanted = _SOURCE_LINK_LAYER if asks else _TARGET_LINK_LAYER
    macs = (value for option, value in _options(body[20:]) if option == wanted)
    mac = next(macs, None)
    return Nd(kind, src, dst, IPv6Address(target), None if mac is None else mac[:6].hex(":"))


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each option; their lengths count 8 bytes each."""
    while data:
        kind, units = struct.unpack_from("!BB", data)
        if not units or len(data) < 8 * units:
            raise MalformedError("option's length")
        yield kind, data[2 : 8 * units]
        data = data[8 * units :]


def _unreachable6(src: IPv6Address, dst: IPv6Address, code: int, quote: bytes) -> Unreachable:
    protocol, _, _, _, rest = _ipv6_header(quote, whole=False)
    if protocol not in (IPPROTO_TCP, IPPROTO_UDP):
        raise MalformedError("quotes neither TCP nor UDP")
    return Unreachable(src, dst, code, *struct.unpack_from("!HH", rest))


def _tcp(src: Address, dst: Address, data: bytes) -> Tcp:
    """Only the fixed header goes to Ryu 4.34: its option parser never returns on an option of
    length 0, which any node could send."""
    header, _, _ = tcp.tcp.parser(data[: tcp.tcp._MIN_LEN])
    start = header.offset * 4
    if not tcp.tcp._MIN_LEN <= start <= len(data):
        raise MalformedError("TCP header length")
    ports, numbers = (header.src_port, header.dst_port), (header.seq, header.ack)
    return Tcp(src, dst, *ports, *numbers, TcpFlag(header.bits), data[start:])


def _udp(src: Address, dst: Address, data: bytes) -> Udp:
    header, _, payload = udp.udp.parser(data)
    if not udp.udp._MIN_LEN <= header.total_length <= len(data):
        raise MalformedError("UDP length")
    return Udp(src, dst, header.src_port, header.dst_port, payload)


def _icmp(src: IPv4Address, dst: IPv4Address, data: bytes) -> Echo | Unreachable:
    header, _, _ = icmp.icmp.parser(data)
    body = header.data
    if header.type in (icmp.ICMP_ECHO_REPLY, icmp.ICMP_ECHO_REQUEST):
        is_reply = header.type == icmp.ICMP_ECHO_REPLY
        return Echo(src, dst, body.id, body.seq, is_reply, body.data or b"")
    if header.type == icmp.ICMP_DEST_UNREACH:
        return _unreachable(src, dst, header.code, body.data or b"")
    raise MalformedError(f"ICMP type {header.type}")


def _unreachable(src: IPv4Address, dst: IPv4Address, code: int, quote: bytes) -> Unreachable:
    protocol, _, _, rest = _ip_header(quote, whole=False)
    if protocol not in (IPPROTO_TCP, IPPROTO_UDP):
        raise MalformedError("quotes neither TCP nor UDP")
    return Unreachable(src, dst, code, *struct.unpack_from("!HH", rest))
