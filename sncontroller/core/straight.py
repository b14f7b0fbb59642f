"""When a SYN may go straight to its slot, and how that ends before a slot changes hands.

Owns both times. While slots stay whose they are, a SYN that is sent again finds the node that has
answered the first one by its slot alone, and need not look for its pin: a pass less per connection.
Since a client sends a SYN again for two minutes, slots must have been at rest for longer.

The end is in two steps. A switch changes its tables at once, but its datapath flows one after the
other: a SYN might go straight by an old one, and to its slot's new owner by a new one. So the
straight way is withdrawn first, and slots of nodes that live change hands when nobody uses it any
more. Those of dead ones do at once: what they answered counts for nothing. See docs/adr/0011.
"""

from __future__ import annotations

import math

from sncontroller.core.slots import SlotTable
from sncontroller.core.state import Group
from sncontroller.core.turn import Turn

GONE_AFTER_S = 1.0
"""So long after the switch confirmed a table, no datapath flow stems from the one before: Open
vSwitch looks at all of them right after a change, and at the latest every 0.5 s
(``max-revalidator``)."""


def wanted(group: Group, now: float) -> bool:
    """Whether SYNs are to go straight to their slots: those are at rest, and nobody is coming."""
    settle_s = group.spec.pin.syn_settle_s
    if settle_s is None or not group.spec.has_straight_way or group.starting:
        return False
    return now >= group.moved_s + settle_s


def forbids(turn: Turn, table: SlotTable) -> bool:
    """Whether this slot table has to wait, because SYNs may still go straight to their slots."""
    group = turn.group
    away = not group.straight and turn.now >= group.straight_s + GONE_AFTER_S
    if away or table == group.slots or _in_need(group):
        return False
    turn.change(moved_s=turn.now)
    return True


def confirmed(turn: Turn) -> None:
    """The switch has the table that it was told last."""
    view = turn.group.view
    if turn.group.straight and view is not None and not view.straight:
        turn.change(straight=False, straight_s=turn.now)


def wake_s(group: Group, now: float) -> float:
    """When something of this is due."""
    settle_s = group.spec.pin.syn_settle_s
    times_s = (group.moved_s + (settle_s or math.inf), group.straight_s + GONE_AFTER_S)
    return min((at_s for at_s in times_s if at_s > now), default=math.inf)


def _in_need(group: Group) -> bool:
    """Whether a slot is nobody's, or a dead node's."""
    live = {int(index) for index, node in group.nodes.items() if node.deliverable}
    return not group.slots or not live.issuperset(group.slots)
