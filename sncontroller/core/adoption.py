"""Taking up a group where it was: from the switch's own entries, and from the hypervisor's list.

Owns the way back from installed entries to nodes and slots. After a restart the switch says who
serves and which slot is whose; the hypervisor says what else exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sncontroller.core import health, layout
from sncontroller.core.balance import learnt_from
from sncontroller.core.commands import Kind
from sncontroller.core.entries import Bucket, FlowEntry, GroupEntry, Load, Output, SetField, Table
from sncontroller.core.events import Port
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import PRIMARY_INDEX, Index, Zone
from sncontroller.core.lifecycle import State, Trigger
from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import (
    ASKED,
    DRAIN_NOTE,
    FAILED_NOTE,
    NEW_TCP,
    NOT_NEW_TCP,
    SINCE,
    Drain,
    Older,
    asks_for,
)
from sncontroller.core.state import Node
from sncontroller.core.turn import Turn
from sncontroller.core.values import changed


def node_name(group: str, index: int) -> str:
    """A node's name: its group's and its index."""
    return f"{group}-{index}"


def new_node(turn: Turn, index: Index, state: State, reason: str) -> Node:
    """A secondary of ours, with the name, port and hardware address its index gives it."""
    spec = turn.spec
    port_name = layout.port_name(spec.zone, index)
    return Node(
        index=index,
        name=node_name(spec.name, index),
        port_name=port_name,
        mac=layout.node_mac(spec.zone, index),
        ours=True,
        state=state,
        since_s=turn.now,
        reason=reason,
        health=health.initial(spec.health, turn.now),
        port=turn.group.port(port_name),
    )


def take_as_made(turn: Turn, node: Node, info: NodeInfo) -> None:
    """Put the node, with the port and hardware address that the hypervisor really gave it."""
    found: dict[str, object] = {
        "address": info.address or node.address,
        "mac": info.mac.lower() if info.mac else node.mac,
    }
    if info.port and info.port != node.port_name:
        port = turn.group.port(info.port)
        linked = port is not None and port.up
        after = health.link_changed(turn.spec.health, node.health, linked, turn.now)
        found |= {"port_name": info.port, "port": port, "health": after, "probe": None}
    turn.put(changed(node, **found))


def primary_node(turn: Turn) -> Node:
    """The configured primary, whose VM was there before us."""
    spec = turn.group.spec
    return Node(
        index=PRIMARY_INDEX,
        name=node_name(spec.name, PRIMARY_INDEX),
        port_name=spec.primary.port or "",
        mac=spec.primary.mac,
        ours=False,
        state=State.BOOTING,
        since_s=turn.now,
        reason="looking for its port and hardware address",
        health=health.adopted(spec.health, turn.now),
    )


def recover(turn: Turn, installed: Table, ports: Iterable[Port]) -> None:
    """Take nodes, slots and drains from entries that an earlier life of ours left on the switch."""
    spec, zone = turn.group.spec, turn.group.spec.zone
    by_number = {port.number: port for port in ports}
    _recover_failed(turn, installed)
    delivered = dict(_delivered(installed, zone))
    if not delivered:
        return
    drains = _drains(installed, zone)
    for index, (number, mac) in delivered.items():
        if number not in by_number:
            continue
        drain = drains.get(index)
        state = State.ACTIVE if drain is None else State.DRAINING
        node = primary_node(turn) if index == PRIMARY_INDEX else new_node(turn, index, state, "")
        turn.put(node)
        turn.update(
            index,
            mac=mac,
            port_name=by_number[number].name,
            port=turn.group.port(by_number[number].name),
            since_s=turn.now if drain is None else min(turn.now, drain.since_s),
            reason="found on the switch",
            health=health.adopted(spec.health, turn.now),
            quiet_since_s=turn.now,
            asked=drain is not None and drain.asked,
        )
    _recover_primary(turn, installed)
    slots = _slots(installed.groups.get(layout.select_group(zone)), delivered)
    slots = slots if all(Index(s) in turn.group.nodes for s in slots) else ()
    turn.change(
        slots=slots,
        straight_s=turn.now if slots else -math.inf,  # it may have ended just before we came
        weights={},
        balance=learnt_from(spec.balance, slots),
        primary=_heir(turn, installed),
        older=Older.PRIMARY if _adopting(installed) else Older.SLOTS,
    )
    count = len(turn.group.serving)
    turn.log(Kind.SWITCH_UP, None, f"took up {count} serving nodes as the switch has them")


def _heir(turn: Turn, installed: Table) -> Index:
    """Who stands for the address: somebody else than its owner, if the switch answers for it."""
    spec = turn.group.spec
    answered = any(asks_for(flow.match, spec) for flow in installed.flows.values())
    others = [node.index for node in turn.group.serving if node.index != PRIMARY_INDEX]
    return min(others) if answered and others and spec.arp == "primary" else PRIMARY_INDEX


def _recover_primary(turn: Turn, installed: Table) -> None:
    """A primary that serves no longer, while others do: its address lives on at its hardware's."""
    spec = turn.spec
    dead = replace(primary_node(turn), health=health.initial(spec.health, turn.now))
    first = turn.group.nodes.get(PRIMARY_INDEX, dead)
    turn.put(replace(first, mac=first.mac or _address_mac(installed, spec)))


