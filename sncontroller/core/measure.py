"""From a poll to loads, from loads to the number of nodes that the policy wants.

Owns the reading of statistics: which counters make a node's load, which other signals belong to it,
and when a draining node is quiet.
"""

from __future__ import annotations

from collections.abc import Mapping

from sncontroller.core import latency, load, pins, report, scaling
from sncontroller.core.balance import BalanceKind
from sncontroller.core.commands import Kind
from sncontroller.core.events import NodeCounters, Polled
from sncontroller.core.lifecycle import State
from sncontroller.core.load import Counters, Sample
from sncontroller.core.model import GroupSpec
from sncontroller.core.state import Node
from sncontroller.core.turn import Turn


def polled(turn: Turn, poll: Polled) -> None:
    """Take in one round of statistics, and decide how many nodes are wanted.

    A node that nothing was heard of since the last round costs a comparison.
    """
    group = turn.group
    still_s, learns, tell = group.polled_s, group.spec.pinning == "learn", _tell(group.spec)
    turn.change(polled_s=max(still_s, poll.at_s))
    for index, node in group.nodes.items():
        counters = poll.nodes.get(index)
        if counters is None:
            weigh(turn, node)
            continue
        told = _told(turn, node) if tell or node.told else node.told
        _measure(turn, node, counters, told, poll.at_s, still_s)
        if learns:
            pins.counted(turn, turn.node(index), counters.active_flows)
    decide(turn)


def reaches_the_switch(spec: GroupSpec) -> bool:
    """Whether a poll may change the group's entries while its nodes stay as they are."""
    return spec.pinning == "learn" or spec.balance.kind is BalanceKind.LEAST_LOAD


def weigh(turn: Turn, node: Node) -> None:
    """Bring the node's signals and its load up to date: what is too old is unknown."""
    told = _told(turn, node)
    turn.update(node.index, told=told, load=_load(turn, node.rates, told))


def _load(turn: Turn, rates: load.Rates, told: Mapping[str, float | None]) -> load.Load | None:
    capacity = turn.spec.capacity
    return None if capacity is None else load.load_of(rates, capacity, told)


def _tell(spec: GroupSpec) -> bool:
    """Whether nodes have signals that are not counted by the switch."""
    return bool(spec.reports) or spec.health.asks


def _told(turn: Turn, node: Node) -> Mapping[str, float | None]:
    """The signals that are not counted by the switch: probe latency, and the node's reports."""
    spec = turn.spec
    told = {
        name: report.known(node.known, name, turn.now)
        for source in spec.reports
        for name in source.signals
    }
    if spec.health.asks:
        value = latency.known(node.latency, turn.now, spec.health.latency_kept_s)
        told[load.Signal.PROBE_LATENCY.value] = value
    return node.told if told == node.told else told


def decide(turn: Turn) -> None:
    """Let the scaling policy look at the group; it decides nothing before it knows all nodes."""
    group = turn.group
    if group.datapath is None or not group.settled:
        return
    serving = group.serving
    observation = scaling.Observation(
        loads={int(n.index): None if n.load is None else n.load.value for n in serving},
        serving=len(serving),
        starting=min(len(group.starting), max(0, group.wanted - len(serving))),
        draining=len(tuple(group.having(State.DRAINING))),
        boot_s=group.lead_s,
        override=group.override,
        complete=not any(n.load.unknown for n in serving if n.load is not None),
    )
    decision, memory = scaling.decide(group.spec.scaling, group.memory, observation, turn.now)
    turn.change(memory=memory, wanted=decision.wanted)
    if decision.wanted != group.wanted:
        turn.log(Kind.WANTED, None, f"{group.wanted} -> {decision.wanted} nodes: {decision.reason}")


def _measure(
    turn: Turn,
    node: Node,
    counters: NodeCounters,
    told: Mapping[str, float | None],
    at_s: float,
    still_s: float,
) -> None:
    seen = Counters(
        counters.new_flows,
        _sum(counters.packets, counters.reply_packets),
        _sum(counters.bytes, counters.reply_bytes),
        counters.port_drops,
        counters.active_flows,
    )
    quiet_since_s = node.quiet_since_s
    counted = counters.packets is not None or node.state is not State.DRAINING
    if told is node.told and quiet_since_s is not None and counted and node.tracker.stays(seen):
        return
    tracker = load.update(node.tracker, Sample(seen, at_s), still_s)
    rates = tracker.rates
    if quiet_since_s is None or counters.packets != node.seen_packets or not counted:
        quiet_since_s = turn.now
    turn.update(
        node.index,
        tracker=tracker,
        rates=rates,
        told=told,
        load=_load(turn, rates, told),
        seen_packets=node.seen_packets if counters.packets is None else counters.packets,
        quiet_since_s=quiet_since_s,
    )


def _sum(there: int | None, back: int | None) -> int | None:
    """The sum, unknown where a part of it is."""
    return None if there is None or back is None else there + back
