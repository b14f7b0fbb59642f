"""All groups of one configuration, and which event is whose.

Owns the running groups and the switches they live on: routes events to ``core.group.step`` and
hands its commands to the effects. Its cost per event is that of the groups concerned, never of all.
It has no clock, no thread and no socket; the Ryu app and the tests drive it alike.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from sncontroller.core import group as machine
from sncontroller.core import layout
from sncontroller.core.commands import Apply, Command
from sncontroller.core.entries import EMPTY, Table
from sncontroller.core.events import (
    Applied,
    Asked,
    Event,
    HypervisorResult,
    Port,
    PortGone,
    PortSeen,
    Respecified,
    ScaleAsked,
    SwitchDown,
    SwitchUp,
    Tick,
    Verb,
)
from sncontroller.core.lasting import Lasting, resumed
from sncontroller.core.layout import Zone
from sncontroller.core.model import Config, GroupSpec, PoolSpec
from sncontroller.core.plan import PlanNode, handback
from sncontroller.core.scaling import ManualSpec
from sncontroller.core.state import Group, Node

FIXED = ("id", "bridge", "match", "primary", "arp", "mode", "delivery", "pinning", "placement")
"""Fields of a group that cannot change while connections depend on them."""

TICKED_AT_ONCE = 4
"""Groups that one call of ``tick`` gives time to at most."""


class Effects(Protocol):
    """Who carries commands out."""

    def carry_out(self, group: str, command: Command) -> None:
        """Begin to carry out a group's command; results come back as events."""


class UnknownError(Exception):
    """No group, or no node, of that name; the message lists those there are."""


class ConflictError(Exception):
    """What was asked for cannot be done in the present state; the message says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a new configuration cannot replace the running one, one problem each."""

    path: str
    message: str


