"""A packet-in as an event: whose it is, and which flow it belongs to.

Owns the few header bytes that ``reactive`` pinning needs; anything that is not a whole IP packet
with ports is no flow, and the bytes of strangers raise nothing.
"""

from __future__ import annotations

import socket
import struct
from typing import TypeAlias

from sncontroller.core.events import FiveTuple, Frame, NewFlow
from sncontroller.core.layout import Kind, Origin

_ETHERNET, _TAG = 14, 4
_VLAN, _IPV4, _IPV6 = (0x8100, 0x88A8), 0x0800, 0x86DD
_TCP, _WITH_PORTS = 6, (6, 17, 132)
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_LATER_FRAGMENT = 0x1FFF
_IP = struct.Struct("!BxH2xHxBxx4s4s")  # version and length, total, fragment, protocol, from, to
_IP6 = struct.Struct("!BxxxxxBx16s16s")  # version, next header, from, to
_EXTENSIONS = (0, 43, 60)
"""Hop-by-hop options, routing, destination options; a fragment's is no flow's first packet."""
_EXTENSION = struct.Struct("!BB")  # next header, further units of 8 bytes
_PORTS = struct.Struct("!HH")
_TCP_HEADER = struct.Struct("!4xI5xB")  # sequence number, flags


def event(datapath: int, origin: Origin, in_port: int, frame: bytes) -> NewFlow | Frame:
    """What the frame means that one of our entries sent here."""
    parsed = flow_of(frame) if origin.kind is Kind.SELECT else None
    if parsed is None:
        return Frame(datapath, origin.zone, in_port, frame)
    flow, opening, ending = parsed
    pinned = origin.index or None
    return NewFlow(datapath, origin.zone, flow, in_port, opening, pinned, frame, ending)


def flow_of(frame: bytes) -> tuple[FiveTuple, int | None, bool] | None:
    """The frame's flow; ``None`` for no such packet.

    With it the sequence number that it opens a TCP connection with, ``None`` where it opens none,
    and whether it ends one.
    """
    try:
        return _flow_of(frame)
    except struct.error:
        return None


def _flow_of(frame: bytes) -> tuple[FiveTuple, int | None, bool] | None:
    start = _ETHERNET
    (ether_type,) = struct.unpack_from("!H", frame, start - 2)
    while ether_type in _VLAN:
        start += _TAG
        (ether_type,) = struct.unpack_from("!H", frame, start - 2)
    if ether_type not in (_IPV4, _IPV6):
        return None
    header = (_ipv4 if ether_type == _IPV4 else _ipv6)(frame, start)
    if header is None or header[0] not in _WITH_PORTS:
        return None
    proto, src, dst, payload = header
    flow = FiveTuple(proto, src, dst, *_PORTS.unpack_from(frame, payload))
    if proto != _TCP:
        return flow, None, False
    sequence, flags = _TCP_HEADER.unpack_from(frame, payload)
    opens, ends = flags & (_SYN | _ACK) == _SYN, flags & (_FIN | _RST) != 0
    return flow, sequence if opens else None, ends


_Header: TypeAlias = tuple[int, str, str, int] | None
"""Protocol, source, destination, and where the payload begins; ``None`` where that is not known."""


def _ipv4(frame: bytes, start: int) -> _Header:
    version, _, fragment, proto, src, dst = _IP.unpack_from(frame, start)
    if version >> 4 != 4 or fragment & _LATER_FRAGMENT:
        return None
    return proto, socket.inet_ntoa(src), socket.inet_ntoa(dst), start + (version & 0xF) * 4


def _ipv6(frame: bytes, start: int) -> _Header:
    version, proto, src, dst = _IP6.unpack_from(frame, start)
    if version >> 4 != 6:
        return None
    at = start + _IP6.size
    while proto in _EXTENSIONS:
        proto, units = _EXTENSION.unpack_from(frame, at)
        at += 8 * (units + 1)
    names = (socket.inet_ntop(socket.AF_INET6, address) for address in (src, dst))
    return (proto, *names, at)
