"""The state machine of a group against a simulated switch and hypervisor."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.balance import BalanceKind, BalanceSpec
from sncontroller.core.entries import EMPTY
from sncontroller.core.group import located
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Index, node_mac, port_name
from sncontroller.core.lifecycle import State
from sncontroller.core.load import CapacitySpec
from sncontroller.core.model import PrimarySpec
from sncontroller.core.plan import Older
from sncontroller.core.scaling import ManualSpec
from tests.unit.world import World, configured, up


def serving(world: World) -> list[int]:
    """The indexes of the nodes that take flows."""
    return [int(node.index) for node in world.group.serving]


def test_the_primary_serves_as_soon_as_its_port_is_there() -> None:
    """A connected switch with the primary's port is enough: it is in rotation at once."""
    world = up()
    assert world.states() == {1: State.ACTIVE}
    assert Counter(world.group.slots) == {1: 256}
    assert world.consistent()


def test_nothing_is_installed_without_the_primary_port() -> None:
    """Traffic must flow as before while the primary is not there."""
    world = World()
    world.ports.clear()
    world.connect()
    assert not any(
        flow.actions and flow.cookie >> 32 & 0xFFFF == 1 for flow in world.installed.flows.values()
    )
    assert not world.installed.groups


def test_scaling_out_spreads_slots_evenly_and_moves_the_fewest() -> None:
    """Three more nodes take exactly their quarters, and nothing else moves."""
    world = up().scale(4)
    assert serving(world) == [1, 2, 3, 4]
    assert sorted(Counter(world.group.slots).values()) == [64, 64, 64, 64]
    assert world.consistent()


def test_scaling_in_drains_the_youngest_and_waits_for_its_flows() -> None:
    """A draining node keeps its pinned flows and goes only when they are quiet."""
    world = up().scale(3).scale(2)
    assert world.states()[3] is State.DRAINING
    assert 3 not in world.owners()
    for packets in range(1, 30):
        world.wait(1).poll({3: packets})
    assert world.states()[3] is State.DRAINING
    for _ in range(12):
        world.wait(1).poll({3: 29})
    assert 3 not in world.states()
    assert set(world.nodes) == {"web-2"}
    assert world.consistent()


def test_a_drain_ends_at_its_deadline() -> None:
    """Flows that never end do not keep a node for ever."""
    world = up().scale(2).scale(1)
    for packets in range(1, 120):
        world.wait(1).poll({2: packets})
    assert world.states() == {1: State.ACTIVE}
    assert any("deadline" in entry.reason for entry in world.log)


def test_exact_flow_counts_end_a_drain_at_once() -> None:
    """Where the pinning counts flows, zero of them is the end."""
    world = up().scale(2).scale(1)
    world.wait(2).poll({2: 5}, active_flows=3).wait(1)
    assert world.states()[2] is State.DRAINING
    world.wait(1).poll({2: 5}, active_flows=0).wait(1)
    assert 2 not in world.states()


def test_a_wanted_node_is_undrained_rather_than_started() -> None:
    """Load that comes back takes the draining node back."""
    world = up().scale(3).scale(2).scale(3)
    assert serving(world) == [1, 2, 3]
    assert cmd.Kind.UNDRAINED in world.kinds()
    assert len(world.nodes) == 2


def test_an_operators_drain_is_not_undone_by_the_policy() -> None:
    """The policy replaces a node that an operator drained; it does not take it back."""
    world = up().scale(2).ask("web-2", ev.Verb.DRAIN)
    assert world.states()[2] is State.DRAINING
    assert world.states()[3] is State.ACTIVE
    world.ask("web-2", ev.Verb.UNDRAIN)
    assert world.states()[2] is State.ACTIVE


def test_fail_reselects_at_once_and_replaces() -> None:
    """A node called dead loses slots and pins in the same step; another takes its place."""
    world = up().scale(2).ask("web-2", ev.Verb.FAIL)
    assert world.owners() == {1, 3} or world.owners() == {1, 2}
    assert cmd.Kind.FAILED in world.kinds()
    assert len(world.nodes) == 1
    assert world.consistent()


def test_a_dead_link_takes_a_node_out_and_a_live_one_brings_it_back() -> None:
    """The port's state is a hard fact, in both directions."""
    world = up().scale(2)
    world.link(port_name(world.spec.zone, Index(2)), up=False)
    assert world.states()[2] is State.FAILED
    assert 2 not in world.owners()
    world.link(port_name(world.spec.zone, Index(2)), up=True).wait(1)
    assert 2 in world.owners()


