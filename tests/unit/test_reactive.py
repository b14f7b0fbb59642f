"""The controller is asked for every flow: which node it gets, and what is known of its flows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core import reactive as reactive_core
from sncontroller.core.balance import BalanceSpec
from sncontroller.core.entries import EMPTY, Output, PopVlan, SetField
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import State
from sncontroller.core.load import CapacitySpec
from sncontroller.core.plan import Older
from sncontroller.core.scaling import ManualSpec
from sncontroller.core.turn import Turn
from tests.unit.world import World, up


def flow(nth: int, proto: int = 6) -> ev.FiveTuple:
    """The n-th flow of a client."""
    return ev.FiveTuple(proto, "10.0.0.101", "10.0.0.10", 1024 + nth, 80)


def reactive(kind: str = "round-robin", nodes: int = 3, **changes: Any) -> World:
    """A group that asks us, and its nodes."""
    spec = BalanceSpec.model_validate({"kind": kind})
    world = up(pinning="reactive", **{"balance": spec, **changes}).scale(nodes)
    assert sum(node.serving for node in world.group.nodes.values()) == nodes
    return world


def sent(
    world: World,
    nth: int,
    syn: bool = True,
    pinned: int | None = None,
    opening: int = 7,
    ending: bool = False,
) -> int | None:
    """A first packet comes; the node that its flow is pinned to."""
    world.sent.clear()
    old = None if pinned is None else Index(pinned)
    opens = opening if syn else None
    world.give(ev.NewFlow(7, world.spec.zone, flow(nth), 5, opens, old, b"frame", ending))
    pins = [command for command in world.sent if isinstance(command, cmd.AddPin)]
    assert len(pins) <= 1
    if not pins:
        return None
    (out,) = (a.port for a in pins[0].actions if isinstance(a, Output))
    (node,) = (n for n in world.group.nodes.values() if n.port is not None and n.port.number == out)
    assert pins[0].pin is None or pins[0].pin.cookie & 0xFFFF == node.index
    return int(node.index)


def polled(world: World, flows: dict[int, int], given: dict[int, int | None]) -> World:
    """Statistics: pins by node, and how many flows each had been given when they were counted."""
    zero = ev.NodeCounters(None, 0, 0, 0, 0, 0, None)
    nodes = {
        Index(i): zero._replace(active_flows=n, flows_given=given.get(i)) for i, n in flows.items()
    }
    return world.give(ev.Polled(7, world.spec.zone, world.now, nodes))


def test_a_slot_whose_node_went_while_the_switch_was_away() -> None:
    """The first packets come before the switch has been told; nobody gets those of that node."""
    world = reactive("even", nodes=2).give(ev.SwitchDown(7))
    world.nodes.clear()
    world.wait(60)
    assert 2 in world.owners() - world.group.nodes.keys()
    assert {sent(world, nth) for nth in range(40)} == {1}


def test_round_robin_gives_each_node_its_turn() -> None:
    """So many flows each, in turn."""
    world = reactive()
    assert [sent(world, nth) for nth in range(9)] == [1, 2, 3] * 3


def test_a_first_packet_that_comes_twice_is_one_flow() -> None:
    """SYNs that were repeated get the node of the first, and nobody loses a turn."""
    world = reactive()
    assert [sent(world, nth) for nth in (0, 0, 1, 0, 1, 2)] == [1, 1, 2, 1, 2, 3]
    world.wait(7)
    assert sent(world, 0) == 1
    assert dict(world.group.choices.given) == {1: 1, 2: 1, 3: 1}
    world.wait(2)
    assert [sent(world, nth) for nth in (3, 4, 5, 0)] == [1, 2, 3, 1]


def test_a_repeated_syn_writes_no_second_pin() -> None:
    """The connection may be over, and nothing would end the pin; a packet without one gets it."""
    world = reactive()

    def pinned(**how: Any) -> bool:
        sent(world, 0, **how)
        return next(c for c in world.sent if isinstance(c, cmd.AddPin)).pin is not None

    assert pinned()
    assert not pinned()
    assert pinned(syn=False)
    assert pinned(opening=8)
    assert not pinned(syn=False, ending=True)


def test_a_connection_that_ends_takes_no_turn_and_gets_no_pin() -> None:
    """A late FIN goes to some node, which resets it, and is not a new flow."""
    world = reactive()
    assert sent(world, 0, syn=False, ending=True) == 1
    assert not any(isinstance(c, cmd.AddPin) and c.pin for c in world.sent)
    assert not world.group.choices.given


def test_a_port_that_is_used_again_is_another_flow() -> None:
    """A SYN with another sequence number is no repetition; a data packet belongs to the last."""
    world = reactive()
    assert [sent(world, 0, opening=n) for n in (7, 8, 8, 9)] == [1, 2, 2, 3]
    assert sent(world, 0, syn=False) == 3


def test_the_first_packet_goes_straight_to_the_node() -> None:
    """Also before its entries are on the switch; a VLAN's tag is stripped."""
    tagged = up().spec.match.model_copy(update={"vlan": 7})
    for match, strip in ((up().spec.match, ()), (tagged, (PopVlan(),))):
        world = reactive(match=match)
        node = world.group.nodes[Index(1)]
        sent(world, 0)
        pin = next(c for c in world.sent if isinstance(c, cmd.AddPin))
        assert pin.actions == (*strip, SetField("eth_dst", node.mac), Output(1))
        assert (pin.in_port, pin.frame) == (5, b"frame")


