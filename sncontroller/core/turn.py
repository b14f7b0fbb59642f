"""One step under way: the group as it becomes, and the commands so far.

Owns bookkeeping only: replacing nodes, walking the transition table, writing the event log. The
group itself stays an immutable value; a turn is thrown away when its step ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sncontroller.core.events import Command, Kind, Logged
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import Trigger, follows
from sncontroller.core.state import LOG_LENGTH, Group, Node


class Turn:
    """The mutable side of one step."""

    def __init__(self, group: Group, now: float) -> None:
        self.group = group
        self.now = now
        self.commands: list[Command] = []

    def change(self, **fields: Any) -> None:
        """Replace fields of the group."""
        self.group = replace(self.group, **fields)

    def node(self, index: Index) -> Node:
        """The node as it is by now."""
        return self.group.nodes[index]

    def put(self, node: Node) -> Node:
        """Replace or add a node."""
        self.change(nodes={**self.group.nodes, node.index: node})
        return node

    def update(self, index: Index, **fields: Any) -> Node:
        """Replace fields of a node."""
        return self.put(replace(self.group.nodes[index], **fields))

    def remove(self, index: Index) -> None:
        """Forget a node."""
        self.change(nodes={k: n for k, n in self.group.nodes.items() if k != index})

    def say(self, command: Command) -> None:
        """Add a command to the step's result."""
        self.commands.append(command)

    def log(self, kind: Kind, node: str | None, reason: str, took_s: float | None = None) -> None:
        """Write to the group's log, and hand the line out."""
        entry = Logged(self.now, kind, node, reason, took_s)
        self.change(log=(*self.group.log[1 - LOG_LENGTH :], entry))
        self.say(entry)

    def go(self, node: Node, trigger: Trigger, reason: str) -> bool:
        """Let the node follow ``trigger``; false where its state does not know it."""
        after = follows(node.state, trigger)
        if after is None:
            return False
        self.update(node.index, state=after, since_s=self.now, reason=reason)
        return True
