"""Entries in the exact text in which ``ovs-ofctl -O OpenFlow13 --no-stats --no-names`` dumps them.

Owns one direction only, values to text; a dump compares with it line by line. Checked against
Open vSwitch 3.1.0 by loading every example in ``flows/`` and dumping it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sncontroller.core import entries as e

_PROTOCOLS = {
    (0x0800, 6): "tcp",
    (0x0800, 17): "udp",
    (0x0800, 132): "sctp",
    (0x0800, 1): "icmp",
    (0x86DD, 6): "tcp6",
    (0x86DD, 17): "udp6",
    (0x86DD, 132): "sctp6",
    (0x86DD, 58): "icmp6",
    (0x0800, None): "ip",
    (0x86DD, None): "ipv6",
    (0x0806, None): "arp",
}
_BEFORE_PROTOCOL = ("ct_state", "ct_zone", "ct_mark", "ct_nw_proto", "ct_tp_dst")
_AFTER_PROTOCOL = (  # OXM name -> the name in a dump, in the order of a dump
    ("reg0", "reg0"),
    ("reg1", "reg1"),
    ("reg2", "reg2"),
    ("reg3", "reg3"),
    ("in_port", "in_port"),
    ("vlan_vid", "dl_vlan"),
    ("eth_src", "dl_src"),
    ("eth_dst", "dl_dst"),
    ("ipv4_src", "nw_src"),
    ("ipv4_dst", "nw_dst"),
    ("ipv6_src", "ipv6_src"),
    ("ipv6_dst", "ipv6_dst"),
    ("arp_spa", "arp_spa"),
    ("arp_tpa", "arp_tpa"),
    ("arp_op", "arp_op"),
    ("ip_proto", "nw_proto"),
    ("ip_frag", "nw_frag"),
    ("icmpv4_type", "icmp_type"),
    ("icmpv6_type", "icmp_type"),
    ("ipv6_nd_target", "nd_target"),
    ("tcp_src", "tp_src"),
    ("udp_src", "tp_src"),
    ("tcp_dst", "tp_dst"),
    ("udp_dst", "tp_dst"),
    ("tcp_flags", "tcp_flags"),
)
_HEX = {"reg0", "reg1", "reg2", "reg3", "ct_mark"}
_FLAGS = {  # names of the bits, from the lowest
    "tcp_flags": ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"),
    "ct_state": ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"),
}
_SET_NAMES = {
    "ipv4_src": "ip_src",
    "ipv4_dst": "ip_dst",
    "icmpv4_type": "icmp_type",
    "ipv6_nd_target": "nd_target",
    "ipv6_nd_sll": "nd_sll",
    "ipv6_nd_tll": "nd_tll",
}
_RESERVED = {0xFFFFFFFE: "LOCAL", 0xFFFFFFFC: "ALL", 0xFFFFFFFB: "FLOOD"}
_DEFAULT_PRIORITY = 0x8000
_VID_PRESENT = 0x1000
_UNTAGGED = "vlan_tci=0x0000/0x1fff"
_FRAGMENTS = {e.Masked(1, 1): "yes", e.Masked(0, 1): "no", e.Masked(3, 3): "later"}


def flow(entry: e.FlowEntry) -> str:
    """One line of ``dump-flows``, without the leading space."""
    head = [f"cookie={entry.cookie:#x}"] if entry.cookie else []
    if entry.table:
        head.append(f"table={entry.table}")
    if entry.idle_timeout_s:
        head.append(f"idle_timeout={entry.idle_timeout_s}")
    priority = [] if entry.priority == _DEFAULT_PRIORITY else [f"priority={entry.priority}"]
    fields = ",".join([*priority, *_match(entry.match)])
    where = f"{fields} " if fields else ""
    return f"{', '.join([*head, where])}actions={actions(entry.actions) or 'drop'}"


def group(entry: e.GroupEntry) -> str:
    """One line of ``dump-groups``, without the leading space."""
    buckets = ",".join(_bucket(bucket) for bucket in entry.buckets)
    return f"group_id={entry.group_id},type={entry.type.value},{buckets}".rstrip(",")


def lines(table: e.Table) -> tuple[str, ...]:
    """Groups by identifier, then flows by table, descending priority and text."""
    groups = [group(table.groups[key]) for key in sorted(table.groups)]
    ordered = sorted(table.flows.values(), key=lambda f: (f.table, -f.priority, flow(f)))
    return (*groups, *(flow(entry) for entry in ordered))


def actions(items: Iterable[e.Action]) -> str:
    """An action list as it stands behind ``actions=``; empty for an empty list."""
    return ",".join(_ACTIONS[type(item)](item) for item in items)


def _bucket(bucket: e.Bucket) -> str:
    parts = ["bucket="]
    if bucket.watch_port is not None:
        parts.append(f"watch_port:{bucket.watch_port},")
    if bucket.watch_group is not None:
        parts.append(f"watch_group:{bucket.watch_group},")
    return "".join([*parts, f"actions={actions(bucket.actions) or 'drop'}"])


def _match(match: e.Match) -> list[str]:
    fields = dict(match.fields)
    eth_type, proto = fields.pop("eth_type", None), fields.pop("ip_proto", None)
    out = [
        f"{name}={_value(name, fields.pop(name))}" for name in _BEFORE_PROTOCOL if name in fields
    ]
    if eth_type is not None:
        if proto is not None and (eth_type, proto) not in _PROTOCOLS:  # it has no word of its own
            fields["ip_proto"], proto = proto, None
        out.append(_PROTOCOLS[(eth_type, proto)])  # type: ignore[index]
    for name, text in _AFTER_PROTOCOL:
        if name in fields:
            value = _value(name, fields.pop(name))
            out.append(value if value == _UNTAGGED else f"{text}={value}")
    if fields:
        raise ValueError(f"no text form for match fields {sorted(fields)}")
    return out


def _value(name: str, value: e.Value | e.Masked) -> str:
    if name in _FLAGS and isinstance(value, e.Masked):
        bits = [(1 << i, flag) for i, flag in enumerate(_FLAGS[name])]
        return "".join(
            ("+" if value.value & bit else "-") + flag for bit, flag in bits if value.mask & bit
        )
    if name == "ip_frag" and isinstance(value, e.Masked):
        return _FRAGMENTS[value]
    if isinstance(value, e.Masked):
        number = _hex(value.value) if name in _HEX else f"{value.value:#x}"
        return f"{number}/{value.mask:#x}"
    if name == "vlan_vid":
        return str(int(value) & ~_VID_PRESENT) if value else _UNTAGGED
    if name == "in_port":
        return _port(int(value))
    return _hex(int(value)) if name in _HEX else str(value)


def _hex(number: int) -> str:
    """As C's ``%#x``: zero has no prefix."""
    return f"{number:#x}" if number else "0"


