"""What compiled tables of several groups have to do with one another."""

from __future__ import annotations

from typing import Any

import pytest

from sncontroller.core.entries import SetField, ToController
from sncontroller.core.layout import Index, Layout, node_mac
from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import NEW_TCP, NOT_NEW_TCP, PlanNode, View, desired

ADDRESS, MAC = "10.0.0.10", "52:54:00:00:00:01"


def group(number: int, **changes: Any) -> GroupSpec:
    """One of several groups on one primary, told apart by their ports."""
    return GroupSpec.model_validate(
        {
            "name": f"g{number}",
            "id": number,
            "match": {"address": ADDRESS, "ports": [80 + number]},
            "primary": {"port": "vm1", "mac": MAC},
            "scaling": {"policy": "manual"},
            "health": {"kind": "tcp", "source": f"10.0.0.{200 + number}"},
            **changes,
        }
    )


def view(spec: GroupSpec, *, primary: int) -> View:
    """The shared primary at port 1, out unless it is ``primary``, and one more node."""
    second = PlanNode(Index(2), 10 + spec.zone, node_mac(spec.zone, Index(2)))
    first = PlanNode(Index(1), 1, MAC, delivers=primary == 1)
    slots = (Index(primary),) * 256
    serves = primary == 1
    return View((first, second), slots, Index(primary), MAC, 1, primary_serves=serves)


@pytest.mark.parametrize("pinning", ["conntrack", "learn", "reactive"])
@pytest.mark.parametrize("primary", [1, 2])
@pytest.mark.parametrize("asks", [True, False])
def test_groups_of_one_primary_have_no_entry_in_common(
    pinning: str, primary: int, asks: bool
) -> None:
    """Also when it is dead and the switch answers for the address, in each group's name."""
    unasked = {} if asks else {"health": {"kind": "none"}}
    specs = [group(number, pinning=pinning, **unasked) for number in (1, 2, 3)]
    tables = [desired(spec, view(spec, primary=primary), Layout()) for spec in specs]
    flows = [key for table in tables for key in table.flows]
    groups = [key for table in tables for key in table.groups]
    assert (len(set(flows)), len(set(groups))) == (len(flows), len(groups))
    answers = [f for t in tables for f in t.flows.values() if f.match.get("arp_op") == 1]
    assert sum(flow.match.get("arp_tpa") == ADDRESS for flow in answers) == (
        0 if primary == 1 else 3
    )


def test_groups_that_look_for_one_primary_have_no_entry_in_common() -> None:
    """Each asks in its own name until port and hardware address are known."""
    specs = [group(number, health={"kind": "none"}) for number in (1, 2, 3)]
    unknown = View((), (), Index(1), None, 1)
    tables = [desired(spec, unknown, Layout()) for spec in specs]
    flows = [key for table in tables for key in table.flows]
    assert len(set(flows)) == len(flows) == 3


def test_a_packet_that_asks_is_the_group_s_when_it_comes_back() -> None:
    """It was addressed to its own sender for the bridge to learn from; the asking undoes that."""
    spec = group(1, pinning="reactive")
    table = desired(spec, view(spec, primary=1), Layout())
    asking = [flow for flow in table.flows.values() if ToController() in flow.actions]
    asking = [flow for flow in asking if flow.table == Layout().dispatch_table]
    assert [flow.match.get("tcp_flags") for flow in asking] == [NOT_NEW_TCP, NEW_TCP, None]
    assert all(flow.actions == (SetField("eth_dst", MAC), ToController()) for flow in asking)
