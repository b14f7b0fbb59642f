"""As many nodes as are wanted: which to start, which to drain, what the hypervisor is asked.

Owns the difference between wanted and present nodes, and the life of hypervisor calls: one at a
time per node, transient errors again after a growing pause, permanent ones not at once.
"""

from __future__ import annotations

import math

from sncontroller.core import adoption, reactive
from sncontroller.core.commands import Kind, ListNodes, StartNode, StopNode
from sncontroller.core.events import Call, HypervisorResult
from sncontroller.core.hypervisor import NodeRequest
from sncontroller.core.layout import MAX_INDEX, PRIMARY_INDEX, Index
from sncontroller.core.lifecycle import State, Trigger
from sncontroller.core.state import Group, Node
from sncontroller.core.turn import Turn

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LIST_EVERY_S = 15.0
PERMANENT_PAUSE_S = 60.0


def converge(turn: Turn) -> None:
    """Approach the wanted number of nodes, and say what the hypervisor has to do for it."""
    group, heard = turn.group, turn.group.listed or turn.group.spec.hypervisor is None
    if not group.settled and heard and PRIMARY_INDEX in group.nodes:
        adoption.settle(turn)
    if group.spec.hypervisor is None:
        return
    _list(turn)
    if turn.group.settled:
        _match_wanted(turn)
    for node in turn.group.having(State.REQUESTED):
        _start(turn, node)
    for node in turn.group.having(State.GONE):
        _stop(turn, node)


def wake_s(group: Group) -> float:
    """When the hypervisor is to be asked what nodes there are, if that was not due already."""
    waits = group.spec.hypervisor is not None and group.listing_s is None
    return group.list_next_s if waits and group.list_next_s > group.looked_s else math.inf


def drain(turn: Turn, node: Node, reason: str, asked: bool = False) -> bool:
    """No new flows for the node. One that has none goes at once, except the primary: it stays."""
    if not (node.ours or node.serving) or not turn.go(node, Trigger.DRAIN, reason):
        return False
    turn.update(node.index, quiet_since_s=turn.now, seen_packets=None, asked=asked)
    turn.log(Kind.DRAINING, node.name, reason)
    return True


def undrain(turn: Turn, node: Node, reason: str) -> bool:
    """New flows again for a draining node, or for one that an operator had called dead."""
    if not turn.go(node, Trigger.UNDRAIN, reason):
        return False
    turn.update(node.index, asked=False)
    turn.log(Kind.UNDRAINED, node.name, reason)
    return True


def fail(turn: Turn, node: Node, reason: str) -> bool:
    """Treat the node as dead, at an operator's word: it does not come back by itself."""
    if not turn.go(node, Trigger.DIE, reason):
        return False
    turn.log(Kind.FAILED, node.name, reason)
    turn.update(node.index, asked=True)
    if node.ours:
        turn.go(turn.node(node.index), Trigger.GIVE_UP, reason)
    return True


def finished(turn: Turn, result: HypervisorResult) -> None:
    """Take in the result of a hypervisor call."""
    if result.call is Call.LIST:
        _listed(turn, result)
        return
    node = next((n for n in turn.group.nodes.values() if n.name == result.node), None)
    if node is None or node.call is not result.call:
        return
    turn.update(node.index, call=None)
    if result.error is not None:
        _failed(turn, turn.node(node.index), result)
    elif result.call is Call.START:
        turn.update(node.index, attempts=0)
        for made in (info for info in result.nodes if info.name == node.name):
            adoption.take_as_made(turn, turn.node(node.index), made)
        turn.go(turn.node(node.index), Trigger.CREATED, "the hypervisor has it")
        turn.log(Kind.STARTED, node.name, "the hypervisor has it", result.took_s)
    else:
        _removed(turn, node, result)