def test_a_failed_node_that_stays_away_is_replaced_and_destroyed() -> None:
    """Its replacement starts at once, its remains go after a while."""
    world = up().scale(2)
    world.link(port_name(world.spec.zone, Index(2)), up=False)
    assert 3 in world.owners()
    world.wait(40)
    assert set(world.nodes) == {"web-3"}
    assert world.consistent()


def test_the_primary_dies_and_the_address_lives_on() -> None:
    """A secondary stands in at once: the switch answers ARP with the address clients know."""
    world = up().scale(2).link("vm1", up=False)
    assert world.owners() == {2, 3}
    assert world.group.primary != 1
    answers = [f for f in world.installed.flows.values() if f.match.get("arp_tpa") == "10.0.0.10"]
    assert any("02:00:00:00:00:01" in repr(flow.actions) for flow in answers)
    world.link("vm1", up=True).wait(1)
    assert world.group.primary == 1
    assert world.consistent()


@pytest.mark.parametrize("arp", ["primary", "switch"])
def test_a_primary_that_does_not_preempt_joins_as_a_secondary(arp: str) -> None:
    """It gets flows again, another stands for the address, and a restart changes nothing of it."""
    primary = {"port": "vm1", "mac": "02:00:00:00:00:01", "preempt": False}
    world = up(primary=PrimarySpec.model_validate(primary), arp=arp).scale(2)
    world.link("vm1", up=False)
    heir = world.group.primary
    world.link("vm1", up=True).wait(1)
    assert world.states()[1] is State.ACTIVE
    assert 1 in world.owners()
    assert world.group.primary == heir != 1
    answers = [f for f in world.installed.flows.values() if f.match.get("arp_tpa") == "10.0.0.10"]
    assert answers
    world.restarted()
    assert world.group.primary == (heir if arp == "primary" else 1)
    world.link(port_name(world.spec.zone, heir), up=False).wait(1)
    assert world.group.primary != heir
    assert world.consistent()


def test_draining_nodes_serve_when_nobody_else_is_left() -> None:
    """Better a node on its way out than none."""
    world = up(hypervisor=None).ask("web-1", ev.Verb.DRAIN)
    assert world.states() == {1: State.ACTIVE}
    world.link("vm1", up=False).link("vm1", up=True).wait(1)
    assert world.states() == {1: State.ACTIVE}  # it was not said to be dead


def test_a_transient_error_is_tried_again_and_a_permanent_one_is_not() -> None:
    """The hypervisor's two kinds of failure have two defined ends."""
    world = up()
    world.errors = [("busy", False), ("busy", False)]
    world.scale(2)
    assert world.states()[2] is State.REQUESTED
    world.wait(10)
    assert world.states()[2] is State.ACTIVE
    world.errors = [("no such image", True)]
    world.scale(3).wait(2)
    assert 3 not in world.states()
    assert "no such image" in [e for e in world.log if e.kind is cmd.Kind.PLUGIN_ERROR][-1].reason
    world.wait(70)
    assert world.states()[3] is State.ACTIVE


def test_a_restarted_controller_takes_up_the_group_where_it_was() -> None:
    """Slots, drains and nodes come from the switch; nothing is sent that is there already."""
    world = up().scale(4).scale(3)
    table, slots, nodes = world.installed, world.group.slots, dict(world.nodes)
    world.restarted()
    assert world.group.slots == slots
    assert world.states() == {
        1: State.ACTIVE,
        2: State.ACTIVE,
        3: State.ACTIVE,
        4: State.DRAINING,
    }
    assert world.installed == table
    assert world.nodes == nodes


def test_a_restarted_controller_finds_nodes_that_were_still_starting() -> None:
    """A node that the hypervisor has and the switch does not know yet is not started twice."""
    world = up()
    zone = world.spec.zone
    info = NodeInfo(
        "web-2", 2, port_name(zone, Index(2)), node_mac(zone, Index(2)), NodeStatus.RUNNING
    )
    world.nodes["web-2"] = info
    world.restarted()
    assert world.states()[2] is State.BOOTING
    world.ports[info.port] = ev.Port(2, info.port, info.mac, True)
    world.give(ev.PortSeen(7, world.ports[info.port]))
    assert serving(world) == [1, 2]


