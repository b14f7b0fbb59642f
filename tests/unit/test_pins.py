"""How many pins a node may have, where the switch writes them."""

from __future__ import annotations

from typing import Any

from sncontroller.core import commands as cmd
from sncontroller.core import entries as e
from sncontroller.core.layout import Kind, origin
from sncontroller.core.model import PinSpec
from sncontroller.core.plan import Older
from tests.unit.world import World, up

LIMIT = 100


def learning(**changes: Any) -> World:
    """Two nodes that may have 100 pins each."""
    return up(**{"pinning": "learn", "pin": PinSpec(limit=LIMIT), **changes}).scale(2)


def pinned(world: World) -> dict[int, bool]:
    """By node: whether its new flows are pinned."""
    owned = ((origin(flow.cookie), flow) for flow in world.installed.flows.values())
    return {
        int(owner.index): any(isinstance(action, e.Learn) for action in flow.actions)
        for owner, flow in owned
        if owner is not None and owner.kind is Kind.COMMIT
    }


def test_a_node_with_as_many_pins_as_it_may_gets_no_more() -> None:
    """Its flows go to it without one, until a tenth of the pins is free again."""
    world = learning().poll({2: 0}, active_flows=0)
    assert pinned(world) == {1: True, 2: True}
    for pins, more in ((LIMIT - 1, True), (LIMIT, False), (91, False), (90, False), (89, True)):
        world.poll(active_flows=pins)
        assert pinned(world) == {1: more, 2: more}
        assert world.consistent()
    said = [entry.reason for entry in world.log if entry.kind is cmd.Kind.PINS]
    assert said[::2] == [
        "100 pins, pin.limit is 100: no more for now",
        "89 pins: new flows are pinned again",
    ]


def test_connections_without_a_pin_are_not_taken_for_older_ones() -> None:
    """From then on a packet in mid-stream that has no pin is its slot's, not the primary's."""
    world = learning()
    assert world.group.older is Older.PRIMARY
    world.poll(active_flows=LIMIT)
    assert world.group.older is Older.SLOTS


def test_a_poll_that_does_not_know_changes_nothing() -> None:
    """An answer is missing: as it was."""
    world = learning().poll(active_flows=LIMIT).poll(active_flows=None)
    assert pinned(world) == {1: False, 2: False}


def test_pins_that_others_write_are_not_counted() -> None:
    """``reactive``: the controller decides for each flow."""
    world = learning(pinning="reactive").poll(active_flows=2 * LIMIT)
    assert not [entry for entry in world.log if entry.kind is cmd.Kind.PINS]
    assert not any(node.full for node in world.group.nodes.values())
