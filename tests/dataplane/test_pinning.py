"""Every packet of a flow reaches one node, however often the slots change hands."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import Older
from tests.dataplane.world import (
    ADDRESS,
    NEXT_BRIDGE,
    Client,
    World,
    eventually,
    group_spec,
    reassignments,
)

PINNINGS = ("conntrack", "learn")
PORTS = (80, 8000, 8003, 8010)
NODES = (1, 2, 3)


def reslot(world: World, spec: GroupSpec, times: int, **view: Any) -> None:
    """Give every slot to a random node, again and again."""
    for slots in reassignments(NODES, times, seed=7):
        world.install(spec, slots, **view)


def intact(seen: dict[str, Any], held: int) -> bool:
    """Whether all flows are there and none was answered by a second node."""
    return (seen["held"], seen["broken"], seen["moved"]) == (held, 0, 0)


def cached(world: World, client: Client) -> list[str]:
    """The datapath's cached flows for what the client sends to the group."""
    lines = world.ovs.appctl("dpctl/dump-flows").splitlines()
    mine = [line for line in lines if f"eth(src={client.host.mac}" in line]
    return [line for line in mine if f"dst={ADDRESS}" in line]


@pytest.mark.parametrize("arp", ["primary", "switch"])
@pytest.mark.parametrize("pinning", PINNINGS)
def test_flows_stay_while_all_slots_change_hands(world: World, pinning: str, arp: str) -> None:
    """200 busy TCP connections and 100 UDP flows, 20 random assignments of all 256 slots."""
    where = {"address": ADDRESS, "protocol": ["tcp", "udp"], "ports": [80, "8000-8010"]}
    spec = group_spec(pinning=pinning, arp=arp, match=where)
    world.add_nodes(spec, *NODES, ports=PORTS)
    world.install(spec)
    client = world.client()
    assert client.do("open", address=ADDRESS, port=80, count=100)["failed"] == 0
    assert client.do("open", address=ADDRESS, port=8010, count=100)["failed"] == 0
    client.do("udp_open", address=ADDRESS, port=8003, count=100)
    churn = client.start("churn", rounds=10_000)
    for slots in reassignments(NODES, 20, seed=7):
        world.install(spec, slots)
        burst = client.do("burst", address=ADDRESS, port=80, total=50)
        assert (burst["made"], burst["refused"], burst["cut"]) == (50, 0, 0)
    client.do("stop")
    seen = client.wait(churn)
    assert intact(seen, 300)
    assert seen["rounds"] > 2


@pytest.mark.parametrize("pinning", PINNINGS)
def test_udp_flows_of_one_client_are_spread_by_port(world: World, pinning: str) -> None:
    """Two addresses have many UDP flows between them, and each is on its own."""
    spec = group_spec(pinning=pinning, match={"address": ADDRESS, "protocol": "udp", "ports": [80]})
    world.add_nodes(spec, *NODES)
    world.install(spec)
    seen = world.client().do("udp_open", address=ADDRESS, port=80, count=150)
    assert intact(seen, 150)
    assert min(seen["nodes"].values()) > 20
    assert set(seen["nodes"]) == {"web-1", "web-2", "web-3"}


@pytest.mark.parametrize("pinning", PINNINGS)
def test_new_connections_follow_the_slots(world: World, pinning: str) -> None:
    """With three quarters of the slots a node gets about three quarters of the connections."""
    spec = group_spec(pinning=pinning)
    world.add_nodes(spec, *NODES)
    world.install(spec, (1,) * 192 + (2,) * 64)
    burst = world.client().do("burst", address=ADDRESS, port=80, total=2000)
    assert burst["made"] == 2000
    assert set(burst["nodes"]) == {"web-1", "web-2"}
    assert 1400 < burst["nodes"]["web-1"] < 1600


@pytest.mark.parametrize("pinning", PINNINGS)
def test_an_idle_connection_stays(world: World, pinning: str) -> None:
    """After the datapath forgot its cached flows, and every slot has another owner."""
    world.ovs.vsctl("set", "open_vswitch", ".", "other_config:max-idle=500")
    spec = group_spec(
        pinning=pinning, match={"address": ADDRESS, "protocol": ["tcp", "udp"], "ports": [80]}
    )
    world.add_nodes(spec, *NODES)
    client = world.client()
    for round_ in range(3):
        world.install(spec, [1 + (round_ + slot) % 3 for slot in range(256)])
        client.do("open", address=ADDRESS, port=80, count=30)
        client.do("udp_open", address=ADDRESS, port=80, count=30)
        eventually(lambda: not cached(world, client))
        reslot(world, spec, 1)
        assert intact(client.do("check"), 60 * (round_ + 1))