class Controller:
    """The groups that run, by zone."""

    def __init__(
        self,
        config: Config,
        effects: Effects,
        now: float,
        recall: Callable[[str], Lasting] = lambda _: Lasting(),
    ) -> None:
        """Run the groups of ``config``; ``recall`` has what an earlier life learnt of each."""
        self.config = config
        self._recall = recall
        self.groups: dict[Zone, Group] = {}
        self._effects = effects
        self._switches: dict[int, SwitchUp] = {}
        self._ports: dict[int, dict[str, Port]] = {}
        self._leaving: set[Zone] = set()
        self._farewells: dict[Zone, tuple[str, Apply]] = {}
        """What the switch was told last of groups that are gone, until it has confirmed that."""
        self._zones: dict[str, Zone] = {}
        """By name, those on their way out, too: nodes go by it."""
        self._due: list[tuple[float, Zone]] = []
        """A heap; of each group's times that in ``_woken_s`` counts, and it may be ticked later."""
        self._woken_s: dict[Zone, float] = {}
        self._due_s: dict[Zone, float] = {}
        """When each group's tick is due."""
        for spec in config.groups:
            self._add(spec, now)

    # events

    def handle(self, event: Event, now: float) -> None:
        """Give an event to the groups it concerns."""
        for zone in self.received(event, now):
            self.give(zone, event, now)

    def give(self, zone: Zone, event: Event, now: float) -> None:
        """Give an event to one of the groups that ``received`` named, if it is still there."""
        if zone in self.groups:
            self._step(zone, event, now)

    def received(self, event: Event, now: float) -> tuple[Zone, ...]:
        """Take in an event; the groups to ``give`` it to, which may be all of them."""
        match event:
            case SwitchUp():
                self._switches[event.datapath] = event
                self._ports[event.datapath] = {port.name: port for port in event.ports}
                for name, last in self._farewells.values():
                    if last.datapath == event.datapath:
                        self._effects.carry_out(name, last)
            case SwitchDown():
                self._switches.pop(event.datapath, None)
                self._ports.pop(event.datapath, None)
            case PortSeen(datapath, port) if datapath in self._ports:
                new = port.name not in self._ports[datapath]
                self._ports[datapath][port.name] = port
                for spec in self._awaiting(port) if new else ():
                    self._introduce(spec, now)
            case PortGone(datapath, port) if datapath in self._ports:
                self._ports[datapath].pop(port.name, None)
            case Applied(zone=zone, version=version) if zone in self._farewells:
                if self._farewells[zone][1].version == version:
                    del self._farewells[zone]
            case HypervisorResult(zone=zone, nodes=nodes) if zone in self.groups:
                self._show_ports(zone, [info.port for info in nodes], now)
            case _:
                pass
        return tuple(self._concerned(event))

    def tick(self, now: float) -> float:
        """Give time to groups that are due; when the next one is (seconds since the epoch).

        To a bounded number of them: where there are many, other work has its turn in between.
        """
        ticked = 0
        while self._due and self._due[0][0] <= now and ticked < TICKED_AT_ONCE:
            at_s, zone = heapq.heappop(self._due)
            if self._woken_s.get(zone) == at_s:
                del self._woken_s[zone]
                ticked += zone in self.groups and self._tick(zone, now)
        return self._due[0][0] if self._due else now + machine.TICK_S

    def spec(self, name: str) -> GroupSpec | None:
        """The specification of a group, which may be on its way out."""
        zone = self._zones.get(name)
        return None if zone is None else self.groups[zone].spec

    # operators

    def ask(self, group: str, node: str, verb: Verb, now: float) -> None:
        """Drain, undrain or fail a node (its name or index).

        Raises ``UnknownError`` and, where the node's state does not allow it, ``ConflictError``.
        """
        zone, found = self._node(group, node)
        before = found.state
        self._step(zone, Asked(zone, found.name, verb), now)
        after = self.groups[zone].nodes.get(found.index)
        if after is not None and after.state is before and after.asked == found.asked:
            why = f", {after.reason}" if after.since_s > found.since_s else ""
            raise ConflictError(f"{found.name} is {before.value}: cannot {verb.value} it{why}")

    def scale(self, group: str, nodes: int | None, now: float) -> None:
        """Set the number of nodes by hand, or give it back to the policy with ``None``."""
        zone = self._zone(group)
        bounds = self.groups[zone].spec.scaling
        if nodes is not None and not bounds.min <= nodes <= bounds.max:
            raise ConflictError(
                f"{group} has between {bounds.min} and {bounds.max} nodes (scaling.min, .max)"
            )
        if nodes is not None and nodes > 1 and self.groups[zone].spec.hypervisor is None:
            raise ConflictError(f"{group} has no hypervisor section: nobody could start a node")
        self._step(zone, ScaleAsked(zone, nodes), now)

    def refusals(self, config: Config) -> tuple[Refusal, ...]:
        """What of ``config`` cannot be applied to the running groups."""
        problems = []
        for name in ("controller", "switch", "state_dir"):
            if getattr(config, name) != getattr(self.config, name):
                problems.append(Refusal(name, "cannot change while running; restart to apply it"))
        for spec in config.groups:
            old = self.config.group(spec.name)
            changed = FIXED if old is not None else ()
            for field in (f for f in changed if getattr(old, f) != getattr(spec, f)):
                why = "cannot change under running flows; remove the group, then add it anew"
                problems.append(Refusal(f"groups.{spec.name}.{field}", why))
            if (
                old is not None
                and _plugin(old) != _plugin(spec)
                and _has_nodes(self.groups[old.zone])
            ):
                why = f"no other plugin could destroy {_plugin(old)}'s nodes; remove them before"
                problems.append(Refusal(f"groups.{spec.name}.hypervisor", why))
            if old is None and (spec.zone in self.groups or spec.name in self._zones):
                why = "a group of its name, or of its number on the switch, is still leaving"
                problems.append(Refusal(f"groups.{spec.name}", why))
        return tuple(problems)

    def reconfigure(self, config: Config, now: float) -> tuple[str, ...]:
        """Make ``config`` the running one; the names of groups added, changed and removed.

        The caller has asked ``refusals`` first.
        """
        old, self.config = self.config, config
        names = []
        for spec in config.groups:
            before = old.group(spec.name)
            if before is None:
                self._add(spec, now)
                self._introduce(spec, now)
            elif before != spec:
                self._step(spec.zone, Respecified(spec), now)
            if before != spec:
                names.append(spec.name)
        for spec in old.groups:
            if config.group(spec.name) is None:
                self._dismiss(spec, now)
                names.append(spec.name)
        return tuple(names)

    # parts

    def _add(self, spec: GroupSpec, now: float) -> None:
        group = machine.new_group(spec, self.config.switch.layout, now)
        self.groups[spec.zone] = resumed(group, self._recall(spec.name))
        self._zones[spec.name] = spec.zone
        self._farewells.pop(spec.zone, None)
        self._wake(spec.zone, now)

    def _show_ports(self, zone: Zone, names: Iterable[str], now: float) -> None:
        """Bring the group up to date about ports that it did not care for until now."""
        for name in names:
            group = self.groups.get(zone)
            if group is None or group.datapath not in self._ports or _cares(group, name):
                continue
            known = self._ports[group.datapath].get(name)
            if known is not None and known != group.ports.get(name):
                self._step(zone, PortSeen(group.datapath, known), now)
            elif known is None and name in group.ports:
                self._step(zone, PortGone(group.datapath, group.ports[name]), now)

    def _awaiting(self, port: Port) -> tuple[GroupSpec, ...]:
        """The groups that live where their primary's port is, which was nowhere until now."""
        specs = (group.spec for group in self.groups.values() if not group.connected)
        return tuple(s for s in specs if s.bridge is None and s.primary.port == port.name)

    def _introduce(self, spec: GroupSpec, now: float) -> None:
        for known in tuple(self._switches.values()):
            switch = replace(known, ports=tuple(self._ports[known.datapath].values()))
            if machine.located(self.groups[spec.zone], switch):
                self._step(spec.zone, switch, now)

    def _dismiss(self, spec: GroupSpec, now: float) -> None:
        """A removed group drains to its primary; then its entries go."""
        nobody = {
            "scaling": ManualSpec(min=1, max=1, nodes=1),
            "pool": PoolSpec(),
            "health": spec.health.model_copy(update={"bfd": None}),
        }
        alone = spec.model_copy(update=nobody)
        self._leaving.add(spec.zone)
        self._step(spec.zone, Respecified(alone), now)

    def _step(self, zone: Zone, event: Event, now: float) -> None:
        before = self.groups[zone]
        group, commands = machine.step(before, event, now)
        if group is not before or self._due_s[zone] <= now:
            self.groups[zone] = group
            self._wake(zone, machine.due_s(group, now))
        for command in commands:
            self._effects.carry_out(group.spec.name, command)
        if zone in self._leaving and _may_go(group):
            self._remove(zone)

    def _tick(self, zone: Zone, now: float) -> bool:
        """Tick a group if that is due; whether it was."""
        due_s = self._due_s[zone]
        try:
            if due_s <= now:
                self._step(zone, Tick(), now)
        finally:
            if zone in self.groups and zone not in self._woken_s:  # not due yet, or a step failed
                self._wake(zone, due_s if due_s > now else now + machine.TICK_S)
        return due_s <= now

    def _wake(self, zone: Zone, at_s: float) -> None:
        """The group's next tick is due then."""
        self._due_s[zone] = at_s
        if at_s < self._woken_s.get(zone, math.inf):
            self._woken_s[zone] = at_s
            heapq.heappush(self._due, (at_s, zone))

    def _remove(self, zone: Zone) -> None:
        self._leaving.discard(zone)
        group = self.groups.pop(zone)
        del self._due_s[zone]
        for datapath, known in self._switches.items():
            held = {other: table for other, table in known.installed.items() if other != zone}
            self._switches[datapath] = replace(known, installed=held)
        del self._zones[group.spec.name]
        if group.datapath is not None:
            last = Apply(group.datapath, zone, group.version + 1, _handed_back(group))
            self._farewells[zone] = group.spec.name, last
            self._effects.carry_out(group.spec.name, last)

    def _concerned(self, event: Event) -> Iterator[Zone]:
        zone = getattr(event, "zone", None)
        if zone is not None:
            return iter((zone,) if zone in self.groups else ())
        if isinstance(event, SwitchUp):
            return self._where(lambda g: machine.located(g, event))
        if isinstance(event, PortSeen | PortGone):
            return self._where(
                lambda g: g.datapath == event.datapath and _cares(g, event.port.name)
            )
        if isinstance(event, SwitchDown):
            return self._where(lambda g: g.datapath == event.datapath)
        return iter(())

    def _where(self, wanted: Callable[[Group], bool]) -> Iterator[Zone]:
        return (zone for zone, group in self.groups.items() if wanted(group))

    def _zone(self, name: str) -> Zone:
        if name not in self._zones:
            raise UnknownError(f"no group {name!r}; there are: {_listed(self._zones)}")
        return self._zones[name]

    def _node(self, group: str, node: str) -> tuple[Zone, Node]:
        zone = self._zone(group)
        nodes = self.groups[zone].nodes.values()
        for found in nodes:
            if node in (found.name, str(int(found.index))):
                return zone, found
        raise UnknownError(
            f"no node {node!r} in {group}; there are: {_listed(n.name for n in nodes)}"
        )


def _cares(group: Group, port: str) -> bool:
    spec = group.spec
    named = port in spec.match.ingress or port == spec.primary.port
    had = any(port == node.port_name for node in group.nodes.values())
    return named or had or layout.node_index(port, spec.zone) is not None


def _plugin(spec: GroupSpec) -> str | None:
    return None if spec.hypervisor is None else spec.hypervisor.plugin


def _has_nodes(group: Group) -> bool:
    """Whether nodes of the group have to be destroyed one day."""
    return any(node.ours for node in group.nodes.values())


def _may_go(group: Group) -> bool:
    """Whether nothing of the group would be left: no node of ours, and no entry of its switch.

    A switch that is not connected keeps what it was told.
    """
    told = group.version > 0 and not group.connected
    return not told and not _has_nodes(group)


def _handed_back(group: Group) -> Table:
    first = group.nodes.get(layout.PRIMARY_INDEX)
    if first is None or first.port is None or first.mac is None:
        return EMPTY
    primary = PlanNode(first.index, first.port.number, first.mac)
    return handback(group.spec, primary, group.layout, group.ingress)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
