"""Tables for tests: compiled ones, and one with everything that an entry can be."""

from __future__ import annotations

from typing import Any

from sncontroller.core import entries as e
from sncontroller.core import plan
from sncontroller.core.layout import Index, Kind, Layout, Zone, cookie, deliver_group, node_mac
from sncontroller.core.layout import select_group as select_group_id
from sncontroller.core.model import GroupSpec

ZONE = Zone(161)
PRIMARY_MAC = "02:00:00:00:01:01"
TCP = {"eth_type": 0x0800, "ip_proto": 6}


def group_spec(**changes: Any) -> GroupSpec:
    """A group with the least that a group needs, and these changes."""
    raw: dict[str, Any] = {
        "name": "web",
        "id": ZONE,
        "match": {"address": "10.0.0.10", "protocol": ["tcp", "udp"], "ports": [80, "8000-8010"]},
        "primary": {"port": "vm1"},
        "scaling": {"policy": "manual"},
        "health": {"kind": "tcp", "source": "10.0.0.254"},
        **changes,
    }
    return GroupSpec.model_validate(raw)


def compiled(
    nodes: tuple[int, ...] = (1, 2, 3), draining: tuple[int, ...] = (), **changes: Any
) -> e.Table:
    """What the compiler makes of a group with these nodes; node N is on port N."""
    spec = group_spec(**changes)
    taking = [Index(n) for n in nodes if n not in draining]
    view = plan.View(
        nodes=tuple(
            plan.PlanNode(
                Index(n),
                n,
                PRIMARY_MAC if n == 1 else node_mac(spec.zone, Index(n)),
                plan.Drain(1000) if n in draining else None,
            )
            for n in nodes
        ),
        slots=tuple(taking[slot % len(taking)] for slot in range(256)),
        primary=Index(1),
        primary_mac=PRIMARY_MAC,
    )
    return plan.desired(spec, view, Layout())


def everything(zone: Zone = ZONE) -> e.Table:
    """Every field and every action that a compiled entry can have, and some more."""
    number = cookie(Kind.SERVICE, zone)
    flows = [e.FlowEntry(0, 40000, where, (), number) for where in _matches(zone)]
    flows += [
        e.FlowEntry(200, 1000 + i, e.match(**where), actions, number, idle_timeout_s=i * 7)
        for i, (where, actions) in enumerate(_actions(zone))
    ]
    flows.append(e.FlowEntry(201, 0x8000, e.match(), (e.Normal(),), number))
    return e.Table.of(tuple(flows), _groups(zone))


def _matches(zone: Zone) -> list[e.Match]:
    """Every field."""
    return [
        e.match(in_port=1, eth_src="02:00:00:00:00:01", eth_dst="02:00:00:00:00:02"),
        e.match(**TCP, ipv4_src="10.0.0.0/8", ipv4_dst="10.0.0.1", tcp_src=1, tcp_dst=80),
        e.match(**TCP, tcp_flags=e.Masked(0x002, 0x012), ct_mark=0, ct_zone=zone),
        e.match(**TCP, tcp_dst=e.Masked(0x1F40, 0xFFF8), reg0=0, reg1=zone, reg2=255),
        e.match(eth_type=0x0800, ip_proto=17, udp_src=53, udp_dst=e.Masked(0, 0x8000)),
        e.match(eth_type=0x0800, ip_proto=1, icmpv4_type=8, vlan_vid=0x1005),
        e.match(eth_type=0x0806, arp_op=1, arp_spa="10.0.0.1", arp_tpa="10.0.0.2"),
        e.match(eth_type=0x86DD, ip_proto=6, ipv6_src="fd00::1", ipv6_dst="fd00::/64", tcp_dst=80),
        e.match(ct_state=e.Masked(0x22, 0x23), eth_type=0x0800, ct_mark=e.Masked(1, 0xF)),
        e.match(in_port=0xFFFFFFFE, reg0=e.Masked(0, 0xFF)),
    ]


def _actions(zone: Zone) -> list[tuple[dict[str, Any], e.Actions]]:
    """Every action, each list with the fields that it asks for."""
    select, deliver = select_group_id(zone), deliver_group(zone, Index(2))
    return [
        ({}, ()),
        ({}, (e.Output(1), e.Output(0xFFFFFFFE), e.Output(0xFFFFFFFB), e.Normal(), e.InPort())),
        ({}, (e.ToController(), e.ToController(128), e.ToGroup(select))),
        ({}, (e.SetField("eth_dst", "02:00:00:00:00:01"), e.Load(0, "NXM_NX_REG0"))),
        ({}, (e.Load(0x12345678, "NXM_NX_REG1"), e.Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"))),
        ({"eth_type": 0x0800}, (e.SetField("ipv4_dst", "10.0.0.1"), e.Resubmit(200))),
        ({"eth_type": 0x0800}, (e.Load(0x0A000001, "NXM_OF_IP_SRC"), e.Ct(zone, table=200))),
        ({"eth_type": 0x0800}, (e.Ct(zone), e.Ct(zone, commit=True), e.HashSlot(256))),
        ({"eth_type": 0x0800}, (e.Ct(zone, commit=True, mark=0), e.Ct(0, None, True, 0xA1002))),
        (TCP, (_learn(zone), e.FinTimeout(5), e.ToGroup(deliver))),
        ({"eth_type": 0x0806}, (e.Move("NXM_NX_ARP_SHA", "NXM_NX_ARP_THA"), e.InPort())),
        ({"eth_type": 0x0806}, (e.SetField("arp_op", 2), e.SetField("arp_spa", "10.0.0.1"))),
        ({"vlan_vid": 0x1005}, (e.PopVlan(), e.Output(2))),
    ]


def _learn(zone: Zone) -> e.Learn:
    """The one that writes entries itself."""
    return e.Learn(
        table=202,
        priority=100,
        cookie=cookie(Kind.PIN, zone, 2),
        idle_timeout_s=60,
        fin_idle_timeout_s=5,
        limit=1000,
        eth_type=0x0800,
        ip_proto=6,
        copied=("NXM_NX_REG1", "NXM_OF_IP_SRC", "NXM_OF_IP_DST", "NXM_OF_TCP_SRC"),
        load=0xA1002,
    )


def _groups(zone: Zone) -> tuple[e.GroupEntry, ...]:
    """Every type of group that is compiled, and an empty one."""
    select, deliver = select_group_id(zone), deliver_group(zone, Index(2))
    slots = (
        e.Bucket((e.Load(0xA1001, "NXM_NX_REG0"), e.Resubmit(201)), watch_port=1),
        e.Bucket((e.Load(0xA1002, "NXM_NX_REG0"), e.Resubmit(201))),
    )
    return (
        e.GroupEntry(select, e.GroupType.SELECT, slots),
        e.GroupEntry(
            deliver,
            e.GroupType.FAST_FAILOVER,
            (
                e.Bucket((e.SetField("eth_dst", PRIMARY_MAC), e.Output(2)), watch_port=2),
                e.Bucket((e.ToGroup(select),), watch_group=select),
            ),
        ),
        e.GroupEntry(deliver_group(zone, Index(3)), e.GroupType.SELECT, ()),
    )
