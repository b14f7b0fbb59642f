"""Asking nodes whether their service answers, through the switch or over a management network.

Owns the use of ``probe`` (what to send, what an answer means) and ``health`` (what it says of the
node) for the nodes of a group, and the search for the primary's hardware address.
"""

from __future__ import annotations

from dataclasses import replace

from sncontroller.core import frames, health, latency, layout, neighbour, probe
from sncontroller.core.commands import AskNode, Kind, Transmit
from sncontroller.core.events import Answer, Heard, Port
from sncontroller.core.family import Address
from sncontroller.core.layout import PRIMARY_INDEX, Index
from sncontroller.core.lifecycle import DELIVERABLE, State
from sncontroller.core.state import Group, Node
from sncontroller.core.turn import Turn

ASK_EVERY_S = 1.0
FLOOD = 0xFFFF_FFFB
"""All ports but the one it came from (OFPP_FLOOD)."""
_PROBED = DELIVERABLE | {State.PROBING, State.STANDBY, State.FAILED}


def ask(turn: Turn) -> None:
    """Send what is due: probes, and the question for the primary's hardware address."""
    if turn.group.datapath is None:
        return
    spec = turn.spec.health
    for node in turn.group.nodes.values():
        if node.health.suppressed:
            turn.update(node.index, health=health.aged(spec, node.health, turn.now))
        if _is_asked(node) and _is_due(node, turn.now):
            _probe(turn, turn.node(node.index), probe.Tick())
    _resolve(turn)


def answered(turn: Turn, answer: Answer) -> None:
    """Take in a packet that came from a node."""
    packet = answer.frame.packet
    node = _by_port(turn.group, answer.in_port)
    found = neighbour.answer(packet)
    if found is not None and found[0] == _primary_address(turn.group):
        _learn_primary(turn, node, answer, found[1])
    if node is not None and node.probe is not None and node.linked:
        _probe(turn, node, probe.Received(packet))


def heard(turn: Turn, answer: Heard) -> None:
    """Take in what a node answered over the management network."""
    node = turn.group.nodes.get(answer.index)
    if node is not None and node.probe is not None and node.linked:
        event = probe.Heard(answer.asked_s, answer.ok, answer.detail, answer.latency_s)
        _probe(turn, node, event)


def wake_s(group: Group) -> float:
    """When ``ask`` has something to do next: never before it would do it."""
    if group.datapath is None:
        return float("inf")
    nodes = group.nodes.values()
    due = (n.probe.wake_s for n in nodes if n.probe is not None and _is_asked(n))
    return min(due, default=float("inf"))


def announce(turn: Turn) -> None:
    """Tell everybody the address's hardware address, now that the switch answers for it.

    A client that asked while nobody answered would ask again only a second later.
    """
    group, primary = turn.group, turn.group.nodes.get(PRIMARY_INDEX)
    if group.datapath is None or primary is None or primary.mac is None:
        return
    where = group.spec.match
    frame = neighbour.announcement(primary.mac, where.address, where.vlan)
    turn.say(Transmit(group.datapath, FLOOD, frame))


def _is_asked(node: Node) -> bool:
    return node.state in _PROBED and node.linked and node.mac is not None


def _is_due(node: Node, now: float) -> bool:
    return node.probe is None or now >= node.probe.wake_s


def _probe(turn: Turn, node: Node, event: probe.Event) -> None:
    prober = _prober(turn.group, node)
    state = node.probe or prober.start(turn.now)
    state, actions = prober.step(state, event, turn.now)
    turn.update(node.index, probe=state)
    for action in actions:
        if isinstance(action, probe.Send):
            _send(turn, turn.node(node.index), action.frame)
        elif isinstance(action, probe.Call):
            _call(turn, turn.node(node.index), action.asked_s)
        else:
            _note(turn, turn.node(node.index), action)


def _prober(group: Group, node: Node) -> probe.Prober:
    mac = layout.node_mac(group.spec.zone, Index(0))
    address, port = group.spec.match.address, _service_port(group)
    target = probe.Target(node.index, node.mac or "", address, port, mac)
    return probe.Prober(group.spec.health, target, seed=group.spec.zone)


def _service_port(group: Group) -> int:
    ports = group.spec.match.ports
    return group.spec.health.port or (ports[0].first if ports else 0)


def _send(turn: Turn, node: Node, frame: frames.Frame) -> None:
    if turn.group.datapath is not None and node.port is not None:
        turn.say(Transmit(turn.group.datapath, node.port.number, frame))


def _call(turn: Turn, node: Node, asked_s: float) -> None:
    group, address = turn.group, turn.group.management_address(node)
    if address is None:
        _probe(turn, node, probe.Heard(asked_s, False, "its management address is not known", 0.0))
        return
    port = _service_port(group)
    turn.say(AskNode(group.spec.zone, node.index, asked_s, group.spec.health, address, port))


def _note(turn: Turn, node: Node, result: probe.Result) -> None:
    spec = turn.group.spec.health
    after = health.observe(spec, node.health, result.ok, result.detail, turn.now)
    last, lasting = node.latency_s, node.latency
    if result.ok or result.silent:
        lasting = latency.observed(lasting, result.latency_s, turn.now, spec.latency_kept_s)
    if result.ok:
        last = result.latency_s
    turn.update(node.index, health=after, latency_s=last, latency=lasting)


def _by_port(group: Group, number: int) -> Node | None:
    nodes = (n for n in group.nodes.values() if n.port is not None and n.port.number == number)
    return next(nodes, None)


def _port(group: Group, number: int) -> Port | None:
    return next((port for port in group.ports.values() if port.number == number), None)


def _resolve(turn: Turn) -> None:
    """Ask who has the primary's address, until its port and hardware address are known."""
    group, primary = turn.group, turn.group.nodes.get(PRIMARY_INDEX)
    if primary is None or group.datapath is None or turn.now < group.ask_mac_s:
        return
    by_port = primary.mac is None and primary.port is not None
    by_mac = primary.mac is not None and not primary.port_name
    if not by_port and not by_mac:
        return
    mac = layout.node_mac(group.spec.zone, Index(0))
    frame = neighbour.question_to_all(mac, group.spec.probe_source, _primary_address(group))
    port = FLOOD if primary.port is None else primary.port.number
    turn.say(Transmit(group.datapath, port, frame))
    turn.change(ask_mac_s=turn.now + ASK_EVERY_S)


def _learn_primary(turn: Turn, node: Node | None, answer: Answer, mac: str) -> None:
    primary = turn.group.nodes.get(PRIMARY_INDEX)
    if primary is None:
        return
    if node == primary and primary.mac is None:
        primary = replace(primary, mac=mac)
    elif not primary.port_name and primary.mac == mac:
        port = _port(turn.group, answer.in_port)
        name = "" if port is None else port.name
        primary = replace(primary, port=turn.group.port(name), port_name=name)
    else:
        return
    turn.put(replace(primary, reason="answered for its address"))
    turn.log(Kind.PRIMARY, primary.name, f"found at {primary.port_name}, {primary.mac}")


def _primary_address(group: Group) -> Address:
    return group.spec.primary.address or group.spec.match.address