def test_a_node_without_a_port_gets_no_pin() -> None:
    """It cannot be; but a packet never goes to nowhere."""
    world = reactive(nodes=1)
    node = replace(world.group.nodes[Index(1)], port=None)
    group = replace(world.group, nodes={Index(1): node})
    turn = Turn(group, world.now)
    reactive_core.new_flow(turn, ev.NewFlow(7, world.spec.zone, flow(0), 5, 1, None, b""))
    assert not turn.commands


def test_a_repeated_packet_whose_node_died_goes_elsewhere() -> None:
    """What was chosen just now holds only while that node serves."""
    world = reactive()
    assert sent(world, 0) == 1
    world.link("vm1", up=False)
    assert sent(world, 0) in (2, 3)


@pytest.mark.parametrize("kind", ["round-robin", "least-connections", "even"])
def test_draining_and_failed_nodes_get_no_new_flow(kind: str) -> None:
    """Also not one that comes again on the pin of an old connection."""
    world = reactive(kind, nodes=4)
    world.ask("web-2", ev.Verb.DRAIN).link(world.group.nodes[Index(3)].port_name, up=False)
    serving = {int(node.index) for node in world.group.serving}
    assert not serving & {2, 3}
    assert {sent(world, nth, pinned=2) for nth in range(40)} <= serving


def test_with_nobody_left_a_draining_node_takes_flows() -> None:
    """Better a node on its way out than none."""
    world = reactive(nodes=1, hypervisor=None).ask("web-1", ev.Verb.DRAIN)
    assert sent(world, 0) == 1


def test_nobody_serves() -> None:
    """Without a node there is no pin, and the flow takes no turn."""
    world = reactive(nodes=1, hypervisor=None).link("vm1", up=False)
    assert sent(world, 0) is None
    assert not world.group.choices.given


def test_least_connections_goes_by_the_switchs_count() -> None:
    """What ended is known by the next poll; what was given meanwhile is counted on top."""
    world = reactive("least-connections")
    assert [sent(world, nth) for nth in range(6)] == [1, 2, 3, 1, 2, 3]
    polled(world, {1: 2, 2: 0, 3: 1}, {1: 2, 2: 2, 3: 1})
    assert {i: world.group.choices.flows(Index(i)) for i in (1, 2, 3)} == {1: 2, 2: 0, 3: 2}
    assert [sent(world, nth) for nth in range(6, 8)] == [2, 2]


def test_least_connections_goes_on_after_a_restart() -> None:
    """A controller that knows nothing learns from the switch's pins how many each node has."""
    world = reactive("least-connections", scaling=ManualSpec(min=1, max=6, nodes=3))
    for nth in range(30):
        sent(world, nth)
    world.restarted()
    assert not world.group.choices.given
    polled(world, {1: 10, 2: 4, 3: 10}, {})
    went = Counter(sent(world, nth) for nth in range(100, 112))
    assert went == {1: 2, 2: 8, 3: 2}


def test_connections_older_than_us_are_the_primarys_after_a_restart_too() -> None:
    """The switch knows that they are; later, one without a pin has lost it, and is its slot's."""
    world = reactive("even", nodes=3)
    world.restarted()
    assert [sent(world, nth, syn=False) for nth in range(12)] == [1] * 12
    world.wait(7300, every=100.0).restarted()
    assert {sent(world, nth, syn=False) for nth in range(100, 140)} == {1, 2, 3}
    assert world.consistent()


