"""Hypothesis strategies for entries: all that ``core/entries.py`` can express."""

from __future__ import annotations

import socket

from hypothesis import strategies as st

from sncontroller.core import entries as e
from sncontroller.openflow.oxm import ACTION_FIELDS

u8, u16, u32, u64 = (st.integers(0, 2**width - 1) for width in (8, 16, 32, 64))
ports = st.integers(1, 0xFEFF) | st.just(0xFFFFFFFE)
macs = st.binary(min_size=6, max_size=6).map(lambda b: b.hex(":"))
addresses = st.binary(min_size=4, max_size=4).map(lambda b: socket.inet_ntop(socket.AF_INET, b))
addresses6 = st.binary(min_size=16, max_size=16).map(lambda b: socket.inet_ntop(socket.AF_INET6, b))


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    """An IPv4 prefix, not /0 and not /32, without host bits."""
    length = draw(st.integers(1, 31))
    number = draw(u32) >> 32 - length << 32 - length
    return f"{socket.inet_ntop(socket.AF_INET, number.to_bytes(4))}/{length}"


def masked(width: int) -> st.SearchStrategy[e.Masked]:
    """A value with a mask of this width that is neither empty nor full."""
    masks = st.integers(1, 2**width - 2)
    return masks.flatmap(
        lambda mask: st.integers(0, 2**width - 1).map(lambda v: e.Masked(v & mask, mask))
    )


FIELDS: dict[str, st.SearchStrategy[e.Value | e.Masked]] = {
    "in_port": u32,
    "eth_dst": macs | masked(48),
    "eth_src": macs,
    "eth_type": u16,
    "vlan_vid": st.integers(0x1000, 0x1FFF) | st.just(e.Masked(0x1000, 0x1000)),
    "ip_proto": u8,
    "ipv4_src": addresses | prefixes(),
    "ipv4_dst": addresses | prefixes(),
    "ipv6_src": addresses6,
    "ipv6_dst": addresses6,
    "tcp_src": u16,
    "tcp_dst": u16 | masked(16),
    "udp_src": u16,
    "udp_dst": u16,
    "sctp_dst": u16,
    "icmpv4_type": u8,
    "icmpv6_type": u8,
    "ipv6_nd_target": addresses6,
    "arp_op": u16,
    "arp_spa": addresses,
    "arp_tpa": addresses,
    "reg0": u32 | masked(32),
    "reg1": u32,
    "reg2": u32,
    "ct_state": masked(32),
    "ct_zone": u16,
    "ct_mark": u32 | masked(32),
    "tcp_flags": masked(12),
    "oxm_80000204": u32,  # in_phy_port, which the codec does not know
}
matches = st.fixed_dictionaries({}, optional=FIELDS).map(lambda fields: e.match(**fields))

learns = st.builds(
    e.Learn,
    table=st.integers(0, 254),
    priority=u16,
    cookie=u64,
    idle_timeout_s=u16,
    fin_idle_timeout_s=u16,
    limit=u32,
    eth_type=u16,
    ip_proto=u8,
    copied=st.lists(st.sampled_from(sorted(ACTION_FIELDS)), max_size=6).map(tuple),
    load=u32,
)
moves = st.sampled_from(
    [
        ("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
        ("NXM_OF_ARP_SPA", "NXM_OF_ARP_TPA"),
        ("NXM_NX_IPV6_SRC", "NXM_NX_IPV6_DST"),
        ("NXM_NX_REG0", "NXM_NX_REG1"),
    ]
)
actions = st.one_of(
    st.builds(e.Output, ports),
    st.just(e.Normal()),
    st.just(e.InPort()),
    st.builds(e.ToController, u16),
    st.builds(e.ToGroup, u32),
    st.builds(e.SetField, st.just("eth_dst"), macs),
    st.builds(e.SetField, st.just("ipv4_dst"), addresses),
    st.builds(e.SetField, st.just("ipv6_dst"), addresses6),
    st.builds(e.SetField, st.just("arp_op"), u16),
    st.builds(e.SetField, st.just("ipv6_nd_tll"), macs),
    st.builds(e.SetField, st.just("nd_reserved"), u32),
    st.builds(e.SetField, st.just("nd_options_type"), u8),
    st.builds(e.Load, u16, st.sampled_from(sorted(ACTION_FIELDS))),
    moves.map(lambda pair: e.Move(*pair)),
    st.builds(e.Resubmit, st.integers(0, 254)),
    st.builds(
        e.Ct,
        zone=u16,
        table=st.none() | st.integers(0, 254),
        commit=st.booleans(),
        mark=st.none() | u32,
    ),
    learns,
    st.builds(e.HashSlot, st.integers(1, 0x10000), st.booleans()),
    st.builds(e.FinTimeout, u16),
    st.just(e.PopVlan()),
)
action_lists = st.lists(actions, max_size=5).map(tuple)
flow_entries = st.builds(
    e.FlowEntry,
    table=st.integers(0, 254),
    priority=u16,
    match=matches,
    actions=action_lists,
    cookie=u64,
    idle_timeout_s=u16,
)
watched = st.none() | st.integers(0, 0xFFFFFF00)
buckets = st.builds(e.Bucket, action_lists, watched, watched)
group_entries = st.builds(
    e.GroupEntry,
    u32,
    st.sampled_from(e.GroupType),
    st.lists(buckets, max_size=6).map(tuple),
)


# Entries that Open vSwitch accepts ---------------------------------------------------------------

_TRANSPORTS = {"tcp": (0x0800, 6), "udp": (0x0800, 17), "tcp6": (0x86DD, 6), "udp6": (0x86DD, 17)}


@st.composite
def valid_matches(draw: st.DrawFn) -> e.Match:
    """A match whose fields have their prerequisites, in terms that ``ofctl`` has words for."""
    anywhere = ("eth_src", "reg0", "reg1", "reg2", "ct_zone", "ct_mark")
    fields = draw(st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in anywhere}))
    fields |= draw(st.fixed_dictionaries({}, optional={"eth_dst": macs, "in_port": ports}))
    kind = draw(st.sampled_from([*_TRANSPORTS, "ip", "arp", "icmp", "nd", "fragment6", "none"]))
    inside: dict[str, st.SearchStrategy[e.Value | e.Masked]] = {}
    if kind in _TRANSPORTS:
        name = kind.removesuffix("6")
        fields["eth_type"], fields["ip_proto"] = _TRANSPORTS[kind]
        inside |= {f"{name}_src": u16, f"{name}_dst": u16 | masked(16)}
        if name == "tcp":
            inside["tcp_flags"] = masked(9)
    if kind in ("ip", "icmp", "tcp", "udp"):
        fields["eth_type"] = 0x0800
        inside |= {"ipv4_src": addresses | prefixes(), "ipv4_dst": addresses}
        inside["ct_state"] = st.just(e.Masked(0x22, 0x23))
    if kind in ("tcp6", "udp6", "nd", "fragment6"):
        fields["eth_type"] = 0x86DD
        inside |= {"ipv6_src": addresses6, "ipv6_dst": addresses6}
    if kind == "nd":
        fields |= {"ip_proto": 58, "icmpv6_type": draw(st.sampled_from([135, 136]))}
        inside["ipv6_nd_target"] = addresses6
    if kind == "fragment6":
        fields |= {"ip_proto": 44, "ip_frag": e.Masked(1, 1)}
    if kind == "icmp":
        fields["ip_proto"] = 1
        inside["icmpv4_type"] = u8
    if kind == "arp":
        fields["eth_type"] = 0x0806
        inside |= {"arp_op": st.integers(0, 255), "arp_spa": addresses, "arp_tpa": addresses}
    return e.match(**fields, **draw(st.fixed_dictionaries({}, optional=inside)))


