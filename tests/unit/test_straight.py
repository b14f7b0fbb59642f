"""SYNs that go straight to their slot: only while slots are at rest, and never across a change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sncontroller import installed
from sncontroller.bridge import Entries
from sncontroller.core import commands as cmd
from sncontroller.core import entries as e
from sncontroller.core import events as ev
from sncontroller.core import ofctl, plan
from sncontroller.core.adoption import goes_straight
from sncontroller.core.group import due_s
from sncontroller.core.layout import Index, Kind, Layout, origin, select_group
from sncontroller.core.lifecycle import State
from sncontroller.core.model import PinSpec
from tests.openflow.tables import group_spec
from tests.unit.world import World, up

SETTLE_S = 8.0
PIN = PinSpec(syn_settle_s=SETTLE_S)


def straight(world: World) -> bool:
    """Whether the switch has entries that send SYNs straight to their slots."""
    return goes_straight(world.installed)


def at_rest(nodes: int = 3, **changes: Any) -> World:
    """A group of that many nodes whose slots have been at rest for long enough."""
    world = up(**{"pin": PIN, **changes}).scale(nodes).wait(SETTLE_S + 1)
    assert straight(world)
    return world


class Watched(World):
    """A world that remembers when the slot table on the switch changed, and what was there then."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**changes)
        self.changes: list[tuple[float, bool]] = []
        """When slots of living nodes changed hands, and whether SYNs went straight until then."""
        self.straight_s = -float("inf")
        """When SYNs went straight for the last time."""

    def _carry_out(self, command: cmd.Command) -> None:
        before, was = self.installed, goes_straight(self.installed)
        if was:
            self.straight_s = self.now
        super()._carry_out(command)
        group = select_group(self.spec.zone)
        old, new = before.groups.get(group), self.installed.groups.get(group)
        if isinstance(command, cmd.Apply) and old is not None and new is not None and old != new:
            delivered = {f.group_id for f in self.installed.groups.values()}
            if set(before.groups) <= delivered:  # nobody died
                self.changes.append((self.now - self.straight_s, was))


# The entries -------------------------------------------------------------------------------------


def entries(**changes: Any) -> list[e.FlowEntry]:
    """The entries for SYNs of a group at rest."""
    spec = group_spec(**changes)
    node = plan.PlanNode(Index(1), 1, "02:00:00:00:01:01")
    view = plan.View((node,), (Index(1),) * 256, Index(1), node.mac, ingress=(8,), straight=True)
    table = plan.desired(spec, view, Layout())
    found = [f for f in table.flows.values() if e.ToGroup(select_group(spec.zone)) in f.actions]
    return [flow for flow in found if flow.table == Layout().entry_table]


def test_every_first_packet_of_a_tcp_connection_has_an_entry() -> None:
    """For each of the ports, from where the group's clients come, above the look for a pin."""
    where = {"address": "10.0.0.10", "protocol": ["tcp", "udp"], "ports": [80, "8000-8003"]}
    found = entries(match={**where, "vlan": 7, "ingress": ["up1"]})
    assert [flow.match.get("tcp_dst") for flow in found] == [80, e.Masked(8000, 0xFFFC)]
    for flow in found:
        assert flow.match.get("tcp_flags") == plan.NEW_TCP
        assert (flow.match.get("in_port"), flow.match.get("vlan_vid")) == (8, 7 | 0x1000)
        assert flow.priority > Layout().priority
        owner = origin(flow.cookie)
        assert owner is not None
        assert owner.kind is Kind.CLASSIFY


@pytest.mark.parametrize(
    "changes",
    [
        {"pinning": "learn", "pin": PIN},
        {"match": {"address": "10.0.0.10", "protocol": ["udp"], "ports": [80]}, "pin": PIN},
        {"match": {"address": "10.0.0.10"}, "pin": PIN},
        {"pin": {"syn_settle_s": None}},
    ],
)
def test_groups_in_which_a_syn_always_looks_for_its_pin(changes: dict[str, Any]) -> None:
    """Pins that are entries, no TCP, nodes that begin connections themselves, or a wish."""
    spec = group_spec(**changes)
    world = up(pinning=spec.pinning, match=spec.match, pin=spec.pin).scale(2).wait(2 * SETTLE_S)
    assert not straight(world)
    version = world.group.version
    world.scale(3)
    assert world.owners() == {1, 2, 3}
    assert world.group.version > version


def test_a_dump_shows_whether_they_are_there() -> None:
    """In the text that ``diff`` reads; entries that look at the flags of a pin do not count."""
    world = at_rest()
    for table, there in ((world.installed, True), (world.scale(2).installed, False)):
        lines = Entries(frozenset(ofctl.lines(e.Table(table.flows))), frozenset())
        assert installed.straight(lines) is there
    draining = Entries(frozenset(ofctl.lines(e.Table(world.wait(2).installed.flows))), frozenset())
    assert any("tcp_flags=+syn-ack" in line for line in draining.flows)
    assert not installed.straight(draining)


# When --------------------------------------------------------------------------------------------


def test_the_time_outlasts_a_client_that_tries_to_connect() -> None:
    """Linux sends a SYN for the last time 63 s after the first, and gives up 64 s later."""
    assert PinSpec().syn_settle_s == 130


def test_only_after_slots_have_been_at_rest() -> None:
    """Not from the start, which does not know what was before, and not before the whole time."""
    world = up(pin=PIN)
    assert not straight(world)
    world.wait(SETTLE_S - 1)
    assert not straight(world)
    assert due_s(world.group, world.now) <= world.now + 1
    world.wait(1)
    assert straight(world)
    assert world.consistent()