def _address_mac(installed: Table, spec: GroupSpec) -> str | None:
    """The hardware address that the group's packets go to, where it is the primary's own."""
    if spec.arp != "primary":
        return None
    found = (flow.match.get("eth_dst") for flow in installed.flows.values() if _classifies(flow))
    return next((str(mac) for mac in found if mac is not None), None)


def _recover_failed(turn: Turn, installed: Table) -> None:
    """What an operator took out stays out."""
    for index in _noted(installed, turn.group.spec.zone, FAILED_NOTE):
        made = (
            primary_node(turn) if index == PRIMARY_INDEX else new_node(turn, index, State.GONE, "")
        )
        turn.put(replace(made, state=State.FAILED, asked=True, reason="failed by the operator"))


def goes_straight(installed: Table) -> bool:
    """Whether SYNs go straight to their slots; then those are at rest (``straight``)."""
    return any(_is_straight(flow) for flow in installed.flows.values())


def settle(turn: Turn) -> None:
    """Now that all nodes are known: as many as there are is where the policy begins.

    Of those that do not serve, as many belong to the warm pool as it is to have: a switch shows who
    serves and who drains, but not what the others are there for.
    """
    group, spec = turn.group, turn.group.spec.scaling
    others = len(group.starting) + len(group.standby)
    have = len(group.serving) + max(0, others - group.spec.pool.warm)
    wanted = min(max(have, spec.min), spec.max)
    memory = group.memory._replace(wanted=wanted, reason=f"{have} found at the start")
    turn.change(settled=True, wanted=wanted, memory=memory)


def compare(turn: Turn, infos: Iterable[NodeInfo], asked_s: float) -> None:
    """Bring our nodes and the hypervisor's list (asked for at ``asked_s``) together."""
    found = {Index(info.index): info for info in infos}
    known = turn.group.nodes
    for index, info in found.items():
        if index not in known:
            _adopt(turn, index, info)
            continue
        turn.update(index, address=info.address or turn.node(index).address)
        if info.status is NodeStatus.BROKEN:
            _broken(turn, turn.node(index), asked_s, info.detail)
    for node in tuple(turn.group.nodes.values()):
        settled = node.call is None and max(node.since_s, node.called_s) < asked_s
        existed = node.ours and node.state not in (State.REQUESTED, State.GONE)
        if existed and node.index not in found and settled:
            vanished = "the hypervisor has it no longer"
            if turn.go(node, Trigger.DIE, vanished):
                turn.log(Kind.FAILED, node.name, vanished)
                turn.go(turn.node(node.index), Trigger.GIVE_UP, vanished)


