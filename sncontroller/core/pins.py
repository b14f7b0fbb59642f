"""How many pins a node may have (``learn``).

Owns the limit. The switch keeps none for TCP: it would count all of the node's pins at each new
one, and a connection that found it reached would be taken for one older than us, and the primary
would reset it. UDP's (``limit=`` of the ``learn`` action) lies beyond ours.
"""

from __future__ import annotations

from sncontroller.core.commands import Kind
from sncontroller.core.plan import Older
from sncontroller.core.state import Node
from sncontroller.core.turn import Turn

ROOM = 0.9
"""A node that was full is so until it has less than this share of its pins."""


def counted(turn: Turn, node: Node, pins: int | None) -> None:
    """Let new flows be pinned to the node, or not, as so many are; ``None`` where nobody knows.

    Without a pin a connection that is under way looks as if it were older than us: from now on such
    are their slots'.
    """
    if pins is None:
        return
    limit = turn.group.spec.pin.limit
    full = pins >= limit * (ROOM if node.full else 1)
    if full and not node.full:
        turn.change(older=Older.SLOTS)
        turn.log(Kind.PINS, node.name, f"{pins} pins, pin.limit is {limit}: no more for now")
    elif node.full and not full:
        turn.log(Kind.PINS, node.name, f"{pins} pins: new flows are pinned again")
    turn.update(node.index, full=full)
