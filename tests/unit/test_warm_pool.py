"""The warm pool: nodes that are ready and take no flows until a surge, or a death, needs them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.balance import BalanceSpec
from sncontroller.core.health import HealthSpec
from sncontroller.core.hypervisor import NodeStatus
from sncontroller.core.layout import Index, port_name
from sncontroller.core.lifecycle import State
from sncontroller.core.load import CapacitySpec
from sncontroller.core.model import PoolSpec
from sncontroller.core.scaling import ManualSpec, TargetSpec
from sncontroller.northbound import metrics, views
from tests.unit.test_group import EVENTS, perform
from tests.unit.world import World, configured, up

STANDBY, ACTIVE, DRAINING = State.STANDBY, State.ACTIVE, State.DRAINING


def pooled(warm: int = 1, **changes: Any) -> World:
    """A group whose primary serves and whose warm pool is full."""
    world = up(pool=PoolSpec(warm=warm), **changes).wait(1)
    assert len(world.group.standby) == warm
    return world


def serving(world: World) -> list[int]:
    """The indexes of the nodes that take flows."""
    return [int(node.index) for node in world.group.serving]


def quiet(world: World, seconds: int = 15) -> World:
    """Time without any flow."""
    for _ in range(seconds):
        world.wait(1).poll()
    return world


def test_a_warm_node_is_ready_and_has_no_slot() -> None:
    """It is started, healthy, probed and delivered nothing."""
    world = pooled()
    assert world.states() == {1: ACTIVE, 2: STANDBY}
    assert world.owners() == {1}
    assert world.group.wanted == 1
    assert cmd.Kind.STANDBY in world.kinds()
    assert world.consistent()
    delivers = {group_id & 0xFFF for group_id in world.installed.groups}
    assert delivers == {0, 1}


def test_a_surge_takes_it_at_once_and_the_pool_is_filled_again() -> None:
    """In the step in which more nodes are wanted it has its slots; a boot follows behind."""
    world = pooled()
    world.silent = True
    world.scale(2)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: State.REQUESTED}
    assert Counter(world.group.slots) == {1: 128, 2: 128}
    taken = [entry for entry in world.log if entry.kind is cmd.Kind.ACTIVE][-1]
    assert taken.reason == "taken from the warm pool: 1 of 2 wanted nodes served"
    assert world.consistent()
    world.silent = False
    world.give(ev.HypervisorResult(world.spec.zone, ev.Call.START, "web-3", (), None, False, 0.5))
    world.group = replace(world.group, list_next_s=0.0)
    assert world.states()[3] is State.BOOTING


def test_a_surge_larger_than_the_pool_starts_the_rest() -> None:
    """What is warm serves at once; those that come later go where they are needed first."""
    world = pooled(2)
    world.portless = True
    world.scale(4)
    assert serving(world) == [1, 2, 3]
    assert sum(node.starting for node in world.group.nodes.values()) == 3
    for node in world.group.nodes.values():
        if node.starting:
            port = ev.Port(50 + node.index, node.port_name, "02:00:00:00:00:99", True)
            world.ports[node.port_name] = port
    world.portless = False
    for name, port in tuple(world.ports.items()):
        if name != "vm1" and port.number > 50:
            world.give(ev.PortSeen(7, port))
    assert Counter(world.states().values()) == {ACTIVE: 4, STANDBY: 2}
    assert world.consistent()


def test_max_bounds_the_warm_nodes_too() -> None:
    """At the top nobody is warm; below it the pool is as large as there is room."""
    world = pooled(3, scaling=ManualSpec(min=1, max=4, nodes=1))
    for wanted, warm in ((1, 3), (2, 2), (4, 0), (3, 1)):
        quiet(world.scale(wanted), 20)
        assert Counter(world.states().values()) == Counter({ACTIVE: wanted, STANDBY: warm})
        assert len(world.nodes) == 3


def test_a_drained_node_goes_back_to_the_pool_that_lacks_one() -> None:
    """After the top, nothing is destroyed only to be started again."""
    world = pooled(1, scaling=ManualSpec(min=1, max=3, nodes=1))
    world.scale(3).wait(2).scale(2)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: DRAINING}
    world.sent.clear()
    quiet(world)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: STANDBY}
    assert not any(isinstance(command, cmd.StartNode | cmd.StopNode) for command in world.sent)
    drained = [entry for entry in world.log if entry.kind is cmd.Kind.DRAINED][-1]
    assert drained.reason.endswith("kept in the warm pool")
    assert world.consistent()


def test_a_drained_node_that_the_pool_does_not_need_goes() -> None:
    """It was filled meanwhile."""
    world = pooled().scale(2).wait(2)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: STANDBY}
    quiet(world.scale(1))
    assert world.states() == {1: ACTIVE, 3: STANDBY}


def test_a_node_that_an_operator_drained_goes() -> None:
    """They had a reason; another takes its place, and another that one's."""
    world = pooled().scale(2).wait(2).ask("web-2", ev.Verb.DRAIN)
    assert serving(world) == [1, 3]
    quiet(world)
    assert world.states() == {1: ACTIVE, 3: ACTIVE, 4: STANDBY}
    world.ask("web-4", ev.Verb.DRAIN).wait(2)
    assert "web-4" not in {n.name for n in world.group.nodes.values()} or len(world.nodes) == 2
    assert Counter(world.states().values()) == {ACTIVE: 2, STANDBY: 1}


