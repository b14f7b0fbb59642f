"""Groups with an IPv6 address: pinned like any other, and found by neighbour discovery.

Nodes and clients are Linux's own IPv6 stack. What probes and failover do is in
``tests/lab/test_ipv6.py``.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest
from ryu.lib.packet import ethernet, icmpv6, ipv6, packet
from ryu.lib.packet.ether_types import ETH_TYPE_IPV6

from sncontroller.core.frames import Frame, Nd, NdKind, Udp
from sncontroller.core.layout import Index, node_mac
from sncontroller.core.model import GroupSpec
from sncontroller.core.neighbour import announcement
from sncontroller.core.plan import Older, handback
from sncontroller.lab.net import Host
from sncontroller.openflow.packets import encoded
from tests.dataplane.world import Client, World, eventually, group_spec, reassignments

ADDRESS, CLIENT = "fd00::10", "fd00::101"
PINNINGS = ("conntrack", "learn")
PORTS = (80, 8000, 8003, 8010)
NODES = (1, 2, 3)
WHERE: dict[str, Any] = {
    "address": ADDRESS,
    "protocol": ["tcp", "udp"],
    "ports": [80, "8000-8010"],
}


def separate(pinning: str = "conntrack", **changes: Any) -> GroupSpec:
    """A group whose address the switch answers for."""
    return group_spec(**{"pinning": pinning, "arp": "switch", "match": WHERE, **changes})


def neighbour(host: Host, address: str = ADDRESS) -> str:
    """What the host's kernel knows of the address, asked for anew."""
    host.run("ip", "-6", "neighbour", "flush", "dev", "eth0")
    host.run("ping", "-6", "-c1", "-W1", address, check=False)
    return host.run("ip", "-6", "neighbour", "show", address).stdout.strip()


def intact(seen: dict[str, Any], held: int) -> bool:
    """Whether all flows are there and none was answered by a second node."""
    return (seen["held"], seen["broken"], seen["moved"]) == (held, 0, 0)


def fill(client: Client) -> None:
    """60 TCP connections and 40 UDP flows."""
    assert client.do("open", address=ADDRESS, port=80, count=30)["failed"] == 0
    assert client.do("open", address=ADDRESS, port=8010, count=30)["failed"] == 0
    assert intact(client.do("udp_open", address=ADDRESS, port=8003, count=40), 40)


@pytest.mark.parametrize("arp", ["primary", "switch"])
@pytest.mark.parametrize("pinning", PINNINGS)
def test_flows_stay_while_all_slots_change_hands(world: World, pinning: str, arp: str) -> None:
    """60 TCP connections and 40 UDP flows, 8 random assignments of all 256 slots."""
    spec = separate(pinning, arp=arp)
    world.add_nodes(spec, *NODES, ports=PORTS)
    world.install(spec)
    client = world.client(address=CLIENT)
    fill(client)
    for slots in reassignments(NODES, 8, seed=7):
        world.install(spec, slots)
        assert intact(client.do("check"), 100)
        burst = client.do("burst", address=ADDRESS, port=80, total=40)
        assert (burst["made"], burst["refused"], burst["cut"]) == (40, 0, 0), burst
    assert set(client.do("close")["nodes"]) == {"web-1", "web-2", "web-3"}


@pytest.mark.parametrize("pinning", PINNINGS)
def test_a_restarted_switch_finds_the_same_nodes(world: World, pinning: str) -> None:
    """Slots are what they were: connections without a pin go by them, whoever began them."""
    spec = separate(pinning)
    world.add_nodes(spec, *NODES, ports=PORTS)
    world.install(spec, older=Older.SLOTS)
    client = world.client(address=CLIENT)
    fill(client)
    world.ovs.appctl("dpctl/flush-conntrack")
    for index in NODES:
        cookie = f"cookie={0x534E_0006_0000_0000 | spec.zone << 16 | index:#x}/-1"
        world.ovs.ofctl("del-flows", "br0", cookie)
    assert intact(client.do("check"), 100)


