"""What the compiler writes for a group, entry by entry where an example would not show it."""

from __future__ import annotations

from typing import Any

import pytest

from sncontroller.core import entries as e
from sncontroller.core import plan
from sncontroller.core.layout import Index, Kind, Layout, Zone, mark, origin
from tests.openflow.tables import PRIMARY_MAC, ZONE, compiled, group_spec

LAYOUT = Layout()
PRIMARY = plan.PlanNode(Index(1), 1, PRIMARY_MAC)
ANY_PORT = {"address": "10.0.0.10", "protocol": ["tcp", "udp"]}


def of_kind(table: e.Table, kind: Kind) -> list[e.FlowEntry]:
    """The table's entries of a kind."""
    owned = ((origin(flow.cookie), flow) for flow in table.flows.values())
    return [flow for owner, flow in owned if owner is not None and owner.kind is kind]


def committing(table: e.Table, kind: Kind, **where: e.Value | e.Masked) -> dict[int, e.Ct]:
    """By ingress port, how entries of a kind that match so write their connection's pin."""
    flows = [f for f in of_kind(table, kind) if all(f.match.get(k) == v for k, v in where.items())]
    return {int(str(f.match.get("in_port"))): a for f in flows for a in f.actions if is_commit(a)}


def is_commit(action: e.Action) -> bool:
    """Whether it writes a connection's mark."""
    return isinstance(action, e.Ct) and action.commit


# Groups that have all ports ----------------------------------------------------------------------


def test_what_a_node_begins_is_its_own() -> None:
    """With all ports in the group, answers to a node's own connections come back to that node."""
    table = compiled((1, 2), match=ANY_PORT)
    for where in ({"ip_proto": 6, "tcp_flags": e.Masked(0x002, 0x012)}, {"ip_proto": 17}):
        found = committing(table, Kind.RETURN, **where)
        assert {port: (ct.zone, ct.mark) for port, ct in found.items()} == {
            1: (ZONE, mark(Zone(ZONE), Index(1))),
            2: (ZONE, mark(Zone(ZONE), Index(2))),
        }


def test_what_a_node_begins_is_no_matter_where_ports_tell() -> None:
    """A group's ports are the service's: nothing that a node sends from others is looked at."""
    assert committing(compiled((1, 2)), Kind.RETURN) == {}
    assert committing(compiled((1, 2), match=ANY_PORT, pinning="learn"), Kind.RETURN) == {}


@pytest.mark.parametrize("pinning", ["conntrack", "learn"])
def test_connections_that_the_primary_began_are_adopted(pinning: str) -> None:
    """An accepted connection (``+syn+ack``) that nobody knows is one that the primary asked for."""
    accepted = {"tcp_flags": e.Masked(0x012, 0x012)}
    (adopted,) = adopting(compiled((1, 2), match=ANY_PORT, pinning=pinning), **accepted)
    assert adopted.actions[0] == e.Load(mark(Zone(ZONE), Index(1)), "NXM_NX_REG0")
    assert adopting(compiled((1, 2), pinning=pinning), **accepted) == []
    udp = compiled((1, 2), match={"address": "10.0.0.10", "protocol": "udp"}, pinning=pinning)
    assert adopting(udp) == []


def adopting(table: e.Table, **where: e.Masked) -> list[e.FlowEntry]:
    """The entries that give a connection without a pin to the primary."""
    chosen = e.Load(mark(Zone(ZONE), Index(1)), "NXM_NX_REG0")
    flows = [f for f in of_kind(table, Kind.SELECT) if f.table == LAYOUT.dispatch_table]
    return [
        f
        for f in flows
        if f.actions[:1] == (chosen,) and all(f.match.get(k) == v for k, v in where.items())
    ]


# Limits of the switch's own ----------------------------------------------------------------------