def test_pins_of_a_node_that_is_kept_are_forgotten() -> None:
    """What it still had when it came back to the pool is nobody's."""
    world = pooled(1, pinning="learn", scaling=ManualSpec(min=1, max=3, nodes=1))
    world.scale(3).wait(2).scale(2)
    for _ in range(4):
        world.wait(1).poll(active_flows=0)
    assert world.states()[3] is STANDBY
    assert any(isinstance(c, cmd.DropPins) and c.index == 3 for c in world.sent)


def test_a_draining_node_is_taken_back_before_a_warm_one() -> None:
    """It has its flows still, and the pool stays as it is."""
    world = pooled().scale(2).wait(2).scale(1)
    assert world.states() == {1: ACTIVE, 2: DRAINING, 3: STANDBY}
    world.scale(2)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: STANDBY}
    world.scale(1).scale(3)
    assert serving(world) == [1, 2, 3]


def test_a_node_that_dies_is_replaced_at_once() -> None:
    """A warm node takes its place in the same step; back again, it fills the pool."""
    world = pooled().scale(2).wait(2)
    world.link(port_name(world.spec.zone, Index(2)), up=False)
    assert serving(world) == [1, 3]
    assert world.consistent()
    world.link(port_name(world.spec.zone, Index(2)), up=True).wait(2)
    assert Counter(world.states().values()) == {ACTIVE: 2, STANDBY: 1}
    assert serving(world) == [1, 3]


def test_the_primary_dies_without_a_secondary() -> None:
    """A warm node stands in for it in the same step; back again, the primary serves."""
    world = pooled()
    world.link("vm1", up=False)
    assert serving(world) == [2]
    assert world.group.primary == 2
    assert set(world.group.slots) == {2}
    answers = [f for f in world.installed.flows.values() if f.match.get("arp_tpa") == "10.0.0.10"]
    assert any("02:00:00:00:00:01" in repr(flow.actions) for flow in answers)
    world.link("vm1", up=True)
    assert world.group.primary == 1
    quiet(world, 40)
    assert world.states()[1] is ACTIVE
    assert Counter(world.states().values()) == {ACTIVE: 1, STANDBY: 1}
    assert world.consistent()