def test_the_switch_answers_neighbour_discovery_and_ping(world: World) -> None:
    """With the group's own hardware address; a question to that one alone is answered, too."""
    spec = separate()
    world.add_nodes(spec, 1, 2)
    world.install(spec)
    client = world.client(address=CLIENT)
    mac = node_mac(spec.zone, Index(0))
    assert f"lladdr {mac}" in neighbour(client.host)
    assert client.host.run("ping", "-6", "-c3", "-i0.2", ADDRESS).stdout.count("time=") == 3
    client.host.run("ip", "-6", "neighbour", "change", ADDRESS, "dev", "eth0", "nud", "probe")
    reachable = ["ip", "-6", "neighbour", "show", ADDRESS, "nud", "reachable"]
    eventually(lambda: mac in client.host.run(*reachable).stdout)


def test_a_question_without_an_option_is_answered(world: World) -> None:
    """A solicitation may lack the asker's hardware address; the answer then has none either, and
    says all the same that the entry which the asker has is right."""
    spec = separate()
    world.add_nodes(spec, 1)
    world.install(spec)
    client = world.client(address=CLIENT)
    mac = node_mac(spec.zone, Index(0))
    stale = ["ip", "-6", "neighbour", "replace", ADDRESS, "lladdr", mac, "dev", "eth0"]
    client.host.run(*stale, "nud", "stale")
    bare = Nd(NdKind.SOLICITATION, IPv6Address(CLIENT), IPv6Address(ADDRESS), IPv6Address(ADDRESS))
    asked = encoded(Frame(client.host.mac, mac, bare)).hex()
    client.do("frame", interface="eth0", frames=[asked])
    reachable = ["ip", "-6", "neighbour", "show", ADDRESS, "nud", "reachable"]
    eventually(lambda: mac in client.host.run(*reachable).stdout)


def test_nobody_can_take_the_address(world: World) -> None:
    """Duplicate address detection finds that a separate address is taken."""
    spec = separate()
    world.add_nodes(spec, 1)
    world.install(spec)
    host = world.client(address=CLIENT).host
    host.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    host.run("ip", "address", "add", f"{ADDRESS}/64", "dev", "eth0")
    eventually(lambda: "dadfailed" in host.run("ip", "-6", "address", "show", "dev", "eth0").stdout)


def test_the_primary_that_comes_back_may_take_its_address(world: World) -> None:
    """While the switch answers in its place, duplicate address detection has no objection."""
    spec = group_spec(match={"address": ADDRESS, "ports": [80]})
    world.add_nodes(spec, 1, 2)
    world.install(spec, failed=(1,), primary=2, primary_serves=False)
    client, primary = world.client(address=CLIENT), world.nodes[Index(1)].host
    primary.run("ip", "address", "delete", f"{ADDRESS}/64", "dev", "eth0")
    assert f"lladdr {world.nodes[Index(1)].mac}" in neighbour(client.host)
    primary.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    primary.run("ip", "address", "add", f"{ADDRESS}/64", "dev", "eth0")
    shown = ["ip", "-6", "address", "show", "dev", "eth0"]
    eventually(lambda: "tentative" not in primary.run(*shown).stdout)
    assert "dadfailed" not in primary.run(*shown).stdout
    burst = client.do("burst", address=ADDRESS, port=80, total=50)
    assert burst["nodes"] == {"web-2": 50}


