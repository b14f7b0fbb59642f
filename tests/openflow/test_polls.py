"""Statistics of a real switch, and packets that it sends to the controller."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core import plan
from sncontroller.core.commands import AddPin, Apply, DropPins, SendFrame
from sncontroller.core.entries import Table
from sncontroller.core.events import Applied, Event, FiveTuple, Frame, NewFlow, NodeCounters, Polled
from sncontroller.core.group import Group, new_group, step
from sncontroller.core.layout import Index, Kind, Layout, Origin, Zone
from sncontroller.openflow import inbound, requests
from tests.openflow.conftest import PORTS, Bridge
from tests.openflow.link import Connected
from tests.openflow.tables import PRIMARY_MAC, ZONE, compiled, group_spec

CLIENT_MAC = "02:00:00:00:00:09"
NODES = (Index(1), Index(2), Index(3))


def segment(source: int, flags: str = "syn", to_node: bool = True) -> str:
    """A TCP segment between client and group, as ``netdev-dummy/receive`` takes it."""
    here, there = ("10.0.0.9", source), ("10.0.0.10", 80)
    (src, sport), (dst, dport) = (here, there) if to_node else (there, here)
    return (
        f"in_port(1),eth(src={CLIENT_MAC},dst={PRIMARY_MAC}),eth_type(0x0800),"
        f"ipv4(src={src},dst={dst},proto=6,tos=0,ttl=64,frag=no),"
        f"tcp(src={sport},dst={dport}),tcp_flags({flags})"
    )


def holding(bridge: Bridge, table: Table) -> Connected:
    """A connection to the bridge, which holds the table."""
    connected = bridge.up()
    connected.switch.apply(Apply(connected.link.id, ZONE, 1, table))
    connected.settle()
    return connected


def poll(connected: Connected, at_s: float = 1.0) -> Polled:
    """One round, answered."""
    connected.switch.poll(at_s)
    (polled,) = (event for event in connected.settle() if isinstance(event, Polled))
    return polled


def total(polled: Polled, count: Callable[[NodeCounters], int | None]) -> int:
    """A counter's sum over the nodes, all of which have it."""
    counts = [count(node) for node in polled.nodes.values()]
    assert None not in counts
    return sum(number or 0 for number in counts)


@pytest.mark.parametrize("pinning", ["conntrack", "learn"])
def test_new_flows_and_packets_are_counted_by_node(bridge: Bridge, pinning: str) -> None:
    """Every connection counts once as new, and its later packets as its node's traffic."""
    connected = holding(bridge, compiled(pinning=pinning))
    assert set(poll(connected).nodes) == set(NODES)
    for source in range(1000, 1020):
        bridge.inject("client", segment(source), *[segment(source, "ack")] * 2)
    polled = poll(connected, 2.5)
    assert (polled.zone, polled.at_s) == (ZONE, 2.5)
    assert total(polled, lambda node: node.new_flows) == 20
    assert total(polled, lambda node: node.packets) == 40
    assert total(polled, lambda node: node.bytes) >= 40 * 54
    flows = [node.active_flows for node in polled.nodes.values()]
    assert sum(n or 0 for n in flows) == 20 if pinning == "learn" else flows == [None] * 3


def test_replies_are_counted_by_node(bridge: Bridge) -> None:
    """What comes from a node's port counts as its replies, over all entries it has for them."""
    connected = holding(bridge, compiled())
    bridge.inject("sn00a1-2", *(segment(source, "ack", to_node=False) for source in range(5)))
    nodes = poll(connected).nodes
    assert [nodes[index].reply_packets for index in NODES] == [0, 5, 0]
    assert (nodes[Index(2)].reply_bytes or 0) >= 5 * 54


def test_missing_entries_are_none(bridge: Bridge) -> None:
    """Reactive pinning has no entry per new flow: that count is missing, not zero."""
    counters = poll(holding(bridge, compiled(pinning="reactive"))).nodes[Index(1)]
    assert counters == NodeCounters(None, 0, 0, 0, 0, None, 0), "a dummy port does not count drops"


