"""A switch's entries through ``Switch``, on a real Open vSwitch: it holds what was wanted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sncontroller.core import entries as e
from sncontroller.core import ofctl
from sncontroller.core.commands import Apply
from sncontroller.core.diff import AddGroup, DeleteFlow, DeleteGroup, Operation
from sncontroller.core.entries import EMPTY, Table
from sncontroller.core.events import Applied, Polled, PortGone, PortSeen, Refused, SwitchUp
from sncontroller.core.layout import Kind, Zone, cookie, select_group
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.openflow import requests
from sncontroller.openflow.bundle import described
from sncontroller.openflow.switch import BUSY_POLL_S, CHANGES_AT_ONCE
from tests.openflow.conftest import PORTS, Bridge
from tests.openflow.link import Connected
from tests.openflow.strategies import valid_flows
from tests.openflow.tables import ZONE, compiled, everything
from tests.switch import foreign

OTHER = Zone(162)
PINNINGS = ("conntrack", "learn", "reactive")


def applied(connected: Connected, table: Table, version: int = 1) -> None:
    """Apply a table, and see that the switch confirms it."""
    connected.switch.apply(Apply(connected.link.id, ZONE, version, table))
    assert connected.settle() == [Applied(connected.link.id, ZONE, version)]


def refused(connected: Connected, table: Table) -> str:
    """Apply a table, see that the switch refuses it; the reason."""
    connected.switch.apply(Apply(connected.link.id, ZONE, 1, table))
    (event,) = connected.settle()
    assert isinstance(event, Refused)
    assert (event.zone, event.version) == (ZONE, 1)
    return event.reason


def shown(table: Table) -> tuple[str, ...]:
    """The table as ``Bridge.dump`` must show it."""
    text = ofctl.lines(table)
    return (
        *sorted(line for line in text if line.startswith("group_id=")),
        *sorted(line for line in text if not line.startswith("group_id=")),
    )


def somebody(table: Table, actions: str) -> str:
    """A foreign flow for ``add-flow``, with match and priority of the table's classification."""
    (ours,) = (flow for flow in table.flows.values() if flow.match.get("tcp_dst") == 80)
    where = ofctl.flow(ours._replace(cookie=0x99)).partition(" actions=")[0]
    return f"{where},actions={actions}"


def flow(number: int, **where: e.Value) -> e.FlowEntry:
    """An entry of ours in the commit table that drops."""
    return e.FlowEntry(201, 100 + number, e.match(**where), (), cookie(Kind.COMMIT, ZONE, number))


# What is applied


def test_everything_is_dumped_as_it_was_wanted(bridge: Bridge) -> None:
    """Each field and action reaches the switch, and ``ovs-ofctl`` shows it as ``ofctl`` does."""
    applied(bridge.up(), everything())
    assert bridge.dump() == shown(everything())


def test_anything_is_dumped_as_it_was_wanted(bridge: Bridge) -> None:
    """Whatever valid entries: the switch shows their text, and holds what was sent."""
    connected = bridge.up()

    @settings(max_examples=60)
    @given(st.lists(valid_flows(), max_size=12, unique_by=lambda flow: flow.key))
    def dumped_as_wanted(flows: list[e.FlowEntry]) -> None:
        table = Table.of(tuple(flows))
        connected.switch.apply(Apply(connected.link.id, ZONE, 1, table))
        assert [type(event) for event in connected.settle()] == [Applied]
        assert set(bridge.dump()) == set(ofctl.lines(table))
        again = bridge.up()
        assert again.switch.installed == ({ZONE: table} if flows else {})
        again.link.close()

    dumped_as_wanted()


@pytest.mark.parametrize("arp", ["primary", "switch"])
@pytest.mark.parametrize("pinning", PINNINGS)
def test_compiled_tables_are_dumped_as_they_were_wanted(
    bridge: Bridge, pinning: str, arp: str
) -> None:
    """What the compiler makes is what the switch then shows, before and after each change."""
    connected = bridge.up()
    for version, (nodes, draining) in enumerate([((1, 2), ()), ((1, 2, 3), (2,)), ((1, 3), ())]):
        table = compiled(nodes, draining, pinning=pinning, arp=arp)
        applied(connected, table, version)
        assert bridge.dump() == shown(table)


