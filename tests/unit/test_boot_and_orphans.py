"""What the core makes of nodes that never serve, and of those that it did not ask for."""

from __future__ import annotations

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.group import new_group
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Index, node_mac, port_name
from sncontroller.core.lifecycle import State
from sncontroller.core.model import HypervisorSpec
from tests.unit.world import World, configured, up


def section(**changes: object) -> HypervisorSpec:
    """The base configuration's hypervisor section with these keys of the controller's own."""
    spec = configured().groups[0].hypervisor
    assert spec is not None
    return spec.model_copy(update=changes)


def orphaned(world: World, index: int) -> World:
    """A running node of ours that only the hypervisor knows, its port on the switch."""
    zone = world.spec.zone
    port, mac = port_name(zone, Index(index)), node_mac(zone, Index(index))
    info = NodeInfo(f"web-{index}", index, port, mac, NodeStatus.RUNNING)
    world.nodes[info.name] = info
    world.ports[port] = ev.Port(40 + index, port, mac, True)
    return world


# Nodes that never serve --------------------------------------------------------------------------


def test_each_node_that_never_serves_makes_the_next_wait_longer() -> None:
    """The pauses are 1, 2, 4 ... s at most 60, and one that serves ends the row."""
    world = up(hypervisor=section(boot_deadline_s=10))
    world.portless = True
    world.scale(2).wait(300)
    reasons = [entry.reason for entry in world.log if entry.kind is cmd.Kind.FAILED]
    pauses = [int(reason.rpartition(" in ")[2].removesuffix(" s")) for reason in reasons]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60][: len(pauses)]
    assert len(pauses) >= 6
    assert all(r.startswith("its port did not come up within 10 s; ") for r in reasons)
    world.portless = False
    world.wait(100)
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}
    assert world.group.boot_failures == 0


def test_while_a_pause_lasts_no_node_is_asked_for() -> None:
    """The hypervisor is left alone between two tries, and has none of the dead nodes."""
    world = up(hypervisor=section(boot_deadline_s=10))
    world.portless = True
    world.scale(2).wait(10)
    assert world.states() == {1: State.ACTIVE}
    assert world.nodes == {}
    world.wait(1)
    assert world.states()[2] is State.BOOTING


def test_a_node_that_waits_for_another_try_has_not_vanished() -> None:
    """That the hypervisor does not list it is no news: it was never made."""
    world = up()
    world.errors = [("no room", False)] * 4
    world.scale(2).wait(60)
    assert cmd.Kind.FAILED not in world.kinds()
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}


# Orphans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orphans", ["adopt", "destroy"])
def test_orphans_are_adopted_or_destroyed(orphans: str) -> None:
    """As the section says; the log has it; the wanted number is reached either way."""
    world = orphaned(World(hypervisor=section(orphans=orphans)), 5).connect()
    world.scale(2).wait(5)
    kept = 5 if orphans == "adopt" else 2
    assert world.states() == {1: State.ACTIVE, kept: State.ACTIVE}
    assert set(world.nodes) == {f"web-{kept}"}
    said = [e.reason for e in world.log if e.node == "web-5"]
    if orphans == "adopt":
        assert said[0] == "found at the hypervisor"
    else:
        assert said[0] == "found at the hypervisor: orphans are destroyed"


def test_nodes_that_serve_are_no_orphans() -> None:
    """A restarted controller that destroys orphans keeps what the switch has, whoever is first."""
    world = up(hypervisor=section(orphans="destroy")).scale(3)
    nodes, slots = dict(world.nodes), world.group.slots
    orphaned(world, 7)
    world.restarted().wait(3)
    assert world.nodes == nodes
    assert world.group.slots == slots


def test_orphans_are_not_looked_for_before_the_switch_has_spoken() -> None:
    """Without it nobody can tell an orphan from a node that serves."""
    world = orphaned(World(hypervisor=section(orphans="destroy")), 5)
    world.wait(30)
    assert "web-5" in world.nodes
    assert not any(isinstance(command, cmd.ListNodes) for command in world.sent)


def test_nothing_is_given_up_before_the_switch_has_spoken() -> None:
    """A node that the hypervisor lists may have flows: only the switch can say that it has none."""
    world = up().scale(2)
    world.group = new_group(world.spec, world.group.layout, world.now)
    world.wait(1000)
    assert set(world.nodes) == {"web-2"}
    assert world.states() == {2: State.BOOTING}
    world.connect()
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}


def test_a_node_has_its_time_to_boot_where_it_can_be_seen() -> None:
    """What the switch was away does not count."""
    world = up()
    world.portless = True
    world.scale(2).give(ev.SwitchDown(7)).wait(1000).connect()
    for waited, given_up in ((290, False), (20, True)):
        world.wait(waited)
        assert any("did not come up" in each.reason for each in world.log) is given_up


def test_one_that_comes_back_is_one_too_many() -> None:
    """It is taken in, and as many as are wanted stay."""
    world = up().scale(2).wait(1)
    lost = world.nodes.pop("web-2")
    world.wait(40)
    world.nodes["web-2"] = lost
    world.wait(30).poll().wait(30).poll()
    assert len(world.nodes) == 1
    assert world.group.wanted == 2
    assert len(world.group.serving) == 2
