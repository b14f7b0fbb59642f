"""Our entries in the table that we share with the bridge's owner.

Owns which packets leave the bridge's other traffic, which replies are looked at on their way, and
what the switch answers itself. Everything else in that table is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator

from sncontroller.core import layout as at
from sncontroller.core.entries import (
    Actions,
    Ct,
    FlowEntry,
    HashSlot,
    InPort,
    Load,
    Masked,
    Match,
    Move,
    Normal,
    Resubmit,
    SetField,
    ToController,
    ToGroup,
    match,
)
from sncontroller.core.layout import PRIMARY_INDEX, Index, Kind
from sncontroller.core.plan.compilation import (
    ETH_ARP,
    ETH_IP,
    FRAGMENT,
    ICMP,
    NEW_TCP,
    TCP,
    UDP,
    Compilation,
    Fields,
    numbers,
)
from sncontroller.core.plan.view import PlanNode
from sncontroller.core.slots import SLOTS

ARP_REQUEST, ARP_REPLY = 1, 2
ECHO_REQUEST = 8
ICMP_ERRORS = (3, 11, 12)
"""Unreachable (path MTU discovery lives on it), time exceeded, parameter problem."""
NOBODY = "0.0.0.0"
_ASIDE, _STRAIGHT, _ADDRESS, _SEARCH, _PROBE = 1, 2, 5, 9, 10
"""Priorities above the classification's."""


def classify(c: Compilation) -> Iterator[FlowEntry]:
    """The group's packets, and what belongs to its flows without bearing their ports."""
    look: Actions = (
        HashSlot(SLOTS),
        Load(0, "NXM_NX_REG0"),
        Load(c.zone, "NXM_NX_REG1"),
        Resubmit(c.layout.pin_table),
        Resubmit(c.layout.dispatch_table),
    )
    track: Actions = (Ct(c.zone, table=c.layout.dispatch_table),)
    for where in c.classified():
        actions = (*learn_mac(c), *(track if c.conntrack else look))
        yield c.entry(Kind.CLASSIFY, where, actions)
    if c.conntrack:
        for where in _aside(c):
            yield c.entry(Kind.CLASSIFY, where, track, above=_ASIDE)
    if c.view.straight:
        yield from _straight(c)


def _straight(c: Compilation) -> Iterator[FlowEntry]:
    """New connections to their slot, without a look for a pin: a pass less (docs/adr/0011)."""
    actions: Actions = (*learn_mac(c), ToGroup(at.select_group(c.zone)))
    for port in c.ports():
        for where in c.addressed(TCP, tcp_dst=port, tcp_flags=NEW_TCP):
            yield c.entry(Kind.CLASSIFY, where, actions, above=_STRAIGHT)