PROTOCOLS = [("tcp",), ("udp",), ("tcp", "udp")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pinning", ["conntrack", "learn", "reactive"])
def test_an_operators_drain_survives_a_restart(pinning: str, protocol: tuple[str, ...]) -> None:
    """Whatever the pinning and the protocol: also where nodes are missing it is not taken back."""
    match = up().spec.match.model_copy(update={"protocol": protocol})
    world = up(pinning=pinning, match=match).scale(3).wait(3)
    world.errors = [("no room", True)] * 9
    world.ask("web-3", ev.Verb.DRAIN).wait(2)
    assert world.states()[3] is State.DRAINING
    world.errors = [("no room", True)] * 9
    table, slots = world.installed, world.group.slots
    world.restarted().wait(1)
    assert (world.installed, world.group.slots) == (table, slots)
    world.scale(3)
    assert world.states()[3] is State.DRAINING
    assert 3 not in world.owners()
    world.ask("web-3", ev.Verb.UNDRAIN).restarted()
    assert world.states()[3] is State.ACTIVE


def test_a_drain_of_the_policy_is_still_the_policys_after_a_restart() -> None:
    """The load comes back after the restart: so does the node that drains."""
    world = up().scale(3).scale(2).restarted()
    assert world.states()[3] is State.DRAINING
    world.scale(3)
    assert world.states()[3] is State.ACTIVE
    assert set(world.nodes) == {"web-2", "web-3"}


def test_a_deadline_goes_on_through_restarts() -> None:
    """However often the controller starts anew: the drain ends when it was to end."""
    world = up().scale(2).scale(1)
    for packets in range(1, 98):
        world.wait(1).poll({2: packets})
        if packets % 20 == 0:
            world.restarted()
    assert world.states()[2] is State.DRAINING
    for packets in range(98, 103):
        world.wait(1).poll({2: packets})
    assert world.states() == {1: State.ACTIVE}
    assert [e.took_s for e in world.log if e.kind is cmd.Kind.DRAINED] == [100.0]


def test_a_new_specification_tries_again_at_once() -> None:
    """After a permanent error the operator mends the section: no pause is left from before."""
    world = up()
    world.errors = [("no such image", True)]
    world.scale(2).wait(2)
    assert world.states() == {1: State.ACTIVE}
    world.give(ev.Respecified(world.spec)).wait(2)
    assert 2 in world.states()


def test_a_half_made_node_is_destroyed() -> None:
    """What the hypervisor calls broken goes, and is not counted."""
    world = up()
    world.nodes["web-2"] = NodeInfo("web-2", 2, "x", "y", NodeStatus.BROKEN, "no disk")
    world.restarted()
    assert not world.nodes
    assert world.states() == {1: State.ACTIVE}


def test_a_node_that_vanished_is_replaced() -> None:
    """A node the hypervisor no longer has is dead, whatever its port says."""
    world = up().scale(2).wait(1)
    world.nodes.clear()
    world.wait(40)
    assert len(world.nodes) == 1
    assert world.consistent()


def test_a_switch_that_forgot_everything_gets_everything_back() -> None:
    """After the daemon's restart the same slots return; orphaned connections follow their slot."""
    world = up().scale(3)
    slots = world.group.slots
    world.give(ev.SwitchDown(7))
    world.installed = EMPTY
    world.connect()
    assert world.group.slots == slots
    assert world.group.older is Older.SLOTS
    assert world.consistent()


@pytest.mark.parametrize("pinning", ["conntrack", "learn", "reactive"])
def test_what_an_operator_failed_stays_out_after_a_restart(pinning: str) -> None:
    """The switch remembers it; it comes back when the operator says so."""
    world = up(pinning=pinning).scale(3).wait(60).ask("web-1", ev.Verb.FAIL).wait(60)
    assert world.states()[1] is State.FAILED
    world.restarted().wait(60)
    assert world.states() == {1: State.FAILED, **dict.fromkeys((2, 3, 4), State.ACTIVE)}
    assert world.owners() == {2, 3, 4}
    assert world.consistent()
    world.ask("web-1", ev.Verb.UNDRAIN).wait(60)
    assert world.states()[1] is State.ACTIVE
    world.restarted().wait(60)
    assert world.states()[1] is State.ACTIVE
    assert 1 in world.owners()


def test_a_switch_that_was_attached_again_brings_connections_of_the_primary() -> None:
    """What it took up while it was without us went to the primary; nobody else had a slot."""
    world = up().scale(3).scale(1).wait(400)
    world.give(ev.SwitchDown(7))
    world.installed = EMPTY
    world.wait(90_000, every=1000.0)
    world.connect()
    assert world.group.older is Older.PRIMARY
    world.scale(3)
    assert world.group.older is Older.PRIMARY
    assert world.consistent()


@pytest.mark.parametrize(("pinning", "for_s"), [("conntrack", 86_400), ("learn", 7200)])
def test_older_connections_are_waited_for_until_they_would_be_forgotten(
    pinning: str, for_s: int
) -> None:
    """After so long without a packet a connection that began before us is no connection."""
    world = up(pinning=pinning)
    world.wait(for_s - 10, every=1000.0)
    assert world.group.older is Older.PRIMARY
    world.wait(10)
    assert world.group.older is Older.SLOTS
    assert world.consistent()


def test_nothing_is_started_before_the_hypervisor_was_heard() -> None:
    """A controller that does not know what exists must not make a second set."""
    world = World()
    world.silent = True
    world.connect().scale(4).wait(30)
    assert not any(isinstance(command, cmd.StartNode) for command in world.sent)


def test_a_refused_table_is_sent_again() -> None:
    """What the switch refused is wanted still."""
    world = up()
    world.give(ev.Refused(7, world.spec.zone, world.group.version, "somebody has it"))
    version = world.group.version
    world.wait(10)
    assert world.group.version > version
    assert cmd.Kind.REFUSED in world.kinds()


def test_reactive_flows_follow_the_slots_and_older_ones_the_primary() -> None:
    """Each new flow gets a pin of its own; mid-stream packets belong to the primary."""
    world = up(pinning="reactive").scale(4)
    seen = set()
    for port in range(1024, 1224):
        for syn in (True, False):
            flow = ev.FiveTuple(6, f"10.0.0.{1 + syn}", "10.0.0.10", port, 80)
            world.give(ev.NewFlow(7, world.spec.zone, flow, 5, 1 if syn else None, None, b""))
            pin = world.sent[-1]
            assert isinstance(pin, cmd.AddPin)
            owner = pin.pin.cookie & 0xFFFF
            seen.add(owner)
            assert syn or owner == 1
    assert seen == {1, 2, 3, 4}


def test_a_slow_start_raises_the_weight_step_by_step() -> None:
    """A warming node gets a growing share, and is active at the end of its ramp."""
    world = up(balance=BalanceSpec(ramp_s=50)).wait(60).scale(2)
    shares = []
    for _ in range(6):
        shares.append(Counter(world.group.slots)[2])
        world.wait(10)
    assert world.states()[2] is State.ACTIVE
    assert shares == sorted(shares)
    assert 0 < shares[0] < 60
    assert shares[-1] == 128


def test_a_node_without_a_port_is_given_up_at_its_deadline() -> None:
    """A hypervisor that says yes and gives no port does not block the group for ever."""
    world = up()
    world.portless = True
    world.scale(2).wait(305)
    assert any("its port did not come up" in entry.reason for entry in world.log)


def test_a_port_that_goes_away_is_a_dead_link() -> None:
    """A removed port takes its node out at once."""
    world = up().scale(2)
    port = world.ports.pop(port_name(world.spec.zone, Index(2)))
    world.give(ev.PortGone(7, port))
    assert world.states()[2] is State.FAILED
    assert "port is gone" in world.group.nodes[Index(2)].reason


def test_a_list_that_fails_is_asked_for_again() -> None:
    """The hypervisor's API being down is said once, and tried with growing pauses."""
    world = World()
    world.silent = True
    world.connect()
    for _ in range(4):
        world.give(
            ev.HypervisorResult(world.spec.zone, ev.Call.LIST, None, (), "down", False, 0.1)
        ).wait(20)
    assert world.kinds().count(cmd.Kind.PLUGIN_ERROR) == 1
    world.silent = False
    world.give(
        ev.HypervisorResult(world.spec.zone, ev.Call.LIST, None, (), "down", False, 0.1)
    ).wait(40)
    assert world.group.settled


def test_a_stop_that_fails_is_tried_again() -> None:
    """Nothing that we created is left behind because one call failed."""
    world = up().scale(2)
    world.silent = True
    world.ask("web-2", ev.Verb.FAIL)
    world.give(ev.HypervisorResult(world.spec.zone, ev.Call.STOP, "web-2", (), "busy", True, 0.1))
    assert world.states()[2] is State.GONE
    world.silent = False
    world.wait(5)
    assert "web-2" not in world.nodes


def test_results_of_calls_nobody_waits_for_are_ignored() -> None:
    """A late or repeated result changes nothing."""
    world = up().scale(2)
    nodes = world.group.nodes
    for name in ("web-2", "web-9"):
        world.give(ev.HypervisorResult(world.spec.zone, ev.Call.START, name, (), None, False, 1))
    assert world.group.nodes == nodes


def test_a_broken_node_that_does_not_serve_is_destroyed() -> None:
    """The hypervisor calls a booting node broken: it goes, and another comes."""
    world = up()
    world.portless = True
    world.scale(2)
    info = world.nodes["web-2"]
    world.nodes["web-2"] = replace(info, status=NodeStatus.BROKEN, detail="kernel panic")
    world.portless = False
    world.wait(40)
    assert any("kernel panic" in entry.reason for entry in world.log)
    assert len(serving(world)) == 2


def test_asking_for_what_is_not_there_changes_nothing() -> None:
    """An unknown node's name is nobody's."""
    world = up()
    nodes = world.group.nodes
    world.ask("web-7", ev.Verb.FAIL)
    assert world.group.nodes == nodes


def test_learn_and_reactive_forget_the_pins_of_a_node_that_is_gone() -> None:
    """Per-flow entries do not outlive their node."""
    world = up(pinning="learn").scale(2).scale(1)
    world.wait(1).poll(active_flows=0).wait(2).poll(active_flows=0).wait(2)
    assert any(isinstance(c, cmd.DropPins) and c.index == 2 for c in world.sent)


def test_reactive_flows_wait_while_nobody_serves() -> None:
    """Without a node there is no pin to give."""
    world = up(pinning="reactive", hypervisor=None).link("vm1", up=False)
    world.sent.clear()
    flow = ev.FiveTuple(17, "10.0.0.1", "10.0.0.10", 1, 80)
    world.give(ev.NewFlow(7, world.spec.zone, flow, 5, None, None, b""))
    assert not any(isinstance(command, cmd.AddPin) for command in world.sent)


def test_a_group_is_found_by_its_bridge_or_its_primarys_port() -> None:
    """Either names the switch."""
    switch = ev.SwitchUp(7, "br0", (), {})
    assert located(World(bridge="br0").group, switch)
    assert not located(World(bridge="br1").group, switch)
    assert not located(World().group, switch)
    assert located(World().group, replace(switch, ports=tuple(World().ports.values())))


def test_a_group_whose_primary_has_no_port_is_found_by_its_entries() -> None:
    """A primary that is dead may have lost its port; whoever took over is looked after."""
    world = up().scale(2).poll()
    world.give(ev.PortGone(7, world.ports.pop("vm1")))
    holding = ev.SwitchUp(7, "br0", tuple(world.ports.values()), {world.spec.zone: world.installed})
    assert located(world.group, holding)
    assert located(World().group, holding)
    assert not located(World().group, replace(holding, installed={}))
    assert not located(world.group, replace(holding, datapath=8)), "it is elsewhere"
    world.restarted()
    assert (world.states()[2], world.group.primary) == (State.ACTIVE, 2)
    assert world.consistent()


def test_a_changed_specification_is_applied_in_place() -> None:
    """A reload with another ceiling scales in without touching the rest."""
    world = up().scale(4).scale(None)
    world.spec = configured(scaling=ManualSpec(min=1, max=2, nodes=2)).groups[0]
    world.give(ev.Respecified(world.spec))
    assert len(serving(world)) == 2
    assert cmd.Kind.RELOADED in world.kinds()


EVENTS = st.one_of(
    st.builds(lambda n: ("scale", n), st.integers(1, 6)),
    st.builds(lambda n, v: ("ask", n, v), st.integers(1, 6), st.sampled_from(list(ev.Verb))),
    st.builds(lambda n, u: ("link", n, u), st.integers(1, 6), st.booleans()),
    st.builds(lambda n: ("wait", n), st.integers(1, 30)),
    st.builds(lambda n: ("error", n), st.booleans()),
    st.just(("restart",)),
    st.just(("forget",)),
    st.just(("poll",)),
)


def perform(world: World, action: tuple) -> None:
    """One thing that happens to a group."""
    match action:
        case ("scale", n):
            world.scale(n)
        case ("ask", n, verb):
            world.ask(f"web-{n}", verb)
        case ("link", n, is_up):
            name = "vm1" if n == 1 else port_name(world.spec.zone, Index(n))
            if name in world.ports:
                world.link(name, is_up)
        case ("wait", n):
            world.wait(n)
        case ("error", permanent):
            world.errors.append(("no", permanent))
        case ("restart",):
            world.restarted()
        case ("forget",):
            world.give(ev.SwitchDown(7))
            world.installed = EMPTY
            world.connect()
        case ("poll",):
            world.poll()


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=25))
def test_whatever_happens_the_switch_has_what_the_state_wants(actions: list[tuple]) -> None:
    """After any history the switch has what a fresh computation wants; all slots have owners."""
    world = up()
    for action in actions:
        perform(world, action)
        assert world.consistent()
        assert world.owners() <= set(serving(world)) | world.leaving()
        assert len(world.group.slots) in (0, 256)
        assert len(serving(world)) == 0 or world.group.slots