@pytest.mark.parametrize("pinning", PINNINGS)
def test_a_new_connection_finds_what_the_last_one_left(bridge: Bridge, pinning: str) -> None:
    """A restarted controller reads its entries back, equal to what it would compile."""
    table = compiled(pinning=pinning)
    applied(bridge.up(), table)
    again = bridge.connect()
    again.switch.start()
    (up,) = again.settle()
    assert isinstance(up, SwitchUp)
    assert up.installed == {ZONE: table}
    again.link.sent.clear()
    applied(again, table, version=7)
    assert len(again.link.sent) == 1, "an empty difference sends nothing (but the test's barrier)"


def test_switch_up_names_bridge_and_ports(bridge: Bridge) -> None:
    """The event has the bridge's name and each port with number, name, address and state."""
    connected = bridge.connect()
    connected.switch.start()
    (up,) = connected.settle()
    assert isinstance(up, SwitchUp)
    assert (up.bridge, up.installed) == (bridge.name, {})
    named = {port.name: port.number for port in up.ports if port.name != bridge.name}
    assert named == {f"{bridge.name}-{port}": number for port, number in PORTS.items()}
    assert all(port.up for port in up.ports if port.name != bridge.name)


def test_emptying_leaves_nothing(bridge: Bridge) -> None:
    """An empty table removes all of a group's entries, and no pins table entry of others."""
    connected = bridge.up()
    applied(connected, everything())
    applied(connected, EMPTY)
    assert bridge.dump() == ()
    assert connected.switch.installed == {}


def test_foreign_entries_stay(bridge: Bridge) -> None:
    """What somebody else put into our tables, groups and the shared table is never touched."""
    bridge.ofctl("add-group", "group_id=77,type=all,bucket=actions=output:1")
    for where in ("table=0,priority=40000,tcp", "table=200,priority=100,udp", "table=201,ip"):
        bridge.ofctl("add-flow", f"cookie=0x1234,{where},actions=group:77")
    before = foreign(bridge.ovs, bridge.name)
    connected = bridge.connect()
    connected.switch.start()
    (up,) = connected.settle()
    assert isinstance(up, SwitchUp)
    assert up.installed == {}
    for table in (compiled(), everything(), EMPTY):
        applied(connected, table)
        assert foreign(bridge.ovs, bridge.name) == before
    assert len(before) == 4


def test_groups_of_nodes_do_not_touch_each_other(bridge: Bridge) -> None:
    """A change in one group's table leaves another group's entries as they are."""
    connected = bridge.up()
    applied(connected, everything())
    other = compiled(id=OTHER, name="dns", match={"address": "10.0.0.11"})
    connected.switch.apply(Apply(connected.link.id, OTHER, 1, other))
    connected.settle()
    applied(connected, EMPTY)
    assert bridge.dump() == shown(other)
    assert connected.switch.installed == {OTHER: other}


def test_the_last_command_counts(bridge: Bridge) -> None:
    """Of several commands that wait for their turn, the last one of each group is carried out."""
    connected = bridge.up()
    tables = [compiled((1, 2)), compiled((1, 3)), compiled((1, 2, 3))]
    for version, table in enumerate(tables):
        connected.switch.apply(Apply(connected.link.id, ZONE, version, table))
    assert [e.version for e in connected.settle() if isinstance(e, Applied)] == [0, 2]
    assert bridge.dump() == shown(tables[2])


