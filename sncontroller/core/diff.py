"""The only way an entry is added, changed or removed: the difference of two tables.

Owns the order on the wire: groups that others need first, then flows, then removals of flows, then
of groups, so that no prefix of the operations names a group that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from sncontroller.core.entries import (
    Action,
    Bucket,
    FlowEntry,
    FlowKey,
    GroupEntry,
    Table,
    ToGroup,
)


@dataclass(frozen=True, slots=True)
class AddGroup:
    """Adds a group; refused where one of that identifier is there."""

    group: GroupEntry


@dataclass(frozen=True, slots=True)
class ModifyGroup:
    """Replaces all buckets of a group (OFPGC_MODIFY); its counters start again."""

    group: GroupEntry


@dataclass(frozen=True, slots=True)
class AddFlow:
    """Adds the entry, or replaces the one with its key and cookie (counters start again)."""

    flow: FlowEntry


@dataclass(frozen=True, slots=True)
class DeleteFlow:
    """Removes the entry with this key and cookie."""

    flow: FlowEntry


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """Removes a group; absent is fine."""

    group_id: int


Operation: TypeAlias = AddGroup | ModifyGroup | AddFlow | DeleteFlow | DeleteGroup


def diff(desired: Table, installed: Table) -> tuple[Operation, ...]:
    """The operations that turn ``installed`` into ``desired``, in the order to send them."""
    return (
        *_group_changes(desired, installed),
        *(AddFlow(f) for k, f in desired.flows.items() if installed.flows.get(k) != f),
        *(DeleteFlow(f) for k, f in installed.flows.items() if k not in desired.flows),
        *_group_removals(desired, installed),
    )


def apply(operations: Iterable[Operation], table: Table) -> Table:
    """``table`` after the operations, as a switch would have it.

    Raises ``ValueError`` where a switch would refuse: a missing group, a group added twice.
    """
    flows: dict[FlowKey, FlowEntry] = dict(table.flows)
    groups: dict[int, GroupEntry] = dict(table.groups)
    for operation in operations:
        match operation:
            case AddGroup(group):
                _require(group.group_id not in groups, f"group {group.group_id} exists")
                _require_groups(group.buckets, groups)
                groups[group.group_id] = group
            case ModifyGroup(group):
                _require(group.group_id in groups, f"no group {group.group_id}")
                _require_groups(group.buckets, groups)
                groups[group.group_id] = group
            case AddFlow(flow):
                _require(_targets(flow.actions) <= set(groups), f"{flow.key} names a missing group")
                flows[flow.key] = flow
            case DeleteFlow(flow):
                flows.pop(flow.key, None)
            case _:
                groups.pop(operation.group_id, None)
    return Table(flows, groups)


def references(group: GroupEntry) -> frozenset[int]:
    """The groups that a group's buckets forward to or watch."""
    once = {id(bucket): bucket for bucket in group.buckets}  # 256 slots share one per node
    return frozenset().union(*map(_bucket_references, once.values()))


def _group_changes(desired: Table, installed: Table) -> list[Operation]:
    """New groups in an order in which every referenced group is there, then changed ones."""
    waiting = {k: g for k, g in desired.groups.items() if k not in installed.groups}
    there = set(installed.groups)
    added: list[Operation] = []
    while waiting:
        ready = [k for k, g in waiting.items() if references(g) <= there]
        if not ready:
            raise ValueError(f"groups name groups that nobody defines: {sorted(waiting)}")
        for key in ready:
            added.append(AddGroup(waiting.pop(key)))
        there.update(ready)
    changed: list[Operation] = [
        ModifyGroup(g)
        for k, g in desired.groups.items()
        if k in installed.groups and installed.groups[k] != g
    ]
    return added + changed


def _group_removals(desired: Table, installed: Table) -> list[Operation]:
    """Groups nobody wants, those that name others first."""
    leaving = {k: g for k, g in installed.groups.items() if k not in desired.groups}
    out: list[Operation] = []
    while leaving:
        named = frozenset().union(*(references(g) for g in leaving.values()))
        free = [k for k in leaving if k not in named] or list(leaving)
        for key in free:
            del leaving[key]
            out.append(DeleteGroup(key))
    return out


def _targets(actions: Iterable[Action]) -> set[int]:
    return {action.group_id for action in actions if isinstance(action, ToGroup)}


def _bucket_references(bucket: Bucket) -> set[int]:
    watched = set() if bucket.watch_group is None else {bucket.watch_group}
    return _targets(bucket.actions) | watched


def _require_groups(buckets: Iterable[Bucket], groups: Iterable[int]) -> None:
    there = set(groups)
    for bucket in buckets:
        _require(_bucket_references(bucket) <= there, f"{bucket} names a missing group")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