def learn_mac(c: Compilation) -> Actions:
    """Let the bridge learn where the client is, and send nothing.

    Replies leave by the bridge's own forwarding, which would forget a client whose packets it never
    sees, and flood. A packet addressed to its own sender is learned from and dropped (Open vSwitch:
    "learned port is input port"); the delivery writes ``eth_dst`` anyway.
    """
    if c.layout.onward is not None:
        return ()
    return (Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"), Normal())


def _aside(c: Compilation) -> Iterator[Match]:
    """ICMP errors and, where ports matter, fragments: conntrack says whose they are.

    What turns out to be none of the group's goes on as it came, so nothing of it is rewritten here.
    Of two groups that share an address one sees these packets; the other's go the bridge's ordinary
    way.
    """
    for kind in ICMP_ERRORS:
        yield from c.addressed(ICMP, icmpv4_type=kind, **_own(c))
    for _, number in numbers(c.spec.match.protocol) if c.spec.match.ports else ():
        yield from c.addressed(number, ip_frag=FRAGMENT, **_own(c))


def _own(c: Compilation) -> Fields:
    """A match on nothing, that tells a group's entries from those of one with the same address.

    Two equal matches cannot be in one table. A register that is still 0, under the group's number
    as mask, makes them differ.
    """
    return {"reg3": Masked(0, c.zone)}


def returning(c: Compilation) -> Iterator[FlowEntry]:
    """Replies: seen by the connection's zone without a second pass, counted by node."""
    for node in c.nodes:
        for proto, number in numbers(c.spec.match.protocol):
            for port in c.ports():
                where = {**_sent(c, node, number), f"{proto}_src": port}
                actions = (*_seen(c, node, number), c.onward)
                yield c.entry(Kind.RETURN, match(**where), actions, node.index)
        yield from _begun(c, node)


def _sent(c: Compilation, node: PlanNode, proto: int) -> Fields:
    return {
        "in_port": node.port,
        "eth_type": ETH_IP,
        "ip_proto": proto,
        "ipv4_src": c.address,
    }


def _seen(c: Compilation, node: PlanNode, proto: int) -> Actions:
    """With all ports in the group, a node's own UDP questions are flows of the group: its own."""
    if not c.conntrack:
        return ()
    if proto == UDP and not c.spec.match.ports:
        return (Ct(c.zone, commit=True, mark=at.mark(c.zone, node.index)),)
    return (Ct(c.zone),)


def _begun(c: Compilation, node: PlanNode) -> Iterator[FlowEntry]:
    """TCP connections that a node begins under the group's address: what comes back is its own."""
    if c.conntrack and not c.spec.match.ports and "tcp" in c.spec.match.protocol:
        where = match(**_sent(c, node, TCP), tcp_flags=NEW_TCP)
        own = Ct(c.zone, commit=True, mark=at.mark(c.zone, node.index))
        yield c.entry(Kind.RETURN, where, (own, c.onward), node.index, above=_ASIDE)


def service(c: Compilation) -> Iterator[FlowEntry]:
    """ARP for the group's address and the controller's own probes."""
    if c.spec.arp == "switch" or not c.view.primary_serves:
        yield from address_answers(c)
    yield from _guards(c)
    yield from _probes(c)


def address_answers(c: Compilation) -> Iterator[FlowEntry]:
    """The switch answers ARP for the address; and, where nobody else could, ping."""
    mac = c.address_mac()
    if mac is None:
        return
    answer = _arp_answer(mac, c.address)
    for where in c.origins():
        asked: Fields = {"eth_type": ETH_ARP, "arp_op": ARP_REQUEST, "arp_tpa": c.address}
        yield c.entry(Kind.SERVICE, match(**where, **asked, **_own(c)), answer, above=_ADDRESS)
    if c.spec.arp == "switch":
        for ping in c.addressed(ICMP, icmpv4_type=ECHO_REQUEST):
            yield c.entry(Kind.SERVICE, ping, _ping_answer(mac, c.address))


def _guards(c: Compilation) -> Iterator[FlowEntry]:
    """A node that is not the address's owner must not teach it to anybody.

    The configured primary may: it names the hardware address that the switch names in its place.
    """
    for node in c.view.nodes:
        if c.spec.arp == "switch" or node.index != PRIMARY_INDEX or not node.delivers:
            said: Fields = {"in_port": node.port, "eth_type": ETH_ARP, "arp_spa": c.address}
            yield c.entry(Kind.SERVICE, match(**said, **_own(c)), (), node.index, above=_ADDRESS)


def _probes(c: Compilation) -> Iterator[FlowEntry]:
    """Answers to the controller's own questions come to it, and its address is answered for."""
    ours = at.node_mac(c.zone, Index(0))
    source = NOBODY if c.spec.health.source is None else str(c.spec.health.source)
    answering = _arp_answer(ours, source)
    for node in c.view.nodes:
        answer = match(in_port=node.port, **_told_us(c, source))
        yield c.entry(Kind.SERVICE, answer, (ToController(),), node.index, above=_PROBE)
        if source == NOBODY:
            continue
        asked = match(in_port=node.port, eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=source)
        yield c.entry(Kind.SERVICE, asked, answering, node.index, above=_PROBE)
        reply = match(in_port=node.port, eth_type=ETH_IP, ipv4_dst=source)
        yield c.entry(Kind.SERVICE, reply, (ToController(),), node.index, above=_PROBE)
    yield from _search(c, source)


def _search(c: Compilation, source: str) -> Iterator[FlowEntry]:
    """Until port and hardware address of the primary are both known, its ARP answers."""
    port, mac = c.view.primary_port, c.view.primary_mac
    if (port is None) == (mac is None):  # both are known, or there is nothing to tell it by
        return
    answer = match(in_port=port, eth_src=mac, **_told_us(c, source))
    yield c.entry(Kind.SERVICE, answer, (ToController(),), above=_SEARCH)


def _told_us(c: Compilation, source: str) -> Fields:
    """ARP answers to the group's own questions; groups of one primary ask as different hosts."""
    to_us: Fields = {"eth_dst": at.node_mac(c.zone, Index(0)), "eth_type": ETH_ARP}
    return {**to_us, "arp_op": ARP_REPLY, "arp_tpa": source}


def _arp_answer(mac: str, address: str) -> Actions:
    """Turn an ARP request round: ``address`` is at ``mac``."""
    return (
        Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
        SetField("eth_src", mac),
        SetField("arp_op", ARP_REPLY),
        Move("NXM_NX_ARP_SHA", "NXM_NX_ARP_THA"),
        Move("NXM_OF_ARP_SPA", "NXM_OF_ARP_TPA"),
        SetField("arp_sha", mac),
        SetField("arp_spa", address),
        InPort(),
    )


def _ping_answer(mac: str, address: str) -> Actions:
    """Turn an ICMP echo request round."""
    return (
        Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
        SetField("eth_src", mac),
        Move("NXM_OF_IP_SRC", "NXM_OF_IP_DST"),
        SetField("ipv4_src", address),
        SetField("icmpv4_type", 0),
        InPort(),
    )