@st.composite
def valid_actions(draw: st.DrawFn, where: e.Match) -> e.Actions:
    """Actions that a packet of this match can undergo."""
    choices = [
        st.builds(e.Output, ports),
        st.sampled_from([e.Normal(), e.InPort(), e.ToController(), e.HashSlot(256)]),
        st.builds(e.SetField, st.just("eth_dst"), macs),
        st.builds(e.Load, u32, st.sampled_from(["NXM_NX_REG0", "NXM_NX_REG1"])),
        st.builds(e.Resubmit, st.integers(0, 253)),
        st.just(e.HashSlot(256, by_address=True)),
        st.just(e.Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST")),
    ]
    if where.get("icmpv6_type") == 136:
        choices.append(st.builds(e.SetField, st.just("ipv6_nd_tll"), macs))
    if where.get("icmpv6_type") is not None:
        choices.append(st.builds(e.SetField, st.just("nd_reserved"), u32))
        choices.append(st.builds(e.SetField, st.just("nd_options_type"), u8))
    if where.get("eth_type") == 0x0800:
        tables = st.none() | st.integers(0, 253)
        choices.append(st.builds(e.Ct, zone=u16, table=tables))
        choices.append(st.builds(e.Ct, zone=u16, commit=st.just(True), mark=st.none() | u32))
        choices.append(st.builds(e.SetField, st.just("ipv4_dst"), addresses))
    if where.get("eth_type") == 0x0800 and where.get("ip_proto") == 6:
        choices.append(st.builds(e.FinTimeout, st.integers(1, 0xFFFF)))
        choices.append(_valid_learns())
    return tuple(draw(st.lists(st.one_of(choices), max_size=5)))


def _valid_learns() -> st.SearchStrategy[e.Learn]:
    copied = ("NXM_NX_REG1", "NXM_OF_IP_SRC", "NXM_OF_IP_DST", "NXM_OF_TCP_SRC", "NXM_OF_TCP_DST")
    return st.builds(
        e.Learn,
        table=st.integers(1, 253),
        priority=st.integers(1, 1000),
        cookie=st.integers(1, 2**64 - 1),
        idle_timeout_s=u16,
        fin_idle_timeout_s=u16,
        limit=st.integers(1, 2**32 - 1),
        eth_type=st.just(0x0800),
        ip_proto=st.just(6),
        copied=st.lists(st.sampled_from(copied), max_size=5, unique=True).map(tuple),
        load=u32,
    )


@st.composite
def valid_flows(
    draw: st.DrawFn, table: int = 201, cookie: int = 0x534E_0004_00A1_0001
) -> e.FlowEntry:
    """A flow entry of ours that Open vSwitch accepts."""
    where = draw(valid_matches())
    actions = draw(valid_actions(where))
    return e.FlowEntry(table, draw(u16), where, actions, cookie, draw(u16))
