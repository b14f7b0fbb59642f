"""Actions on the wire: OpenFlow 1.3's own and Nicira's (``lib/ofp-actions.c`` in Open vSwitch).

Owns the two tables, by type and by number, that make a tuple of actions bytes and back. What these
tables do not cover becomes ``Opaque`` and never equals anything that we want.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, cast

from sncontroller.core import entries as e
from sncontroller.openflow.oxm import (
    ACTION_FIELD_NAMES,
    ACTION_FIELDS,
    bits,
    decode_field,
    encode_field,
)

_OUTPUT, _POP_VLAN, _GROUP, _SET_FIELD, _EXPERIMENTER = 0, 18, 22, 25, 0xFFFF
_NICIRA = 0x2320
_IN_PORT, _NORMAL, _CONTROLLER = 0xFFFFFFF8, 0xFFFFFFFA, 0xFFFFFFFD
_RESUBMIT_IN_PORT = 0xFFF8
_CT_COMMIT, _CT_NO_TABLE = 1, 0xFF
_SYMMETRIC_L3L4_UDP, _SYMMETRIC_L3, _BASIS, _MODULO_N = 3, 6, 1024, 0
"""What ``HashSlot`` hashes, how it is seeded, and how the hash becomes a slot."""
_FROM_VALUE, _TO_LOAD, _BITS = 0x2000, 0x0800, 0x3FF
"""``learn``'s flow_mod_spec header: 1 bit source, 2 bits destination, 11 bits width."""
_REG0, _REG2 = ACTION_FIELDS["NXM_NX_REG0"], ACTION_FIELDS["NXM_NX_REG2"]
_CT_MARK = ACTION_FIELDS["NXM_NX_CT_MARK"]
_ETH_TYPE, _IP_PROTO = ACTION_FIELDS["NXM_OF_ETH_TYPE"], ACTION_FIELDS["NXM_OF_IP_PROTO"]


class Nicira(IntEnum):
    """Subtypes of Nicira's actions."""

    REG_MOVE = 6
    REG_LOAD = 7
    MULTIPATH = 10
    RESUBMIT_TABLE = 14
    FIN_TIMEOUT = 19
    CT = 35
    LEARN2 = 45


_TYPE_LENGTH = struct.Struct("!HH")
_HEAD = struct.Struct("!HHIH")  # type, length, experimenter, subtype
_PORT = struct.Struct("!HHIH6x")
_NUMBER = struct.Struct("!HHI")
_MOVE = struct.Struct("!HHHII")  # bits, source offset, destination offset, source, destination
_LOAD = struct.Struct("!HIQ")  # offset and bits, destination, value
_MULTIPATH = struct.Struct("!HH2xHHI2xHI")  # fields, basis, algorithm, last, 0, bits, destination
_RESUBMIT = struct.Struct("!HB3x")  # port, table
_FIN = struct.Struct("!HH2x")  # idle, hard
_CT = struct.Struct("!HIHB3xH")  # flags, zone source, zone, table, helper
_LEARN = struct.Struct("!HHHQHBxHHIHH")
"""idle, hard, priority, cookie, flags, table, fin idle, fin hard, limit, result offset, 0"""
_SPEC = struct.Struct("!HIHIH")  # header, source and its offset, destination and its offset
_SPEC_VALUE2 = struct.Struct("!HHIH")  # header, value of up to 16 bits, destination and offset
_SPEC_VALUE4 = struct.Struct("!HIIH")


@dataclass(frozen=True, slots=True)
class Opaque:
    """Bytes on a switch that no entry of ours has: it stands where an action would."""

    data: bytes


class ForeignError(ValueError):
    """The bytes are no action that we ever send."""


def encode_actions(actions: e.Actions) -> bytes:
    """An action list. Raises ``KeyError`` for an unknown field and for ``Opaque``."""
    return b"".join([encode_action(action) for action in actions])


def encode_action(action: e.Action) -> bytes:
    """One action, a multiple of 8 bytes long."""
    return _ENCODE[type(action)](action)


def decode_actions(data: bytes) -> e.Actions:
    """The action list in ``data``, with ``Opaque`` for each action that is none of ours."""
    found: list[e.Action] = []
    offset = 0
    while offset < len(data):
        _, length = _TYPE_LENGTH.unpack_from(data, offset)
        if length < 8:
            raise ForeignError("an action without a length")
        found.append(decode_action(bytes(data[offset : offset + length])))
        offset += length
    return tuple(found)


@lru_cache(maxsize=4096)
def decode_action(data: bytes) -> e.Action:
    """The action that is exactly ``data``, ``Opaque`` when it is none of ours."""
    kind, _ = _TYPE_LENGTH.unpack_from(data)
    try:
        return _DECODE[kind](data)
    except (ForeignError, KeyError, IndexError, struct.error):
        return opaque(data)


def opaque(data: bytes) -> e.Action:
    """An ``Opaque``, for the type checker an action."""
    return cast(e.Action, Opaque(bytes(data)))


# Encoding ----------------------------------------------------------------------------------------