def test_a_warm_node_that_dies_is_replaced_in_the_pool() -> None:
    """Its link is watched, it is probed, and nobody notices."""
    world = pooled()
    world.link(port_name(world.spec.zone, Index(2)), up=False).wait(40)
    assert world.states() == {1: ACTIVE, 3: STANDBY}
    world.nodes["web-3"] = replace(world.nodes["web-3"], status=NodeStatus.BROKEN, detail="panic")
    world.wait(40)
    assert Counter(world.states().values()) == {ACTIVE: 1, STANDBY: 1}
    assert 3 not in world.states() or "panic" in str([entry.reason for entry in world.log])


def test_warm_nodes_are_probed() -> None:
    """One whose service stops to answer is no use in a surge."""
    http = HealthSpec.model_validate({"kind": "http", "source": "10.0.0.254", "fall": 2})
    world = up(pool=PoolSpec(warm=1), health=http)
    world.sent.clear()
    world.wait(1)
    node = world.group.nodes[Index(2)]
    world.group = replace(
        world.group, nodes={**world.group.nodes, node.index: replace(node, state=STANDBY)}
    )
    number = world.ports[node.port_name].number
    world.sent.clear()
    world.wait(5)
    assert any(isinstance(c, cmd.Transmit) and c.port == number for c in world.sent)


def test_a_restarted_controller_does_not_confuse_warm_and_draining() -> None:
    """Slots, drains and the pool are as they were; nothing is started, stopped or sent."""
    world = pooled(2, scaling=TargetSpec(min=1, max=6))
    world.scale(3).wait(2).scale(2)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: DRAINING, 4: STANDBY, 5: STANDBY}
    table, nodes = world.installed, dict(world.nodes)
    world.sent.clear()
    world.restarted().wait(3)
    assert world.states() == {1: ACTIVE, 2: ACTIVE, 3: DRAINING, 4: STANDBY, 5: STANDBY}
    assert world.group.wanted == 2
    assert world.installed == table
    assert world.nodes == nodes
    assert not any(isinstance(command, cmd.StartNode | cmd.StopNode) for command in world.sent)


def test_a_restart_in_the_middle_of_a_refill() -> None:
    """A node that was booting for the pool goes there; one beyond it into rotation."""
    world = pooled(1, scaling=TargetSpec(min=1, max=6)).scale(2).wait(2)
    world.restarted().wait(3)
    assert Counter(world.states().values()) == {ACTIVE: 2, STANDBY: 1}
    one = world.nodes["web-3"]
    zone = world.spec.zone
    port = port_name(zone, Index(4))
    world.nodes["web-4"] = replace(one, name="web-4", index=4, port=port, mac="02:53:00:00:00:04")
    world.ports[port] = ev.Port(44, port, "02:53:00:00:00:04", True)
    world.restarted().wait(3)
    assert Counter(world.states().values()) == {ACTIVE: 3, STANDBY: 1}
    assert world.consistent()


def test_a_warm_node_of_a_slow_start() -> None:
    """It warms up like any other: its share rises."""
    world = pooled(balance=BalanceSpec(ramp_s=50)).wait(60).scale(2)
    assert world.states()[2] is State.WARMING
    assert 0 < Counter(world.group.slots)[2] < 60
    world.wait(60)
    assert Counter(world.group.slots)[2] == 128


def test_policies_know_that_a_warm_node_needs_no_boot() -> None:
    """While one is ready there is no lead; else the measured one holds."""
    world = pooled()
    assert world.group.lead_s == 0.0
    assert world.group.boot_s is not None
    world.silent = True
    world.scale(2)
    assert world.group.lead_s == world.group.boot_s
    assert up().group.lead_s is None


def test_a_policy_that_sees_a_surge_takes_warm_nodes() -> None:
    """Not an operator, but load: the first poll that wants more nodes has them serving."""
    spec = TargetSpec(min=1, max=6, target=0.5, tolerance=0.0)
    world = pooled(2, scaling=spec, capacity=CapacitySpec(active_flows=100))
    world.silent = True
    before = world.now
    for _ in range(20):
        world.wait(1).poll(active_flows=90)
        if len(world.group.serving) > 1:
            break
    assert serving(world)[:2] == [1, 2]
    reasons = [entry for entry in world.log if "taken from the warm pool" in entry.reason]
    assert reasons[0].took_s == 0.0
    assert world.now - before <= 20