def test_while_many_tables_wait_polls_are_fewer(bridge: Bridge) -> None:
    """What has to be written goes first; one poll in ``BUSY_POLL_S`` is heard all the same."""
    connected = bridge.up()
    zones = [Zone(1 + nth) for nth in range(2 * CHANGES_AT_ONCE + 1)]
    for zone in zones:
        table = compiled((1,), id=zone, name=f"web-{zone}", match={"address": f"10.0.1.{zone}"})
        connected.switch.apply(Apply(connected.link.id, zone, 1, table))
    rounds = []
    for at_s in (1.0, 2.0, 1.0 + BUSY_POLL_S):
        before = len(connected.link.sent)
        connected.switch.poll(at_s)
        rounds.append(len(connected.link.sent) > before)
    assert rounds == [True, False, True]
    assert {e.zone for e in connected.settle() if isinstance(e, Applied)} == set(zones)
    before = len(connected.link.sent)
    connected.switch.poll(2.0 + BUSY_POLL_S)
    assert len(connected.link.sent) > before


def test_many_changes_of_a_slot_table(bridge: Bridge) -> None:
    """256 buckets are replaced as a whole, again and again."""
    connected = bridge.up()
    for version in range(20):
        nodes = (1, 2, 3)[: 1 + version % 3]
        applied(connected, compiled(nodes), version)
    assert bridge.dump() == shown(compiled((1, 2)))


def test_the_largest_change(bridge: Bridge) -> None:
    """A whole group with 64 nodes goes into one bundle, and comes back in replies of many parts."""
    table = compiled(tuple(range(1, 65)), pinning="learn")
    applied(bridge.up(), table)
    assert bridge.dump() == shown(table)
    again = bridge.up()
    assert again.switch.installed == {ZONE: table}
    again.switch.poll(1.0)
    (polled,) = (event for event in again.settle() if not isinstance(event, SwitchUp))
    assert isinstance(polled, Polled)
    assert {counters.new_flows for counters in polled.nodes.values()} == {0}


# What is refused


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        pytest.param(flow(9, tcp_dst=80), "OFPBMC_BAD_PREREQ", id="unreadable"),
        pytest.param(
            flow(9)._replace(actions=(e.ToGroup(4711),)), "OFPBAC_BAD_OUT_GROUP", id="no-group"
        ),
        pytest.param(flow(9)._replace(table=255), "OFPFMFC_BAD_TABLE_ID", id="no-table"),
    ],
)
def test_all_or_nothing(bridge: Bridge, bad: e.FlowEntry, error: str) -> None:
    """One entry that the switch refuses, in words, and nothing of the table is applied."""
    connected = bridge.up()
    before = compiled((1, 2))
    applied(connected, before)
    after = compiled((1, 3))
    wanted = Table({**after.flows, flow(1).key: flow(1), bad.key: bad}, after.groups)
    reason = refused(connected, wanted)
    assert error in reason
    assert ofctl.flow(bad) in reason
    assert bridge.dump() == shown(before)
    assert connected.switch.installed == {ZONE: before}
    applied(connected, after, 2)


def test_a_group_that_somebody_else_made(bridge: Bridge) -> None:
    """A group identifier that is taken refuses the table, and is named."""
    connected = bridge.up()
    group_id = select_group(ZONE)
    bridge.ofctl("add-group", f"group_id={group_id},type=indirect,bucket=actions=output:1")
    connected.switch.apply(Apply(connected.link.id, ZONE, 1, compiled()))
    first, second = connected.settle()
    assert isinstance(first, Refused)
    assert "OFPGMFC_GROUP_EXISTS" in first.reason
    assert f"group_id={group_id}" in first.reason
    assert isinstance(second, SwitchUp), "the switch holds what we did not know of"
    applied(connected, compiled(), 2)
    assert bridge.dump() == shown(compiled())


