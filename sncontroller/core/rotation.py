"""Who takes flows, and how many slots each: from health to the table on the switch.

Owns the state transitions that follow from links, probes and time, the slot table, and the command
that makes the switch agree. A node that is dead by its link leaves at once; one that only looks
dead may be held by the breaker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sncontroller.core import balance, bfd, health, reactive, slots, straight
from sncontroller.core.commands import Apply, Kind
from sncontroller.core.fleet import pause_s
from sncontroller.core.layout import PRIMARY_INDEX
from sncontroller.core.lifecycle import SERVING, State, Trigger
from sncontroller.core.plan import Drain, PlanNode, View, desired
from sncontroller.core.state import Node
from sncontroller.core.turn import Turn

RETURN_WITHIN_S = 30.0
"""A failed node of ours that is not back by then is replaced."""
_IN_SIGHT = frozenset({State.PROBING, State.STANDBY, State.FAILED}) | SERVING
_NOBODY: frozenset[int] = frozenset()


def converge(turn: Turn) -> None:
    """Let every node follow its link, its health and the clock."""
    _breaker(turn)
    for index in turn.group.nodes:
        _advance(turn, turn.node(index))
    _take_back(turn)
    _take_warm(turn)
    _serve_in_need(turn)
    _promote(turn)


def publish(turn: Turn) -> None:
    """Compute the slot table, and tell the switch where it should differ from before."""
    group = turn.group
    if group.datapath is None or not (group.nodes or group.view):
        return
    _assign(turn)
    view = _view(turn)
    if view == turn.group.view:
        return
    version = group.version + 1
    may = turn.group.straight or view.straight
    turn.change(view=view, version=version, apply_again_s=None, straight=may)
    table = desired(group.spec, view, group.layout)
    turn.say(Apply(group.datapath, group.spec.zone, version, table))


def _breaker(turn: Turn) -> None:
    group = turn.group
    seen = (n for n in group.having(*_IN_SIGHT) if not (n.state is State.FAILED and n.asked))
    healths = {int(n.index): n.health for n in seen}
    if not group.held and all(seen.is_sound for seen in healths.values()):
        turn.change(waits=_NOBODY)
        return
    serving = frozenset(int(n.index) for n in group.serving)
    spec = group.spec.health
    state = health.breaker(spec, healths, serving, turn.now)
    if state.held - group.held:
        turn.log(Kind.BREAKER, None, state.reason)
    soon = {i: _suspected(h) if i in serving else h for i, h in healths.items()}
    waits = health.breaker(spec, soon, serving, turn.now).held & serving
    held = state.held | _still_held(turn, healths)
    if group.held and not held:
        turn.log(Kind.BREAKER, None, "over: enough nodes answer again")
    reason = (state.reason or group.held_reason) if held else ""
    turn.change(held=held, waits=waits, held_reason=reason)


def _suspected(seen: health.Health) -> health.Health:
    """As if it were dead, when its last probe was bad.

    Probes of all nodes that get lost at one time are not noticed at one time: the first node to
    look dead waits for the others' next probe.
    """
    return seen if not seen.bad else replace(seen, service=health.Verdict.DOWN)


def _still_held(turn: Turn, healths: Mapping[int, health.Health]) -> frozenset[int]:
    """Those held before, while others are only just answering again: they may be the next."""
    window_s = turn.group.spec.health.breaker.window_s
    up = (seen.since_s for seen in healths.values() if seen.verdict is health.Verdict.UP)
    if turn.now - max(up, default=float("-inf")) > window_s:
        return frozenset()
    return frozenset(i for i in turn.group.held & healths.keys() if healths[i].link_up)


def _advance(turn: Turn, node: Node) -> None:
    """One node, one transition at most per step and per cause."""
    match node.state:
        case State.BOOTING:
            if node.linked and node.mac is not None:
                turn.go(node, Trigger.LINKED, "its port is up")
                _advance(turn, turn.node(node.index))
            else:
                _expire(turn, node, "its port did not come up")
        case State.PROBING:
            if _fit(turn, node):
                _ready(turn, node)
            else:
                _expire(turn, node, "no service", f": {node.health.reason}")
        case State.WARMING:
            if not _lost(turn, node) and turn.now - node.since_s >= turn.group.spec.balance.ramp_s:
                turn.go(node, Trigger.WARM, node.reason)
        case State.ACTIVE | State.STANDBY:
            _lost(turn, node)
        case State.DRAINING:
            if not _lost(turn, node):
                _drained(turn, node)
        case State.FAILED:
            _return_or_replace(turn, node)
        case _:
            pass


def _fit(turn: Turn, node: Node) -> bool:
    held = node.index in turn.group.held
    if not bfd.settled(turn.group, node, turn.now):
        return False
    return node.linked and (held or node.health.verdict is health.Verdict.UP)


def _ready(turn: Turn, node: Node) -> None:
    """The node's service answers: into rotation, or into the warm pool where enough serve."""
    took_s = None if node.requested_s is None else turn.now - node.requested_s
    if took_s is not None:
        turn.change(boot_s=took_s)
        turn.update(node.index, requested_s=None)
    turn.change(boot_failures=0)
    group, reason = turn.group, node.health.reason or "takes flows"
    if node.ours and group.spec.pool.warm and len(group.serving) >= group.wanted:
        turn.go(turn.node(node.index), Trigger.PARK, "ready, in the warm pool")
        turn.log(Kind.STANDBY, node.name, "ready, in the warm pool", took_s)
        return
    turn.go(turn.node(node.index), Trigger.HEALTHY, reason)
    turn.log(Kind.ACTIVE, node.name, reason, took_s)
    _advance(turn, turn.node(node.index))


