"""What a configuration compiles to, without a controller: for ``plan`` and ``diff``.

Owns two ways to the compiler's input. ``assumed`` invents ports and hardware addresses, and says
so. ``found`` takes them, the nodes and the slot table from a live bridge, so that what remains to
differ is the configuration's doing. Both give the compiler's output as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sncontroller import installed
from sncontroller.bridge import Bridge, Entries
from sncontroller.core import layout, ofctl
from sncontroller.core.entries import Table
from sncontroller.core.layout import PRIMARY_INDEX, Index, Layout, Zone
from sncontroller.core.model import Config, GroupSpec
from sncontroller.core.plan import Older, PlanNode, View, desired, handback
from sncontroller.core.slots import SLOTS, slot_table
from sncontroller.errors import OperatorError

FORM: Final = "OpenFlow13"
"""The version whose text ``core.ofctl`` writes."""
PRIMARY_PORT: Final = 1
FIRST_INGRESS_PORT: Final = 101
PRIMARY_MAC: Final = "52:54:00:00:00:01"


@dataclass(frozen=True, slots=True)
class Known:
    """What an operator knows of a bridge that cannot be asked."""

    ports: Mapping[str, int]
    """Port numbers by name."""
    macs: Mapping[str, str]
    """Hardware addresses by port name."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A group's entries as ovs-ofctl takes them, and what had to be assumed."""

    spec: GroupSpec
    table: Table
    assumptions: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """For ``ovs-ofctl add-groups``."""
        return ofctl.lines(Table({}, self.table.groups))

    @property
    def flows(self) -> tuple[str, ...]:
        """For ``ovs-ofctl add-flows``."""
        return ofctl.lines(Table(self.table.flows))


def port_names(spec: GroupSpec, nodes: int) -> tuple[str, ...]:
    """The ports whose numbers ``planned`` wants to know."""
    secondaries = (
        layout.port_name(spec.zone, Index(i)) for i in range(PRIMARY_INDEX + 1, nodes + 1)
    )
    first = () if spec.primary.port is None else (spec.primary.port,)
    return (*first, *spec.match.ingress, *secondaries)


def planned(spec: GroupSpec, where: Layout, nodes: int, known: Known) -> Planned:
    """The entries of a group with this many active nodes that share the slots evenly."""
    notes: list[str] = []

    def number(name: str, otherwise: int, whose: str) -> int:
        if name in known.ports:
            return known.ports[name]
        notes.append(f"port {name} ({whose}) is assumed to be number {otherwise}")
        return otherwise

    port = spec.primary.port or "of the primary"
    mac = known.macs.get(port, spec.primary.mac)
    if mac is None:
        notes.append(f"the primary's hardware address is assumed to be {PRIMARY_MAC}")
    primary = PlanNode(PRIMARY_INDEX, number(port, PRIMARY_PORT, "the primary"), mac or PRIMARY_MAC)
    secondaries = tuple(
        PlanNode(
            Index(index),
            number(layout.port_name(spec.zone, Index(index)), index, f"node {index}"),
            layout.node_mac(spec.zone, Index(index)),
        )
        for index in range(PRIMARY_INDEX + 1, nodes + 1)
    )
    ingress = tuple(
        number(name, FIRST_INGRESS_PORT + at, "ingress")
        for at, name in enumerate(spec.match.ingress)
    )
    view = _shared((primary, *secondaries), ingress)
    view = replace(view, straight=spec.has_straight_way)
    return Planned(spec, desired(spec, view, where), tuple(notes))


@dataclass(frozen=True, slots=True)
class Difference:
    """Lines that a bridge lacks, and lines that nothing asks for."""

    missing: tuple[str, ...]
    surplus: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus)

    @property
    def lines(self) -> tuple[str, ...]:
        """``+`` for what would be added, ``-`` for what would go; the same entry side by side."""
        marked = [("-", line) for line in self.surplus] + [("+", line) for line in self.missing]
        ordered = sorted(marked, key=lambda each: (_entry(each[1]), each[0] == "+"))
        return tuple(f"{sign} {line}" for sign, line in ordered)


