"""The text form: examples that Open vSwitch 3.1.0 dumps letter by letter, and its parser's view.

That a switch's dump equals the text of the entries that were sent to it is tested with a real
switch in ``tests/openflow``.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sncontroller.core import entries as e
from sncontroller.core import ofctl
from sncontroller.lab.ovs import program
from tests.openflow.strategies import valid_flows

TCP = {"eth_type": 0x0800, "ip_proto": 6}
LEARN = e.Learn(
    table=202,
    priority=100,
    cookie=0x534E000600A10002,
    idle_timeout_s=60,
    fin_idle_timeout_s=5,
    limit=1000,
    eth_type=0x0800,
    ip_proto=6,
    copied=("NXM_NX_REG1", "NXM_OF_IP_SRC"),
    load=0xA1002,
)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (e.match(), ""),
        (e.match(**TCP, tcp_dst=80), "tcp,tp_dst=80"),
        (e.match(**TCP, tcp_dst=e.Masked(0x1F40, 0xFFF8)), "tcp,tp_dst=0x1f40/0xfff8"),
        (e.match(**TCP, tcp_flags=e.Masked(2, 0x12)), "tcp,tcp_flags=+syn-ack"),
        (e.match(ct_mark=0, ct_zone=7, eth_type=0x0800), "ct_zone=7,ct_mark=0,ip"),
        (e.match(ct_state=e.Masked(0x22, 0x23), eth_type=0x0800), "ct_state=-new+est+trk,ip"),
        (e.match(reg0=0, reg1=161, reg2=e.Masked(0, 0xFF)), "reg0=0,reg1=0xa1,reg2=0/0xff"),
        (e.match(in_port=0xFFFFFFFE, vlan_vid=0x1005), "in_port=LOCAL,dl_vlan=5"),
        (e.match(eth_type=0x0806, arp_op=1, arp_tpa="10.0.0.1"), "arp,arp_tpa=10.0.0.1,arp_op=1"),
        (e.match(eth_type=0x0800, ipv4_src="10.0.0.0/8"), "ip,nw_src=10.0.0.0/8"),
    ],
)
def test_matches(where: e.Match, text: str) -> None:
    """Fields have the names, the order and the number format of a dump."""
    entry = e.FlowEntry(1, 7, where, (), 0)
    fields = ",".join(filter(None, ["priority=7", text]))
    assert ofctl.flow(entry) == f"table=1, {fields} actions=drop"


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (
            (e.Output(1), e.Output(0xFFFFFFFE), e.Normal(), e.InPort()),
            "output:1,LOCAL,NORMAL,IN_PORT",
        ),
        ((e.ToController(), e.ToGroup(7)), "CONTROLLER:65535,group:7"),
        ((e.SetField("ipv4_dst", "10.0.0.1"),), "set_field:10.0.0.1->ip_dst"),
        ((e.SetField("eth_dst", "02:00:00:00:00:01"),), "set_field:02:00:00:00:00:01->eth_dst"),
        ((e.Load(0, "NXM_NX_REG0"), e.Resubmit(201)), "load:0->NXM_NX_REG0[],resubmit(,201)"),
        ((e.Ct(161),), "ct(zone=161)"),
        ((e.Ct(161, table=200),), "ct(table=200,zone=161)"),
        ((e.Ct(0, None, True, 1),), "ct(commit,exec(load:0x1->NXM_NX_CT_MARK[]))"),
        ((e.FinTimeout(10), e.PopVlan()), "fin_timeout(idle_timeout=10),pop_vlan"),
        ((e.HashSlot(256),), "multipath(symmetric_l3l4+udp,1024,modulo_n,256,0,NXM_NX_REG2[])"),
        (
            (LEARN,),
            "learn(table=202,idle_timeout=60,fin_idle_timeout=5,priority=100,"
            "cookie=0x534e000600a10002,limit=1000,eth_type=0x800,nw_proto=6,"
            "NXM_NX_REG1[],NXM_OF_IP_SRC[],load:0xa1002->NXM_NX_REG0[])",
        ),
        (
            (replace(LEARN, idle_timeout_s=0, fin_idle_timeout_s=0, limit=0),),
            "learn(table=202,priority=100,cookie=0x534e000600a10002,eth_type=0x800,"
            "nw_proto=6,NXM_NX_REG1[],NXM_OF_IP_SRC[],load:0xa1002->NXM_NX_REG0[])",
        ),
    ],
)
def test_actions(actions: e.Actions, text: str) -> None:
    """Actions have the names and the number format of a dump."""
    assert ofctl.actions(actions) == text


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (e.FlowEntry(0, 0x8000, e.match(), (e.Normal(),), 0), "actions=NORMAL"),
        (e.FlowEntry(0, 5, e.match(), (), 0x1F), "cookie=0x1f, priority=5 actions=drop"),
        (
            e.FlowEntry(3, 0x8000, e.match(reg0=1), (), 0, idle_timeout_s=9),
            "table=3, idle_timeout=9, reg0=0x1 actions=drop",
        ),
    ],
)
def test_flows(entry: e.FlowEntry, text: str) -> None:
    """What has its default value is not shown."""
    assert ofctl.flow(entry) == text


def test_groups() -> None:
    """A group's buckets follow one another, each with what it watches."""
    select = e.Bucket((e.Load(5, "NXM_NX_REG0"), e.Resubmit(201)), watch_port=2)
    again = e.Bucket((e.ToGroup(9),), watch_group=9)
    entry = e.GroupEntry(8, e.GroupType.FAST_FAILOVER, (select, again, e.Bucket(())))
    assert ofctl.group(entry) == (
        "group_id=8,type=ff,bucket=watch_port:2,actions=load:0x5->NXM_NX_REG0[],resubmit(,201),"
        "bucket=watch_group:9,actions=group:9,bucket=actions=drop"
    )
    assert ofctl.group(e.GroupEntry(8, e.GroupType.SELECT, ())) == "group_id=8,type=select"