def _take_back(turn: Turn) -> None:
    """A draining node is the quickest new one; not one that an operator drained."""
    if not turn.group.settled:
        return
    for node in sorted(turn.group.having(State.DRAINING), key=lambda n: -n.index):
        if _lacks(turn) and not node.asked and node.linked:
            reason = f"{turn.group.wanted} nodes are wanted again"
            turn.go(node, Trigger.UNDRAIN, reason)
            turn.log(Kind.UNDRAINED, node.name, reason)


def _take_warm(turn: Turn) -> None:
    """A node of the warm pool takes the place of one that is wanted and not there."""
    for node in turn.group.standby:
        if _lacks(turn):
            serve = f"{len(turn.group.serving)} of {turn.group.wanted} wanted nodes served"
            reason = f"taken from the warm pool: {serve}"
            turn.go(node, Trigger.TAKE, reason)
            turn.log(Kind.ACTIVE, node.name, reason, 0.0)
            _advance(turn, turn.node(node.index))


def _lacks(turn: Turn) -> bool:
    return len(turn.group.serving) < turn.group.wanted


def _lost(turn: Turn, node: Node) -> bool:
    """Take a node out that is dead."""
    if not node.linked:
        why = "its port is gone" if node.port is None else node.port.down_by
    elif node.health.verdict is health.Verdict.DOWN and not _is_spared(turn, node):
        why = node.health.reason
    else:
        return False
    turn.go(node, Trigger.DIE, why)
    turn.log(Kind.FAILED, node.name, why)
    return True


def _is_spared(turn: Turn, node: Node) -> bool:
    """Whether silence alone is no reason: the breaker has its doubts about the probes."""
    held, waits = turn.group.held, turn.group.waits
    if node.state is State.DRAINING:
        return bool(held or waits)
    return node.index in held or node.index in waits


def _drained(turn: Turn, node: Node) -> None:
    if not node.ours:
        return
    spec, tracked = turn.group.spec.drain, node.rates.active_flows
    polled_s = turn.group.polled_s  # what has happened since then, nobody has counted
    quiet_s = polled_s - (node.quiet_since_s or node.since_s)
    if tracked == 0 and quiet_s > 0 and polled_s > node.since_s + 1:
        why = "its last flow has ended"
    elif tracked is None and quiet_s >= spec.idle_s:
        why = f"no packet of its flows for {quiet_s:.0f} s"
    elif turn.now - node.since_s >= spec.deadline_s:
        why = f"drain deadline of {spec.deadline_s:.0f} s"
    else:
        return
    kept = bool(turn.group.spec.pool.warm) and turn.group.short > 0 and not node.asked
    why = f"{why}; kept in the warm pool" if kept else why
    turn.go(node, Trigger.KEEP if kept else Trigger.DRAINED, why)
    turn.log(Kind.DRAINED, node.name, why, turn.now - node.since_s)
    if kept:
        reactive.forget_flows(turn, node.index)


def _return_or_replace(turn: Turn, node: Node) -> None:
    if not node.asked and node.mac is not None and _fit(turn, node):
        turn.go(node, Trigger.LINKED, "it answers again")
        _advance(turn, turn.node(node.index))
        return
    if node.health.damped and not node.asked:
        node = turn.update(node.index, reason=node.health.reason)
    if node.ours and turn.now - node.since_s >= RETURN_WITHIN_S:
        turn.go(node, Trigger.GIVE_UP, f"{node.reason}; not back in {RETURN_WITHIN_S:.0f} s")