def _adopt(turn: Turn, index: Index, info: NodeInfo) -> None:
    """Take in a node of ours that nobody here knows of: an orphan."""
    hypervisor = turn.spec.hypervisor
    unwanted = hypervisor is not None and hypervisor.orphans == "destroy"
    reason = "found at the hypervisor"
    if info.status is NodeStatus.BROKEN:
        unwanted, reason = True, f"found half-made: {info.detail}"
    elif unwanted:
        reason = "found at the hypervisor: orphans are destroyed"
    state = State.GONE if unwanted else State.BOOTING
    take_as_made(turn, new_node(turn, index, state, reason), info)
    turn.log(Kind.STOPPED if unwanted else Kind.STARTED, info.name, reason)


def _broken(turn: Turn, node: Node, asked_s: float, detail: str) -> None:
    """A node of ours that the hypervisor calls broken goes, unless it has flows all the same."""
    settled = node.call is None and max(node.since_s, node.called_s) < asked_s
    idle = node.ours and not node.deliverable
    if idle and settled and turn.go(node, Trigger.GIVE_UP, f"broken: {detail}"):
        turn.log(Kind.FAILED, node.name, f"broken: {detail}")


def _delivered(installed: Table, zone: Zone) -> Iterable[tuple[Index, tuple[int, str]]]:
    """Each node that has a delivery group, with its port number and hardware address."""
    for group_id, group in installed.groups.items():
        origin = layout.group_origin(group_id)
        if origin is None or origin[0] != zone or not origin[1] or not group.buckets:
            continue
        place = _place(group.buckets[0])
        if place is not None:
            yield origin[1], place


def _slots(group: GroupEntry | None, delivered: Mapping[Index, tuple[int, str]]) -> tuple[int, ...]:
    """The owners in the slot table; empty where one of them cannot be told."""
    places = {place: index for index, place in delivered.items()}
    owners = () if group is None else tuple(_owner(bucket, places) for bucket in group.buckets)
    return tuple(owner for owner in owners if owner) if all(owners) else ()


def _owner(bucket: Bucket, places: Mapping[tuple[int, str], Index]) -> int | None:
    """Whose slot it is: by the mark, or by the place where the buckets deliver themselves."""
    loads = [a.value for a in bucket.actions if isinstance(a, Load)]
    if loads:
        return loads[0] & layout.MAX_INDEX
    place = _place(bucket)
    return None if place is None else places.get(place)


def _place(bucket: Bucket) -> tuple[int, str] | None:
    """Port number and hardware address that a bucket delivers to."""
    actions: Mapping[type, object] = {type(a): a for a in bucket.actions}
    mac, out = actions.get(SetField), actions.get(Output)
    if isinstance(mac, SetField) and isinstance(out, Output):
        return out.port, str(mac.value)
    return None


def _drains(installed: Table, zone: Zone) -> Mapping[Index, Drain]:
    """The drain of each node that is draining."""
    return {index: _drain(note) for index, note in _noted(installed, zone, DRAIN_NOTE).items()}


def _drain(note: FlowEntry) -> Drain:
    said = {a.dst: a.value for a in note.actions if isinstance(a, Load)}
    return Drain(said.get(SINCE, 0), bool(said.get(ASKED)))


def _noted(installed: Table, zone: Zone, note: int) -> Mapping[Index, FlowEntry]:
    """The notes of one kind, by node."""
    found = {}
    for flow in installed.flows.values():
        origin = layout.origin(flow.cookie)
        ours = origin is not None and origin.zone == zone and origin.kind is layout.Kind.SELECT
        if ours and origin is not None and origin.index and flow.priority == note:
            found[origin.index] = flow
    return found


def _is_straight(flow: FlowEntry) -> bool:
    return _classifies(flow) and flow.match.get("tcp_flags") == NEW_TCP


def _classifies(flow: FlowEntry) -> bool:
    found = layout.origin(flow.cookie)
    return found is not None and found.kind is layout.Kind.CLASSIFY


def _adopting(installed: Table) -> bool:
    return any(flow.match.get("tcp_flags") == NOT_NEW_TCP for flow in installed.flows.values())