def test_missing_answers_are_none(bridge: Bridge) -> None:
    """A round that the switch has not answered when the next one begins counts as unknown."""
    connected = holding(bridge, compiled())
    connected.switch.poll(1.0)
    connected.switch.poll(2.0)
    first, second = (event for event in connected.settle() if isinstance(event, Polled))
    unknown = NodeCounters(None, None, None, None, None, None, None)
    assert (first.at_s, first.nodes) == (1.0, dict.fromkeys(NODES, unknown))
    assert (second.at_s, second.nodes[Index(1)].packets) == (2.0, 0)


def test_pins_do_not_lengthen_a_round(bridge: Bridge) -> None:
    """The bytes of a round are the same with a thousand pinned flows as with none."""
    connected = holding(bridge, compiled(pinning="learn"))
    before = poll(connected), connected.link.received
    rounds = [poll(connected), connected.link.received - before[1]]
    bridge.inject("client", *(segment(source) for source in range(1000, 1200)))
    start = connected.link.received
    assert total(poll(connected), lambda node: node.active_flows) == 200
    assert connected.link.received - start == rounds[1]


@pytest.mark.parametrize("pinning", ["conntrack", "learn"])
def test_a_large_round_is_asked_for_in_pieces(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pinning: str
) -> None:
    """One at a time, by table and by part of the groups; the sums are those of a round in one."""
    connected = holding(bridge, compiled(pinning=pinning))
    bridge.inject("client", *(segment(source) for source in range(1000, 1020)))
    whole = poll(connected)
    monkeypatch.setattr("sncontroller.openflow.polls.ASKED_AT_ONCE", 1)
    connected.link.sent.clear()
    connected.switch.poll(1.0)
    (first,) = connected.link.sent
    assert first.count(struct.pack("!HH4x", 1, 0)) == 1, "one request for flows, and nothing else"
    assert connected.settle() == [whole]
    assert not caplog.text


