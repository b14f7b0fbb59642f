"""The entries of our own tables, and the groups.

Owns the way of a packet of the group: a pin, or a slot whose node becomes the pin, then the
delivery. No entry here sends a packet to a lower table, but the slot table's, which goes on to the
commit.
"""

from __future__ import annotations

from collections.abc import Iterator

from sncontroller.core import layout as at
from sncontroller.core.balance import EXACT
from sncontroller.core.entries import (
    Actions,
    Bucket,
    Ct,
    FlowEntry,
    GroupEntry,
    GroupType,
    HashSlot,
    Learn,
    Load,
    Masked,
    Resubmit,
    SetField,
    ToController,
    ToGroup,
    match,
)
from sncontroller.core.layout import Index, Kind
from sncontroller.core.model import Protocol
from sncontroller.core.plan.compilation import (
    ACCEPTED_TCP,
    FRAGMENT,
    NEW_TCP,
    NOT_NEW_TCP,
    PINNED_PLAIN,
    PINNED_SYN,
    TCP,
    UDP,
    UNPINNED_SYN,
    Compilation,
    Fields,
    numbers,
)
from sncontroller.core.plan.shared_table import learn_mac
from sncontroller.core.plan.view import Older, PlanNode
from sncontroller.core.slots import SLOTS

PINNED = 100
"""Priority in the tables of pins, commits and slots, and of pins in the dispatch table."""
_REPINNED, _OLDER, _FRAGMENT, _ASIDE, _BY_FLOW, _FIRST = 110, 60, 53, 52, 51, 50
"""Priorities in the dispatch table."""
_PLAIN, _UNPINNED = 101, 51
"""The same, for what only makes cached flows of ``learn`` end with their pins (``_told_apart``)."""
FAILED_NOTE = 1
"""Priority there of an entry that matches nothing any more: the note that a node was failed."""
DRAIN_NOTE = 2
"""The same of the note that a node drains: its pins go by the entry above it, to the node."""
_NODE = "NXM_NX_REG0"
SINCE, ASKED = "NXM_NX_REG3", "NXM_NX_REG4"
"""What a drain's note would load: when the drain began, and 1 where an operator asked for it."""
BACKSTOP = 2
"""UDP's ``learn`` has a limit of its own, in limits that the polls keep. It is there for what else
it does: Open vSwitch (3.1.0) keeps no cached flow whose pin has expired only where ``learn`` has a
limit. TCP has ``_told_apart`` for that, because for a limit all pins of the node are counted at
each new one."""
_REOPENED = 105
"""The same, where each connection is to be counted: a client that uses a port again, while the pin
of its last connection is still there, begins a new one."""
_TRACKED = Masked(0x20, 0x30)
"""``-inv+trk``: only then conntrack says what ports a fragment's datagram has."""


def dispatch(c: Compilation) -> Iterator[FlowEntry]:
    """Where a packet goes by its pin."""
    for node in c.nodes:
        to_node = (ToGroup(at.deliver_group(c.zone, node.index)),)
        yield _dispatch(c, Kind.PINNED, PINNED, to_node, _pin_match(c, node), node.index)
    if "tcp" in c.spec.match.protocol:
        yield from _opened_again(c)
        if c.spec.pinning == "learn":
            yield from _told_apart(c)
    yield from _notes(c)
    yield from _older(c)
    if c.conntrack:
        yield from _conntrack_only(c)
    if c.spec.pinning == "reactive" and "tcp" in c.spec.match.protocol:
        # The switch's cache takes over what was looked at: with the flags in it, the question does
        # not cover the connection's next packets, which come when the answer is there already.
        new = {**_any_pin(c), "ip_proto": TCP, "tcp_flags": NEW_TCP}
        yield _dispatch(c, Kind.SELECT, _BY_FLOW, _first_packet(c), new)
    yield _dispatch(c, Kind.SELECT, _FIRST, _first_packet(c), _any_pin(c))


def commit(c: Compilation) -> Iterator[FlowEntry]:
    """The chosen node becomes the pin."""
    if c.spec.pinning == "reactive":
        return
    for node in c.nodes:
        yield from _commit(c, node)
    if c.by_flow:
        yield from _slot_entries(c)


def select_group(c: Compilation) -> GroupEntry:
    """The slot table: bucket i carries the node that slot i belongs to."""
    again = Resubmit(c.layout.commit_table)
    buckets = {
        node.index: Bucket((Load(at.mark(c.zone, node.index), "NXM_NX_REG0"), again), node.port)
        for node in c.nodes
    }
    if c.spec.pinning == "reactive":
        buckets = {node.index: Bucket(c.to_node(node), node.port) for node in c.nodes}
    slots = tuple(buckets[index] for index in c.view.slots)
    return GroupEntry(at.select_group(c.zone), GroupType.SELECT, slots)


