"""Entries as OpenFlow 1.3 messages, and what a switch dumps as entries.

Owns bytes to values and back, nothing else: it sends nothing and knows no connection. Ryu's own
message classes are not used for entries, because a poll must not cost a parse of every match and
action (Ryu needs 34 us for an entry's statistics, ``CounterReader`` 0.2 us) and they lack
``learn``'s limit; the tests hold these bytes against Ryu's parser and against Open vSwitch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from sncontroller.core import diff
from sncontroller.core import entries as e
from sncontroller.openflow.actions import ForeignError, decode_actions, encode_actions, opaque
from sncontroller.openflow.oxm import decode_match, encode_match

OFP_VERSION = 4
_FLOW_MOD, _GROUP_MOD, _EXPERIMENTER_MSG = 14, 15, 4
_ADD, _DELETE, _DELETE_STRICT = 0, 3, 4
_GROUP_ADD, _GROUP_MODIFY, _GROUP_DELETE = 0, 1, 2
_NO_BUFFER, _ANY = 0xFFFFFFFF, 0xFFFFFFFF
_APPLY_ACTIONS = 4
_ALL_BITS = 0xFFFF_FFFF_FFFF_FFFF
_GROUP_TYPES = {e.GroupType.SELECT: 1, e.GroupType.FAST_FAILOVER: 3}
_GROUP_TYPE_OF = {number: kind for kind, number in _GROUP_TYPES.items()}
_ONF, _BUNDLE_ADD = 0x4F4E4600, 2301
BUNDLE_FLAGS = 3
"""Atomic and ordered."""

_HEADER = struct.Struct("!BBHI")  # version, type, length, xid
_FLOW_MOD_HEAD = struct.Struct("!BBHIQQBBHHHIIIH2x")
"""version, type, length, xid, cookie, mask, table, command, idle, hard, priority, buffer, out port,
out group, flags"""
_GROUP_BODY = struct.Struct("!HBxI")  # command, type, group
_INSTRUCTION = struct.Struct("!HH4x")
_BUCKET = struct.Struct("!HHII4x")  # length, weight, watched port, watched group
_FLOW_STATS = struct.Struct("!HBxIIHHHH4xQQQ")
"""length, table, duration (s, ns), priority, idle, hard, flags, cookie, packets, bytes"""
_LENGTH = struct.Struct("!H")
KNOWN_SIZES = 256
"""Of so many replies' sizes the places of the counters are kept."""
_GROUP_DESC = struct.Struct("!HBxI")  # length, type, group
_BUNDLE_HEAD = struct.Struct("!BBHIIII2xH")
"""version, type, length, xid, experimenter, experimenter's type, bundle, flags"""


class Counted(NamedTuple):
    """Whose entries are in a reply, and their counters: three sequences of one length."""

    cookies: tuple[int, ...]
    packets: tuple[int, ...]
    bytes: tuple[int, ...]


class Encoder:
    """Encodes operations that live as long as it does: what entries share is encoded once."""

    def __init__(self) -> None:
        self._instructions: dict[int, bytes] = {}
        """By the identity of the action list."""

    def encode(self, operation: diff.Operation, xid: int) -> bytes:
        """The message that does the operation. Raises ``KeyError`` for a field that is none."""
        if not isinstance(operation, diff.AddFlow):
            return _encode(operation, xid)
        flow = operation.flow
        shared = id(flow.actions)
        if shared not in self._instructions:
            self._instructions[shared] = _apply(flow.actions)
        return _flow_mod(_ADD, flow, xid, self._instructions[shared])


def encode(operation: diff.Operation, xid: int) -> bytes:
    """One message alone, as an ``Encoder`` makes it."""
    return Encoder().encode(operation, xid)


def _encode(
    operation: diff.DeleteFlow | diff.AddGroup | diff.ModifyGroup | diff.DeleteGroup, xid: int
) -> bytes:
    match operation:
        case diff.DeleteFlow(flow):
            return delete_flow(flow, xid)
        case diff.AddGroup(group):
            return _group_mod(_GROUP_ADD, group, xid)
        case diff.ModifyGroup(group):
            return _group_mod(_GROUP_MODIFY, group, xid)
        case diff.DeleteGroup(group_id):
            body = _GROUP_BODY.pack(_GROUP_DELETE, _GROUP_TYPES[e.GroupType.SELECT], group_id)
            return message(_GROUP_MOD, xid, body)


def add_flow(flow: e.FlowEntry, xid: int) -> bytes:
    """OFPFC_ADD: replaces an entry of the same key, whoever made it."""
    return _flow_mod(_ADD, flow, xid, _apply(flow.actions))


def delete_flow(flow: e.FlowEntry, xid: int) -> bytes:
    """OFPFC_DELETE_STRICT of this entry, if it still has its cookie."""
    return _flow_mod(_DELETE_STRICT, flow._replace(idle_timeout_s=0), xid, mask=_ALL_BITS)


def delete_by_cookie(table: int, cookie: int, xid: int) -> bytes:
    """OFPFC_DELETE of a table's entries with this very cookie."""
    all_of_it = e.FlowEntry(table, 0, e.Match(()), (), cookie)
    return _flow_mod(_DELETE, all_of_it, xid, mask=_ALL_BITS)


def _flow_mod(
    command: int, flow: e.FlowEntry, xid: int, instructions: bytes = b"", mask: int = 0
) -> bytes:
    body = encode_match(flow.match) + instructions
    head = _FLOW_MOD_HEAD.pack(
        OFP_VERSION,
        _FLOW_MOD,
        _FLOW_MOD_HEAD.size + len(body),
        xid,
        flow.cookie,
        mask,
        flow.table,
        command,
        flow.idle_timeout_s,
        0,
        flow.priority,
        _NO_BUFFER,
        _ANY,
        _ANY,
        0,
    )
    return head + body


