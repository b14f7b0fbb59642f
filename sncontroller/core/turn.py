"""One step under way: the group as it becomes, and the commands so far.

Owns bookkeeping only: replacing nodes, walking the transition table, writing the event log. The
group itself stays an immutable value; a turn is thrown away when its step ends.
"""

from __future__ import annotations

from typing import Any

from sncontroller.core.commands import Command, Kind, Logged
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import Trigger, follows
from sncontroller.core.model import GroupSpec
from sncontroller.core.state import LOG_LENGTH, Group, Node
from sncontroller.core.values import changed


class Turn:
    """The mutable side of one step."""

    def __init__(self, group: Group, now: float) -> None:
        self.now = now
        self.commands: list[Command] = []
        self._group = group
        self._changed: dict[str, Any] = {}
        """Fields that ``_group`` does not have yet: several of them are replaced in one go."""
        self._nodes: dict[Index, Node] = {}
        """The same for nodes."""

    @property
    def group(self) -> Group:
        """The group as it is by now."""
        if self._nodes:
            known = self._group.nodes
            nodes = {**known, **self._nodes}
            in_order = len(nodes) == len(known)
            self._changed["nodes"] = nodes if in_order else dict(sorted(nodes.items()))
            self._nodes = {}
        if self._changed:
            self._group = changed(self._group, **self._changed)
            self._changed = {}
        return self._group

    def change(self, **fields: Any) -> None:
        """Replace fields of the group; the same value again is no change."""
        for name, value in fields.items():
            if self._changed.get(name, getattr(self._group, name)) is not value:
                self._changed[name] = value

    @property
    def spec(self) -> GroupSpec:
        """The group's specification as it is by now."""
        spec: GroupSpec = self._changed.get("spec", self._group.spec)
        return spec

    def node(self, index: Index) -> Node:
        """The node as it is by now."""
        return self._nodes.get(index) or self._group.nodes[index]

    def put(self, node: Node) -> Node:
        """Replace or add a node."""
        self._nodes[node.index] = node
        return node

    def update(self, index: Index, **fields: Any) -> Node:
        """Replace fields of a node; the same values again are no change."""
        node = self.node(index)
        for name, value in fields.items():
            if getattr(node, name) is not value:
                return self.put(changed(node, **fields))
        return node

    def remove(self, index: Index) -> None:
        """Forget a node."""
        nodes = {k: n for k, n in self.group.nodes.items() if k != index}
        self._group = changed(self._group, nodes=nodes)

    def say(self, command: Command) -> None:
        """Add a command to the step's result."""
        self.commands.append(command)

    def log(self, kind: Kind, node: str | None, reason: str, took_s: float | None = None) -> None:
        """Write to the group's log, and hand the line out."""
        entry = Logged(self.now, kind, node, reason, took_s)
        log: tuple[Logged, ...] = self._changed.get("log", self._group.log)
        self.change(log=(*log[1 - LOG_LENGTH :], entry))
        self.say(entry)

    def go(self, node: Node, trigger: Trigger, reason: str) -> bool:
        """Let the node follow ``trigger``; false where its state does not know it."""
        after = follows(node.state, trigger)
        if after is None:
            return False
        self.update(node.index, state=after, since_s=self.now, reason=reason)
        return True
