"""SYNs that go straight to their slot: a pass less, and nothing breaks when slots change hands."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sncontroller.core.layout import Index, Kind
from sncontroller.core.model import GroupSpec
from tests.dataplane.world import ADDRESS, BRIDGE, World, eventually, group_spec, reassignments

NODES = (1, 2, 3)
ANSWERS = f"priority=50000,tcp,nw_src={ADDRESS},tcp_flags=+syn+ack"


@pytest.fixture
def group(world: World) -> GroupSpec:
    """Three nodes; the first has all slots, and SYNs go straight there."""
    spec = group_spec()
    world.add_nodes(spec, *NODES)
    world.install(spec, (1,) * 256, straight=True)
    return spec


def given(world: World, spec: GroupSpec, index: int) -> int:
    """How many packets became a pin to this node."""
    return world.flow_counters(Kind.COMMIT, spec.zone, index)


def counted(world: World, where: str) -> int:
    """Packets that the entries have counted which match so."""
    said = world.ovs.ofctl("dump-aggregate", BRIDGE, where)
    found = re.search(r"packet_count=(\d+)", said)
    assert found is not None
    return int(found[1])


def unanswered(world: World, spec: GroupSpec) -> tuple[Any, int]:
    """A client whose SYN reached node 1, and got no answer; and the number of its command."""
    world.ovs.ofctl("add-flow", BRIDGE, f"{ANSWERS},actions=drop")
    client = world.client()
    opening = client.start("open", address=ADDRESS, port=80)
    eventually(lambda: given(world, spec, 1) > 0)
    return client, opening


def test_only_the_first_packet_goes_straight(world: World, group: GroupSpec) -> None:
    """A connection's SYN looks for no pin, and all its other packets find the one that it made."""
    client = world.client()
    burst = client.do("burst", address=ADDRESS, port=80, total=200)
    assert (burst["made"], burst["nodes"]) == (200, {"web-1": 200})
    eventually(lambda: given(world, group, 1) == 200)
    eventually(lambda: counted(world, "table=0,tcp,tcp_flags=+syn-ack") == 200)
    assert world.flow_counters(Kind.SELECT, group.zone, 0) == 0
    assert client.do("open", address=ADDRESS, port=80, count=20)["failed"] == 0
    world.install(group, (2,) * 256)
    seen = client.do("check")
    assert (seen["held"], seen["broken"], seen["moved"]) == (20, 0, 0)


def test_a_syn_that_is_sent_again_while_slots_rest(world: World, group: GroupSpec) -> None:
    """It finds the same node, which answers again."""
    client, opening = unanswered(world, group)
    world.ovs.ofctl("del-flows", BRIDGE, ANSWERS.removeprefix("priority=50000,"))
    seen = client.wait(opening)
    assert (seen["failed"], seen["nodes"]) == (0, {"web-1": 1})


def test_a_syn_that_is_sent_again_after_its_slot_changed_hands(
    world: World, group: GroupSpec
) -> None:
    """It looks for its pin and finds the node that has answered the first one; they go on there."""
    client, opening = unanswered(world, group)
    world.install(group, (2,) * 256, straight=False)
    world.ovs.ofctl("del-flows", BRIDGE, ANSWERS.removeprefix("priority=50000,"))
    seen = client.wait(opening)
    assert (seen["failed"], seen["nodes"]) == (0, {"web-1": 1})
    world.install(group, (3,) * 256)
    seen = client.do("check")
    assert (seen["held"], seen["broken"], seen["moved"]) == (1, 0, 0)
    assert set(client.do("burst", address=ADDRESS, port=80, total=20)["nodes"]) == {"web-3"}


def test_a_host_that_lost_its_power_comes_back_on_the_same_ports(
    world: World, group: GroupSpec
) -> None:
    """Its connections were never closed; their pins give way to the new ones, and hold those."""
    client = world.client()
    for port in range(20_001, 20_013):
        client.do("open", address=ADDRESS, port=80, source_port=port)
    client.do("vanish")
    world.install(group, (2, 3) * 128, straight=True)
    for port in range(20_001, 20_013):
        assert client.do("open", address=ADDRESS, port=80, source_port=port)["failed"] == 0
    assert set(client.do("check")["nodes"]) == {"web-2", "web-3"}
    for slots in reassignments(NODES, 3, seed=7):
        world.install(group, slots, draining={Index(1)})
        seen = client.do("check")
        assert (seen["held"], seen["broken"], seen["moved"]) == (12, 0, 0)


def test_a_link_that_is_cut_and_mended(world: World, group: GroupSpec) -> None:
    """The switch itself gives the slots to others and back; every new connection is served."""
    world.install(group, (1, 2) * 128, straight=True)
    client, port = world.client(), world.nodes[Index(2)].host.name

    def linked(state: str) -> bool:
        return world.ovs.vsctl("get", "interface", port, "link_state").strip() == state

    world.nodes[Index(2)].link(up=False)
    eventually(lambda: linked("down"))
    burst = client.do("burst", address=ADDRESS, port=80, total=100)
    assert (burst["made"], burst["nodes"]) == (100, {"web-1": 100})
    world.nodes[Index(2)].link(up=True)
    eventually(lambda: linked("up"))
    burst = client.do("burst", address=ADDRESS, port=80, total=100)
    assert (burst["made"], set(burst["nodes"])) == (100, {"web-1", "web-2"})
