"""The difference of two tables: what it leads to, and that every step on the way is sound."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core import entries as e
from sncontroller.core.diff import (
    AddFlow,
    AddGroup,
    DeleteFlow,
    DeleteGroup,
    ModifyGroup,
    Operation,
    apply,
    diff,
    references,
)

GROUP_IDS = range(1, 7)


@st.composite
def groups(draw: st.DrawFn) -> dict[int, e.GroupEntry]:
    """Groups that name one another without a circle, in an order that changes from draw to draw."""
    order = draw(st.permutations(GROUP_IDS))
    made: dict[int, e.GroupEntry] = {}
    for group_id in order[: draw(st.integers(0, len(order)))]:
        named = draw(st.lists(st.sampled_from(sorted(made)), max_size=2)) if made else []
        buckets = [e.Bucket((e.ToGroup(other),), watch_group=other) for other in named]
        port = draw(st.integers(1, 2))
        made[group_id] = e.GroupEntry(
            group_id,
            draw(st.sampled_from(e.GroupType)),
            (e.Bucket((e.Output(port),), watch_port=port), *buckets),
        )
    return made


@st.composite
def tables(draw: st.DrawFn) -> e.Table:
    """A table that a switch could hold: no entry names a group that is not there."""
    known = draw(groups())
    actions: st.SearchStrategy[e.Action] = st.builds(e.Output, st.integers(1, 2))
    if known:
        actions |= st.builds(e.ToGroup, st.sampled_from(sorted(known)))
    flows = draw(
        st.lists(
            st.builds(
                e.FlowEntry,
                table=st.integers(0, 1),
                priority=st.integers(1, 2),
                match=st.builds(lambda n: e.match(reg0=n), st.integers(0, 2)),
                actions=st.lists(actions, max_size=2).map(tuple),
                cookie=st.integers(0, 1),
            ),
            unique_by=lambda flow: flow.key,
        )
    )
    return e.Table.of(tuple(flows), tuple(known.values()))


def steps(operations: tuple[Operation, ...], start: e.Table) -> list[e.Table]:
    """The table before, between and after the operations."""
    return list(accumulate(operations, lambda table, one: apply((one,), table), initial=start))


@given(tables(), tables())
def test_it_leads_to_what_is_desired(desired: e.Table, installed: e.Table) -> None:
    """The operations turn what is installed into exactly what is desired."""
    assert apply(diff(desired, installed), installed) == desired


@given(tables())
def test_nothing_to_do(table: e.Table) -> None:
    """A table does not differ from itself."""
    assert diff(table, table) == ()


@given(tables(), tables())
def test_no_step_names_a_missing_group(desired: e.Table, installed: e.Table) -> None:
    """After each operation every group that a flow or a bucket names is there."""
    for table in steps(diff(desired, installed), installed):
        flows, there = table.flows.values(), set(table.groups)
        named = {a.group_id for f in flows for a in f.actions if isinstance(a, e.ToGroup)}
        assert named <= there
        assert frozenset().union(*map(references, table.groups.values())) <= there


@given(tables(), tables())
def test_only_what_differs_is_touched(desired: e.Table, installed: e.Table) -> None:
    """An entry that is as desired keeps its counters: no operation is about it."""
    for operation in diff(desired, installed):
        match operation:
            case AddFlow(flow):
                assert installed.flows.get(flow.key) != flow
            case DeleteFlow(flow):
                assert flow.key not in desired.flows
            case AddGroup(group) | ModifyGroup(group):
                assert installed.groups.get(group.group_id) != group
            case DeleteGroup(group_id):
                assert group_id not in desired.groups


@given(tables(), tables())
def test_additions_come_before_removals(desired: e.Table, installed: e.Table) -> None:
    """Groups, then flows, then removals of flows, then of groups."""
    rank = {AddGroup: 0, ModifyGroup: 1, AddFlow: 2, DeleteFlow: 3, DeleteGroup: 4}
    kinds = [rank[type(operation)] for operation in diff(desired, installed)]
    assert kinds == sorted(kinds)


def test_groups_in_a_circle_are_an_error() -> None:
    """Groups that can never be added are named, not sent."""
    circle = [
        e.GroupEntry(one, e.GroupType.SELECT, (e.Bucket((e.ToGroup(other),)),))
        for one, other in ((1, 2), (2, 1))
    ]
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        diff(e.Table.of((), tuple(circle)), e.EMPTY)


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (AddGroup(e.GroupEntry(1, e.GroupType.SELECT, ())), "group 1 exists"),
        (ModifyGroup(e.GroupEntry(2, e.GroupType.SELECT, ())), "no group 2"),
        (
            AddGroup(e.GroupEntry(3, e.GroupType.SELECT, (e.Bucket((), watch_group=9),))),
            "missing group",
        ),
        (AddFlow(e.FlowEntry(0, 1, e.match(), (e.ToGroup(9),), 0)), "missing group"),
    ],
)
def test_what_a_switch_would_refuse(operation: Operation, problem: str) -> None:
    """``apply`` refuses what Open vSwitch refuses."""
    table = e.Table.of((), (e.GroupEntry(1, e.GroupType.SELECT, ()),))
    with pytest.raises(ValueError, match=problem):
        apply((operation,), table)


def test_two_entries_of_one_key() -> None:
    """A table cannot hold two entries that a switch would take for one."""
    flow = e.FlowEntry(0, 1, e.match(reg0=1), (), 0)
    other = e.FlowEntry(0, 1, e.match(reg0=1), (e.Normal(),), 5)
    with pytest.raises(ValueError, match="share a key"):
        e.Table.of((flow, other))
