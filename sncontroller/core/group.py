"""The state machine of one group: ``step(group, event, now) -> group, commands``.

Owns what each event means. Every step ends in the same way, whatever the event was: nodes follow
their links, health and deadlines, the fleet approaches the wanted number, and the switch is told
where its table should differ. Only where nothing can follow from the event, because all nodes serve
or wait and answer, this end is left out: most events are of that sort, and a new flow always is.
Total: no well-typed event raises.
"""

from __future__ import annotations

from sncontroller.core import (
    adoption,
    bfd,
    fleet,
    health,
    layout,
    measure,
    probing,
    reactive,
    reporting,
    rotation,
    straight,
)
from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.entries import EMPTY
from sncontroller.core.layout import PRIMARY_INDEX, Layout
from sncontroller.core.lifecycle import State
from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import Older
from sncontroller.core.state import Group, Node
from sncontroller.core.turn import Turn

REFUSED_PAUSE_S = 5.0
DATAPATH_TCP_IDLE_S = 86_400.0
"""When the userspace datapath forgets an established connection, unless told otherwise."""
TICK_S, CALM_TICK_S, SHORTEST_TICK_S = 1.25, 5.0, 0.005
"""Longest time that a group with nothing due is left alone, the same for a calm one, and the
shortest at all. A poll every second looks at everything, as a tick does, while a group is not calm:
then no tick is needed beside it."""
_PASSING = (ev.Tick, ev.Reported, ev.Applied, ev.Frame)
"""Events from which nothing follows for a calm group."""
_ANSWERS = (ev.Answer, ev.Heard)
"""Events that say nothing of other nodes than one, nor that time has passed."""
ANNOUNCE_WITHIN_S = 3.0
"""So long after the primary's end, every table that is live announces the address again."""


def new_group(spec: GroupSpec, where: Layout, now: float) -> Group:
    """A group before anything is known of its switch."""
    return Group(spec, where, born_s=now, wanted=spec.scaling.min)


def step(group: Group, event: ev.Event, now: float) -> tuple[Group, tuple[cmd.Command, ...]]:
    """The group after ``event``, and what is to be done for it."""
    turn = Turn(group, now)
    _take_in(turn, event)
    if _is_counting(group, event, turn) or _is_answer(group, event, turn):
        return turn.group, tuple(turn.commands)
    passes = isinstance(event, _PASSING) and turn.group.is_calm
    whole = not passes or now >= _look_s(turn.group, calm=True)
    if whole:
        turn.change(looked_s=now)
        rotation.converge(turn)
        fleet.converge(turn)
    probing.ask(turn)
    reporting.ask(turn)
    if whole:
        bfd.converge(turn)
        rotation.publish(turn)
    turn.change(calm=turn.group.is_calm)
    return turn.group, tuple(turn.commands)


def due_s(group: Group, now: float) -> float:
    """When the group needs its next ``Tick``."""
    look_s = _look_s(group, group.calm)
    return max(now + SHORTEST_TICK_S, min(probing.wake_s(group), reporting.wake_s(group), look_s))


def _look_s(group: Group, calm: bool) -> float:
    """When all that may follow from time alone is to be looked at again."""
    every_s = CALM_TICK_S if calm else TICK_S
    soonest_s = min(straight.wake_s(group, group.looked_s), fleet.wake_s(group))
    return min(group.looked_s + every_s, soonest_s)


def _is_counting(before: Group, event: ev.Event, turn: Turn) -> bool:
    """Whether the event brought no more than numbers: a new flow, or counters of a calm group."""
    if not isinstance(event, ev.Polled):
        return isinstance(event, ev.NewFlow)
    after = turn.group
    steady = before.calm and after.wanted == before.wanted
    return (
        steady
        and not measure.reaches_the_switch(after.spec)
        and turn.now < _look_s(after, calm=True)
    )


def _is_answer(before: Group, event: ev.Event, turn: Turn) -> bool:
    """Whether a node answered, and nothing follows: nothing changed, or the group stays calm."""
    if not isinstance(event, _ANSWERS):
        return False
    return turn.group is before or (before.calm and turn.group.is_calm)


def located(group: Group, switch: ev.SwitchUp) -> bool:
    """Whether this is the switch that the group lives on.

    That is where the primary's port is, unless the bridge has a name. A primary that is dead may
    have none: then it is where the group's entries are.
    """
    spec = group.spec
    if spec.bridge is not None or spec.primary.port is None:
        return switch.bridge == spec.bridge
    if any(port.name == spec.primary.port for port in switch.ports):
        return True
    if group.connected:
        return group.datapath == switch.datapath
    return spec.zone in switch.installed


