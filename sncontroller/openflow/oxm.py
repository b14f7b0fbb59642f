"""Match fields and single field values on the wire: OXM and NXM TLVs (OpenFlow 1.3.5, 7.2.3).

Owns the table of fields. A field that is not in the table survives a round trip too, under a name
made of its header (``oxm_80001e01``), so that an entry somebody else shaped can still be compared
and removed.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from sncontroller.core.entries import Masked, Match, Value

_BASIC, _NXM_OF, _NXM_NX, _ERICSSON, _EXPERIMENTER = 0x8000, 0x0000, 0x0001, 0x1000, 0xFFFF
_ONF = 0x4F4E4600
_HAS_MASK = 0x100
_U32 = struct.Struct("!I")
_LENGTHS = struct.Struct("!HH")
_MATCH_OXM = 1
_UNKNOWN = "oxm_"


class Form(Enum):
    """How a field's value is written in an entry."""

    NUMBER = "number"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"


@dataclass(frozen=True, slots=True)
class Field:
    """A field's name, its TLV header without the mask bit, and its size in bytes."""

    name: str
    header: int
    size: int
    form: Form = Form.NUMBER
    experimenter: int | None = None


def _basic(number: int, name: str, size: int, form: Form = Form.NUMBER) -> Field:
    return Field(name, _BASIC << 16 | number << 9 | size, size, form)


def _nxm(number: int, name: str, size: int, form: Form = Form.NUMBER) -> Field:
    return Field(name, _NXM_NX << 16 | number << 9 | size, size, form)


def _ericsson(number: int, name: str, size: int) -> Field:
    """ERICOXM_OF_*, in Open vSwitch since 2.11."""
    return Field(name, _ERICSSON << 16 | number << 9 | size, size)


_FIELDS = (  # in an order in which every field comes after its prerequisites
    _basic(0, "in_port", 4),
    _basic(2, "metadata", 8),
    _basic(3, "eth_dst", 6, Form.MAC),
    _basic(4, "eth_src", 6, Form.MAC),
    _basic(5, "eth_type", 2),
    _basic(6, "vlan_vid", 2),
    _basic(7, "vlan_pcp", 1),
    _basic(8, "ip_dscp", 1),
    _basic(9, "ip_ecn", 1),
    _basic(10, "ip_proto", 1),
    _basic(11, "ipv4_src", 4, Form.IPV4),
    _basic(12, "ipv4_dst", 4, Form.IPV4),
    _basic(13, "tcp_src", 2),
    _basic(14, "tcp_dst", 2),
    _basic(15, "udp_src", 2),
    _basic(16, "udp_dst", 2),
    _basic(17, "sctp_src", 2),
    _basic(18, "sctp_dst", 2),
    _basic(19, "icmpv4_type", 1),
    _basic(20, "icmpv4_code", 1),
    _basic(21, "arp_op", 2),
    _basic(22, "arp_spa", 4, Form.IPV4),
    _basic(23, "arp_tpa", 4, Form.IPV4),
    _basic(24, "arp_sha", 6, Form.MAC),
    _basic(25, "arp_tha", 6, Form.MAC),
    _basic(26, "ipv6_src", 16, Form.IPV6),
    _basic(27, "ipv6_dst", 16, Form.IPV6),
    _basic(28, "ipv6_flabel", 4),
    _basic(29, "icmpv6_type", 1),
    _basic(30, "icmpv6_code", 1),
    _basic(31, "ipv6_nd_target", 16, Form.IPV6),
    _basic(32, "ipv6_nd_sll", 6, Form.MAC),
    _basic(33, "ipv6_nd_tll", 6, Form.MAC),
    _ericsson(1, "nd_reserved", 4),
    _ericsson(2, "nd_options_type", 1),
    _basic(38, "tunnel_id", 8),
    *(_nxm(number, f"reg{number}", 4) for number in range(16)),
    _nxm(26, "ip_frag", 1),
    _nxm(29, "nw_ttl", 1),
    _nxm(33, "pkt_mark", 4),
    _nxm(105, "ct_state", 4),
    _nxm(106, "ct_zone", 2),
    _nxm(107, "ct_mark", 4),
    _nxm(119, "ct_nw_proto", 1),
    _nxm(125, "ct_tp_dst", 2),
    _nxm(34, "tcp_flags", 2),
)
_RANK = {field.name: rank for rank, field in enumerate(_FIELDS)}
_BY_NAME = {field.name: field for field in _FIELDS}
_BY_TYPE: dict[tuple[int, int | None], Field] = {(f.header >> 9, None): f for f in _FIELDS}
# Open vSwitch 3.1.0 takes NXM_NX_TCP_FLAGS and answers with ONFOXM_ET_TCP_FLAGS.
_BY_TYPE[(_EXPERIMENTER << 7 | 42, _ONF)] = _BY_NAME["tcp_flags"]