@pytest.mark.parametrize(
    ("actions", "said"), [("output:9", "tp_dst=80 actions=output:9"), ("dec_ttl", "priority=40000")]
)
def test_a_flow_in_our_place_is_not_overwritten(bridge: Bridge, actions: str, said: str) -> None:
    """A foreign flow with match and priority of ours refuses the table, named with the mend."""
    bridge.ofctl("add-flow", somebody(compiled(), actions))
    before = foreign(bridge.ovs, bridge.name)
    connected = bridge.up()
    reason = refused(connected, compiled())
    assert "cookie=0x99" in reason
    assert said in reason
    assert "switch.priority" in reason
    assert bridge.dump() == ()
    assert foreign(bridge.ovs, bridge.name) == before
    bridge.ofctl("del-flows", "cookie=0x99/-1")
    applied(connected, compiled(), 2)


def test_a_flow_that_took_our_place_is_not_overwritten(bridge: Bridge) -> None:
    """A foreign flow that replaced one of ours shows in a poll, and then refuses the table."""
    connected = bridge.up()
    applied(connected, compiled())
    bridge.ofctl("add-flow", somebody(compiled(), "output:9"))
    before = foreign(bridge.ovs, bridge.name)
    connected.switch.poll(1.0)
    assert [event for event in connected.settle() if isinstance(event, SwitchUp)]
    assert "cookie=0x99" in refused(connected, compiled())
    assert foreign(bridge.ovs, bridge.name) == before
    assert "cookie=0x99" in str(before)


def test_a_flow_near_our_place_is_no_matter(bridge: Bridge) -> None:
    """Foreign flows with the same match or the same priority only, or more specific, are fine."""
    ours = somebody(compiled(), "output:9")
    for near in ("priority=39999", "priority=40000,in_port=3", "priority=40000,table=1"):
        bridge.ofctl("add-flow", ours.replace("priority=40000", near))
    assert len(foreign(bridge.ovs, bridge.name)) == 3
    applied(bridge.up(), compiled())


def test_a_refused_slot_table_stays_as_it_was(bridge: Bridge) -> None:
    """A change of a slot table that the switch refuses is named in short, and changes nothing."""
    connected = bridge.up()
    before = compiled()
    applied(connected, before)
    nowhere = e.Bucket((e.Output(0xFFFFFF77),))
    spoiled = replace(before.groups[select_group(ZONE)], buckets=(nowhere,) * 256)
    wanted = Table(before.flows, {**before.groups, spoiled.group_id: spoiled})
    reason = refused(connected, wanted)
    assert f"OFPBAC_BAD_OUT_PORT(4): modify group_id={spoiled.group_id},type=select" in reason
    assert len(reason) < 1000
    assert bridge.dump() == shown(before)


def test_many_problems_are_told_in_short(bridge: Bridge) -> None:
    """Of many entries that the switch refuses, the first are named and the others counted."""
    bad = Table.of(tuple(flow(number, tcp_dst=80) for number in range(50)))
    reason = refused(bridge.up(), bad)
    assert reason.count("BAD_PREREQ") == 3
    assert reason.endswith("and 47 more")


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (DeleteFlow(e.FlowEntry(1, 2, e.match(), (), 3)), "delete cookie=0x3, table=1, priority=2"),
        (DeleteGroup(7), "delete group_id=7"),
        (AddGroup(e.GroupEntry(7, e.GroupType.SELECT, ())), "add group_id=7,type=select"),
    ],
)
def test_operations_in_words(operation: Operation, text: str) -> None:
    """A refusal names what was to be done, and the entry."""
    assert described(operation).startswith(text)


