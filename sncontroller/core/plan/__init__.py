"""The compiler: a group, its nodes and its slot table to the complete set of switch entries.

Owns the pipeline. ``desired`` is a pure function of its arguments; nothing else in the project
knows what an entry looks like. The pipeline, by table (numbers are ``Layout``'s):

    entry      CLASSIFY   the group's packets -> conntrack, or the table of pins
               RETURN     nodes' replies: refresh the connection, count, on their way
               SERVICE    ARP or ND for the group's address, probes
    dispatch   PINNED     a pin is known -> its node
               SELECT     none, or a new connection on a draining node's pin -> slot table
    commit     COMMIT     the slot's node becomes the pin -> the node
    pin        PIN        per-flow entries (learn, reactive); made at run time, not compiled
    slot       SELECT     the slot table as flow entries (learn, and conntrack for UDP)

Deliveries are one fast-failover group per node, whose second bucket goes back to the slot table.
How a packet goes through it all is told in docs/dataplane.md.

    view          what the entries depend on
    compilation   what follows from it, for both kinds of tables
    neighbour     ARP and neighbour discovery
    shared_table  the entries beside the bridge owner's
    own_tables    the entries in our own tables, and the groups
"""

from __future__ import annotations

from sncontroller.core import layout as at
from sncontroller.core.entries import Actions, FinTimeout, FlowEntry, Load, Match, Table, match
from sncontroller.core.events import FiveTuple
from sncontroller.core.layout import Index, Kind, Layout
from sncontroller.core.model import PROTOCOL_NUMBERS, GroupSpec
from sncontroller.core.plan import own_tables, shared_table
from sncontroller.core.plan.compilation import (
    NEW_TCP,
    NOT_NEW_TCP,
    Compilation,
    to_node,
)
from sncontroller.core.plan.neighbour import neighbours
from sncontroller.core.plan.own_tables import ASKED, DRAIN_NOTE, FAILED_NOTE, SINCE
from sncontroller.core.plan.view import Drain, Older, PlanNode, View

__all__ = [
    "ASKED",
    "DRAIN_NOTE",
    "FAILED_NOTE",
    "NEW_TCP",
    "NOT_NEW_TCP",
    "SINCE",
    "Drain",
    "Older",
    "PlanNode",
    "View",
    "asks_for",
    "desired",
    "handback",
    "pin",
    "to_node",
]


def desired(spec: GroupSpec, view: View, layout: Layout) -> Table:
    """The complete set of entries that the group wants on its switch."""
    c = Compilation(spec, view, layout)
    if not c.nodes:  # nobody serves: the bridge treats the traffic as it would without us
        return Table.of(tuple(shared_table.service(c)))
    return Table.of(
        (
            *shared_table.classify(c),
            *shared_table.returning(c),
            *shared_table.service(c),
            *own_tables.dispatch(c),
            *own_tables.commit(c),
        ),
        (own_tables.select_group(c), *own_tables.deliver_groups(c)),
    )


def handback(
    spec: GroupSpec, primary: PlanNode, layout: Layout, ingress: tuple[int, ...] = ()
) -> Table:
    """What must stay so that the primary alone serves when we are gone; empty for its own IP.

    ``ingress`` are the numbers of the specification's ingress ports, those that the switch has.
    """
    if spec.arp == "primary":
        return Table()
    view = View((primary,), (), primary.index, primary.mac, ingress=ingress)
    c = Compilation(spec, view, layout)
    actions: Actions = (*shared_table.learn_mac(c), *c.to_node(primary))
    flows = (c.entry(Kind.CLASSIFY, where, actions) for where in c.classified())
    return Table.of((*flows, *shared_table.address_answers(c)))


def pin(spec: GroupSpec, flow: FiveTuple, node: Index, layout: Layout) -> FlowEntry:
    """The entry that pins one flow to a node (``reactive``)."""
    tcp = flow.ip_proto == PROTOCOL_NUMBERS["tcp"]
    load = Load(at.mark(spec.zone, node), "NXM_NX_REG0")
    name = "tcp" if tcp else "udp"
    return FlowEntry(
        layout.pin_table,
        own_tables.PINNED,
        match(
            reg1=spec.zone,
            eth_type=spec.family.eth_type,
            ip_proto=flow.ip_proto,
            **{spec.family.src: flow.src, spec.family.dst: flow.dst},
            **{f"{name}_src": flow.src_port, f"{name}_dst": flow.dst_port},
        ),
        (load, FinTimeout(spec.pin.fin_idle_s)) if tcp else (load,),
        at.cookie(Kind.PIN, spec.zone, node),
        spec.pin.tcp_idle_s if tcp else spec.pin.udp_idle_s,
    )


def asks_for(where: Match, spec: GroupSpec) -> bool:
    """Whether an entry is for those who ask who has the group's address."""
    question = neighbours(spec.family).question(spec.address)
    return question.items() <= dict(where.fields).items()
