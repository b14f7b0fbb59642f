"""The life of a node: states, what may happen in each, and where that leads.

Owns the transition table and nothing else; ``docs/lifecycle.md`` draws its picture from it. What
triggers a transition is decided in ``group``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """Where a node is in its life."""

    __hash__ = object.__hash__  # there is one of each; Enum's own is Python

    REQUESTED = "requested"
    """The hypervisor was asked for it."""
    BOOTING = "booting"
    """The hypervisor has it; its port is not up yet."""
    PROBING = "probing"
    """Its port is up; its service has not answered often enough yet."""
    STANDBY = "standby"
    """Its service answers; it waits in the group's warm pool, and takes no flows."""
    WARMING = "warming"
    """It takes flows, with a weight that still rises."""
    ACTIVE = "active"
    """It takes flows."""
    DRAINING = "draining"
    """It takes no new flows and keeps those it has."""
    FAILED = "failed"
    """It takes no packets: link down, silent, or said to be dead."""
    GONE = "gone"
    """It has nothing to do with the group any more; the hypervisor is asked to destroy it."""


class Trigger(Enum):
    """What happens to a node."""

    CREATED = "created"
    LINKED = "linked"
    HEALTHY = "healthy"
    PARK = "park"
    TAKE = "take"
    WARM = "warm"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    DRAINED = "drained"
    KEEP = "keep"
    DIE = "die"
    GIVE_UP = "give up"


SERVING = frozenset({State.WARMING, State.ACTIVE})
"""States in which a node owns slots."""
DELIVERABLE = SERVING | {State.DRAINING}
"""States in which a node gets the packets of flows pinned to it."""
STARTING = frozenset({State.REQUESTED, State.BOOTING, State.PROBING})

TRANSITIONS: Mapping[State, Mapping[Trigger, State]] = {
    State.REQUESTED: {
        Trigger.CREATED: State.BOOTING,
        Trigger.DRAIN: State.GONE,
        Trigger.DIE: State.GONE,
        Trigger.GIVE_UP: State.GONE,
    },
    State.BOOTING: {
        Trigger.LINKED: State.PROBING,
        Trigger.DRAIN: State.GONE,
        Trigger.DIE: State.FAILED,
        Trigger.GIVE_UP: State.GONE,
    },
    State.PROBING: {
        Trigger.HEALTHY: State.WARMING,
        Trigger.PARK: State.STANDBY,
        Trigger.DRAIN: State.GONE,
        Trigger.DIE: State.FAILED,
        Trigger.GIVE_UP: State.GONE,
    },
    State.STANDBY: {
        Trigger.TAKE: State.WARMING,
        Trigger.DRAIN: State.GONE,
        Trigger.DIE: State.FAILED,
        Trigger.GIVE_UP: State.GONE,
    },
    State.WARMING: {
        Trigger.WARM: State.ACTIVE,
        Trigger.DRAIN: State.DRAINING,
        Trigger.DIE: State.FAILED,
    },
    State.ACTIVE: {
        Trigger.DRAIN: State.DRAINING,
        Trigger.DIE: State.FAILED,
    },
    State.DRAINING: {
        Trigger.UNDRAIN: State.ACTIVE,
        Trigger.DRAINED: State.GONE,
        Trigger.KEEP: State.STANDBY,
        Trigger.DIE: State.FAILED,
    },
    State.FAILED: {
        Trigger.LINKED: State.PROBING,
        Trigger.UNDRAIN: State.PROBING,
        Trigger.DRAIN: State.GONE,
        Trigger.GIVE_UP: State.GONE,
    },
    State.GONE: {},
}


def follows(state: State, trigger: Trigger) -> State | None:
    """The state that ``trigger`` leads to, or ``None`` where it cannot happen."""
    return TRANSITIONS[state].get(trigger)


def diagram() -> str:
    """The transition table as a Mermaid state diagram."""
    arrows = [
        f"    {state.value} --> {after.value}: {trigger.value}"
        for state, ways in TRANSITIONS.items()
        for trigger, after in ways.items()
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> requested", *arrows, "    gone --> [*]", ""])
