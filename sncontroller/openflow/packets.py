"""Probe packets as bytes: ``encoded`` and ``decoded`` between ``core.frames.Frame`` and Ethernet.

Owns the wire formats, with ryu.lib.packet's headers. What comes in was written by strangers:
``decoded`` takes any bytes and never raises, loops or guesses; it does not check checksums, because
with transmit offload on a virtual interface they are not there yet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address

from ryu.lib.packet import arp, ethernet, icmp, ipv4, packet, tcp, udp, vlan
from ryu.lib.packet.ether_types import ETH_TYPE_8021Q, ETH_TYPE_ARP, ETH_TYPE_IP
from ryu.lib.packet.in_proto import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP

from sncontroller.core.frames import (
    WINDOW,
    Arp,
    ArpOp,
    Echo,
    Frame,
    Packet,
    Tcp,
    TcpFlag,
    Udp,
    Unreachable,
)

_TTL = 64
_DONT_FRAGMENT = 0b010
_MORE_FRAGMENTS = 0b001


class MalformedError(ValueError):
    """Bytes that are none of our packets; never leaves this module."""


def encoded(frame: Frame) -> bytes:
    """The frame's bytes, checksums filled in, padded as Ethernet asks, without an FCS."""
    out = packet.Packet()
    layers = _LAYERS[type(frame.packet)](frame.packet)
    ether_type = ETH_TYPE_ARP if isinstance(frame.packet, Arp) else ETH_TYPE_IP
    if frame.vlan_id is None:
        out.add_protocol(ethernet.ethernet(frame.eth_dst, frame.eth_src, ether_type))
    else:
        out.add_protocol(ethernet.ethernet(frame.eth_dst, frame.eth_src, ETH_TYPE_8021Q))
        out.add_protocol(vlan.vlan(vid=frame.vlan_id, ethertype=ether_type))
    for layer in layers:
        out.add_protocol(layer)
    out.serialize()
    return bytes(out.data)


def decoded(data: bytes) -> Frame | None:
    """The frame in ``data``; ``None`` for anything that is not a whole packet we know."""
    try:
        return _frame(data)
    except (ValueError, struct.error, IndexError, AssertionError, TypeError):
        return None


def _arp_layers(value: Arp) -> tuple[object, ...]:
    sender, target = str(value.sender), str(value.target)
    return (arp.arp_ip(value.op, value.sender_mac, sender, value.target_mac, target),)


def _echo_layers(value: Echo) -> tuple[object, ...]:
    kind = icmp.ICMP_ECHO_REPLY if value.reply else icmp.ICMP_ECHO_REQUEST
    echo = icmp.echo(value.ident, value.seq, value.data)
    return _ip(value, IPPROTO_ICMP), icmp.icmp(kind, 0, 0, echo)


def _tcp_layers(value: Tcp) -> tuple[object, ...]:
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


def _udp_layers(value: Udp) -> tuple[object, ...]:
    return _ip(value, IPPROTO_UDP), udp.udp(value.src_port, value.dst_port), value.payload


def _unreachable_layers(value: Unreachable) -> tuple[object, ...]:
    """The error a host sends: it quotes the header and 8 bytes of a datagram of ours, here UDP."""
    quoted = Udp(value.dst, value.src, value.src_port, value.dst_port)
    inner = packet.Packet(protocols=[_ip(quoted, IPPROTO_UDP), *_udp_layers(quoted)[1:2]])
    inner.serialize()
    error = icmp.dest_unreach(data=bytes(inner.data))
    header = icmp.icmp(icmp.ICMP_DEST_UNREACH, value.code, 0, error)
    return _ip(value, IPPROTO_ICMP), header


def _ip(value: Echo | Tcp | Udp | Unreachable, protocol: int) -> object:
    return ipv4.ipv4(
        src=str(value.src), dst=str(value.dst), proto=protocol, ttl=_TTL, flags=_DONT_FRAGMENT
    )


_LAYERS: dict[type, Callable[..., tuple[object, ...]]] = {
    Arp: _arp_layers,
    Echo: _echo_layers,
    Tcp: _tcp_layers,
    Udp: _udp_layers,
    Unreachable: _unreachable_layers,
}


def _frame(data: bytes) -> Frame:
    """Each header is parsed by itself: ``packet.Packet(data)`` goes on into BGP, DHCP, VXLAN and
    OpenFlow by port number, and drops payloads of nothing but zeros."""
    link, _, rest = ethernet.ethernet.parser(data)
    vlan_id, ether_type = None, link.ethertype
    if ether_type == ETH_TYPE_8021Q:
        tag, _, rest = vlan.vlan.parser(rest)
        vlan_id, ether_type = tag.vid, tag.ethertype
    if ether_type == ETH_TYPE_ARP:
        return Frame(link.src, link.dst, _arp(rest), vlan_id)
    if ether_type == ETH_TYPE_IP:
        return Frame(link.src, link.dst, _ip_payload(rest), vlan_id)
    raise MalformedError(f"ethertype {ether_type:#06x}")


def _arp(data: bytes) -> Arp:
    header, _, _ = arp.arp.parser(data)
    if (header.hwtype, header.proto, header.hlen, header.plen) != (1, ETH_TYPE_IP, 6, 4):
        raise MalformedError("not ARP for IPv4 on Ethernet")
    sender, target = IPv4Address(header.src_ip), IPv4Address(header.dst_ip)
    return Arp(ArpOp(header.opcode), header.src_mac, sender, target, header.dst_mac)


def _ip_payload(data: bytes) -> Packet:
    header, rest = _ip_header(data)
    if len(data) < header.total_length:
        raise MalformedError("cut short")
    src, dst = IPv4Address(header.src), IPv4Address(header.dst)
    if header.proto == IPPROTO_TCP:
        return _tcp(src, dst, rest)
    if header.proto == IPPROTO_UDP:
        return _udp(src, dst, rest)
    if header.proto == IPPROTO_ICMP:
        return _icmp(src, dst, rest)
    raise MalformedError(f"IP protocol {header.proto}")


def _ip_header(data: bytes) -> tuple[ipv4.ipv4, bytes]:
    header, _, rest = ipv4.ipv4.parser(data)
    if header.version != 4 or header.header_length < 5:
        raise MalformedError("not IPv4")
    if header.offset or header.flags & _MORE_FRAGMENTS:
        raise MalformedError("a fragment")
    return header, rest


def _tcp(src: IPv4Address, dst: IPv4Address, data: bytes) -> Tcp:
    """Only the fixed header goes to Ryu 4.34: its option parser never returns on an option of
    length 0, which any node could send."""
    header, _, _ = tcp.tcp.parser(data[: tcp.tcp._MIN_LEN])
    start = header.offset * 4
    if not tcp.tcp._MIN_LEN <= start <= len(data):
        raise MalformedError("TCP header length")
    ports, numbers = (header.src_port, header.dst_port), (header.seq, header.ack)
    return Tcp(src, dst, *ports, *numbers, TcpFlag(header.bits), data[start:])


def _udp(src: IPv4Address, dst: IPv4Address, data: bytes) -> Udp:
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
    header, rest = _ip_header(quote)
    if header.proto not in (IPPROTO_TCP, IPPROTO_UDP):
        raise MalformedError("quotes neither TCP nor UDP")
    return Unreachable(src, dst, code, *struct.unpack_from("!HH", rest))
