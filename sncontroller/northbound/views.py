"""What the outside sees of the groups: plain JSON values, computed from their state.

Owns the shape of ``GET /v1/status``; pure functions, no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sncontroller.core.commands import Logged
from sncontroller.core.state import Group, Node


def status(controller: str, version: str, groups: Iterable[Group], now: float) -> dict[str, Any]:
    """Everything an operator may ask for, as one JSON object."""
    shown = sorted(groups, key=lambda group: group.spec.name)
    return {
        "controller": controller,
        "version": version,
        "time_s": now,
        "groups": [group_status(group) for group in shown],
    }


def group_status(group: Group) -> dict[str, Any]:
    """One group, its nodes by index and its event log, newest last."""
    spec = group.spec
    slots = Counter(group.slots)
    return {
        "name": spec.name,
        "id": spec.zone,
        "addresses": [spec.address],
        "protocols": list(spec.match.protocol),
        "ports": [
            f"{p.first}-{p.last}" if p.last > p.first else str(p.first) for p in spec.match.ports
        ],
        "bridge": group.bridge,
        "lives_with": _lives_with(group),
        "mode": spec.mode,
        "delivery": spec.delivery,
        "pinning": spec.pinning,
        "connected": group.connected,
        "live": group.connected and group.version == group.live_version,
        "load": group.load,
        "wanted": group.wanted,
        "override": group.override,
        "active": len(group.serving),
        "warm": len(group.standby),
        "warm_wanted": group.warm_wanted,
        "reason": group.memory.reason,
        "held": [group.nodes[i].name for i in sorted(group.nodes) if i in group.held],
        "held_reason": group.held_reason,
        "slots_moved_total": group.slots_moved,
        "nodes": [_node(group, group.nodes[i], slots[i]) for i in sorted(group.nodes)],
        "events": [event(entry) for entry in group.log],
    }


def _lives_with(group: Group) -> str:
    """What a bridge must have, or be called, to be the group's."""
    spec = group.spec
    if spec.bridge is not None or spec.primary.port is None:
        return f"bridge {spec.bridge}"
    return f"port {spec.primary.port}"


def event(entry: Logged) -> dict[str, Any]:
    """One line of an event log."""
    return {
        "time_s": entry.time_s,
        "kind": entry.kind.value,
        "node": entry.node,
        "reason": entry.reason,
        "took_s": entry.took_s,
    }


def _node(group: Group, node: Node, slots: int) -> dict[str, Any]:
    return {
        "name": node.name,
        "index": int(node.index),
        "role": "primary" if node.index == group.primary else "secondary",
        "state": node.state.value,
        "port": node.port_name,
        "mac": node.mac,
        "slots": slots,
        "load": None if node.load is None else node.load.value,
        "load_signal": None if node.load is None else node.load.signal,
        "load_unknown": [] if node.load is None else list(node.load.unknown),
        "signals": dict(node.signals),
        "reports": [source.trouble or "ok" for source in node.sources],
        "health": {
            "verdict": node.health.verdict.value,
            "detail": node.health.detail,
            "reason": node.health.reason,
            "latency_s": node.latency_s,
        },
        "since_s": node.since_s,
        "asked": node.asked,
        "reason": node.reason,
    }