def test_a_dump_that_is_not_answered_whole(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """An error instead of a part of the dump is told, and the switch is up with the rest."""
    applied(bridge.up(), compiled())
    connected = bridge.connect()
    first = connected.link.xid + 1
    connected.switch.start()
    error = connected.link.ofproto_parser.OFPErrorMsg(connected.link, 1, 9, b"")
    error.xid = first + 1
    connected.switch.on_message(error)
    (up,) = connected.settle()
    assert isinstance(up, SwitchUp)
    assert up.installed[ZONE].groups == compiled().groups
    assert "OFPBRC_BAD_TABLE_ID" in caplog.text


def test_an_entry_without_a_message_is_refused(bridge: Bridge) -> None:
    """An entry that OpenFlow cannot express refuses the table, and the next one is applied."""
    connected = bridge.up()
    impossible = flow(1, no_such_field=1)
    assert "no_such_field" in refused(connected, Table.of((impossible,)))
    applied(connected, compiled())


# What others change


@pytest.mark.parametrize(
    "spoil",
    [
        "del-flows table=201",
        "del-groups",
        "del-flows table=0,cookie=0x534e000500000000/0xffffffff00000000",
        "del-flows table=0,cookie=0x534e000700000000/0xffffffff00000000",
    ],
)
def test_removed_entries_are_noticed(
    bridge: Bridge, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries of ours that somebody removed show in the next poll as a new ``SwitchUp``.

    The log names the bridge and the usual cause.
    """
    connected = bridge.up()
    applied(connected, compiled())
    command, *arguments = spoil.split()
    bridge.ofctl(command, *arguments)
    connected.switch.poll(1.0)
    (up,) = (event for event in connected.settle() if isinstance(event, SwitchUp))
    assert up.installed[ZONE] != compiled()
    assert f"{bridge.name}: somebody changed our entries" in caplog.text
    assert f"ovs-vsctl get-controller {bridge.name}" in caplog.text
    applied(connected, compiled(), 2)
    assert bridge.dump() == shown(compiled())


def test_changed_actions_are_noticed(bridge: Bridge) -> None:
    """Actions that somebody changed, even to some we never use, are found by ``resync``."""
    connected = bridge.up()
    applied(connected, compiled())
    bridge.ofctl("mod-flows", "table=201,actions=goto_table:210")
    bridge.ofctl("mod-group", f"group_id={select_group(ZONE)},type=all,bucket=actions=output:1")
    connected.switch.resync()
    (up,) = connected.settle()
    assert isinstance(up, SwitchUp)
    applied(connected, compiled(), 2)
    assert bridge.dump() == shown(compiled())


STRANGE_ACTIONS = (
    "dec_ttl",
    "goto_table:210",
    "learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
    "learn(table=202,limit=5,eth_type=0x800,nw_proto=6,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],"
    "load:0x1->NXM_NX_REG0[])",
    "learn(table=202,limit=5,hard_timeout=9,eth_type=0x800,nw_proto=6,load:0x1->NXM_NX_REG0[])",
    "ct(commit,zone=161,exec(load:0x1->NXM_NX_CT_LABEL[0..63]))",
    "ct(commit,zone=NXM_NX_REG0[0..15])",
    "ct(commit,force,zone=161)",
    "ct(commit,zone=161,nat)",
    "load:0x1->NXM_NX_REG0[0..3]",
    "load:0x1->NXM_NX_XXREG0[0..63]",
    "move:NXM_NX_REG0[0..15]->NXM_NX_REG1[0..15]",
    "set_field:0x1/0xf->reg0",
    "resubmit(3,201)",
    "fin_timeout(hard_timeout=9)",
    "multipath(eth_src,50,modulo_n,256,0,NXM_NX_REG2[])",
    "set_queue:3",
    "note:01.02",
)


@pytest.mark.parametrize("actions", STRANGE_ACTIONS)
def test_strange_actions_are_replaced(bridge: Bridge, actions: str) -> None:
    """An entry of ours that somebody gave other actions is found, and put right."""
    table = Table.of((flow(1, eth_type=0x0800, ip_proto=6),))
    connected = bridge.up()
    applied(connected, table)
    bridge.ofctl("mod-flows", f"table=201,tcp,actions=output:1,{actions}")
    again = bridge.up()
    assert again.switch.installed[ZONE] != table
    applied(again, table)
    assert bridge.dump() == shown(table)


def test_an_unknown_entry_of_ours_is_removed(bridge: Bridge) -> None:
    """An entry with our cookie goes, whatever fields it matches and whatever it does."""
    ours = f"cookie={cookie(Kind.COMMIT, ZONE, 1):#x}"
    fields = ("ip,nw_ttl=3", "mpls,mpls_label=5", "tun_id=0x7/0xff", "actset_output=1")
    for where in (*fields, "hard_timeout=900,ip"):
        bridge.ofctl("add-flow", f"{ours},table=201,{where},actions=output:1")
    connected = bridge.up()
    assert len(connected.switch.installed[ZONE].flows) == 5
    applied(connected, EMPTY)
    assert bridge.dump() == ()


def test_nothing_strange_means_no_new_dump(bridge: Bridge) -> None:
    """A poll that finds what is installed asks nothing more, whatever foreign flows there are."""
    connected = bridge.up()
    applied(connected, compiled())
    bridge.ofctl("add-flow", "cookie=0x99,table=201,priority=7,actions=drop")
    bridge.ofctl("add-flow", "cookie=0x534eff0000a10001,table=201,priority=8,actions=drop")
    connected.switch.poll(1.0)
    assert not [event for event in connected.settle() if isinstance(event, SwitchUp)]


@pytest.mark.parametrize("address", ["10.0.0.10", "fd00::10"])
@pytest.mark.parametrize("pinning", PINNINGS)
def test_what_was_applied_is_not_strange(
    bridge: Bridge, caplog: pytest.LogCaptureFixture, pinning: str, address: str
) -> None:
    """A poll finds all kinds of entries in all tables, and as many as there are."""
    health = {"kind": "tcp", "source": f"{address}9"}
    match = {"address": address, "protocol": ["tcp", "udp"]}
    connected = bridge.up()
    applied(connected, compiled(pinning=pinning, match=match, health=health, arp="switch"))
    connected.switch.poll(1.0)
    connected.settle()
    assert not caplog.records


def test_ports_come_and_go(bridge: Bridge) -> None:
    """A port that is added, and removed, is reported with its number and name."""
    connected = bridge.up()
    connected.link.want_events()
    name = f"{bridge.name}-new"
    bridge.ovs.add_port(bridge.name, name, type="dummy", ofport=42)
    seen = [event for event in connected.settle() if isinstance(event, PortSeen)]
    assert {(event.port.number, event.port.name) for event in seen} == {(42, name)}
    bridge.ovs.del_port(name)
    gone = [event for event in connected.settle() if isinstance(event, PortGone)]
    assert [(event.port.number, event.port.name) for event in gone] == [(42, name)]


def test_a_port_that_goes_during_a_dump(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for after the ports, a port that goes after their answer is gone."""
    name = f"{bridge.name}-sn00a1-3"
    connected, held = bridge.connect(), bytearray()
    connected.link.want_events()
    with monkeypatch.context() as patch:
        patch.setattr(connected.link, "send", held.extend)
        connected.switch.start()
    events = []
    while held:
        length, kind = struct.unpack_from("!2xH4xH", held)
        connected.link.send(bytes(held[:length]))
        del held[:length]
        events += connected.settle()
        if kind == requests.Part.PORT_DESC:
            bridge.ovs.del_port(name)
            events += connected.settle()
    ups = [event for event in events if isinstance(event, SwitchUp)]
    gone = {event.port.name for event in events if isinstance(event, PortGone)}
    assert name not in {port.name for port in ups[-1].ports} - gone


def test_a_bundle_that_timed_out_is_refused(new_bridge: Callable[[PrivateOvs], Bridge]) -> None:
    """When the switch forgot a bundle before its commit, nothing of it is applied."""
    with PrivateOvs() as clocked:
        bridge = new_bridge(clocked)
        connected = bridge.up()
        connected.switch.apply(Apply(connected.link.id, ZONE, 1, compiled()))
        clocked.appctl("time/stop")
        for _ in range(12):
            clocked.appctl("time/warp", "1000")
        (refusal,) = connected.settle()
        assert isinstance(refusal, Refused)
        assert "OFPBFC_BAD_ID" in refusal.reason
        assert bridge.dump() == ()
        applied(connected, compiled(), 2)
        connected.link.close()
        bridge.remove()
