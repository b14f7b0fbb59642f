"""Verbs that change nothing, and the ends of what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.group import due_s
from sncontroller.core.layout import MAX_INDEX, Index, port_name
from sncontroller.core.lifecycle import State
from tests.unit.world import World, up


def draining(world: World) -> World:
    """The world with its second node draining, one flow on it."""
    return world.scale(2).wait(1).scale(1).poll({2: 1})


@pytest.mark.parametrize(
    ("state", "verb"),
    [(State.DRAINING, ev.Verb.DRAIN), (State.ACTIVE, ev.Verb.UNDRAIN), (State.GONE, ev.Verb.FAIL)],
)
def test_a_verb_that_a_state_does_not_know_changes_nothing(state: State, verb: ev.Verb) -> None:
    """Neither the node nor the log; draining twice does not begin the drain anew."""
    world = up()
    world = draining(world) if state is State.DRAINING else world.scale(2)
    if state is State.GONE:
        world.silent = True
        world.ask("web-2", ev.Verb.FAIL)
    assert world.states()[2] is state
    node, log = world.group.nodes[Index(2)], world.group.log
    world.now += 3
    world.ask("web-2", verb)
    after = world.group.nodes[Index(2)]
    assert (after.state, after.since_s, after.asked) == (state, node.since_s, node.asked)
    assert world.group.log == log


def test_a_group_wakes_for_a_list_but_not_for_one_that_is_late() -> None:
    """What nodes there are is asked for in time; one that could not be asked for ticks nobody."""
    world = up()
    assert world.group.calm
    soon, late = (
        replace(world.group, looked_s=world.now, listing_s=None, list_next_s=world.now + after_s)
        for after_s in (0.5, -0.5)
    )
    assert due_s(soon, world.now) == world.now + 0.5
    assert due_s(late, world.now) > world.now + 0.5


def test_a_draining_node_can_die() -> None:
    """Its flows are selected anew at once, and it is not waited for."""
    world = draining(up()).link(port_name(up().spec.zone, Index(2)), up=False)
    assert world.states()[2] is State.FAILED
    assert not world.group.nodes[Index(2)].deliverable
    assert world.consistent()


def test_without_a_free_number_no_node_is_asked_for() -> None:
    """Nodes that the hypervisor does not get rid of keep their numbers; nothing breaks."""
    world = up().scale(2)
    world.silent = True
    world.ask("web-2", ev.Verb.FAIL)
    gone = world.group.nodes[Index(2)]
    assert gone.call is ev.Call.STOP
    everywhere = {Index(i): replace(gone, index=Index(i)) for i in range(2, MAX_INDEX + 1)}
    world.group = replace(world.group, nodes={**everywhere, **dict([primary(world)])})
    world.sent.clear()
    world.scale(4)
    assert world.group.wanted == 4
    assert not any(isinstance(command, cmd.StartNode) for command in world.sent)
    assert set(world.states()) == set(range(1, MAX_INDEX + 1))


def primary(world: World) -> tuple[Index, object]:
    """The primary under its number."""
    return Index(1), world.group.nodes[Index(1)]


def test_counters_of_a_node_that_is_gone_are_nobodys() -> None:
    """A round of statistics that was asked for before a node went."""
    world = up()
    counters = ev.NodeCounters(9, 9, 9, 9, 9, 9, 9)
    world.give(ev.Polled(7, world.spec.zone, world.now, {Index(5): counters}))
    assert world.states() == {1: State.ACTIVE}