def _take_in(turn: Turn, event: ev.Event) -> None:
    match event:
        case ev.SwitchUp():
            _switch_up(turn, event)
        case ev.SwitchDown():
            turn.change(datapath=None, view=None)
            turn.log(
                cmd.Kind.SWITCH_DOWN, None, "the switch is disconnected; it goes on forwarding"
            )
        case ev.PortSeen(port=port):
            turn.change(ports={**turn.group.ports, port.name: port})
            _link(turn, port.name)
        case ev.PortGone(port=port):
            turn.change(ports={k: p for k, p in turn.group.ports.items() if k != port.name})
            _link(turn, port.name)
        case ev.Applied(version=version):
            turn.change(live_version=version)
            if version == turn.group.version:
                straight.confirmed(turn)
            _announce(turn)
        case ev.Refused(reason=reason):
            turn.change(apply_again_s=turn.now + REFUSED_PAUSE_S)
            turn.log(cmd.Kind.REFUSED, None, reason)
        case ev.Polled():
            measure.polled(turn, reactive.counted(turn, event))
        case ev.NewFlow():
            reactive.new_flow(turn, event)
        case ev.Answer():
            probing.answered(turn, event)
        case ev.Heard():
            probing.heard(turn, event)
        case ev.Reported():
            reporting.reported(turn, event)
        case ev.BfdSet():
            bfd.done(turn, event)
        case ev.HypervisorResult():
            fleet.finished(turn, event)
        case ev.Asked():
            _asked(turn, event)
        case ev.ScaleAsked(nodes=nodes):
            turn.change(override=nodes)
            measure.decide(turn)
        case ev.Respecified(spec=spec):
            _respecified(turn, spec)
        case _:  # Tick, or a frame that is nobody's answer
            _tick(turn)


def _tick(turn: Turn) -> None:
    again_s = turn.group.apply_again_s
    if again_s is not None and turn.now >= again_s:
        turn.change(view=None, apply_again_s=None)
    _end_adoption(turn)


def _end_adoption(turn: Turn) -> None:
    """A connection that began before us has by now either a pin, or been silent for too long.

    From then on one without a pin is one that lost it, and its slot is the best guess.
    """
    group = turn.group
    silent_s = DATAPATH_TCP_IDLE_S
    if group.spec.pinning != "conntrack":
        silent_s = group.spec.pin.tcp_idle_s
    if group.older is Older.PRIMARY and turn.now - group.adopts_since_s >= silent_s:
        turn.change(older=Older.SLOTS)


def _switch_up(turn: Turn, switch: ev.SwitchUp) -> None:
    group, was_away = turn.group, not turn.group.connected
    installed = switch.installed.get(group.spec.zone, EMPTY)
    forgot = not installed.flows and group.live_version > 0
    at_rest = adoption.goes_straight(installed)
    turn.change(
        datapath=switch.datapath,
        bridge=switch.bridge,
        ports={port.name: port for port in switch.ports},
        view=None,
        straight=group.straight or at_rest,
        moved_s=group.moved_s if at_rest else turn.now,
    )
    turn.log(cmd.Kind.SWITCH_UP, None, f"{switch.bridge} is connected")
    if forgot and set(group.slots) <= {group.primary}:
        turn.change(older=Older.PRIMARY, adopts_since_s=turn.now)  # perhaps it was detached
    elif forgot:
        turn.change(older=Older.SLOTS)
    if group.live_version == 0:
        turn.change(adopts_since_s=turn.now)
        adoption.recover(turn, installed, switch.ports)
    if PRIMARY_INDEX not in turn.group.nodes:
        turn.put(adoption.primary_node(turn))
    group = turn.group
    for node in group.nodes.values():
        turn.update(node.index, probe=None)  # what was asked before got no answer from a node
        if was_away and node.starting:
            turn.update(node.index, since_s=turn.now)  # only now anybody can see it come
        _relink(turn, turn.node(node.index), group.port(node.port_name))


def _announce(turn: Turn) -> None:
    """The switch has just begun to answer for a primary that is dead."""
    group, first = turn.group, turn.group.nodes.get(PRIMARY_INDEX)
    if group.spec.arp == "switch" or first is None or first.deliverable:
        return
    if group.serving and turn.now - first.since_s < ANNOUNCE_WITHIN_S:
        probing.announce(turn)


def _link(turn: Turn, name: str) -> None:
    """A port appeared, changed or went; whose is it?"""
    group = turn.group
    for node in group.nodes.values():
        if node.port_name == name:
            _relink(turn, node, group.port(name))


def _relink(turn: Turn, node: Node, port: ev.Port | None) -> None:
    """The node's port is this now; one that has no name yet has none."""
    if not node.port_name:
        return
    up = port is not None and port.up
    after = health.link_changed(turn.spec.health, node.health, up, turn.now)
    if port == node.port:
        turn.update(node.index, health=after)
        return
    if node.serving:
        turn.change(moved_s=turn.now)  # slots may have moved in the switch, and back
    turn.update(node.index, port=port, health=after, probe=None)


def _asked(turn: Turn, event: ev.Asked) -> None:
    node = next((n for n in turn.group.nodes.values() if n.name == event.node), None)
    if node is None:
        return
    match event.verb:
        case ev.Verb.DRAIN:
            fleet.drain(turn, node, "an operator asked for it", asked=True)
        case ev.Verb.UNDRAIN:
            fleet.undrain(turn, node, "an operator asked for it")
        case _:
            fleet.fail(turn, node, "an operator said so")


def _respecified(turn: Turn, spec: GroupSpec) -> None:
    turn.change(spec=spec, view=None, list_next_s=turn.now)
    turn.change(no_start_before_s=0.0, boot_failures=0)
    turn.log(cmd.Kind.RELOADED, None, "the configuration changed")
    for node in tuple(turn.group.nodes.values()):
        turn.update(node.index, probe=None, retry_s=0.0, sources=())
        measure.weigh(turn, turn.node(node.index))
        _relink(turn, turn.node(node.index), turn.group.port(node.port_name))
    measure.decide(turn)


__all__ = ["Group", "State", "due_s", "layout", "located", "new_group", "step"]