def test_a_change_goes_before_the_rest_of_a_round(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next piece is asked for when the change is confirmed; the round comes to its end."""
    monkeypatch.setattr("sncontroller.openflow.polls.ASKED_AT_ONCE", 1)
    connected = holding(bridge, compiled())
    connected.switch.poll(1.0)
    connected.switch.apply(Apply(connected.link.id, ZONE, 2, compiled((1, 2))))
    assert connected.switch.is_changing
    applied, polled = connected.settle()
    assert applied == Applied(connected.link.id, ZONE, 2)
    assert isinstance(polled, Polled)
    assert polled.nodes[Index(2)].packets == 0
    assert not connected.switch.is_changing


def test_foreign_ports_are_not_asked_for(bridge: Bridge) -> None:
    """On a bridge whose ports are mostly somebody else's, only the nodes' are polled."""
    for number in range(20, 25):
        bridge.ovs.add_port(bridge.name, f"{bridge.name}-{number}", type="dummy")
    connected = holding(bridge, compiled((1, 2)))
    connected.link.sent.clear()
    connected.switch.poll(1.0)
    assert connected.link.sent[0].count(struct.pack("!HH4x", 4, 0)) == 2
    assert set(connected.settle()[0].nodes) == {1, 2}  # type: ignore[union-attr]


def test_a_switch_that_does_not_listen(bridge: Bridge) -> None:
    """While what was sent is not taken, frames, pins and polls are left out, not queued."""
    connected = holding(bridge, compiled())
    connected.link.sent.clear()
    for _ in range(8):
        connected.link.send_q.put(b"")
    connected.switch.send_frame(SendFrame(connected.link.id, 1, bytes(60)))
    connected.switch.poll(1.0)
    assert connected.link.sent == []
    connected.link.send_q.get()
    connected.switch.poll(2.0)
    assert len(connected.link.sent) == 1


def test_a_refused_pin_is_logged(bridge: Bridge, caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody waits for is not lost."""
    connected = bridge.up()
    flow = FiveTuple(6, "10.0.0.9", "10.0.0.10", 1000, 80)
    pin = plan.pin(group_spec(pinning="reactive"), flow, Index(2), Layout(first_table=252))
    connected.switch.add_pins([AddPin(connected.link.id, pin, (), 9, bytes(60))])
    connected.settle()
    assert "OFPBRC_EPERM" in caplog.text


def test_every_group_gets_its_own_counters(bridge: Bridge) -> None:
    """Several groups on a switch are polled in one round, one event each."""
    connected = holding(bridge, compiled())
    other = compiled((1, 3), id=7, name="dns", match={"address": "10.0.0.11"})
    connected.switch.apply(Apply(connected.link.id, Zone(7), 1, other))
    connected.settle()
    connected.switch.poll(1.0)
    polled = {event.zone: event for event in connected.settle() if isinstance(event, Polled)}
    assert set(polled[ZONE].nodes) == {1, 2, 3}
    assert set(polled[Zone(7)].nodes) == {1, 3}


# Packet-ins


def choosing(bridge: Bridge) -> tuple[Connected, Group]:
    """A connection with packet-ins, and the group that the core takes up from what it holds."""
    table = compiled(pinning="reactive")
    holding(bridge, table)
    connected = bridge.connect()
    connected.switch.start()
    (up,) = connected.settle()
    connected.link.want_events()
    group, _ = step(new_group(group_spec(pinning="reactive"), Layout(), 0.0), up, 0.0)
    return connected, group


def chosen(group: Group, event: Event) -> tuple[Group, AddPin]:
    """The group after a packet without a pin, and what it says to that."""
    assert isinstance(event, NewFlow)
    group, commands = step(group, event, 1.0)
    (command,) = (command for command in commands if isinstance(command, AddPin))
    return group, command


def pinned(connected: Connected) -> tuple[Index, ...]:
    """The nodes to which the switch has pins, each as often as it has some."""
    flows = [(index, node.active_flows or 0) for index, node in poll(connected).nodes.items()]
    return tuple(index for index, count in flows for _ in range(count))


def sent_to(bridge: Bridge, index: Index) -> int:
    """How many packets left by the port of a node."""
    statistics = bridge.ofctl("dump-ports", str(index))
    return int(statistics.partition("tx pkts=")[2].partition(",")[0])


def test_a_first_packet_is_a_new_flow(bridge: Bridge) -> None:
    """A packet without a pin comes up, and then follows its pin; the next one goes by itself."""
    connected, group = choosing(bridge)
    bridge.inject("client", segment(1000))
    (event,) = connected.settle()
    assert isinstance(event, NewFlow)
    assert event.flow == FiveTuple(6, "10.0.0.9", "10.0.0.10", 1000, 80)
    assert (event.zone, event.in_port, event.pinned) == (ZONE, 9, None)
    connected.switch.add_pins([chosen(group, event)[1]])
    assert connected.settle() == []
    (node,) = pinned(connected)
    assert sent_to(bridge, node) == 1
    bridge.inject("client", segment(1000, "ack"))
    assert connected.settle() == []
    assert sent_to(bridge, node) == 2


def test_a_flow_keeps_its_first_pin(bridge: Bridge) -> None:
    """A second packet that was on its way when its flow was pinned does not pin it anew."""
    connected, group = choosing(bridge)
    bridge.inject("client", segment(1000), segment(1000))
    first, second = connected.settle()
    group, command = chosen(group, first)
    connected.switch.add_pins([command])
    connected.settle()
    (node,) = pinned(connected)
    elsewhere = replace(group, slots=(*group.slots[1:], group.slots[0]))
    connected.switch.add_pins([chosen(elsewhere, second)[1]])
    assert connected.settle() == []
    assert pinned(connected) == (node,)
    assert sent_to(bridge, node) == 2


def test_dropped_pins_are_one_nodes(bridge: Bridge) -> None:
    """The pins to one node go, others and all else stay."""
    connected = holding(bridge, compiled(pinning="learn"))
    bridge.inject("client", *(segment(source) for source in range(1000, 1050)))
    before = poll(connected).nodes
    connected.switch.drop_pins(DropPins(connected.link.id, ZONE, Index(2)))
    after = poll(connected).nodes
    assert (before[Index(2)].active_flows or 0) > 0
    assert after[Index(2)].active_flows == 0
    for index in (Index(1), Index(3)):
        assert after[index].active_flows == before[index].active_flows


def test_answers_to_probes_are_frames(bridge: Bridge) -> None:
    """A packet that an entry for probes sends here comes up as it is; a foreign one does not."""
    connected = holding(bridge, compiled())
    connected.link.want_events()
    bridge.ofctl("add-flow", "cookie=0x99,priority=50000,udp,actions=CONTROLLER:65535")
    answer = segment(1000, "ack", to_node=False).replace("dst=10.0.0.9", "dst=10.0.0.254")
    datagram = answer.replace("proto=6", "proto=17").replace("tcp(", "udp(")
    bridge.inject("sn00a1-2", answer, datagram.partition(",tcp_flags")[0])
    (event,) = connected.settle()
    assert isinstance(event, Frame)
    assert (event.zone, event.in_port) == (ZONE, PORTS["sn00a1-2"])
    assert event.frame[:12].hex(":") == f"{PRIMARY_MAC}:{CLIENT_MAC}"


def test_a_frame_leaves_by_its_port(bridge: Bridge) -> None:
    """A frame is sent out of the port that was named."""
    connected = bridge.up()
    connected.switch.send_frame(SendFrame(connected.link.id, PORTS["vm1"], bytes(60)))
    connected.settle()
    statistics = bridge.ofctl("dump-ports", str(PORTS["vm1"]))
    assert "tx pkts=1, bytes=60" in statistics


def test_drops_of_a_port_are_both_ways() -> None:
    """A port's drops are those on the way in and on the way out; unknown ones do not count."""
    unknown = 2**64 - 1
    counts = {1: (3, 4), 2: (5, unknown), 3: (unknown, unknown)}
    body = b"".join(
        struct.pack("!I4x12QII", port, 1, 2, 3, 4, received, sent, *[9] * 6, 1, 1)
        for port, (received, sent) in counts.items()
    )
    assert dict(requests.port_drops(body)) == {1: 7, 2: 5, 3: None}


HEADERS = (
    "0200000000010200000000020800"  # Ethernet
    "450000280001000040060000" + "0a000009" + "0a00000a"  # IPv4
    "03e80050" + "00000007" + "00000000" + "5002" + "000000000000"  # TCP
)
FLOW = FiveTuple(6, "10.0.0.9", "10.0.0.10", 1000, 80)
HEADERS6 = (
    "02000000000102000000000286dd"  # Ethernet
    "6000000000140640"
    + IPv6Address("fd00::9").packed.hex()
    + IPv6Address("fd00::10").packed.hex()
    + HEADERS[-40:]
)
FLOW6 = FiveTuple(6, "fd00::9", "fd00::10", 1000, 80)
EXTENDED = HEADERS6.replace("001406", "00243c").replace(HEADERS[-40:], "0601" + 14 * "00")
"""With destination options of 16 bytes before TCP."""


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(HEADERS, (FLOW, 7, False), id="syn"),
        pytest.param(HEADERS.replace("5002", "5012"), (FLOW, None, False), id="syn-ack"),
        pytest.param(HEADERS.replace("5002", "5010"), (FLOW, None, False), id="ack"),
        pytest.param(HEADERS.replace("5002", "5011"), (FLOW, None, True), id="fin"),
        pytest.param(HEADERS.replace("5002", "5004"), (FLOW, None, True), id="rst"),
        pytest.param(HEADERS.replace("0800", "810000050800", 1), (FLOW, 7, False), id="vlan"),
        pytest.param(HEADERS.replace("00010000", "00012001", 1), None, id="later-fragment"),
        pytest.param(HEADERS.replace("4006", "4001", 1), None, id="icmp"),
        pytest.param(HEADERS.replace("0800", "0806", 1), None, id="arp"),
        pytest.param(HEADERS6, (FLOW6, 7, False), id="ipv6-syn"),
        pytest.param(HEADERS6.replace("5002", "5011"), (FLOW6, None, True), id="ipv6-fin"),
        pytest.param(EXTENDED + HEADERS[-40:], (FLOW6, 7, False), id="ipv6-options"),
        pytest.param(EXTENDED, None, id="ipv6-cut-short"),
        pytest.param(HEADERS6.replace("001406", "00142c"), None, id="ipv6-fragment"),
        pytest.param(HEADERS6.replace("86dd60", "86dd40"), None, id="ipv6-of-version-4"),
        pytest.param(HEADERS[:70], None, id="cut-short"),
        pytest.param("", None, id="empty"),
    ],
)
def test_which_flow_a_frame_is_of(frame: str, expected: object) -> None:
    """A whole IP packet with ports has a flow; a SYN alone opens it, FIN and RST end it."""
    assert inbound.flow_of(bytes.fromhex(frame)) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event(frame: bytes) -> None:
    """No frame raises; what is no flow is a frame."""
    event = inbound.event(1, Origin(Kind.SELECT, ZONE, Index(0)), 3, frame)
    assert isinstance(event, NewFlow | Frame)
    assert event.frame == frame
