"""What a group knows that neither its switch nor its hypervisor can tell the next controller.

Owns that value and its form as text. Where the text is kept is the shell's business. Nodes, slots,
pins and drains are not in it: the switch has them, and what it says is true.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter

from sncontroller.core.scaling import Demand, Headroom, Pattern
from sncontroller.core.state import Group


@dataclass(frozen=True, slots=True)
class Lasting:
    """What outlives a controller; nothing of it is needed to serve."""

    override: int | None = None
    """The number of nodes an operator asked for."""
    boot_s: float | None = None
    """How long the last node took from request to a service that answers."""
    headroom: Headroom = field(default_factory=Headroom)
    """How demand trembled in the last hour."""
    pattern: Pattern = field(default_factory=Pattern)
    """The minutes of the last eight days."""


_ADAPTER = TypeAdapter(Lasting)


def lasting(group: Group) -> Lasting:
    """What the next controller should know of the group."""
    learnt = group.memory.demand.headroom
    trembled = Headroom(learnt.share, learnt.errors)  # forecasts are void when nobody looks
    return Lasting(group.override, group.boot_s, trembled, group.memory.pattern)


def resumed(group: Group, known: Lasting) -> Group:
    """The new group, with what an earlier controller knew."""
    memory = group.memory._replace(demand=Demand(headroom=known.headroom), pattern=known.pattern)
    return replace(group, override=known.override, boot_s=known.boot_s, memory=memory)


def to_json(known: Lasting) -> str:
    """As text; ``from_json`` gives it back."""
    return _ADAPTER.dump_json(known).decode()


def from_json(text: str) -> Lasting:
    """What is in ``to_json``'s text; raises ``ValueError`` when it is none."""
    return _ADAPTER.validate_json(text)