def test_slots_are_as_before_after_a_restart() -> None:
    """Nobody but the switch knows whose slot is whose; its buckets name no node, but its port."""
    world = reactive("even", nodes=4).scale(3).wait(20).scale(4)
    slots, went = world.group.slots, [sent(world, nth) for nth in range(50)]
    table = world.installed
    world.restarted()
    assert (world.group.slots, world.installed) == (slots, table)
    world.wait(60)
    assert [sent(world, nth) for nth in range(50)] == went


def test_a_reply_that_is_missing_changes_no_count() -> None:
    """Nor does a node that is not ours to know."""
    world = reactive("least-connections")
    sent(world, 0)
    zero = ev.NodeCounters(None, None, None, None, None, None, None)
    poll = ev.Polled(7, world.spec.zone, world.now, {Index(1): zero, Index(99): zero})
    world.give(poll)
    assert world.group.choices.flows(Index(1)) == 1
    polled(world, {99: 5}, {})
    assert Index(99) not in world.group.choices.counts


def test_a_node_of_a_number_that_is_used_again_begins_without_flows() -> None:
    """What the last node of that number was given is not the new one's."""
    world = reactive("least-connections", nodes=2)
    for nth in range(20):
        sent(world, nth)
    world.scale(1).wait(2)
    for _ in range(2):
        polled(world, {1: 10, 2: 0}, {1: 10, 2: 10}).wait(3)
    assert world.states() == {1: State.ACTIVE}
    assert any(isinstance(c, cmd.DropPins) and c.index == 2 for c in world.sent)
    world.scale(2)
    assert world.group.choices.flows(Index(2)) == 0
    assert [sent(world, nth) for nth in range(30, 40)] == [2] * 10


def test_a_new_node_of_least_connections_starts_slowly() -> None:
    """In its ramp it is filled as far as its weight says."""
    slow = BalanceSpec.model_validate({"kind": "least-connections", "ramp_s": 50})
    world = reactive(nodes=1, balance=slow).wait(60)
    for nth in range(20):
        sent(world, nth)
    polled(world, {1: 20}, {1: 20}).scale(2)
    assert world.states()[2] is State.WARMING
    went = Counter(sent(world, nth) for nth in range(100, 106))
    assert went == {2: 4, 1: 2}


def test_weights_count_in_turns() -> None:
    """A node of weight 2 has two turns."""
    twice = BalanceSpec.model_validate({"kind": "round-robin", "weights": {2: 2}})
    world = reactive(balance=twice)
    assert Counter(sent(world, nth) for nth in range(40)) == {1: 10, 2: 20, 3: 10}


def test_connections_that_began_before_us_are_the_primarys() -> None:
    """Unless the switch forgot its pins, the primary is gone, or it is an old pin's."""
    world = reactive(nodes=2)
    assert {sent(world, nth, syn=False) for nth in range(6)} == {1}
    assert sent(world, 10, syn=False, pinned=2) is not None
    world.group = replace(world.group, older=Older.SLOTS)
    assert {sent(world, nth, syn=False) for nth in range(20, 26)} == {1, 2}
    world = reactive(nodes=2).link("vm1", up=False)
    assert {sent(world, nth, syn=False) for nth in range(6)} <= {2, 3}
    world.group = replace(world.group, nodes={i: n for i, n in world.group.nodes.items() if i > 1})
    assert {sent(world, nth, syn=False) for nth in range(10, 16)} <= {2, 3}


def test_new_flows_are_measured_by_what_was_given_away() -> None:
    """No entry of the switch counts them, so a capacity in new flows works with our own count."""
    world = reactive(nodes=2, capacity=CapacitySpec(new_flows_per_s=10))
    polled(world, {1: 0, 2: 0}, {})
    for nth in range(20):
        sent(world, nth)
    world.wait(1)
    polled(world, {1: 10, 2: 10}, {1: 10, 2: 10})
    load = world.group.nodes[Index(2)].load
    assert load is not None
    assert (load.value, load.signal) == (1.0, "new_flows_per_s")


def test_other_pinnings_are_polled_as_before() -> None:
    """Their switch counts new flows itself."""
    world = up().scale(2).poll()
    assert not world.group.choices.counts


def test_a_switch_that_forgot_everything_is_asked_anew() -> None:
    """Turns go on; the counts are what the switch says."""
    world = reactive("least-connections")
    for nth in range(9):
        sent(world, nth)
    world.give(ev.SwitchDown(7))
    world.installed = EMPTY
    world.connect()
    polled(world, {1: 0, 2: 0, 3: 0}, {})
    assert [world.group.choices.flows(Index(i)) for i in (1, 2, 3)] == [0, 0, 0]