@settings(max_examples=25, deadline=None)
@given(st.lists(EVENTS, max_size=15), st.integers(1, 6))
def test_whatever_happened_the_wanted_number_is_reached_in_the_end(
    actions: list[tuple], wanted: int
) -> None:
    """Left alone with working parts, the group has as many serving nodes as are wanted."""
    world = up()
    for action in actions:
        perform(world, action)
    world.errors.clear()
    for name in list(world.ports):
        world.link(name, up=True)
    world.ask("web-1", ev.Verb.UNDRAIN).scale(wanted)
    for _ in range(25):
        world.wait(10, every=2).poll()
    assert len(serving(world)) == wanted
    assert set(world.nodes) == {n.name for n in world.group.nodes.values() if n.ours}
    assert world.consistent()


@pytest.mark.parametrize("seed", range(20))
def test_repeated_and_shuffled_observations_end_in_the_same_state(seed: int) -> None:
    """Ports and ticks in any order, any number of times, lead to the same table."""
    world = up().scale(4)
    table = world.installed
    events = [ev.PortSeen(7, port) for port in world.ports.values()] * 3 + [ev.Tick()] * 5
    random.Random(seed).shuffle(events)
    for event in events:
        world.give(event)
    assert world.installed == table


def test_a_calm_group_leaves_the_rest_to_the_next_look() -> None:
    """Nothing can follow from a tick, an answer or counters while every node serves and answers."""
    world = up().scale(3).wait(5)
    world.poll()
    looked_s = world.group.looked_s
    assert world.group.calm
    world.wait(0.5, every=0.1)
    world.poll({1: 100})
    assert world.group.looked_s == looked_s
    world.wait(6)
    assert world.group.looked_s > looked_s


