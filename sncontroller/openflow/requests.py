"""Requests that carry no entry, and what their replies say: bytes to values and back.

Owns the structures of OpenFlow 1.3.5, 7.3 (multipart, barrier, packet-out) and of the bundle
extension EXT-230.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from sncontroller.core.entries import Actions, Match, Output
from sncontroller.core.events import Port
from sncontroller.openflow.actions import encode_actions
from sncontroller.openflow.codec import BUNDLE_FLAGS, message
from sncontroller.openflow.oxm import encode_match

LOCAL_PORT = 0xFFFFFFFE
_CONTROLLER_PORT = 0xFFFFFFFD
_ANY = 0xFFFFFFFF
_ALL = Match(())
_PACKET_OUT, _MULTIPART_REQUEST, _BARRIER_REQUEST, _EXPERIMENTER = 13, 18, 20, 4
_ONF, _BUNDLE_CONTROL = 0x4F4E4600, 2300
_PORT_DOWN = _LINK_DOWN = 1
_LIVE = 4
_UNKNOWN_COUNT = 0xFFFF_FFFF_FFFF_FFFF

_MULTIPART = struct.Struct("!HH4x")  # type, flags
_FLOW_REQUEST = struct.Struct("!B3xII4xQQ")  # table, out port, out group, cookie, mask
_PORT_REQUEST = struct.Struct("!I4x")
_PORT = struct.Struct("!I4x6s2x16sII24x")  # number, address, name, config, state
_PORT_STATS = struct.Struct("!I4x4Q2Q6Q8x")  # number, packets and bytes, drops, errors
_AGGREGATE = struct.Struct("!QQI4x")  # packets, bytes, flows
_BUNDLE = struct.Struct("!IIIHH")  # experimenter, type, bundle, control, flags
_PACKET = struct.Struct("!IIH6x")  # buffer, in port, length of the actions


class Part(IntEnum):
    """Types of multipart messages."""

    FLOW = 1
    AGGREGATE = 2
    PORT_STATS = 4
    GROUP_DESC = 7
    PORT_DESC = 13


class Control(IntEnum):
    """What a bundle control message asks for."""

    OPEN = 0
    CLOSE = 2
    COMMIT = 4
    DISCARD = 6


class Aggregate(NamedTuple):
    """Sums over the flow entries of a cookie."""

    packets: int
    bytes: int
    flows: int


def flow_request(xid: int, table: int, cookie: int, mask: int, match: Match = _ALL) -> bytes:
    """OFPMP_FLOW: the table's entries with these bits in their cookie, within the match."""
    return _multipart(Part.FLOW, xid, _selection(table, cookie, mask) + encode_match(match))


def aggregate_request(xid: int, table: int, cookie: int, mask: int) -> bytes:
    """OFPMP_AGGREGATE: sums over the table's entries with these bits in their cookie."""
    body = _selection(table, cookie, mask) + encode_match(_ALL)
    return _multipart(Part.AGGREGATE, xid, body)


def port_stats_request(xid: int, port: int | None = None) -> bytes:
    """OFPMP_PORT_STATS of one port, or of all."""
    return _multipart(Part.PORT_STATS, xid, _PORT_REQUEST.pack(_ANY if port is None else port))


def port_desc_request(xid: int) -> bytes:
    """OFPMP_PORT_DESC: all ports."""
    return _multipart(Part.PORT_DESC, xid)


def group_desc_request(xid: int) -> bytes:
    """OFPMP_GROUP_DESC: all groups."""
    return _multipart(Part.GROUP_DESC, xid)


def barrier(xid: int) -> bytes:
    """OFPT_BARRIER_REQUEST."""
    return message(_BARRIER_REQUEST, xid, b"")


def bundle_control(xid: int, bundle_id: int, control: Control) -> bytes:
    """ONF_ET_BUNDLE_CONTROL."""
    return message(
        _EXPERIMENTER, xid, _BUNDLE.pack(_ONF, _BUNDLE_CONTROL, bundle_id, control, BUNDLE_FLAGS)
    )


def send_frame(xid: int, port: int, frame: bytes) -> bytes:
    """Packet-out of the frame on a port."""
    return _packet_out(xid, _CONTROLLER_PORT, (Output(port),), frame)


def run_frame(xid: int, in_port: int, actions: Actions, frame: bytes) -> bytes:
    """Packet-out of a frame that came in by a port: do with it what the actions say."""
    return _packet_out(xid, in_port, actions, frame)


def ports(body: bytes) -> Iterator[Port]:
    """The ports in the body of an OFPMP_PORT_DESC reply."""
    for number, mac, name, config, state in _PORT.iter_unpack(body):
        yield port(number, mac.hex(":"), name, config, state)


def port(number: int, mac: str, name: bytes, config: int, state: int) -> Port:
    """A port from its description's fields."""
    up = not config & _PORT_DOWN and not state & _LINK_DOWN
    text = name.rstrip(b"\0").decode(errors="replace")
    return Port(number, text, mac, up, live=bool(state & _LIVE))


def port_drops(body: bytes) -> Iterator[tuple[int, int | None]]:
    """Ports and the packets they dropped, both ways; ``None`` where the switch does not know."""
    for number, _, _, _, _, received, sent, *_ in _PORT_STATS.iter_unpack(body):
        known = [count for count in (received, sent) if count != _UNKNOWN_COUNT]
        yield number, sum(known) if known else None


def aggregate(body: bytes) -> Aggregate:
    """The body of an OFPMP_AGGREGATE reply."""
    return Aggregate(*_AGGREGATE.unpack_from(body))


def _multipart(kind: Part, xid: int, body: bytes = b"") -> bytes:
    return message(_MULTIPART_REQUEST, xid, _MULTIPART.pack(kind, 0) + body)


def _selection(table: int, cookie: int, mask: int) -> bytes:
    return _FLOW_REQUEST.pack(table, _ANY, _ANY, cookie, mask)


def _packet_out(xid: int, in_port: int, actions: Actions, frame: bytes) -> bytes:
    encoded = encode_actions(actions)
    return message(_PACKET_OUT, xid, _PACKET.pack(_ANY, in_port, len(encoded)) + encoded + frame)