def bundle_add(bundle_id: int, inner: bytes, xid: int) -> bytes:
    """ONF_ET_BUNDLE_ADD_MESSAGE with the message in it, under the same xid (EXT-230, 3.3)."""
    length = _BUNDLE_HEAD.size + len(inner)
    about = (_ONF, _BUNDLE_ADD, bundle_id, BUNDLE_FLAGS)
    return _BUNDLE_HEAD.pack(OFP_VERSION, _EXPERIMENTER_MSG, length, xid, *about) + inner


def flows(body: bytes) -> Iterator[e.FlowEntry]:
    """The entries in the body of an OFPMP_FLOW reply; strange actions become ``Opaque``."""
    offset = 0
    while offset < len(body):
        length, table, _, _, priority, idle, hard, flags, cookie, _, _ = _FLOW_STATS.unpack_from(
            body, offset
        )
        match, start = decode_match(body, offset + _FLOW_STATS.size)
        offset += length
        instructions = bytes(body[start:offset])
        strange = hard or flags
        actions = (opaque(instructions),) if strange else _applied(instructions)
        yield e.FlowEntry(table, priority, match, actions, cookie, idle)


def groups(body: bytes) -> Iterator[e.GroupEntry]:
    """The entries in the body of an OFPMP_GROUP_DESC reply; a strange one has ``Opaque`` in it."""
    offset = 0
    while offset < len(body):
        length, number, group_id = _GROUP_DESC.unpack_from(body, offset)
        buckets = bytes(body[offset + _GROUP_DESC.size : offset + length])
        offset += length
        kind = _GROUP_TYPE_OF.get(number)
        if kind is None:
            strange = (e.Bucket((opaque(buckets),)),)
            yield e.GroupEntry(group_id, e.GroupType.SELECT, strange)
        else:
            yield e.GroupEntry(group_id, kind, tuple(_buckets(buckets, kind)))


class CounterReader:
    """Reads counters without a look at matches and actions: all of a reply's entries in one go.

    A switch that holds the same entries as before answers in the same places: those are known by
    the reply's size, and every entry's length says whether they still are right.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[int, ...], struct.Struct]] = {}

    def read(self, body: bytes) -> Counted:
        """The counters in the body of an OFPMP_FLOW reply."""
        if len(body) in self._known:
            lengths, places = self._known[len(body)]
            found = places.unpack(body)
            if found[::4] == lengths:
                return Counted(found[1::4], found[2::4], found[3::4])
        lengths = tuple(_lengths(body))
        places = struct.Struct("!" + "".join([f"H22xQQQ{n - _FLOW_STATS.size}x" for n in lengths]))
        if len(self._known) >= KNOWN_SIZES:
            self._known.clear()
        self._known[len(body)] = lengths, places
        found = places.unpack(body)
        return Counted(found[1::4], found[2::4], found[3::4])


def _lengths(body: bytes) -> Iterator[int]:
    offset = 0
    while offset < len(body):
        (length,) = _LENGTH.unpack_from(body, offset)
        yield length
        offset += length


def message(kind: int, xid: int, body: bytes) -> bytes:
    """A whole OpenFlow message of this type."""
    return _HEADER.pack(OFP_VERSION, kind, _HEADER.size + len(body), xid) + body


def _apply(actions: e.Actions) -> bytes:
    if not actions:
        return b""
    data = encode_actions(actions)
    return _INSTRUCTION.pack(_APPLY_ACTIONS, _INSTRUCTION.size + len(data)) + data


def _applied(instructions: bytes) -> e.Actions:
    """The actions of a flow entry whose only instruction is to apply them."""
    if not instructions:
        return ()
    kind, length = _INSTRUCTION.unpack_from(instructions)
    if kind != _APPLY_ACTIONS or length != len(instructions):
        return (opaque(instructions),)
    return _decoded(instructions[_INSTRUCTION.size :])


def _decoded(data: bytes) -> e.Actions:
    try:
        return decode_actions(data)
    except ForeignError:
        return (opaque(data),)


def _group_mod(command: int, group: e.GroupEntry, xid: int) -> bytes:
    weight = 1 if group.type is e.GroupType.SELECT else 0
    encoded: dict[int, bytes] = {}  # by identity: 256 slots share a bucket per node
    for bucket in group.buckets:
        if id(bucket) not in encoded:
            encoded[id(bucket)] = _bucket(bucket, weight)
    head = _GROUP_BODY.pack(command, _GROUP_TYPES[group.type], group.group_id)
    return message(_GROUP_MOD, xid, head + b"".join(encoded[id(b)] for b in group.buckets))


def _bucket(bucket: e.Bucket, weight: int) -> bytes:
    port = _ANY if bucket.watch_port is None else bucket.watch_port
    group = _ANY if bucket.watch_group is None else bucket.watch_group
    data = encode_actions(bucket.actions)
    return _BUCKET.pack(_BUCKET.size + len(data), weight, port, group) + data


def _buckets(data: bytes, kind: e.GroupType) -> Iterator[e.Bucket]:
    offset = 0
    known: dict[bytes, e.Bucket] = {}
    while offset < len(data):
        length = _BUCKET.unpack_from(data, offset)[0]
        raw = data[offset : offset + length]
        if raw not in known:
            known[raw] = _read_bucket(raw, kind)
        yield known[raw]
        offset += length


def _read_bucket(data: bytes, kind: e.GroupType) -> e.Bucket:
    _, weight, port, group = _BUCKET.unpack_from(data)
    strange = kind is e.GroupType.SELECT and weight != 1
    actions = (opaque(data),) if strange else _decoded(data[_BUCKET.size :])
    return e.Bucket(actions, None if port == _ANY else port, None if group == _ANY else group)
