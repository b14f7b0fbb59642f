"""When a drain has ended: by what was counted, never by what was not."""

from __future__ import annotations

import pytest

from sncontroller.core import events as ev
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import State
from tests.unit.world import World, up

UNANSWERED = ev.NodeCounters(None, None, None, None, None, None, None)


def draining() -> World:
    """A busy node that an operator drains."""
    world = up().scale(2).poll().wait(2)
    world.ask("web-2", ev.Verb.DRAIN)
    return world.wait(1).poll({2: 10})


def drains(world: World) -> bool:
    """Whether it still does."""
    return world.states().get(2) is State.DRAINING


def test_what_nobody_counts_is_not_quiet() -> None:
    """While the switch is disconnected its flows go on: only the deadline ends a drain then."""
    world = draining().give(ev.SwitchDown(7)).wait(90)
    assert drains(world)
    assert not drains(world.wait(10))


def test_a_switch_that_is_back_is_counted_anew() -> None:
    """A packet since the last poll, whenever it came, means that the node is not quiet yet."""
    world = draining().give(ev.SwitchDown(7)).wait(30).connect().wait(1).poll({2: 11})
    assert drains(world.wait(9).poll({2: 11}))
    assert not drains(world.wait(1).poll({2: 11}))


def test_polls_that_are_rare() -> None:
    """Between two polls that are further apart than ``idle_s`` there may be packets."""
    world = draining()
    for packets in (11, 12, 12):
        assert drains(world.wait(30))
        world.poll({2: packets})
    assert not drains(world)


@pytest.mark.parametrize("before", [0, 12])
def test_polls_without_an_answer(before: int) -> None:
    """A node whose packets are not known is not quiet, however long it was before."""
    world = draining()
    for _ in range(before):
        world.wait(0.5).poll({2: 10})
    for _ in range(20):
        world.wait(1).give(ev.Polled(7, world.spec.zone, world.now, {Index(2): UNANSWERED}))
    assert drains(world)
    assert drains(world.wait(1).poll({2: 10}))
    assert not drains(world.wait(10).poll({2: 10}))


def test_no_flows_but_of_before() -> None:
    """That it had none at the last poll before its drain says nothing of those since then."""
    world = up(pinning="learn").scale(2).poll(active_flows=0).wait(2).poll(active_flows=0).wait(5)
    world.ask("web-2", ev.Verb.DRAIN)
    assert drains(world.wait(5))
    assert drains(world.poll({2: 5}, active_flows=3).wait(5))
    assert not drains(world.poll({2: 5}, active_flows=0).wait(2).poll({2: 5}, active_flows=0))
