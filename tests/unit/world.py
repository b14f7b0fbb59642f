"""A group's surroundings as values: a switch that applies tables, a hypervisor that makes nodes.

Only for tests of the pure core, which asks for effects and is told results. The real switch and
the real hypervisors are in the tests of the data plane and of the lab.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sncontroller.config import parse
from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.diff import apply, diff
from sncontroller.core.entries import EMPTY, Table
from sncontroller.core.group import Group, new_group, step
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import State
from sncontroller.core.model import Config
from sncontroller.core.plan import desired
from sncontroller.core.rotation import _view
from sncontroller.core.straight import GONE_AFTER_S

BASE = """
groups:
  web:
    match: {address: 10.0.0.10, ports: [80]}
    primary: {port: vm1, mac: '02:00:00:00:00:01'}
    capacity: {bits_per_s: 1000}
    health: {kind: none}
    drain: {deadline_s: 100, idle_s: 10}
    scaling: {policy: manual, min: 1, max: 6, nodes: 1}
    hypervisor: {plugin: netns, bridge: br0, subnet: 10.0.0.0/24,
                 addresses: 10.0.0.100-10.0.0.200, command: [sleep, '1']}
"""


def configured(**changes: Any) -> Config:
    """The base configuration with fields of its one group replaced."""
    config = parse(BASE)
    group = config.groups[0].model_copy(update=changes)
    return config.model_copy(update={"groups": (group,)})


class World:
    """One group, a switch with the primary's port on it, and a hypervisor."""

    def __init__(self, now: float = 1000.0, **changes: Any) -> None:
        self.now = now
        self.spec = configured(**changes).groups[0]
        self.group = new_group(self.spec, configured().switch.layout, now)
        self.installed: Table = EMPTY
        self.ports: dict[str, ev.Port] = {"vm1": ev.Port(1, "vm1", "02:00:00:00:00:01", True)}
        self.nodes: dict[str, NodeInfo] = {}
        self.log: list[cmd.Logged] = []
        self.sent: list[cmd.Command] = []
        self.errors: list[tuple[str, bool]] = []
        """The next results of start calls: message and whether it is permanent."""
        self._inbox: deque[ev.Event] = deque()
        self.portless = False
        """Whether nodes come without a port."""
        self.address = ""
        """What the plugin says of a node's own address."""
        self.silent = False
        """Whether hypervisor calls get no answer."""

    # events

    def give(self, event: ev.Event) -> World:
        """One event, and everything that follows from it, in order."""
        self._inbox.append(event)
        if self._inbox[0] is event:
            while self._inbox:
                self.group, commands = step(self.group, self._inbox[0], self.now)
                for command in commands:
                    self._carry_out(command)
                self._inbox.popleft()
        return self

    def connect(self) -> World:
        """The switch connects and shows what it has."""
        ports = tuple(self.ports.values())
        installed = {self.spec.zone: self.installed} if self.installed != EMPTY else {}
        return self.give(ev.SwitchUp(7, "br0", ports, installed))

    def wait(self, seconds: float, every: float = 1.0) -> World:
        """Let time pass, with a tick now and then."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + every)
            self.give(ev.Tick())
        return self

    def link(self, name: str, up: bool) -> World:
        """A port's link goes up or down."""
        port = replace(self.ports[name], up=up)
        self.ports[name] = port
        return self.give(ev.PortSeen(7, port))

    def poll(self, packets: Mapping[int, int] | None = None, **counters: Any) -> World:
        """Statistics of all nodes: the given packet counters, everything else 0."""
        zero = ev.NodeCounters(0, 0, 0, 0, 0, 0, None)
        given = {Index(i): zero._replace(packets=n, **counters) for i, n in (packets or {}).items()}
        counted = {i: given.get(i, zero._replace(**counters)) for i in self.group.nodes}
        return self.give(ev.Polled(7, self.spec.zone, self.now, counted))

    def scale(self, nodes: int | None) -> World:
        """An operator sets the number of nodes."""
        return self.give(ev.ScaleAsked(self.spec.zone, nodes))

    def ask(self, node: str, verb: ev.Verb) -> World:
        """An operator asks something of a node."""
        return self.give(ev.Asked(self.spec.zone, node, verb))

    def restarted(self) -> World:
        """The same switch and hypervisor under a controller that knows nothing."""
        self.group = new_group(self.spec, self.group.layout, self.now)
        return self.connect()

    # what came of it

    def states(self) -> dict[int, State]:
        """The nodes' states by index."""
        return {int(i): n.state for i, n in sorted(self.group.nodes.items())}

    def owners(self) -> frozenset[int]:
        """The nodes that own slots."""
        return frozenset(self.group.slots)

    def leaving(self) -> set[int]:
        """The draining nodes that keep slots until no SYN goes straight to them any more."""
        if self.now >= self.group.straight_s + GONE_AFTER_S and not self.group.straight:
            return set()
        return {index for index, state in self.states().items() if state is State.DRAINING}

    def kinds(self) -> list[cmd.Kind]:
        """What was logged, by kind."""
        return [entry.kind for entry in self.log]

    def consistent(self) -> bool:
        """Whether the switch has exactly what a fresh computation wants."""
        from sncontroller.core.turn import Turn

        view = _view(Turn(self.group, self.now))
        return self.installed == desired(self.spec, view, self.group.layout)

    # effects

    def _carry_out(self, command: cmd.Command) -> None:
        self.sent.append(command)
        match command:
            case cmd.Logged():
                self.log.append(command)
            case cmd.Apply(datapath, zone, version, table):
                self.installed = apply(diff(table, self.installed), self.installed)
                assert self.installed == table
                self.give(ev.Applied(datapath, zone, version))
            case cmd.StartNode(zone, request) if not self.silent:
                self._start(request)
            case cmd.StopNode(zone, name) if not self.silent:
                info = self.nodes.pop(name, None)
                if info is not None:
                    port = self.ports.pop(info.port, None)
                    if port is not None:
                        self.give(ev.PortGone(7, port))
                self._result(ev.Call.STOP, name)
            case cmd.ListNodes() if not self.silent:
                self._result(ev.Call.LIST, None, tuple(self.nodes.values()))
            case _:
                pass

    def _start(self, request: Any) -> None:
        if self.errors:
            message, permanent = self.errors.pop(0)
            self._result(ev.Call.START, request.name, error=message, permanent=permanent)
            return
        what = (request.name, request.index, request.port, request.mac, NodeStatus.RUNNING)
        info = NodeInfo(*what, address=self.address)
        self.nodes[info.name] = info
        if self.portless:
            self._result(ev.Call.START, request.name, (info,))
            return
        number = max(port.number for port in self.ports.values()) + 1
        self.ports[info.port] = ev.Port(number, info.port, info.mac, True)
        self.give(ev.PortSeen(7, self.ports[info.port]))
        self._result(ev.Call.START, request.name, (info,))

    def _result(
        self,
        call: ev.Call,
        name: str | None,
        nodes: tuple[NodeInfo, ...] = (),
        error: str | None = None,
        permanent: bool = False,
    ) -> None:
        zone = self.spec.zone
        self.give(ev.HypervisorResult(zone, call, name, nodes, error, permanent, 0.5))


def up(**changes: Any) -> World:
    """A world whose switch is connected and whose primary serves."""
    return World(**changes).connect()


__all__ = ["Group", "World", "configured", "up"]