def test_a_table_is_groups_then_flows() -> None:
    """Lines are ordered: groups by number, flows by table and falling priority."""
    flows = [e.FlowEntry(t, p, e.match(), (), 0) for t, p in ((1, 5), (0, 5), (0, 9))]
    groups = [e.GroupEntry(n, e.GroupType.SELECT, ()) for n in (7, 3)]
    assert ofctl.lines(e.Table.of(tuple(flows), tuple(groups))) == (
        "group_id=3,type=select",
        "group_id=7,type=select",
        "priority=9 actions=drop",
        "priority=5 actions=drop",
        "table=1, priority=5 actions=drop",
    )


def test_a_field_without_text_is_an_error() -> None:
    """A field that nobody taught the text form is named, not left out."""
    with pytest.raises(ValueError, match="metadata"):
        ofctl.flow(e.FlowEntry(0, 1, e.match(metadata=5), (), 0))


@settings(max_examples=25)
@given(st.lists(valid_flows(), min_size=1, max_size=20))
def test_ovs_ofctl_reads_it_back(flows: list[e.FlowEntry]) -> None:
    """``ovs-ofctl`` parses every line, and shows the same match and actions."""
    said = subprocess.run(
        [program("ovs-ofctl"), "-O", "OpenFlow13", "--no-names", "parse-flows", "/dev/stdin"],
        input="".join(f"{ofctl.flow(flow)}\n" for flow in flows),
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    shown = [line for line in said.splitlines() if line.startswith("OFPT_FLOW_MOD")]
    assert len(shown) == len(flows)
    for line, flow in zip(shown, flows, strict=True):
        assert line.endswith(f" actions={ofctl.actions(flow.actions) or 'drop'}")
        assert f" cookie:{flow.cookie:#x}" in line or not flow.cookie