def deliver_groups(c: Compilation) -> Iterator[GroupEntry]:
    """One for each node: to it while its port is up, else back to the slot table."""
    slots = at.select_group(c.zone)
    again = Bucket((ToGroup(slots),), watch_group=slots)
    for node in c.nodes:
        there = Bucket(c.to_node(node), watch_port=node.port)
        number = at.deliver_group(c.zone, node.index)
        yield GroupEntry(number, GroupType.FAST_FAILOVER, (there, again))


# dispatch


def _opened_again(c: Compilation) -> Iterator[FlowEntry]:
    """First packets on ports of connections that still have a pin, where they get a node anew."""
    learn = c.spec.pinning == "learn"
    for node in c.nodes:
        if node.draining:
            flags = PINNED_SYN if learn else NEW_TCP
            new = {**_pin_match(c, node), "ip_proto": TCP, "tcp_flags": flags}
            yield _dispatch(c, Kind.SELECT, _REPINNED, _first_packet(c), new, node.index)
    if c.spec.balance.kind in EXACT:
        opens: Fields = {**_any_pin(c), "ip_proto": TCP, "tcp_flags": NEW_TCP}
        yield _dispatch(c, Kind.SELECT, _REOPENED, _first_packet(c), opens)


def _told_apart(c: Compilation) -> Iterator[FlowEntry]:
    """Entries that change no packet's way: they end a cached flow when its pin comes or goes.

    Open vSwitch drops a cached flow when its translation looks at a bit that it did not look at
    before. So without a pin RST is looked at, with one URG, and nowhere the other: both are 0 in
    nearly every packet of a connection. A SYN's cached flow is gone with the next sweep, and none
    is left for a client's port that is used again when the pin has expired: it would bring the SYN
    to a node and learn nothing.
    """
    for node in c.nodes:
        to_node = (ToGroup(at.deliver_group(c.zone, node.index)),)
        plain = {**_pin_match(c, node), "ip_proto": TCP, "tcp_flags": PINNED_PLAIN}
        yield _dispatch(c, Kind.PINNED, _PLAIN, to_node, plain, node.index)
    syn: Fields = {**_no_pin(c), "ip_proto": TCP, "tcp_flags": UNPINNED_SYN}
    yield _dispatch(c, Kind.SELECT, _UNPINNED, _first_packet(c), syn)


def _notes(c: Compilation) -> Iterator[FlowEntry]:
    """What of a node's life nothing else on the switch says: for the next controller, no packet."""
    first = _first_packet(c)
    for node in c.view.nodes:
        pins = _pin_match(c, node)
        if node.failed:
            yield _dispatch(c, Kind.SELECT, FAILED_NOTE, first, pins, node.index)
        if node.drain is not None:
            said = (Load(node.drain.since_s, SINCE), Load(int(node.drain.asked), ASKED))
            yield _dispatch(c, Kind.SELECT, DRAIN_NOTE, (*said, *first), pins, node.index)


def _older(c: Compilation) -> Iterator[FlowEntry]:
    """Connections that began without us, or that the primary itself began: to the primary.

    With ``reactive`` the controller says so; that it has to is here for the next one to read.
    """
    if not c.has_primary or "tcp" not in c.spec.match.protocol:
        return
    primary, reactive = Load(at.mark(c.zone, c.view.primary), _NODE), c.spec.pinning == "reactive"
    adopt = _first_packet(c) if reactive else (primary, Resubmit(c.layout.commit_table))
    if c.view.older is Older.PRIMARY:
        older = {**_no_pin(c), "ip_proto": TCP, "tcp_flags": NOT_NEW_TCP}
        yield _dispatch(c, Kind.SELECT, _OLDER, adopt, older)
    if not c.spec.match.ports and not reactive:
        begun = {**_no_pin(c), "ip_proto": TCP, "tcp_flags": ACCEPTED_TCP}
        yield _dispatch(c, Kind.SELECT, _OLDER, adopt, begun)


def _conntrack_only(c: Compilation) -> Iterator[FlowEntry]:
    """Packets without a pin that the select group is not for."""
    aside: list[Fields] = [{"ip_proto": c.family.icmp}]
    aside += [{"ip_proto": number, "ip_frag": FRAGMENT} for number in c.fragments()]
    for where in aside:
        yield _dispatch(c, Kind.SELECT, _ASIDE, (c.onward,), {**_any_pin(c), **where})
    if "udp" in c.spec.match.protocol:
        udp: Fields = {**_any_pin(c), "ip_proto": UDP}
        yield _dispatch(c, Kind.SELECT, _BY_FLOW, _by_flow(c), udp)
        yield from _datagram_fragments(c)