def entries(bridge: Bridge) -> Entries:
    """What is on a bridge, as ``core.ofctl`` would write it. Raises ``OperatorError``."""
    bridge.require_controllable(bridge.settings())
    return bridge.entries(FORM)


def difference(config: Config, bridge: Bridge, known: Known) -> Difference:
    """What the configuration wants on a live bridge, against what of ours is there."""
    there = entries(bridge).ours
    ports = {**bridge.ports(), **known.ports}
    specs = tuple(spec for spec in config.groups if _lives_on(spec, bridge, ports))
    if not specs:
        raise OperatorError(_nobody(config, bridge, ports))
    wanted = Entries()
    for spec in specs:
        table = desired(spec, _found(spec, there, bridge, ports, known), config.switch.layout)
        wanted |= _as_entries(table)
    there = installed.without_pins(there)
    missing, surplus = wanted - there, there - wanted
    return Difference(
        tuple(sorted(missing.groups | missing.flows)), tuple(sorted(surplus.groups | surplus.flows))
    )


def handbacks(config: Config, bridge: Bridge) -> frozenset[str]:
    """The flows that must stay on a bridge so that ``arp: switch`` addresses stay reachable."""
    there, ports = entries(bridge).ours, bridge.ports()
    kept: set[str] = set()
    for spec in config.groups:
        if spec.arp == "switch" and _lives_on(spec, bridge, ports):
            view = _found(spec, there, bridge, ports, Known({}, {}))
            primary = next((node for node in view.nodes if node.index == PRIMARY_INDEX), None)
            if primary is not None:
                first = replace(primary, drain=None)
                table = handback(spec, first, config.switch.layout, view.ingress)
                kept |= _as_entries(table).flows
    return frozenset(kept)


def answered_by_switch(there: Entries) -> frozenset[Zone]:
    """The groups whose address would be nobody's without our entries: ``arp: switch``."""
    named = installed.answers(there).items()
    return frozenset(zone for zone, mac in named if mac == layout.node_mac(zone, Index(0)))


# From a live bridge ------------------------------------------------------------------------------


def _found(
    spec: GroupSpec, there: Entries, bridge: Bridge, ports: Mapping[str, int], known: Known
) -> View:
    """The group's nodes and slot table as a bridge has them; the primary alone when it has none."""
    _require_ports(spec, bridge, ports)
    mine = installed.of_group(there, spec.zone)
    nodes = tuple(
        node for node in _nodes(spec, mine, bridge, ports, known) if node.port in ports.values()
    ) or (_primary(spec, mine, bridge, ports, known),)
    view = _shared(nodes, tuple(ports[name] for name in spec.match.ingress))
    serving = {node.index for node in nodes if node.delivers}
    slots, adopter = installed.slots(mine), installed.adopter(mine)
    known_mac = view.primary_mac or spec.primary.mac
    return replace(
        view,
        slots=slots if len(slots) == SLOTS and set(slots) <= serving else view.slots,
        primary=adopter or PRIMARY_INDEX,
        primary_mac=known_mac,
        primary_port=view.primary_port or ports.get(spec.primary.port or ""),
        primary_serves=spec.arp == "switch" or not installed.answers(mine),
        older=Older.SLOTS if mine.groups and not installed.adopting(mine) else Older.PRIMARY,
        straight=spec.has_straight_way and (not mine.groups or installed.straight(mine)),
    )


def _shared(nodes: tuple[PlanNode, ...], ingress: tuple[int, ...]) -> View:
    """All of these nodes, with the slots shared evenly among those that take new flows."""
    weights = {int(node.index): float(node.delivers and not node.draining) for node in nodes}
    slots = tuple(Index(index) for index in slot_table(None, weights))
    primary = next((node for node in nodes if node.index == PRIMARY_INDEX), None)
    mac, port = (None, None) if primary is None else (primary.mac, primary.port)
    return View(nodes, slots, PRIMARY_INDEX, mac, port, ingress=ingress)