def encode_match(match: Match) -> bytes:
    """The ``ofp_match`` structure, padded to a multiple of 8 bytes."""
    fields = match.fields
    body = b"".join([encode_field(*fields[at]) for at in _wire_order(tuple(dict(fields)))])
    length = _LENGTHS.size + len(body)
    return _LENGTHS.pack(_MATCH_OXM, length) + body + bytes(-length % 8)


@lru_cache
def _wire_order(names: tuple[str, ...]) -> tuple[int, ...]:
    """The places of these fields, each after its prerequisites."""
    ranks = [_RANK.get(name, len(_RANK)) for name in names]
    return tuple(sorted(range(len(names)), key=ranks.__getitem__))


def decode_match(buf: bytes, offset: int) -> tuple[Match, int]:
    """The ``ofp_match`` at ``offset``, and the offset behind its padding."""
    _, length = _LENGTHS.unpack_from(buf, offset)
    fields = sorted(_tlvs(buf, offset + _LENGTHS.size, offset + length))
    return Match(tuple(fields)), offset + length + -length % 8


def match_length(buf: bytes, offset: int) -> int:
    """Bytes that the ``ofp_match`` at ``offset`` takes, padding included."""
    length: int = _LENGTHS.unpack_from(buf, offset)[1]
    return length + -length % 8


@lru_cache(maxsize=4096)
def encode_field(name: str, value: Value | Masked) -> bytes:
    """One TLV. Raises ``KeyError`` for a name that is no field's."""
    field = _BY_NAME.get(name) or _unknown(name)
    experimenter = b"" if field.experimenter is None else _U32.pack(field.experimenter)
    data, mask = _to_bytes(field, value)
    if mask is None:
        return _U32.pack(field.header) + experimenter + data
    header = (field.header & ~0xFF) | _HAS_MASK | len(experimenter) + 2 * field.size
    return _U32.pack(header) + experimenter + data + mask


def decode_field(buf: bytes, offset: int) -> tuple[str, Value | Masked, int]:
    """The field's name and value at ``offset``, and the offset behind it."""
    end = offset + 4 + buf[offset + 3]
    name, value = _decoded(bytes(buf[offset:end]))
    return name, value, end


@lru_cache(maxsize=4096)
def _decoded(buf: bytes) -> tuple[str, Value | Masked]:
    """The field's name and value that are exactly these bytes."""
    (header,) = _U32.unpack_from(buf)
    start, end = 4, len(buf)
    experimenter = None
    if header >> 16 == _EXPERIMENTER:
        (experimenter,) = _U32.unpack_from(buf, start)
        start += 4
    size = (end - start) // 2 if header & _HAS_MASK else end - start
    known = _BY_TYPE.get((header >> 9, experimenter))
    right = known is not None and known.size == size
    field = known if known and right else _named_by_header(header, experimenter, size)
    if not header & _HAS_MASK:
        return field.name, _from_bytes(field.form, buf[start:end])
    data, mask = buf[start : start + size], buf[start + size : end]
    return field.name, _masked(field.form, data, mask)


def _tlvs(buf: bytes, offset: int, end: int) -> Iterator[tuple[str, Value | Masked]]:
    while offset < end:
        name, value, offset = decode_field(buf, offset)
        yield name, value


def _to_bytes(field: Field, value: Value | Masked) -> tuple[bytes, bytes | None]:
    if isinstance(value, Masked):
        return value.value.to_bytes(field.size), value.mask.to_bytes(field.size)
    if isinstance(value, int):
        return value.to_bytes(field.size), None
    if "/" in value:
        network = ipaddress.ip_network(value)
        return network.network_address.packed, network.netmask.packed
    match field.form:
        case Form.IPV4:
            return socket.inet_pton(socket.AF_INET, value), None
        case Form.IPV6:
            return socket.inet_pton(socket.AF_INET6, value), None
        case _:
            return bytes.fromhex(value.replace(":", "")), None


