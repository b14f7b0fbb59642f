"""A packet-in as an event: whose it is, and which flow it belongs to.

Owns the few header bytes that ``reactive`` pinning needs; anything that is not a whole IPv4 packet
with ports is no flow, and the bytes of strangers raise nothing.
"""

from __future__ import annotations

import socket
import struct

from sncontroller.core.events import FiveTuple, Frame, NewFlow
from sncontroller.core.layout import Kind, Origin

_ETHERNET, _TAG = 14, 4
_VLAN, _IPV4 = (0x8100, 0x88A8), 0x0800
_TCP, _WITH_PORTS = 6, (6, 17, 132)
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_LATER_FRAGMENT = 0x1FFF
_IP = struct.Struct("!BxH2xHxBxx4s4s")  # version and length, total, fragment, protocol, from, to
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
    version, _, fragment, proto, src, dst = _IP.unpack_from(frame, start)
    no_ports = proto not in _WITH_PORTS or fragment & _LATER_FRAGMENT
    if ether_type != _IPV4 or version >> 4 != 4 or no_ports:
        return None
    payload = start + (version & 0xF) * 4
    ports = _PORTS.unpack_from(frame, payload)
    flow = FiveTuple(proto, socket.inet_ntoa(src), socket.inet_ntoa(dst), *ports)
    if proto != _TCP:
        return flow, None, False
    sequence, flags = _TCP_HEADER.unpack_from(frame, payload)
    opens, ends = flags & (_SYN | _ACK) == _SYN, flags & (_FIN | _RST) != 0
    return flow, sequence if opens else None, ends
