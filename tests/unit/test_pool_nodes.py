"""Nodes whose port and hardware address are their own, not those that were asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from sncontroller.controller import Controller
from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.entries import Output, SetField
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Index, deliver_group
from sncontroller.core.lifecycle import State
from tests.unit.world import World, configured

PRIMARY = ev.Port(1, "vm1", "02:00:00:00:00:01", True)
READY = ev.Port(9, "ready9", "52:54:00:00:00:09", True)


class Pool(World):
    """A hypervisor that gives out ready machines, whose ports have been on the switch all along."""

    def __init__(self, *ready: ev.Port, **changes: Any) -> None:
        """Have these machines."""
        super().__init__(**changes)
        self.free = list(ready)
        self.ports.update({port.name: port for port in ready})

    def _start(self, request: Any) -> None:
        if not self.free:
            self._result(ev.Call.START, request.name, error="the pool is empty")
            return
        port = self.free.pop(0)
        mac, status = port.mac.upper(), NodeStatus.RUNNING
        info = NodeInfo(request.name, request.index, port.name, mac, status)
        self.nodes[info.name] = info
        self._result(ev.Call.START, request.name, (info,))


def delivery(world: World, index: int) -> tuple[object, object]:
    """Where the switch delivers a node's packets: hardware address and port number."""
    group = world.installed.groups[deliver_group(world.spec.zone, Index(index))]
    actions = {type(action): action for action in group.buckets[0].actions}
    mac, out = actions[SetField], actions[Output]
    assert isinstance(mac, SetField)
    assert isinstance(out, Output)
    return mac.value, out.port


def test_packets_go_to_the_machine_that_was_given() -> None:
    """A machine that is up already serves at once, by its own port and address."""
    world = Pool(READY)
    world.connect().scale(2)
    node = world.group.nodes[Index(2)]
    assert (node.port_name, node.mac, node.state) == (READY.name, READY.mac, State.ACTIVE)
    assert delivery(world, 2) == (READY.mac, 9)
    assert sorted(Counter(world.group.slots).values()) == [128, 128]
    assert world.consistent()


def test_machine_without_a_link_does_not_serve_yet() -> None:
    """It is on its way until its own port comes up; the port it was asked for says nothing."""
    world = Pool(replace(READY, up=False))
    world.connect().scale(2)
    assert world.states()[2] is State.BOOTING
    world.link(READY.name, True)
    assert world.states()[2] is State.ACTIVE
    world.link(READY.name, False)
    assert world.states()[2] is State.FAILED
    assert world.consistent()


def test_restarted_controller_finds_it_on_the_switch() -> None:
    """Port and address come back from the switch's entries; no other machine is taken."""
    world = Pool(READY)
    world.connect().scale(2).restarted().wait(2)
    assert (world.group.nodes[Index(2)].port_name, world.free) == (READY.name, [])
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}


def test_restarted_controller_finds_it_at_the_hypervisor() -> None:
    """One that was not in rotation yet is taken over with its own port and address."""
    world = Pool(READY)
    info = NodeInfo("web-2", 2, READY.name, READY.mac, NodeStatus.RUNNING)
    world.nodes["web-2"] = info
    world.connect()
    assert delivery(world, 2) == (READY.mac, 9)
    assert world.consistent()


def test_machine_given_back_and_another_taken_under_the_same_index() -> None:
    """The index's next life has the other machine's port and address."""
    other = ev.Port(8, "ready8", "52:54:00:00:00:08", True)
    world = Pool(READY, other)
    world.connect().scale(2).scale(1).poll().wait(20).poll().scale(2)
    assert delivery(world, 2) == (other.mac, 8)
    assert world.consistent()


class Effects:
    """Remembers the commands."""

    def __init__(self) -> None:
        self.seen: list[cmd.Command] = []

    def carry_out(self, group: str, command: cmd.Command) -> None:
        """Remember it."""
        self.seen.append(command)


def test_port_that_came_long_before_its_node_is_known() -> None:
    """A group does not follow foreign ports, and has a machine's newest state when it gets it."""
    effects, config = Effects(), configured()
    controller = Controller(config, effects, 1000.0)
    zone = config.groups[0].zone
    controller.handle(ev.SwitchUp(7, "br0", (PRIMARY, replace(READY, up=False)), {}), 1000.0)
    before = controller.groups[zone]
    controller.handle(ev.PortSeen(7, READY), 1001.0)
    assert controller.groups[zone] is before
    controller.handle(_result(zone, ev.Call.LIST), 1002.0)
    controller.scale("web", 2, 1003.0)
    assert any(isinstance(command, cmd.StartNode) for command in effects.seen)
    info = NodeInfo("web-2", 2, READY.name, READY.mac, NodeStatus.RUNNING)
    controller.handle(_result(zone, ev.Call.START, info), 1004.0)
    assert controller.groups[zone].nodes[Index(2)].port == READY
    controller.handle(ev.PortGone(7, READY), 1005.0)
    assert controller.groups[zone].nodes[Index(2)].state is State.FAILED


def test_port_that_went_before_its_node_came_is_not_believed_in() -> None:
    """What the switch showed at first may be gone since."""
    effects, config = Effects(), configured()
    controller = Controller(config, effects, 1000.0)
    zone = config.groups[0].zone
    controller.handle(ev.SwitchUp(7, "br0", (PRIMARY, READY), {}), 1000.0)
    controller.handle(ev.PortGone(7, READY), 1001.0)
    controller.handle(_result(zone, ev.Call.LIST), 1002.0)
    controller.scale("web", 2, 1003.0)
    info = NodeInfo("web-2", 2, READY.name, READY.mac, NodeStatus.RUNNING)
    controller.handle(_result(zone, ev.Call.START, info), 1004.0)
    node = controller.groups[zone].nodes[Index(2)]
    assert (node.port, node.state) == (None, State.BOOTING)


def _result(zone: int, call: ev.Call, *nodes: NodeInfo) -> ev.HypervisorResult:
    node = nodes[0].name if call is ev.Call.START else None
    return ev.HypervisorResult(zone, call, node, nodes, None, False, 0.1)