def pause_s(attempts: int) -> float:
    """How long to wait after that many failures in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30))


def _match_wanted(turn: Turn) -> None:
    """As many nodes as are to serve, and those of the warm pool on top.

    A node that the policy drained is as good as a warm one, and becomes one if the pool needs it.
    The pool waits until somebody serves: at the start that is the primary.
    """
    group = turn.group
    enough = f"{group.wanted} nodes are enough: {group.memory.reason}"
    full = f"{enough}; {group.warm_wanted} more are kept warm" if group.standby else enough
    for node in _spare(turn)[: max(0, -group.short)]:
        drain(turn, node, full)
    for node in _dispensable(turn)[: max(0, len(group.serving) - group.wanted)]:
        drain(turn, node, enough)
    soon = [n for n in turn.group.having(State.DRAINING) if n.ours and not n.asked]
    missing = group.short - (len(soon) if group.spec.pool.warm else 0)
    missing -= 0 if group.serving else group.warm_wanted
    while missing > 0 and turn.now >= group.no_start_before_s and _request(turn):
        missing -= 1


def _spare(turn: Turn) -> list[Node]:
    """Nodes that serve nobody yet: those that are not ready first, of them the youngest."""
    mine = [n for n in (*turn.group.starting, *turn.group.standby) if n.ours]
    return sorted(mine, key=lambda n: (not n.starting, -n.index))


def _dispensable(turn: Turn) -> list[Node]:
    """Serving nodes that may go, the youngest first."""
    group = turn.group
    mine = [n for n in group.serving if n.ours and n.index != group.primary]
    return sorted(mine, key=lambda n: -n.index)


def _request(turn: Turn) -> bool:
    """Ask for one more node, under the lowest free index."""
    used = turn.group.nodes
    index = next((i for i in range(2, MAX_INDEX + 1) if i not in used), None)
    if index is None:
        return False
    node = adoption.new_node(turn, Index(index), State.REQUESTED, turn.group.memory.reason)
    turn.put(node)
    turn.update(node.index, requested_s=turn.now)
    return True


def _start(turn: Turn, node: Node) -> None:
    if node.call is not None or turn.now < node.retry_s or node.mac is None:
        return
    addresses = (turn.group.spec.address,)
    request = NodeRequest(node.name, node.index, node.port_name, node.mac, addresses)
    turn.update(node.index, call=Call.START, called_s=turn.now)
    turn.say(StartNode(turn.group.spec.zone, request))


def _stop(turn: Turn, node: Node) -> None:
    if node.call is None and turn.now >= node.retry_s:
        turn.update(node.index, call=Call.STOP, called_s=turn.now)
        turn.say(StopNode(turn.group.spec.zone, node.name))


def _list(turn: Turn) -> None:
    spec = turn.group.spec.hypervisor
    if spec is not None and spec.orphans == "destroy" and PRIMARY_INDEX not in turn.group.nodes:
        return  # only the switch can say which nodes serve: those are no orphans
    if turn.group.listing_s is None and turn.now >= turn.group.list_next_s:
        turn.change(listing_s=turn.now)
        turn.say(ListNodes(turn.group.spec.zone))


def _listed(turn: Turn, result: HypervisorResult) -> None:
    asked_s, attempts = turn.group.listing_s or turn.now, turn.group.list_attempts + 1
    turn.change(listing_s=None)
    if result.error is not None:
        turn.change(list_attempts=attempts, list_next_s=turn.now + pause_s(attempts))
        if attempts == 1:
            turn.log(Kind.PLUGIN_ERROR, None, f"cannot list nodes: {result.error}")
        return
    turn.change(list_attempts=0, list_next_s=turn.now + LIST_EVERY_S)
    adoption.compare(turn, result.nodes, asked_s)
    turn.change(listed=True)


def _failed(turn: Turn, node: Node, result: HypervisorResult) -> None:
    attempts = node.attempts + 1
    wait_s = pause_s(attempts)
    reason = f"cannot {result.call.value} it: {result.error}"
    turn.update(node.index, attempts=attempts, retry_s=turn.now + wait_s, reason=reason)
    if result.permanent and result.call is Call.START:
        turn.go(turn.node(node.index), Trigger.GIVE_UP, reason)
        turn.change(no_start_before_s=turn.now + PERMANENT_PAUSE_S)
        wait_s = PERMANENT_PAUSE_S
    turn.log(Kind.PLUGIN_ERROR, node.name, f"{reason}; again in {wait_s:.0f} s", result.took_s)


def _removed(turn: Turn, node: Node, result: HypervisorResult) -> None:
    turn.remove(node.index)
    reactive.forget_flows(turn, node.index)
    turn.log(Kind.STOPPED, node.name, node.reason, result.took_s)