def _port(port: int, max_len: int = 0) -> bytes:
    return _PORT.pack(_OUTPUT, _PORT.size, port, max_len)


def _set_field(action: e.SetField) -> bytes:
    field = encode_field(action.field, action.value)
    length = _TYPE_LENGTH.size + len(field)
    return _TYPE_LENGTH.pack(_SET_FIELD, length + -length % 8) + field + bytes(-length % 8)


def _nicira(subtype: Nicira, body: bytes) -> bytes:
    length = _HEAD.size + len(body)
    padding = -length % 8
    return _HEAD.pack(_EXPERIMENTER, length + padding, _NICIRA, subtype) + body + bytes(padding)


def _load(value: int, header: int) -> bytes:
    return _nicira(Nicira.REG_LOAD, _LOAD.pack(bits(header) - 1, header, value))


def _move(action: e.Move) -> bytes:
    source, target = ACTION_FIELDS[action.src], ACTION_FIELDS[action.dst]
    return _nicira(Nicira.REG_MOVE, _MOVE.pack(bits(source), 0, 0, source, target))


def _ct(action: e.Ct) -> bytes:
    table = _CT_NO_TABLE if action.table is None else action.table
    inner = b"" if action.mark is None else _load(action.mark, _CT_MARK)
    flags = _CT_COMMIT if action.commit else 0
    return _nicira(Nicira.CT, _CT.pack(flags, 0, action.zone, table, 0) + inner)


def _learn(action: e.Learn) -> bytes:
    head = _LEARN.pack(
        action.idle_timeout_s,
        0,
        action.priority,
        action.cookie,
        0,
        action.table,
        action.fin_idle_timeout_s,
        0,
        action.limit,
        0,
        0,
    )
    specs = [
        _SPEC_VALUE2.pack(_FROM_VALUE | 16, action.eth_type, _ETH_TYPE, 0),
        _SPEC_VALUE2.pack(_FROM_VALUE | 8, action.ip_proto, _IP_PROTO, 0),
        *(_copied(ACTION_FIELDS[name]) for name in action.copied),
        _SPEC_VALUE4.pack(_FROM_VALUE | _TO_LOAD | 32, action.load, _REG0, 0),
    ]
    return _nicira(Nicira.LEARN2, head + b"".join(specs))


def _copied(header: int) -> bytes:
    return _SPEC.pack(bits(header), header, 0, header, 0)


def _hash_slot(action: e.HashSlot) -> bytes:
    fields = _SYMMETRIC_L3 if action.by_address else _SYMMETRIC_L3L4_UDP
    last = action.slots - 1
    return _nicira(
        Nicira.MULTIPATH,
        _MULTIPATH.pack(fields, _BASIS, _MODULO_N, last, 0, bits(_REG2) - 1, _REG2),
    )


_ENCODE: dict[type, Callable[[Any], bytes]] = {
    e.Output: lambda a: _port(a.port),
    e.Normal: lambda a: _port(_NORMAL),
    e.InPort: lambda a: _port(_IN_PORT),
    e.ToController: lambda a: _port(_CONTROLLER, a.max_len),
    e.ToGroup: lambda a: _NUMBER.pack(_GROUP, _NUMBER.size, a.group_id),
    e.SetField: _set_field,
    e.Load: lambda a: _load(a.value, ACTION_FIELDS[a.dst]),
    e.Move: _move,
    e.Resubmit: lambda a: _nicira(
        Nicira.RESUBMIT_TABLE, _RESUBMIT.pack(_RESUBMIT_IN_PORT, a.table)
    ),
    e.Ct: _ct,
    e.Learn: _learn,
    e.HashSlot: _hash_slot,
    e.FinTimeout: lambda a: _nicira(Nicira.FIN_TIMEOUT, _FIN.pack(a.idle_timeout_s, 0)),
    e.PopVlan: lambda a: _NUMBER.pack(_POP_VLAN, _NUMBER.size, 0),
}

# Decoding ----------------------------------------------------------------------------------------


def _require(*conditions: bool) -> None:
    if not all(conditions):
        raise ForeignError


def _read_output(data: bytes) -> e.Action:
    _, _, port, max_len = _PORT.unpack_from(data)
    match port:
        case 0xFFFFFFFD:
            return e.ToController(max_len)
        case 0xFFFFFFFA:
            return e.Normal()
        case 0xFFFFFFF8:
            return e.InPort()
        case _:
            return e.Output(port)


def _read_set_field(data: bytes) -> e.Action:
    name, value, _ = decode_field(data, _TYPE_LENGTH.size)
    if isinstance(value, e.Masked):
        raise ForeignError
    return e.SetField(name, value)


def _read_experimenter(data: bytes) -> e.Action:
    _, _, experimenter, subtype = _HEAD.unpack_from(data)
    _require(experimenter == _NICIRA)
    return _DECODE_NICIRA[subtype](data[_HEAD.size :])


def _read_load(body: bytes) -> e.Load:
    where, header, value = _LOAD.unpack_from(body)
    _require(where == bits(header) - 1)
    return e.Load(value, ACTION_FIELD_NAMES[header])


