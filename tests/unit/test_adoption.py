"""Taking up a group where it was, and keeping it together with what the hypervisor has."""

from __future__ import annotations

from dataclasses import replace

from sncontroller.core import commands as cmd
from sncontroller.core import entries as e
from sncontroller.core import events as ev
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Index, deliver_group, node_mac, port_name
from sncontroller.core.lifecycle import State
from tests.unit.world import World, up


def listed(world: World, *infos: NodeInfo) -> World:
    """The hypervisor's list arrives."""
    result = ev.HypervisorResult(world.spec.zone, ev.Call.LIST, None, infos, None, False, 0.1)
    return world.give(result)


def web(world: World, index: int) -> str:
    """The name of the port that a secondary of ours has."""
    return port_name(world.spec.zone, Index(index))


def test_a_node_whose_port_is_gone_is_not_taken_up() -> None:
    """What the switch delivered to a port that it has no more is nobody's; its slots are dealt."""
    world = up().scale(3)
    del world.ports[web(world, 2)]
    world.restarted()
    assert world.states() == {1: State.ACTIVE, 2: State.BOOTING, 3: State.ACTIVE}
    assert world.owners() == {1, 3}
    assert world.consistent()


def test_a_delivery_that_somebody_changed_is_no_node() -> None:
    """A group of ours that sends elsewhere says nothing of a node; it is put right."""
    world = up().scale(3)
    number = deliver_group(world.spec.zone, Index(2))
    strange = replace(world.installed.groups[number], buckets=(e.Bucket((e.Normal(),)),))
    world.installed = e.Table(world.installed.flows, {**world.installed.groups, number: strange})
    world.restarted()
    assert world.installed.groups[number] != strange
    assert world.owners() == {1, 2, 3}
    assert world.consistent()


def test_a_failed_node_that_the_hypervisor_lost_is_told_once() -> None:
    """It was taken out already: nothing happens but that it does not come back."""
    world = up().scale(2).link(web(up(), 2), up=False)
    world.nodes.pop("web-2")
    world.wait(20)
    assert world.states()[2] is State.FAILED
    world.wait(20)
    assert 2 not in world.states()
    failed = [entry for entry in world.log if entry.kind is cmd.Kind.FAILED]
    assert [entry.node for entry in failed] == ["web-2"]


def test_a_list_that_is_older_than_the_call_under_way_is_no_evidence() -> None:
    """A node that is being made may look broken, or not be there yet."""
    world = up()
    world.silent = True
    world.scale(2)
    info = NodeInfo("web-2", 2, web(world, 2), "", NodeStatus.BROKEN, "half made")
    assert listed(world, info).states()[2] is State.REQUESTED
    assert listed(world).states()[2] is State.REQUESTED


def test_a_node_is_as_the_hypervisor_made_it() -> None:
    """A port of another name is the node's; a hardware address that is not told is ours."""
    world = up()
    world.silent = True
    world.scale(2)
    info = NodeInfo("web-2", 2, "tap7", "", NodeStatus.RUNNING)
    start = ev.HypervisorResult(world.spec.zone, ev.Call.START, "web-2", (info,), None, False, 1)
    world.give(start)
    node = world.group.nodes[Index(2)]
    assert (node.state, node.port_name) == (State.BOOTING, "tap7")
    assert node.mac == node_mac(world.spec.zone, Index(2))
    world.give(ev.PortSeen(7, ev.Port(9, "tap7", "", True)))
    assert world.states()[2] is State.ACTIVE


def test_the_primary_is_never_given_up() -> None:
    """Whatever an operator or the hypervisor says of it: it is ours to route around, not to end."""
    world = up().scale(2).ask("web-1", ev.Verb.FAIL).wait(5)
    answers = arp_answers(world)
    assert answers
    broken = NodeInfo("web-1", 1, "vm1", "", NodeStatus.BROKEN)
    listed(world, broken, *world.nodes.values())
    world.ask("web-1", ev.Verb.DRAIN).wait(60)
    assert world.states()[1] is State.FAILED
    assert arp_answers(world) == answers
    assert not any(isinstance(c, cmd.StopNode) and c.name == "web-1" for c in world.sent)
    world.ask("web-1", ev.Verb.UNDRAIN)
    assert world.states()[1] is State.ACTIVE


def arp_answers(world: World) -> set[e.FlowEntry]:
    """The entries that answer for the group's address."""
    flows = world.installed.flows.values()
    return {
        f for f in flows if f.match.get("arp_tpa") == "10.0.0.10" and f.match.get("arp_op") == 1
    }