def test_a_node_that_announces_the_address_is_not_believed(world: World) -> None:
    """An unsolicited advertisement of a secondary goes nowhere; the primary's own does."""
    spec = group_spec(match={"address": ADDRESS, "ports": [80]})
    world.add_nodes(spec, 1, 2)
    world.install(spec)
    client = world.client(address=CLIENT)
    primary, second = world.nodes[Index(1)], world.nodes[Index(2)]
    assert f"lladdr {primary.mac}" in neighbour(client.host)
    lie = encoded(announcement(second.mac, IPv6Address(ADDRESS), None)).hex()
    liar = world.agent(second.host)
    liar.do("frame", interface="eth0", frames=[lie])
    truth = encoded(announcement("02:00:00:00:99:99", IPv6Address(ADDRESS), None)).hex()
    shown = ["ip", "-6", "neighbour", "show", ADDRESS]
    assert f"lladdr {primary.mac}" in client.host.run(*shown).stdout
    world.agent(primary.host).do("frame", interface="eth0", frames=[truth])
    eventually(lambda: "02:00:00:00:99:99" in client.host.run(*shown).stdout)


def test_an_address_is_answered_for_after_the_group_was_taken_off(world: World) -> None:
    """What ``detach`` leaves of a separate address: discovery, ping, and the primary alone."""
    spec = separate()
    world.add_nodes(spec, 1, 2)
    world.install(spec)
    table = handback(spec, world.nodes[Index(1)].plan, world.layout)
    world.replace(table)
    client = world.client(address=CLIENT)
    assert node_mac(spec.zone, Index(0)) in neighbour(client.host)
    assert client.do("burst", address=ADDRESS, port=80, total=20)["nodes"] == {"web-1": 20}


@pytest.mark.parametrize(("ports", "first"), [([80], 16), ([], 4000)])
def test_fragments_follow_their_flow(world: World, ports: list[int], first: int) -> None:
    """Datagrams of 4,000 bytes reach their flow's node in pieces; where all ports are the group's,
    the first of a flow may be one, too."""
    spec = separate(match={"address": ADDRESS, "protocol": "udp", "ports": ports})
    world.add_nodes(spec, *NODES)
    world.install(spec)
    client = world.client(address=CLIENT)
    assert intact(client.do("udp_open", address=ADDRESS, port=80, count=20, size=first), 20)
    for slots in reassignments(NODES, 3, seed=3):
        world.install(spec, slots)
        assert intact(client.do("check", size=4000), 20)


def test_icmp_errors_follow_their_flow(world: World) -> None:
    """ "Packet too big" about an answer reaches the node that sent it, and no other."""
    spec = separate(match={"address": ADDRESS, "protocol": "udp", "ports": [80]})
    world.add_nodes(spec, *NODES)
    world.install(spec)
    client = world.client(address=CLIENT)
    said = client.do("udp_open", address=ADDRESS, port=80, source=CLIENT, source_port=4000)
    (answered,) = said["nodes"]
    error = too_big(client.host.mac, node_mac(spec.zone, Index(0)), their_port=4000, mtu=1300)
    client.do("frame", interface="eth0", frames=[error])
    told = ["ip", "-6", "route", "get", CLIENT]
    (node,) = (node for node in world.nodes.values() if node.name == answered)
    eventually(lambda: "mtu 1300" in node.host.run(*told).stdout)
    others = [node.host for node in world.nodes.values() if node.name != answered]
    assert not [host for host in others if "mtu 1300" in host.run(*told).stdout]


def too_big(ours: str, theirs: str, their_port: int, mtu: int) -> str:
    """ICMPv6 "packet too big" (RFC 4443, 3.2) about a datagram from the group's port 80, in hex."""
    datagram = Udp(IPv6Address(ADDRESS), IPv6Address(CLIENT), 80, their_port, bytes(64))
    quote = encoded(Frame(theirs, ours, datagram))[14:]
    out = packet.Packet()
    out.add_protocol(ethernet.ethernet(theirs, ours, ETH_TYPE_IPV6))
    out.add_protocol(ipv6.ipv6(src=CLIENT, dst=ADDRESS, nxt=58))
    out.add_protocol(icmpv6.icmpv6(2, 0, 0, mtu.to_bytes(4) + quote))
    out.serialize()
    return bytes(out.data).hex()