def test_a_group_that_is_not_calm_is_looked_at_each_time() -> None:
    """A node whose link is down has deadlines."""
    world = up().scale(3).wait(5)
    world.link(next(name for name in world.ports if name != "vm1"), up=False)
    world.wait(0.1, every=0.1)
    assert not world.group.calm
    assert world.group.looked_s == world.now
    world.now += 0.1
    world.poll()
    assert world.group.looked_s == world.now


def test_a_poll_that_moves_slots_is_looked_at() -> None:
    """Weights that follow loads change with the counters, however calm the nodes are."""
    world = up(balance=BalanceSpec(kind=BalanceKind.LEAST_LOAD)).scale(3).wait(5)
    world.now += 0.1
    world.poll()
    assert world.group.calm
    assert world.group.looked_s == world.now


def test_a_new_capacity_counts_at_once() -> None:
    """The load is what the new specification makes of the rates, not what the old one did."""
    world = up(capacity=CapacitySpec(packets_per_s=1000))
    world.wait(1).poll({1: 0}).wait(1).poll({1: 500})
    before = world.group.nodes[1].load
    assert before is not None
    spec = world.spec.model_copy(update={"capacity": CapacitySpec(packets_per_s=100)})
    world.give(ev.Respecified(spec))
    after = world.group.nodes[1].load
    assert after is not None
    assert after.value == pytest.approx(10 * before.value)
