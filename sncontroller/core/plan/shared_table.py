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
    Match,
    Move,
    Normal,
    Resubmit,
    SetField,
    ToController,
    ToGroup,
    match,
)
from sncontroller.core.layout import PRIMARY_INDEX, Kind
from sncontroller.core.plan.compilation import (
    FRAGMENT,
    NEW_TCP,
    TCP,
    UDP,
    Compilation,
    Fields,
    numbers,
)
from sncontroller.core.plan.neighbour import neighbours
from sncontroller.core.plan.view import PlanNode
from sncontroller.core.slots import SLOTS

_ASIDE, _STRAIGHT, _ADDRESS, _CLAIM, _ANSWERED, _PROBE = 1, 2, 5, 6, 9, 10
"""Priorities above the classification's."""
_ANSWER = 120
"""Priority in the dispatch table of what an answer goes on with there: nothing else looks like it.
"""


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
    """ICMP errors and fragments that show no ports: conntrack says whose they are.

    What turns out to be none of the group's goes on as it came, so nothing of it is rewritten here.
    Of two groups that share an address one sees these packets; the other's go the bridge's ordinary
    way.
    """
    family = c.family
    for kind in family.icmp_errors:
        yield from c.addressed(family.icmp, **{family.icmp_type: kind}, **c.own)
    for number in c.fragments():
        yield from c.addressed(number, ip_frag=FRAGMENT, **c.own)


def returning(c: Compilation) -> Iterator[FlowEntry]:
    """Replies: seen by the connection's zone without a second pass, counted by node."""
    sent = [
        (number, match(**_sent(c, number), **{f"{proto}_src": port}))
        for proto, number in numbers(c.spec.match.protocol)
        for port in c.ports()
    ]
    for node in c.nodes:
        for number, where in sent:
            actions = (*_seen(c, node, number), c.onward)
            yield c.entry(Kind.RETURN, where.having(in_port=node.port), actions, node.index)
        yield from _rest(c, node)
        yield from _begun(c, node)


def _sent(c: Compilation, proto: int) -> Fields:
    """Packets of the group's address; from which port is left open."""
    return {"eth_type": c.family.eth_type, "ip_proto": proto, c.family.src: c.address}


def _seen(c: Compilation, node: PlanNode, proto: int) -> Actions:
    """With all ports in the group, a node's own UDP questions are flows of the group: its own."""
    if not c.conntrack:
        return ()
    if proto == UDP and not c.spec.match.ports:
        return (Ct(c.zone, commit=True, mark=at.mark(c.zone, node.index)),)
    return (Ct(c.zone),)


def _rest(c: Compilation, node: PlanNode) -> Iterator[FlowEntry]:
    """Replies' later fragments, where the switch does not take them for their protocol's.

    Conntrack keeps a datagram's first fragment until it has seen all others.
    """
    later = c.family.later_fragment
    if c.conntrack and later is not None and not c.spec.match.ports:
        proto = UDP if "udp" in c.spec.match.protocol else TCP
        where = match(in_port=node.port, **_sent(c, later), ip_frag=FRAGMENT)
        actions = (*_seen(c, node, proto), c.onward)
        yield c.entry(Kind.RETURN, where, actions, node.index)


def _begun(c: Compilation, node: PlanNode) -> Iterator[FlowEntry]:
    """TCP connections that a node begins under the group's address: what comes back is its own."""
    if c.conntrack and not c.spec.match.ports and "tcp" in c.spec.match.protocol:
        where = match(in_port=node.port, **_sent(c, TCP), tcp_flags=NEW_TCP)
        own = Ct(c.zone, commit=True, mark=at.mark(c.zone, node.index))
        yield c.entry(Kind.RETURN, where, (own, c.onward), node.index, above=_ASIDE)


def service(c: Compilation) -> Iterator[FlowEntry]:
    """ARP or ND for the group's address and the controller's own probes."""
    if c.spec.arp == "switch" or not c.view.primary_serves:
        yield from address_answers(c)
    yield from _guards(c)
    yield from _probes(c)