def _read_move(body: bytes) -> e.Action:
    width, source_at, target_at, source, target = _MOVE.unpack_from(body)
    _require(width == bits(source) == bits(target), not source_at, not target_at)
    return e.Move(ACTION_FIELD_NAMES[source], ACTION_FIELD_NAMES[target])


def _read_resubmit(body: bytes) -> e.Action:
    port, table = _RESUBMIT.unpack_from(body)
    _require(port == _RESUBMIT_IN_PORT)
    return e.Resubmit(table)


def _read_fin_timeout(body: bytes) -> e.Action:
    idle, hard = _FIN.unpack_from(body)
    _require(not hard)
    return e.FinTimeout(idle)


def _read_multipath(body: bytes) -> e.Action:
    fields, basis, algorithm, last, argument, where, target = _MULTIPATH.unpack_from(body)
    ours = (_BASIS, _MODULO_N, 0, bits(_REG2) - 1, _REG2)
    _require((basis, algorithm, argument, where, target) == ours)
    _require(fields in (_SYMMETRIC_L3L4_UDP, _SYMMETRIC_L3))
    return e.HashSlot(last + 1, fields == _SYMMETRIC_L3)


def _read_ct(body: bytes) -> e.Action:
    flags, source, zone, table, helper = _CT.unpack_from(body)
    _require(flags in (0, _CT_COMMIT), not source, not helper)
    inner = decode_actions(body[_CT.size :])
    mark = _read_mark(inner)
    return e.Ct(zone, None if table == _CT_NO_TABLE else table, bool(flags), mark)


def _read_mark(inner: e.Actions) -> int | None:
    match inner:
        case ():
            return None
        case (e.Load(value, "NXM_NX_CT_MARK"),):
            return value
        case _:
            raise ForeignError


def _read_learn(body: bytes) -> e.Action:
    (idle, hard, priority, cookie, flags, table, fin_idle, fin_hard, limit, result, zero) = (
        _LEARN.unpack_from(body)
    )
    _require(not any((hard, flags, fin_hard, result, zero)))
    eth_type, ip_proto, *copied, load = _read_specs(body[_LEARN.size :])
    _require(
        eth_type.into == _ETH_TYPE,
        ip_proto.into == _IP_PROTO,
        load.into == _REG0,
        load.is_load,
        not any(spec.is_load for spec in (eth_type, ip_proto, *copied)),
        all(spec.value is None for spec in copied),
    )
    return e.Learn(
        table=table,
        priority=priority,
        cookie=cookie,
        idle_timeout_s=idle,
        fin_idle_timeout_s=fin_idle,
        limit=limit,
        eth_type=eth_type.immediate(),
        ip_proto=ip_proto.immediate(),
        copied=tuple(ACTION_FIELD_NAMES[spec.into] for spec in copied),
        load=load.immediate(),
    )


@dataclass(frozen=True, slots=True)
class _Spec:
    """One flow_mod_spec of ``learn``: copy ``into`` from the packet, or put a value there."""

    into: int
    is_load: bool
    value: int | None

    def immediate(self) -> int:
        """The value to put there. Raises ``ForeignError`` for a copied field."""
        if self.value is None:
            raise ForeignError
        return self.value


def _read_specs(data: bytes) -> list[_Spec]:
    specs: list[_Spec] = []
    offset = 0
    while offset + 2 <= len(data):
        (header,) = struct.unpack_from("!H", data, offset)
        if not header:
            break
        form = _spec_form(header)
        spec = form.unpack_from(data, offset)
        offset += form.size
        specs.append(_spec(header, spec))
    _require(len(specs) >= 3)
    return specs


def _spec_form(header: int) -> struct.Struct:
    if not header & _FROM_VALUE:
        return _SPEC
    return _SPEC_VALUE2 if header & _BITS <= 16 else _SPEC_VALUE4


def _spec(header: int, spec: tuple[int, ...]) -> _Spec:
    into, at = spec[-2:]
    _require(header & _BITS == bits(into), not at, not header & ~(_FROM_VALUE | _TO_LOAD | _BITS))
    is_load = bool(header & _TO_LOAD)
    if header & _FROM_VALUE:
        return _Spec(into, is_load, spec[1])
    _require(spec[1] == into, not spec[2])
    return _Spec(into, is_load, None)


_DECODE: dict[int, Callable[[bytes], e.Action]] = {
    _OUTPUT: _read_output,
    _GROUP: lambda data: e.ToGroup(_NUMBER.unpack_from(data)[2]),
    _SET_FIELD: _read_set_field,
    _POP_VLAN: lambda data: e.PopVlan(),
    _EXPERIMENTER: _read_experimenter,
}
_DECODE_NICIRA: dict[int, Callable[[bytes], e.Action]] = {
    Nicira.REG_MOVE: _read_move,
    Nicira.REG_LOAD: _read_load,
    Nicira.MULTIPATH: _read_multipath,
    Nicira.RESUBMIT_TABLE: _read_resubmit,
    Nicira.FIN_TIMEOUT: _read_fin_timeout,
    Nicira.CT: _read_ct,
    Nicira.LEARN2: _read_learn,
}