def _from_bytes(form: Form, data: bytes) -> Value:
    match form:
        case Form.NUMBER:
            return int.from_bytes(data)
        case Form.MAC:
            return bytes(data).hex(":")
        case Form.IPV4:
            return socket.inet_ntop(socket.AF_INET, data)
        case Form.IPV6:
            return socket.inet_ntop(socket.AF_INET6, data)


def _masked(form: Form, data: bytes, mask: bytes) -> Value | Masked:
    """A prefix as ``address/length``, all other masks as numbers."""
    number, width = int.from_bytes(mask), len(mask) * 8
    prefix = width - (~number & (1 << width) - 1).bit_length()
    if prefix == width:
        return _from_bytes(form, data)
    contiguous = number == (1 << width) - (1 << width - prefix)
    if contiguous and form in (Form.IPV4, Form.IPV6):
        return f"{_from_bytes(form, data)}/{prefix}"
    return Masked(int.from_bytes(data), number)


def _named_by_header(header: int, experimenter: int | None, size: int) -> Field:
    extra = 0 if experimenter is None else 4
    header = header & ~0x1FF | size + extra
    suffix = "" if experimenter is None else f"_{experimenter:08x}"
    return Field(f"{_UNKNOWN}{header:08x}{suffix}", header, size, Form.NUMBER, experimenter)


def _unknown(name: str) -> Field:
    if not name.startswith(_UNKNOWN):
        raise KeyError(f"no match field {name}")
    header, _, experimenter = name.removeprefix(_UNKNOWN).partition("_")
    known = int(experimenter, 16) if experimenter else None
    return _named_by_header(
        int(header, 16), known, (int(header, 16) & 0xFF) - (4 if experimenter else 0)
    )


# Fields as actions name them: a header, and how many bits it holds.


def _action_fields() -> dict[str, int]:
    """Headers by the names that Open vSwitch prints in ``load``, ``move`` and ``learn``."""
    old = {  # NXM_OF_*, number and size
        "ETH_DST": (1, 6),
        "ETH_SRC": (2, 6),
        "ETH_TYPE": (3, 2),
        "VLAN_TCI": (4, 2),
        "IP_PROTO": (6, 1),
        "IP_SRC": (7, 4),
        "IP_DST": (8, 4),
        "TCP_SRC": (9, 2),
        "TCP_DST": (10, 2),
        "UDP_SRC": (11, 2),
        "UDP_DST": (12, 2),
        "ICMP_TYPE": (13, 1),
        "ICMP_CODE": (14, 1),
        "ARP_OP": (15, 2),
        "ARP_SPA": (16, 4),
        "ARP_TPA": (17, 4),
    }
    new = {  # NXM_NX_*
        **{f"REG{number}": (number, 4) for number in range(16)},
        "TUN_ID": (16, 8),
        "ARP_SHA": (17, 6),
        "ARP_THA": (18, 6),
        "IPV6_SRC": (19, 16),
        "IPV6_DST": (20, 16),
        "ICMPV6_TYPE": (21, 1),
        "ICMPV6_CODE": (22, 1),
        "ND_TARGET": (23, 16),
        "ND_SLL": (24, 6),
        "ND_TLL": (25, 6),
        "PKT_MARK": (33, 4),
        "CT_MARK": (107, 4),
    }
    names = {f"NXM_OF_{n}": _NXM_OF << 16 | f << 9 | size for n, (f, size) in old.items()}
    names |= {f"NXM_NX_{n}": _NXM_NX << 16 | f << 9 | size for n, (f, size) in new.items()}
    # SCTP's ports have no NXM number.
    sctp = {f"OXM_OF_SCTP_{end.upper()}": f"sctp_{end}" for end in ("src", "dst")}
    return names | {name: _BY_NAME[field].header for name, field in sctp.items()}


ACTION_FIELDS = _action_fields()
ACTION_FIELD_NAMES = {header: name for name, header in ACTION_FIELDS.items()}


def bits(header: int) -> int:
    """How many bits the field of this header holds."""
    return (header & 0xFF) * 8