def test_only_for_udp_the_switch_counts_pins() -> None:
    """There it keeps no cached flow whose pin has expired; TCP has flags for that."""
    both = {"address": "10.0.0.10", "protocol": ["tcp", "udp"], "ports": [80]}
    table = compiled((1, 2), match=both, pinning="learn", pin={"limit": 1000})
    learns = [a for f in of_kind(table, Kind.COMMIT) for a in f.actions if isinstance(a, e.Learn)]
    assert sorted((a.ip_proto, a.limit) for a in learns) == [(6, 0), (6, 0), (17, 2000), (17, 2000)]


def test_flags_that_tell_pins_apart_are_for_tcp() -> None:
    """UDP has none, and no entry looks at any."""
    udp = {"address": "10.0.0.10", "protocol": "udp", "ports": [80]}
    table = compiled((1, 2), match=udp, pinning="learn")
    assert {flow.match.get("tcp_flags") for flow in table.flows.values()} == {None}


# The way to the controller and back --------------------------------------------------------------


@pytest.mark.parametrize(
    ("onward", "mac", "first"),
    [
        (None, PRIMARY_MAC, (e.SetField("eth_dst", PRIMARY_MAC), e.ToController())),
        (10, PRIMARY_MAC, (e.ToController(),)),
        (None, None, (e.ToController(),)),
    ],
)
def test_a_first_packet_goes_to_the_controller_as_it_came(
    onward: int | None, mac: str | None, first: e.Actions
) -> None:
    """Where the classification wrote over its destination that is put back: it comes again."""
    spec, nodes = group_spec(pinning="reactive"), (PRIMARY,)
    view = plan.View(nodes, (Index(1),) * 256, Index(1), mac)
    asking = of_kind(plan.desired(spec, view, Layout(onward=onward)), Kind.SELECT)
    assert {flow.match.get("tcp_flags") for flow in asking} == {
        plan.NEW_TCP,
        plan.NOT_NEW_TCP,
        None,
    }
    assert {flow.actions for flow in asking} == {first}


# The address -------------------------------------------------------------------------------------


def test_nobody_answers_for_an_address_whose_owner_was_never_seen() -> None:
    """Without a hardware address there is nothing to say; the primary may still be found."""
    view = plan.View((), (), Index(1), None, primary_serves=False)
    table = plan.desired(group_spec(), view, LAYOUT)
    assert not [flow for flow in table.flows.values() if flow.match.get("arp_tpa") == "10.0.0.10"]


# What stays when we go ---------------------------------------------------------------------------


def handback(ports: list[str], ingress: tuple[int, ...], **changes: Any) -> e.Table:
    """What a group whose clients come in by these ports leaves for its primary."""
    where = {"address": "10.0.0.10", "ports": [80], "ingress": ports}
    return plan.handback(group_spec(match=where, **changes), PRIMARY, LAYOUT, ingress)


def test_a_primary_with_its_own_address_needs_nothing_of_us() -> None:
    """Its clients reach it as they did before."""
    assert handback([], ()) == e.EMPTY


def test_ingress_ports_that_are_gone_are_nobodys() -> None:
    """Clients of other ports were never served, and are not now."""
    assert handback(["up1"], (), arp="switch") == e.EMPTY


@pytest.mark.parametrize(
    ("ports", "ingress", "numbers"), [([], (), {None}), (["up1", "up2"], (4, 5), {4, 5})]
)
def test_an_address_of_the_switchs_stays_reachable(
    ports: list[str], ingress: tuple[int, ...], numbers: set[int | None]
) -> None:
    """ARP and ping are answered and packets go to the primary, by the group's ports or by all."""
    table = handback(ports, ingress, arp="switch")
    assert {flow.match.get("in_port") for flow in table.flows.values()} == numbers
    assert {
        (f.match.get("arp_op"), f.match.get("icmpv4_type")) for f in of_kind(table, Kind.SERVICE)
    } == {
        (1, None),
        (None, 8),
    }
    to_primary = (e.SetField("eth_dst", PRIMARY_MAC), e.Output(1))
    assert {f.actions[-2:] for f in of_kind(table, Kind.CLASSIFY)} == {to_primary}
    assert not table.groups