def address_answers(c: Compilation) -> Iterator[FlowEntry]:
    """The switch answers who has the address; and, where nobody else could, ping."""
    mac, address = c.address_mac(), c.address
    if mac is None:
        return
    answer = _Answer(c, mac, address)
    for where in c.origins():
        yield from answer.entries({**where, **c.own}, above=_ADDRESS)
    yield from _claims(c, mac)
    if c.spec.arp == "switch":
        for ping in c.addressed(c.family.icmp, **{c.family.icmp_type: c.family.echo_request}):
            yield c.entry(Kind.SERVICE, ping, _ping_answer(c, mac))


class _Answer:
    """Whoever asks who has the address is told: ``mac``; the same, wherever it is asked from."""

    def __init__(self, c: Compilation, mac: str, address: str) -> None:
        there = neighbours(c.family)
        self._c, self._question = c, there.question(address)
        self._actions = there.answer(mac, address, c.layout.dispatch_table)
        self._rest = there.rest_of_answer(mac, address)

    def entries(self, where: Fields, index: int = 0, above: int = 0) -> Iterator[FlowEntry]:
        """What answers those who ask from ``where``."""
        c, asked = self._c, match(**where, **self._question)
        yield c.entry(Kind.SERVICE, asked, self._actions, index, above)
        if self._rest is not None:
            fields, actions = self._rest
            cookie = at.cookie(Kind.SERVICE, c.zone, index)
            there = match(**where, **fields)
            yield FlowEntry(c.layout.dispatch_table, _ANSWER, there, actions, cookie)


def _claims(c: Compilation, mac: str) -> Iterator[FlowEntry]:
    """A host is about to take the address. A separate one is taken; else it may be the primary
    that comes back, which would never use its address again if anybody objected."""
    claim = neighbours(c.family).claim(mac, c.address)
    if claim is None:
        return
    actions = claim[1] if c.spec.arp == "switch" else (c.onward,)
    for where in c.origins():
        taking = match(**where, **claim[0], **c.own)
        yield c.entry(Kind.SERVICE, taking, actions, above=_CLAIM)


def _guards(c: Compilation) -> Iterator[FlowEntry]:
    """A node that is not the address's owner must not teach it to anybody.

    The configured primary may: it names the hardware address that the switch names in its place.
    """
    lessons = [match(**said, **c.own) for said in neighbours(c.family).lessons(c.address)]
    for node in c.view.nodes:
        if c.spec.arp == "switch" or node.index != PRIMARY_INDEX or not node.delivers:
            for said in lessons:
                where = said.having(in_port=node.port)
                yield c.entry(Kind.SERVICE, where, (), node.index, above=_ADDRESS)


def _probes(c: Compilation) -> Iterator[FlowEntry]:
    """Answers to the controller's own questions come to it, and its address is answered for."""
    source, unknown = str(c.spec.probe_source), c.spec.probe_source.is_unspecified
    told = match(**_told_us(c, source))
    reply = match(eth_type=c.family.eth_type, **{c.family.dst: source})
    answer, here = _Answer(c, c.asker_mac, source), (ToController(),)
    for node in c.view.nodes:
        where = told.having(in_port=node.port)
        yield c.entry(Kind.SERVICE, where, here, node.index, above=_PROBE)
        if not unknown:
            yield from answer.entries({"in_port": node.port}, node.index, above=_PROBE)
            where = reply.having(in_port=node.port)
            yield c.entry(Kind.SERVICE, where, here, node.index, above=_ANSWERED)
    yield from _search(c, source)


def _search(c: Compilation, source: str) -> Iterator[FlowEntry]:
    """Until port and hardware address of the primary are both known, its answers."""
    port, mac = c.view.primary_port, c.view.primary_mac
    if (port is None) == (mac is None):  # both are known, or there is nothing to tell it by
        return
    answer = match(in_port=port, eth_src=mac, **_told_us(c, source))
    yield c.entry(Kind.SERVICE, answer, (ToController(),), above=_ANSWERED)


def _told_us(c: Compilation, source: str) -> Fields:
    """Answers to the group's own questions; groups of one primary ask as different hosts."""
    return {"eth_dst": c.asker_mac, **neighbours(c.family).reply(source)}


def _ping_answer(c: Compilation, mac: str) -> Actions:
    """Turn an ICMP echo request round."""
    family = c.family
    return (
        Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"),
        SetField("eth_src", mac),
        Move(family.nxm_src, family.nxm_dst),
        SetField(family.src, c.address),
        SetField(family.icmp_type, family.echo_reply),
        InPort(),
    )