def _nodes(
    spec: GroupSpec, mine: Entries, bridge: Bridge, ports: Mapping[str, int], known: Known
) -> Iterator[PlanNode]:
    """The nodes that a bridge delivers to or lets probes through to, by index."""
    reached = {index: port for index, (port, _) in installed.delivered(mine).items()}
    draining, failed = installed.draining(mine), installed.failed(mine)
    names = {index: layout.port_name(spec.zone, index) for index in failed}
    noted = {index: ports[name] for index, name in names.items() if name in ports}
    for index, port in sorted({**noted, **installed.probed(mine), **reached}.items()):
        node = PlanNode(index, port, layout.node_mac(spec.zone, index))
        if index == PRIMARY_INDEX:
            node = _primary(spec, mine, bridge, ports, known)
        yield replace(
            node,
            drain=draining.get(index),
            delivers=index in reached,
            failed=index in failed,
        )


def _primary(
    spec: GroupSpec, mine: Entries, bridge: Bridge, ports: Mapping[str, int], known: Known
) -> PlanNode:
    """The primary, with the hardware address that is configured, installed or learned."""
    there = installed.primary(mine)
    name = spec.primary.port
    if name is None:
        wanted = str(spec.primary.mac)
        port = bridge.port_of(wanted) if there is None else there[0]
        if port is None:
            raise OperatorError(
                f"groups.{spec.name}.primary: nothing was heard from {wanted} yet; "
                "name its port: primary: {port: ...}"
            )
        return PlanNode(PRIMARY_INDEX, port, wanted)
    told = known.macs.get(name) or spec.primary.mac or (there[1] if there is not None else None)
    mac = told or bridge.neighbour(name, ports[name])
    if mac is None:
        raise OperatorError(
            f"groups.{spec.name}.primary: nothing was heard from port {name} yet, so its hardware "
            f"address is not known; give it: --mac {name}=52:54:00:12:34:56"
        )
    return PlanNode(PRIMARY_INDEX, ports[name], mac)


def _as_entries(table: Table) -> Entries:
    flows = frozenset(map(ofctl.flow, table.flows.values()))
    return Entries(flows, frozenset(map(ofctl.group, table.groups.values())))


def _entry(line: str) -> str:
    """What identifies the entry of a line, and comes first in an order of lines."""
    if line.startswith("group_id="):
        return line.partition(",")[0]
    return re.sub(r"^cookie=\S+ ", "", line).partition(" actions=")[0]


# Which groups ------------------------------------------------------------------------------------


def _lives_on(spec: GroupSpec, bridge: Bridge, ports: Mapping[str, int]) -> bool:
    if spec.bridge is not None:
        return spec.bridge == bridge.name
    return spec.primary.port is None or spec.primary.port in ports


def _require_ports(spec: GroupSpec, bridge: Bridge, ports: Mapping[str, int]) -> None:
    """Raise ``OperatorError`` when a port that the group names is not on the bridge."""
    for name in (spec.primary.port, *spec.match.ingress):
        if name is not None and name not in ports:
            place = "primary.port" if name == spec.primary.port else "match.ingress"
            raise OperatorError(
                f"groups.{spec.name}.{place}: no port {name} on {bridge.name}; "
                f"there are: {_listed(ports, bridge)}"
            )


def _nobody(config: Config, bridge: Bridge, ports: Mapping[str, int]) -> str:
    wanted = ", ".join(
        f"{spec.name} ({spec.bridge or f'port {spec.primary.port}'})" for spec in config.groups
    )
    return (
        f"no group of this configuration lives on {bridge.name}; groups: {wanted or 'none'}; "
        f"ports of {bridge.name}: {_listed(ports, bridge)}"
    )


def _listed(ports: Mapping[str, int], bridge: Bridge) -> str:
    return ", ".join(sorted(set(ports) - {bridge.name})) or "none"
