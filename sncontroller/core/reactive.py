"""``pinning: reactive``: a node for every new flow that the switch asks about.

Owns the way from a packet without a pin to the pin, and what the polls say about pins. Who is
chosen is ``choice``'s; that a switch tells is ``events``'.
"""

from __future__ import annotations

from dataclasses import replace

from sncontroller.core import choice
from sncontroller.core.choice import Choices, Given
from sncontroller.core.commands import AddPin, DropPins
from sncontroller.core.events import NewFlow, NodeCounters, Polled
from sncontroller.core.layout import Index
from sncontroller.core.model import PROTOCOL_NUMBERS
from sncontroller.core.plan import Older, PlanNode, pin, to_node
from sncontroller.core.state import Group, Node
from sncontroller.core.turn import Turn


def new_flow(turn: Turn, event: NewFlow) -> None:
    """Choose a node for the flow and pin it; nothing while nobody serves.

    Of a flow that was given away just now another first packet has come, which gets the same node
    and is not counted. A connection that ends is no new flow.
    """
    group = turn.group
    weights = _weights(group)
    known = group.choices.recent.node(event.flow, event.opening, turn.now)
    if known is not None and known in weights:
        _answer(turn, event, group.nodes[known], pinned=event.opening is not None)
        return
    chosen = _older(group, event) or _newer(group, event, weights)
    if chosen is None:
        return
    if not event.ending:
        given = Given(chosen, event.opening, turn.now)
        turn.change(choices=group.choices.chosen(event.flow, given, weights))
    _answer(turn, event, group.nodes[chosen], pinned=False)


def counted(turn: Turn, poll: Polled) -> Polled:
    """Take in how many pins each node has; the poll, with new flows as we gave them away.

    No entry of the switch counts them: it asked us about each.
    """
    if turn.group.spec.pinning != "reactive":
        return poll
    for index, counters in poll.nodes.items():
        if counters.active_flows is not None and index in turn.group.nodes:
            choices = turn.group.choices
            after = choices.counted(index, counters.active_flows, counters.flows_given)
            turn.change(choices=after)
    return replace(poll, nodes={i: _told(turn.group.choices, i, c) for i, c in poll.nodes.items()})


def forget_flows(turn: Turn, index: Index) -> None:
    """The node has no flows any more: pins that are left go, and it is counted from zero."""
    group = turn.group
    turn.change(choices=group.choices.counted(index, 0, None))
    if group.datapath is not None and group.spec.pinning != "conntrack":
        turn.say(DropPins(group.datapath, group.spec.zone, index))


def _told(choices: Choices, index: Index, counters: NodeCounters) -> NodeCounters:
    """With what passed by us: each flow, and its first packet."""
    given = choices.given.get(index, 0)
    packets = None if counters.packets is None else counters.packets + given
    return counters._replace(new_flows=given, packets=packets)


def _answer(turn: Turn, event: NewFlow, node: Node, pinned: bool) -> None:
    """Pin the flow, and hand its first packet to the node.

    Not through the tables again: an entry that sends every SYN to us would send it once more. A SYN
    that was repeated writes no second pin, and one that ends its connection none at all: nothing
    would end that pin. If the first one got lost, the next packet has none and asks for it.
    """
    group = turn.group
    if node.port is None or node.mac is None:
        return
    entry = (
        None if pinned or event.ending else pin(group.spec, event.flow, node.index, group.layout)
    )
    actions = to_node(group.spec, PlanNode(node.index, node.port.number, node.mac))
    nth = group.choices.given.get(node.index, 0)
    turn.say(AddPin(event.datapath, entry, actions, event.in_port, event.frame, nth))


def _weights(group: Group) -> dict[Index, float]:
    """The weights of those that take new flows."""
    weights = ((node.index, group.weights.get(node.index, 0.0)) for node in group.serving)
    return {index: weight for index, weight in weights if weight > 0}


def _older(group: Group, event: NewFlow) -> Index | None:
    """The primary, for a connection that began before us."""
    primary = group.nodes.get(group.primary)
    begun = event.flow.ip_proto == PROTOCOL_NUMBERS["tcp"] and event.opening is None
    if not begun or event.pinned is not None or group.older is not Older.PRIMARY:
        return None
    return primary.index if primary is not None and primary.deliverable else None


def _newer(group: Group, event: NewFlow, weights: dict[Index, float]) -> Index | None:
    if not weights or not group.slots:
        return None
    kind = group.spec.balance.kind
    return choice.choose(kind, group.choices, weights, group.slots, event.flow)