def test_a_group_wakes_up_for_it() -> None:
    """Not only at the next second."""
    world = up(pin=PIN)
    world.wait(SETTLE_S - 0.25)
    assert due_s(world.group, world.now) == pytest.approx(world.now + 0.25)


def test_the_straight_way_ends_before_slots_change_hands() -> None:
    """A drain moves no slot while a datapath flow may still send SYNs straight to theirs."""
    world = at_rest().scale(2)
    assert not straight(world)
    assert world.states()[3] is State.DRAINING
    assert world.owners() == {1, 2, 3}
    world.wait(0.9, every=0.1)
    assert world.owners() == {1, 2, 3}
    assert due_s(world.group, world.now) == pytest.approx(world.now + 0.1)
    world.wait(0.2, every=0.1)
    assert world.owners() == {1, 2}
    assert not straight(world.wait(SETTLE_S - 1))
    assert straight(world.wait(2))


def test_a_node_on_its_way_ends_it_in_time() -> None:
    """When it is ready nothing has to wait any more."""
    world = at_rest(nodes=2)
    world.silent = True
    world.scale(3)
    assert not straight(world)
    world.wait(5)
    assert world.owners() == {1, 2}
    request = next(c.request for c in reversed(world.sent) if isinstance(c, cmd.StartNode))
    world.silent = False
    world._start(request)
    assert world.owners() == {1, 2, 3}


def test_the_slots_of_the_dead_do_not_wait() -> None:
    """What a dead node answered counts for nothing: its slots change hands at once."""
    world = at_rest()
    name = next(node.port_name for node in world.group.nodes.values() if node.index == 3)
    world.link(name, up=False)
    assert world.owners() == {1, 2}
    assert not straight(world)
    assert straight(world.wait(2 * SETTLE_S))


def test_a_port_that_flaps_starts_the_time_again() -> None:
    """Also where the group does not heed it: the switch had given its slots to others."""
    world = at_rest()
    port = world.ports["vm1"]
    world.give(ev.PortSeen(7, ev.Port(port.number, port.name, port.mac, up=True, live=False)))
    assert world.owners() == {1, 2, 3}
    assert not straight(world)
    world.give(ev.PortSeen(7, port))
    assert not straight(world.wait(SETTLE_S - 1))
    assert straight(world.wait(1))


def test_a_table_that_is_not_confirmed_has_not_taken_it_away() -> None:
    """Slots wait as long as the switch may have the entries, however long that is."""
    world = at_rest()
    world.installed, kept = e.EMPTY, world.installed
    carry_out = world._carry_out
    world._carry_out = lambda command: None  # type: ignore[method-assign]
    world.scale(2).wait(2)
    assert world.owners() == {1, 2, 3}
    world._carry_out = carry_out  # type: ignore[method-assign]
    world.installed = kept
    world.give(ev.Refused(7, world.spec.zone, world.group.version, "busy")).wait(5)
    assert world.owners() == {1, 2, 3}
    assert not straight(world)
    world.wait(2)
    assert world.owners() == {1, 2}
    assert world.consistent()


def test_confirmations_of_older_tables_say_nothing() -> None:
    """Only the table that was told last is the one without."""
    world = at_rest()
    world.give(ev.Applied(7, world.spec.zone, world.group.version - 1))
    assert world.group.straight


# Restarts ----------------------------------------------------------------------------------------


def test_what_is_on_the_switch_was_at_rest() -> None:
    """A change would have taken the entries away: a restart has nothing to do."""
    world = at_rest()
    before = world.installed
    sent = len(world.sent)
    world.restarted()
    applied = [c for c in world.sent[sent:] if isinstance(c, cmd.Apply)]
    assert {command.desired == before for command in applied} == {True}
    world.scale(2)
    assert not straight(world)
    assert world.owners() == {1, 2, 3}
    assert world.wait(3).owners() == {1, 2}


def test_a_restart_in_between_does_not_know_the_last_change() -> None:
    """It waits for the whole time."""
    world = up(pin=PIN).scale(2).wait(SETTLE_S / 2).restarted()
    assert not straight(world.wait(SETTLE_S - 1))
    assert straight(world.wait(2))


def test_a_switch_that_forgot_its_entries_does_not_either() -> None:
    """Its daemon was restarted, and clients may have been sent elsewhere meanwhile."""
    world = at_rest()
    world.give(ev.SwitchDown(7))
    world.installed = e.EMPTY
    world.connect()
    assert not straight(world)
    assert straight(world.wait(SETTLE_S))


# Always ------------------------------------------------------------------------------------------

does = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.2, 1.0, 2.5, SETTLE_S + 1])),
    st.tuples(st.just("scale"), st.integers(1, 4)),
    st.tuples(st.just("drain"), st.integers(2, 4)),
    st.tuples(st.just("undrain"), st.integers(2, 4)),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(does, max_size=12))
def test_no_slot_of_the_living_moves_while_syns_may_go_straight(actions: list[tuple]) -> None:
    """Whatever happens, a second has passed since they did."""
    world = Watched(pin=PIN)
    world.connect()
    world.scale(3).wait(SETTLE_S + 1)
    for name, value in actions:
        match name:
            case "wait":
                world.wait(value, every=0.5)
            case "scale":
                world.scale(value)
            case "drain":
                world.ask(f"web-{value}", ev.Verb.DRAIN)
            case "undrain":
                world.ask(f"web-{value}", ev.Verb.UNDRAIN)
            case _:
                world.restarted()
    for since_s, was_straight in world.changes:
        assert not was_straight
        assert since_s >= 1.0