def _port(number: int) -> str:
    return _RESERVED.get(number, str(number))


def _output(output: e.Output) -> str:
    return _RESERVED.get(output.port, f"output:{output.port}")


def _ct(ct: e.Ct) -> str:
    parts = ["commit"] if ct.commit else []
    if ct.table is not None:
        parts.append(f"table={ct.table}")
    if ct.zone:
        parts.append(f"zone={ct.zone}")
    if ct.mark is not None:
        parts.append(f"exec(load:{_hex(ct.mark)}->NXM_NX_CT_MARK[])")
    return f"ct({','.join(parts)})"


def _learn(learn: e.Learn) -> str:
    parts = [f"table={learn.table}"]
    if learn.idle_timeout_s:
        parts.append(f"idle_timeout={learn.idle_timeout_s}")
    if learn.fin_idle_timeout_s:
        parts.append(f"fin_idle_timeout={learn.fin_idle_timeout_s}")
    parts += [f"priority={learn.priority}", f"cookie={learn.cookie:#x}"]
    if learn.limit:
        parts.append(f"limit={learn.limit}")
    parts += [f"eth_type={learn.eth_type:#x}", f"nw_proto={learn.ip_proto}"]
    parts += [f"{name}[]" for name in learn.copied]
    return f"learn({','.join([*parts, f'load:{_hex(learn.load)}->NXM_NX_REG0[]'])})"


def _hash_slot(hashed: e.HashSlot) -> str:
    fields = "symmetric_l3" if hashed.by_address else "symmetric_l3l4+udp"
    return f"multipath({fields},1024,modulo_n,{hashed.slots},0,NXM_NX_REG2[])"


_ACTIONS: dict[type, Callable[[Any], str]] = {
    e.Output: _output,
    e.Normal: lambda a: "NORMAL",
    e.InPort: lambda a: "IN_PORT",
    e.ToController: lambda a: f"CONTROLLER:{a.max_len}",
    e.ToGroup: lambda a: f"group:{a.group_id}",
    e.SetField: lambda a: f"set_field:{a.value}->{_SET_NAMES.get(a.field, a.field)}",
    e.Load: lambda a: f"load:{_hex(a.value)}->{a.dst}[]",
    e.Move: lambda a: f"move:{a.src}[]->{a.dst}[]",
    e.Resubmit: lambda a: f"resubmit(,{a.table})",
    e.Ct: _ct,
    e.Learn: _learn,
    e.HashSlot: _hash_slot,
    e.FinTimeout: lambda a: f"fin_timeout(idle_timeout={a.idle_timeout_s})",
    e.PopVlan: lambda a: "pop_vlan",
}