@pytest.mark.parametrize("pinning", PINNINGS)
def test_a_vlan_from_one_ingress_port(world: World, pinning: str) -> None:
    """Tagged clients of a trunk are served, their tags stripped; all their flows stay."""
    spec = group_spec(
        pinning=pinning,
        arp="switch",
        match={
            "address": ADDRESS,
            "protocol": ["tcp", "udp"],
            "ports": [80],
            "vlan": 7,
            "ingress": ["trunk"],
        },
    )
    world.add_nodes(spec, *NODES)
    trunk = world.trunk("trunk")
    client = world.client("cli1", bridge=NEXT_BRIDGE, tag=7)
    world.install(spec, ingress=(trunk,))
    assert client.do("open", address=ADDRESS, port=80, count=50)["failed"] == 0
    client.do("udp_open", address=ADDRESS, port=80, count=50)
    reslot(world, spec, 3, ingress=(trunk,))
    assert intact(client.do("check"), 100)
    assert set(client.do("close")["nodes"]) == {"web-1", "web-2", "web-3"}


@pytest.mark.parametrize("pinning", PINNINGS)
def test_connections_that_the_primary_begins(world: World, pinning: str) -> None:
    """With all ports in the group, answers to the primary's own questions are the primary's."""
    protocols = ["tcp", "udp"] if pinning == "conntrack" else ["tcp"]
    spec = group_spec(pinning=pinning, match={"address": ADDRESS, "protocol": protocols})
    other = group_spec(name="database", id=9, match={"address": "10.0.10.1"})
    world.add_nodes(other, 2, ports=(80, 53))
    database = world.nodes.pop(2).host.ip
    world.add_nodes(spec, *NODES, ports=(80, 8003))
    world.install(spec)
    client = world.client()
    client.do("open", address=ADDRESS, port=80, count=40)
    client.do("open", address=ADDRESS, port=8003, count=40)
    inside = world.agent(world.nodes[1].host)
    for _ in range(3):
        assert inside.do("open", address=database, port=80, count=20)["failed"] == 0
        if pinning == "conntrack":
            inside.do("udp_open", address=database, port=53, count=20)
        reslot(world, spec, 2, older=Older.SLOTS)
    held = 60 * len(protocols)
    assert intact(inside.do("check"), held)
    assert intact(client.do("check"), 80)


def test_learn_caches_each_connection_by_itself(world: World) -> None:
    """Nothing between a packet and its pin is wider than a connection, and nothing recirculates."""
    world.ovs.vsctl("set", "open_vswitch", ".", "other_config:max-idle=60000")
    spec = group_spec(pinning="learn", pin={"fin_idle_s": 60})  # all are there when counted
    world.add_nodes(spec, *NODES)
    world.install(spec)
    client = world.client()
    client.do("burst", address=ADDRESS, port=80, total=300)
    reslot(world, spec, 1)
    client.do("burst", address=ADDRESS, port=80, total=300)
    lines = cached(world, client)
    assert len(lines) >= world.pins() > 500  # a few ports serve twice, and have one pin
    for line in lines:
        assert re.search(rf"ipv4\(src={client.host.ip},dst={ADDRESS},proto=6", line), line
        assert re.search(r"tcp\(src=\d+,dst=80\)", line), line
        assert "recirc_id(0)" in line
        assert "recirc(" not in line


@pytest.mark.parametrize("pinning", PINNINGS)
def test_concurrency_with_a_busy_revalidator(world: World, pinning: str) -> None:
    """4,000 short and 200 held connections while slots change, cached flows evicted all along."""
    for setting in ("max-revalidator=50", "max-idle=1000", "flow-limit=500"):
        world.ovs.vsctl("set", "open_vswitch", ".", f"other_config:{setting}")
    spec = group_spec(pinning=pinning)
    world.add_nodes(spec, *NODES)
    world.install(spec)
    held, short = world.client("cli1", "10.0.0.101"), world.client("cli2", "10.0.0.102")
    held.do("open", address=ADDRESS, port=80, count=200)
    churn = held.start("churn", rounds=10_000)
    burst = short.start("burst", address=ADDRESS, port=80, total=4000, width=48)
    reslot(world, spec, 25)
    seen = short.wait(burst)
    held.do("stop")
    assert (seen["made"], seen["refused"], seen["cut"]) == (4000, 0, 0), seen["errors"]
    assert intact(held.wait(churn), 200)