def _datagram_fragments(c: Compilation) -> Iterator[FlowEntry]:
    """UDP fragments without a pin: all of a datagram to one slot, so far as they show whose it is.

    The first says by conntrack what ports the datagram has; Open vSwitch (3.1.0) has no ports for
    later ones at all. Where these have another protocol, too, their addresses alone are the same.
    """
    udp: Fields = {"ip_proto": UDP, "ip_frag": FRAGMENT, "ct_state": _TRACKED, "ct_nw_proto": UDP}
    if c.spec.match.ports:
        for port in c.ports():
            mine = {**_any_pin(c), **udp, "ct_tp_dst": port}
            yield _dispatch(c, Kind.SELECT, _FRAGMENT, _by_flow(c), mine)
    elif c.family.later_fragment is not None:
        for number in (UDP, c.family.later_fragment):
            mine = {**_any_pin(c), **udp, "ip_proto": number}
            yield _dispatch(c, Kind.SELECT, _FRAGMENT, _by_flow(c, by_address=True), mine)


def _first_packet(c: Compilation) -> Actions:
    """Where a packet goes that needs a node: the slot table, or the controller."""
    if c.conntrack:
        return (ToGroup(at.select_group(c.zone)),)
    if c.spec.pinning == "learn":
        return (Resubmit(c.layout.slot_table),)
    return (*_as_it_came(c), ToController())


def _as_it_came(c: Compilation) -> Actions:
    """The packet as the client sent it: it comes back from the controller by the same way.

    Where the bridge had to learn the client, the classification has written over ``eth_dst``.
    """
    mac = c.address_mac()
    return (SetField("eth_dst", mac),) if mac is not None and learn_mac(c) else ()


def _by_flow(c: Compilation, by_address: bool = False) -> Actions:
    return (
        HashSlot(SLOTS, by_address),
        Load(c.zone, "NXM_NX_REG1"),
        Resubmit(c.layout.slot_table),
    )


def _dispatch(
    c: Compilation, kind: Kind, priority: int, actions: Actions, where: Fields, index: int = 0
) -> FlowEntry:
    cookie = at.cookie(kind, c.zone, index)
    return FlowEntry(c.layout.dispatch_table, priority, match(**where), actions, cookie)


def _pin_match(c: Compilation, node: PlanNode) -> Fields:
    register = "ct_mark" if c.conntrack else "reg0"
    return {register: at.mark(c.zone, node.index), "eth_type": c.family.eth_type}


def _no_pin(c: Compilation) -> Fields:
    return {**_any_pin(c), "ct_mark" if c.conntrack else "reg0": 0}


def _any_pin(c: Compilation) -> Fields:
    """No pin, or one to a node that is gone."""
    return {"ct_zone" if c.conntrack else "reg1": c.zone, "eth_type": c.family.eth_type}


# commit and slots


def _commit(c: Compilation, node: PlanNode) -> Iterator[FlowEntry]:
    deliver = ToGroup(at.deliver_group(c.zone, node.index))
    mark = at.mark(c.zone, node.index)
    cookie = at.cookie(Kind.COMMIT, c.zone, node.index)
    table = c.layout.commit_table
    if c.conntrack:
        where = match(reg0=mark, eth_type=c.family.eth_type)
        pin = Ct(c.zone, commit=True, mark=mark)
        yield FlowEntry(table, PINNED, where, (pin, deliver), cookie)
        return
    for proto, number in numbers(c.spec.match.protocol):
        where = match(reg0=mark, eth_type=c.family.eth_type, ip_proto=number)
        learn = (_learn(c, proto, number, node.index),) if node.pins else ()
        yield FlowEntry(table, PINNED, where, (*learn, deliver), cookie)


def _learn(c: Compilation, proto: Protocol, number: int, index: Index) -> Learn:
    tcp, ports, pin = proto == "tcp", proto.upper(), c.spec.pin
    return Learn(
        table=c.layout.pin_table,
        priority=PINNED,
        cookie=at.cookie(Kind.PIN, c.zone, index),
        idle_timeout_s=pin.tcp_idle_s if tcp else pin.udp_idle_s,
        fin_idle_timeout_s=pin.fin_idle_s if tcp else 0,
        limit=0 if tcp else BACKSTOP * pin.limit,
        eth_type=c.family.eth_type,
        ip_proto=number,
        copied=(
            "NXM_NX_REG1",
            c.family.nxm_src,
            c.family.nxm_dst,
            f"NXM_OF_{ports}_SRC",
            f"NXM_OF_{ports}_DST",
        ),
        load=at.mark(c.zone, index),
    )


def _slot_entries(c: Compilation) -> Iterator[FlowEntry]:
    again = Resubmit(c.layout.commit_table)
    for slot, index in enumerate(c.view.slots):
        yield FlowEntry(
            c.layout.slot_table,
            PINNED,
            match(reg1=c.zone, reg2=slot),
            (Load(at.mark(c.zone, index), "NXM_NX_REG0"), again),
            at.cookie(Kind.SELECT, c.zone),
        )