def test_a_smaller_pool_gives_back_what_is_too_much() -> None:
    """A reload with a smaller pool, or none, ends the nodes that nobody needs."""
    world = pooled(3)
    world.spec = configured(pool=PoolSpec(warm=1)).groups[0]
    world.give(ev.Respecified(world.spec)).wait(2)
    assert world.states() == {1: ACTIVE, 2: STANDBY}
    world.spec = configured().groups[0]
    world.give(ev.Respecified(world.spec)).wait(2)
    assert world.states() == {1: ACTIVE}
    assert not world.nodes


def test_what_is_paid_for_is_shown() -> None:
    """Status and metrics count warm nodes, and do not call them active."""
    world = pooled(2)
    shown = views.status("c", "1", [world.group], world.now)
    group = shown["groups"][0]
    assert (group["active"], group["wanted"], group["warm"], group["warm_wanted"]) == (1, 1, 2, 2)
    assert [node["state"] for node in group["nodes"]] == ["active", "standby", "standby"]
    page = metrics.render(shown)
    assert 'sncontroller_group_warm_nodes{group="web"} 2' in page
    assert 'sncontroller_group_nodes{group="web"} 3' in page
    assert 'node="web-2",role="secondary",state="standby"} 1' in page


def settled(world: World) -> None:
    """Left alone, the group has what is wanted, and the pool what it is to have."""
    world.errors.clear()
    for name in list(world.ports):
        if name in world.ports:
            world.link(name, up=True)
    world.ask("web-1", ev.Verb.UNDRAIN)
    for _ in range(30):
        world.wait(10, every=2).poll()


@settings(max_examples=25, deadline=None)
@given(st.lists(EVENTS, max_size=20), st.integers(0, 3))
def test_whatever_happens_to_a_group_with_a_pool(actions: list[tuple], warm: int) -> None:
    """The switch has what is wanted, warm nodes never own a slot, and no node serves unasked."""
    world = up(pool=PoolSpec(warm=warm))
    for action in actions:
        perform(world, action)
        assert world.consistent()
        assert world.owners() <= set(serving(world)) | world.leaving()
        assert not world.group.serving or world.group.slots
        if len(world.group.serving) < world.group.wanted:
            assert not world.group.standby


@settings(max_examples=10, deadline=None)
@given(st.lists(EVENTS, max_size=15), st.integers(1, 6), st.integers(0, 3))
def test_whatever_happened_the_pool_is_full_in_the_end(
    actions: list[tuple], wanted: int, warm: int
) -> None:
    """As many serve as are wanted, as many are warm as there is room for; none is left over."""
    world = up(pool=PoolSpec(warm=warm))
    for action in actions:
        perform(world, action)
    world.scale(wanted)
    settled(world)
    assert len(serving(world)) == wanted
    assert len(world.group.standby) == min(warm, 6 - wanted)
    assert set(world.nodes) == {n.name for n in world.group.nodes.values() if n.ours}
    assert len(world.nodes) == wanted - 1 + min(warm, 6 - wanted)
    assert world.consistent()


@pytest.mark.parametrize("warm", [0, 1, 3])
def test_a_group_that_leaves_leaves_no_warm_node(warm: int) -> None:
    """Dismissed as the controller does it: one node wanted, no pool."""
    world = up(pool=PoolSpec(warm=warm)).wait(2)
    alone = {"scaling": ManualSpec(min=1, max=1, nodes=1), "pool": PoolSpec()}
    world.spec = world.spec.model_copy(update=alone)
    quiet(world.give(ev.Respecified(world.spec)))
    assert not world.nodes