def _expire(turn: Turn, node: Node, what: str, detail: str = "") -> None:
    """Give up a node that does not come into service; the next one has to wait.

    While no switch is connected, nobody knows: the node may be one of before that serves.
    """
    spec = turn.group.spec.hypervisor
    if not node.ours or spec is None or not turn.group.connected:
        return
    if turn.now - node.since_s < spec.boot_deadline_s:
        return
    failures = turn.group.boot_failures + 1
    wait_s = pause_s(failures)
    why = f"{what} within {spec.boot_deadline_s:.0f} s{detail}"
    turn.go(node, Trigger.GIVE_UP, why)
    turn.change(
        boot_failures=failures,
        no_start_before_s=max(turn.group.no_start_before_s, turn.now + wait_s),
    )
    turn.log(Kind.FAILED, node.name, f"{why}; the next one in {wait_s:.0f} s")


def _serve_in_need(turn: Turn) -> None:
    """With nobody else left, draining nodes take new flows again."""
    if turn.group.serving:
        return
    for node in turn.group.having(State.DRAINING):
        turn.go(node, Trigger.UNDRAIN, "no other node is left")
        turn.update(node.index, asked=False)
        turn.log(Kind.UNDRAINED, node.name, "no other node is left")


def _promote(turn: Turn) -> None:
    """Somebody must stand for the group's address: the configured primary, while it is there."""
    group = turn.group
    first = group.nodes.get(PRIMARY_INDEX)
    if first is None or first.mac is None:
        return
    serving = [node.index for node in group.serving]
    stays = group.primary != PRIMARY_INDEX and group.primary in serving
    if first.deliverable and not (stays and not group.spec.primary.preempt):
        heir = PRIMARY_INDEX
    else:
        heir = group.primary if stays or not serving else min(serving)
    if heir != group.primary:
        was = group.nodes.get(group.primary)
        turn.change(primary=heir)
        why = "the configured primary is back"
        if heir != PRIMARY_INDEX:
            why = f"{'no node' if was is None else was.name} serves no longer; the address stays"
        turn.log(Kind.PRIMARY, group.nodes[heir].name, why)


def _assign(turn: Turn) -> None:
    """The slot table for the nodes that serve now."""
    group = turn.group
    nodes = [
        balance.Candidate(n.index, n.serving, n.since_s if n.state is State.WARMING else None)
        for n in group.nodes.values()
    ]
    loads = {int(n.index): None if n.load is None else n.load.value for n in group.serving}
    weights, memory = balance.weights(group.spec.balance, nodes, loads, group.balance, turn.now)
    if weights == group.weights and group.slots:
        turn.change(balance=memory)
        return
    table = slots.slot_table(group.slots or None, weights)
    if straight.forbids(turn, table):
        return
    moved = slots.moves(group.slots, table) if group.slots and table else 0
    moved_s = group.moved_s if table == group.slots else turn.now
    turn.change(slots=table, weights=weights, balance=memory, moved_s=moved_s)
    turn.change(slots_moved=group.slots_moved + moved)


def _stands(turn: Turn, first: Node) -> bool:
    """Whether the configured primary itself answers for the address."""
    return first.deliverable and turn.group.primary == PRIMARY_INDEX


def _view(turn: Turn) -> View:
    group = turn.group
    known = (n for n in group.nodes.values() if n.port is not None and n.mac is not None)
    nodes = tuple(
        PlanNode(
            n.index,
            n.port.number,
            n.mac,
            drain=Drain(int(n.since_s), n.asked) if n.state is State.DRAINING else None,
            delivers=n.deliverable,
            failed=n.state is State.FAILED and n.asked,
            pins=not n.full,
        )
        for n in sorted(known, key=lambda n: n.index)
        if n.port is not None and n.mac is not None and n.state is not State.GONE
    )
    first = group.nodes.get(PRIMARY_INDEX)
    return View(
        nodes=nodes,
        slots=group.slots,
        primary=group.primary,
        primary_mac=None if first is None else first.mac,
        primary_port=None if first is None or first.port is None else first.port.number,
        primary_serves=first is not None and (_stands(turn, first) or first.mac is None),
        ingress=group.ingress,
        older=group.older,
        straight=straight.wanted(group, turn.now),
    )
