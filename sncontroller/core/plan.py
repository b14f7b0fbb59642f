"""The compiler: a group, its nodes and its slot table to the complete set of switch entries.

Owns the pipeline. ``desired`` is a pure function of its arguments; nothing else in the project
knows what an entry looks like. The pipeline, by table (numbers are ``Layout``'s):

    entry      CLASSIFY   the group's packets -> conntrack, or the table of pins
               RETURN     nodes' replies: refresh the connection, count, on their way
               SERVICE    ARP for the group's address, probes
    dispatch   PINNED     a pin is known -> its node
               SELECT     none, or a new connection on a draining node's pin -> slot table
    commit     COMMIT     the slot's node becomes the pin -> the node
    pin        PIN        per-flow entries (learn, reactive); made at run time, not compiled
    slot       SELECT     the slot table as flow entries (learn)

Deliveries are one fast-failover group per node, whose second bucket goes back to the slot table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sncontroller.core import layout as at
from sncontroller.core.entries import (
    Actions,
    Bucket,
    Ct,
    FinTimeout,
    FlowEntry,
    GroupEntry,
    GroupType,
    HashSlot,
    InPort,
    Learn,
    Load,
    Masked,
    Match,
    Move,
    Normal,
    Output,
    PopVlan,
    Resubmit,
    SetField,
    Table,
    ToController,
    ToGroup,
    Value,
    match,
)
from sncontroller.core.events import FiveTuple
from sncontroller.core.layout import Index, Kind, Layout
from sncontroller.core.model import PROTOCOL_NUMBERS, GroupSpec, Protocol
from sncontroller.core.slots import SLOTS

ETH_IP, ETH_ARP = 0x0800, 0x0806
ARP_REQUEST, ARP_REPLY = 1, 2
NEW_TCP = Masked(0x002, 0x012)
"""``+syn-ack``: the first packet of a TCP connection."""
NOT_NEW_TCP = Masked(0x000, 0x002)
"""``-syn``: a packet of a connection that is there already."""
VLAN_PRESENT = 0x1000
_PINNED, _REPINNED, _OLDER, _FIRST = 100, 110, 60, 50
"""Priorities in the dispatch table."""


class Older(Enum):
    """Whose connections are that the switch sees in mid-stream and without a pin?"""

    PRIMARY = "primary"
    """They began before us: the primary's."""
    SLOTS = "slots"
    """The switch forgot their pins (it was restarted): their slot's node."""


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node whose port is on the switch."""

    index: Index
    port: int
    mac: str
    draining: bool = False
    delivers: bool = True
    """Whether flows may reach it; a node that is only probed gets nothing else."""


@dataclass(frozen=True, slots=True)
class View:
    """All of a group's state that its entries depend on."""

    nodes: tuple[PlanNode, ...]
    slots: tuple[Index, ...]
    """Owner of each slot, 256 of them; empty when no node takes flows."""
    primary: Index
    primary_mac: str | None
    """Hardware address under which clients know the primary."""
    primary_port: int | None = None
    """Port of the configured primary, also while its hardware address is still unknown."""
    primary_serves: bool = True
    ingress: tuple[int, ...] = ()
    """Port numbers that clients come in by; empty for any."""
    older: Older = Older.PRIMARY


def desired(spec: GroupSpec, view: View, layout: Layout) -> Table:
    """The complete set of entries that the group wants on its switch."""
    plan = _Plan(spec, view, layout)
    if not plan.nodes:  # nobody serves: the bridge treats the traffic as it would without us
        return Table.of(tuple(plan.service()))
    return Table.of(
        (*plan.classify(), *plan.returning(), *plan.service(), *plan.dispatch(), *plan.commit()),
        (plan.select_group(), *(plan.deliver_group(node) for node in plan.nodes)),
    )


def handback(spec: GroupSpec, primary: PlanNode, layout: Layout) -> Table:
    """What must stay so that the primary alone serves when we are gone; empty for its own IP."""
    if spec.arp == "primary":
        return Table()
    plan = _Plan(spec, View((primary,), (), primary.index, primary.mac), layout)
    actions: Actions = (*plan.learn_mac(), *plan.to_node(primary))
    flows = (plan.entry(Kind.CLASSIFY, m, actions) for m in plan.classified())
    return Table.of((*flows, *plan.address_answers()))


def pin(spec: GroupSpec, flow: FiveTuple, node: Index, layout: Layout) -> FlowEntry:
    """The entry that pins one flow to a node (``reactive``)."""
    tcp = flow.ip_proto == PROTOCOL_NUMBERS["tcp"]
    load = Load(at.mark(spec.zone, node), "NXM_NX_REG0")
    name = "tcp" if tcp else "udp"
    return FlowEntry(
        layout.pin_table,
        _PINNED,
        match(
            reg1=spec.zone,
            eth_type=ETH_IP,
            ip_proto=flow.ip_proto,
            ipv4_src=flow.src,
            ipv4_dst=flow.dst,
            **{f"{name}_src": flow.src_port, f"{name}_dst": flow.dst_port},
        ),
        (load, FinTimeout(spec.pin.fin_idle_s)) if tcp else (load,),
        at.cookie(Kind.PIN, spec.zone, node),
        spec.pin.tcp_idle_s if tcp else spec.pin.udp_idle_s,
    )


class _Plan:
    """One compilation: the three arguments, and a method per part of the pipeline."""

    def __init__(self, spec: GroupSpec, view: View, layout: Layout) -> None:
        self.spec, self.view, self.layout = spec, view, layout
        self.zone = spec.zone
        self.nodes = tuple(node for node in view.nodes if node.delivers)
        self.conntrack = spec.pinning == "conntrack"
        self.onward = Normal() if layout.onward is None else Resubmit(layout.onward)

    # entry table

    def entry(
        self, kind: Kind, where: Match, actions: Actions, index: int = 0, above: int = 0
    ) -> FlowEntry:
        """An entry in the table that we share with the bridge's owner."""
        cookie = at.cookie(kind, self.zone, index)
        return FlowEntry(
            self.layout.entry_table, self.layout.priority + above, where, actions, cookie
        )

    def learn_mac(self) -> Actions:
        """Let the bridge learn where the client is, and send nothing.

        Replies leave by the bridge's own forwarding, which would forget a client whose packets it
        never sees, and flood. A packet addressed to its own sender is learned from and dropped
        (Open vSwitch: "learned port is input port"); the delivery writes ``eth_dst`` anyway.
        """
        if self.layout.onward is not None:
            return ()
        return (Move("NXM_OF_ETH_SRC", "NXM_OF_ETH_DST"), Normal())

    def classified(self) -> Iterator[Match]:
        """The matches that single out the group's packets."""
        vlan = None if self.spec.match.vlan is None else self.spec.match.vlan | VLAN_PRESENT
        for port in self.view.ingress or (None,):
            for proto, ports in self._transports("dst"):
                yield match(
                    in_port=port,
                    vlan_vid=vlan,
                    eth_type=ETH_IP,
                    ip_proto=PROTOCOL_NUMBERS[proto],
                    ipv4_dst=self.spec.address,
                    **ports,
                )

    def classify(self) -> Iterator[FlowEntry]:
        zone, layout = self.zone, self.layout
        if self.conntrack:
            look: Actions = (Ct(zone, table=layout.dispatch_table),)
        else:
            look = (
                HashSlot(SLOTS),
                Load(0, "NXM_NX_REG0"),
                Load(zone, "NXM_NX_REG1"),
                Resubmit(layout.pin_table),
                Resubmit(layout.dispatch_table),
            )
        for where in self.classified():
            yield self.entry(Kind.CLASSIFY, where, (*self.learn_mac(), *look))

    def returning(self) -> Iterator[FlowEntry]:
        """Replies: seen by the connection's zone without a second pass, counted by node."""
        seen: Actions = (Ct(self.zone),) if self.conntrack else ()
        for node in self.nodes:
            for proto, ports in self._transports("src"):
                where = match(
                    in_port=node.port,
                    eth_type=ETH_IP,
                    ip_proto=PROTOCOL_NUMBERS[proto],
                    ipv4_src=self.spec.address,
                    **ports,
                )
                yield self.entry(Kind.RETURN, where, (*seen, self.onward), node.index)

    def service(self) -> Iterator[FlowEntry]:
        if self.spec.arp == "switch" or not self.view.primary_serves:
            yield from self.address_answers()
        yield from self._guards()
        yield from self._probes()

    def address_answers(self) -> Iterator[FlowEntry]:
        """The switch answers ARP for the address; and, where nobody else could, ping."""
        own = self.spec.arp == "primary"
        mac = self.view.primary_mac if own else at.node_mac(self.zone, Index(0))
        if mac is None:
            return
        asked = match(eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=self.spec.address)
        yield self.entry(Kind.SERVICE, asked, _arp_answer(mac, self.spec.address), above=5)
        if not own:
            ping = match(eth_type=ETH_IP, ip_proto=1, ipv4_dst=self.spec.address, icmpv4_type=8)
            yield self.entry(Kind.SERVICE, ping, _ping_answer(mac, self.spec.address))

    def _guards(self) -> Iterator[FlowEntry]:
        """A node that is not the address's owner must not teach it to anybody."""
        for node in self.view.nodes:
            if self.spec.arp == "switch" or node.index != self.view.primary:
                said = match(in_port=node.port, eth_type=ETH_ARP, arp_spa=self.spec.address)
                yield self.entry(Kind.SERVICE, said, (), node.index, above=5)

    def _probes(self) -> Iterator[FlowEntry]:
        """Answers to the controller's own questions come to it, and its address is answered for."""
        ours = at.node_mac(self.zone, Index(0))
        source = "0.0.0.0" if self.spec.health.source is None else str(self.spec.health.source)
        for node in self.view.nodes:
            answer = match(in_port=node.port, eth_type=ETH_ARP, arp_op=ARP_REPLY, arp_tpa=source)
            yield self.entry(Kind.SERVICE, answer, (ToController(),), node.index, above=10)
            if source == "0.0.0.0":
                continue
            asked = match(in_port=node.port, eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=source)
            yield self.entry(Kind.SERVICE, asked, _arp_answer(ours, source), node.index, above=10)
            reply = match(in_port=node.port, eth_type=ETH_IP, ipv4_dst=source)
            yield self.entry(Kind.SERVICE, reply, (ToController(),), node.index, above=10)
        yield from self._search(source)

    def _search(self, source: str) -> Iterator[FlowEntry]:
        """Until port and hardware address of the primary are both known, its ARP answers."""
        port, mac = self.view.primary_port, self.view.primary_mac
        if (port is None) == (mac is None):  # both are known, or there is nothing to tell it by
            return
        answer = match(
            in_port=port, eth_src=mac, eth_type=ETH_ARP, arp_op=ARP_REPLY, arp_tpa=source
        )
        yield self.entry(Kind.SERVICE, answer, (ToController(),), above=9)

    # our own tables

    def dispatch(self) -> Iterator[FlowEntry]:
        for node in self.nodes:
            to_node = (ToGroup(at.deliver_group(self.zone, node.index)),)
            yield self._dispatch(Kind.PINNED, _PINNED, to_node, node.index, self._pin_match(node))
            if node.draining and "tcp" in self.spec.match.protocol:
                yield self._dispatch(
                    Kind.SELECT,
                    _REPINNED,
                    self._first_packet(),
                    node.index,
                    {**self._pin_match(node), "ip_proto": 6, "tcp_flags": NEW_TCP},
                )
        if self._adopts() and "tcp" in self.spec.match.protocol:
            primary = Load(at.mark(self.zone, self.view.primary), "NXM_NX_REG0")
            adopt = (primary, Resubmit(self.layout.commit_table))
            older = {**self._no_pin(), "ip_proto": 6, "tcp_flags": NOT_NEW_TCP}
            yield self._dispatch(Kind.SELECT, _OLDER, adopt, 0, older)
        where = {**self._no_pin(), "ct_mark": None, "reg0": None}
        yield self._dispatch(Kind.SELECT, _FIRST, self._first_packet(), 0, where)

    def commit(self) -> Iterator[FlowEntry]:
        if self.spec.pinning != "reactive":
            for node in self.nodes:
                yield from self._commit(node)
        if self.spec.pinning == "learn":
            yield from self._slot_entries()

    def select_group(self) -> GroupEntry:
        """The slot table: bucket i carries the node that slot i belongs to."""
        ports = {node.index: node.port for node in self.nodes}
        commit = Resubmit(self.layout.commit_table)
        buckets = {
            index: Bucket((Load(at.mark(self.zone, index), "NXM_NX_REG0"), commit), port)
            for index, port in ports.items()
        }
        if self.spec.pinning == "reactive":
            buckets = {node.index: Bucket(self.to_node(node), node.port) for node in self.nodes}
        slots = tuple(buckets[index] for index in self.view.slots)
        return GroupEntry(at.select_group(self.zone), GroupType.SELECT, slots)

    def deliver_group(self, node: PlanNode) -> GroupEntry:
        """To the node while its port is up, else back to the slot table."""
        again = at.select_group(self.zone)
        return GroupEntry(
            at.deliver_group(self.zone, node.index),
            GroupType.FAST_FAILOVER,
            (
                Bucket(self.to_node(node), watch_port=node.port),
                Bucket((ToGroup(again),), watch_group=again),
            ),
        )

    def to_node(self, node: PlanNode) -> Actions:
        strip = () if self.spec.match.vlan is None else (PopVlan(),)
        return (*strip, SetField("eth_dst", node.mac), Output(node.port))

    # parts

    def _dispatch(
        self,
        kind: Kind,
        priority: int,
        actions: Actions,
        index: int,
        where: dict[str, Value | Masked | None],
    ) -> FlowEntry:
        cookie = at.cookie(kind, self.zone, index)
        table = self.layout.dispatch_table
        return FlowEntry(table, priority, match(**where), actions, cookie)

    def _pin_match(self, node: PlanNode) -> dict[str, Value | Masked | None]:
        register = "ct_mark" if self.conntrack else "reg0"
        return {register: at.mark(self.zone, node.index), "eth_type": ETH_IP}

    def _no_pin(self) -> dict[str, Value | Masked | None]:
        if self.conntrack:
            return {"ct_zone": self.zone, "ct_mark": 0, "eth_type": ETH_IP}
        return {"reg1": self.zone, "reg0": 0, "eth_type": ETH_IP}

    def _first_packet(self) -> Actions:
        """Where a packet goes that needs a node: the slot table, or the controller."""
        match self.spec.pinning:
            case "conntrack":
                return (ToGroup(at.select_group(self.zone)),)
            case "learn":
                return (Resubmit(self.layout.slot_table),)
            case "reactive":
                return (ToController(),)

    def _adopts(self) -> bool:
        """Whether connections older than us go to the primary without asking the controller."""
        there = any(node.index == self.view.primary for node in self.nodes)
        return there and self.view.older is Older.PRIMARY and self.spec.pinning != "reactive"

    def _commit(self, node: PlanNode) -> Iterator[FlowEntry]:
        deliver = ToGroup(at.deliver_group(self.zone, node.index))
        mark = at.mark(self.zone, node.index)
        cookie = at.cookie(Kind.COMMIT, self.zone, node.index)
        table = self.layout.commit_table
        if self.conntrack:
            commit = Ct(self.zone, commit=True, mark=mark)
            where = match(reg0=mark, eth_type=ETH_IP)
            yield FlowEntry(table, _PINNED, where, (commit, deliver), cookie)
            return
        for proto in self.spec.match.protocol:
            where = match(reg0=mark, eth_type=ETH_IP, ip_proto=PROTOCOL_NUMBERS[proto])
            learn = self._learn(proto, node.index)
            yield FlowEntry(table, _PINNED, where, (learn, deliver), cookie)

    def _learn(self, proto: Protocol, index: Index) -> Learn:
        tcp, ports = proto == "tcp", proto.upper()
        return Learn(
            table=self.layout.pin_table,
            priority=_PINNED,
            cookie=at.cookie(Kind.PIN, self.zone, index),
            idle_timeout_s=self.spec.pin.tcp_idle_s if tcp else self.spec.pin.udp_idle_s,
            fin_idle_timeout_s=self.spec.pin.fin_idle_s if tcp else 0,
            limit=self.spec.pin.limit,
            eth_type=ETH_IP,
            ip_proto=PROTOCOL_NUMBERS[proto],
            copied=(
                "NXM_NX_REG1",
                "NXM_OF_IP_SRC",
                "NXM_OF_IP_DST",
                f"NXM_OF_{ports}_SRC",
                f"NXM_OF_{ports}_DST",
            ),
            load=at.mark(self.zone, index),
        )

    def _slot_entries(self) -> Iterator[FlowEntry]:
        commit = Resubmit(self.layout.commit_table)
        for slot, index in enumerate(self.view.slots):
            yield FlowEntry(
                self.layout.slot_table,
                _PINNED,
                match(reg1=self.zone, reg2=slot),
                (Load(at.mark(self.zone, index), "NXM_NX_REG0"), commit),
                at.cookie(Kind.SELECT, self.zone),
            )

    def _transports(self, side: str) -> Iterator[tuple[Protocol, dict[str, Value | Masked]]]:
        """Each protocol with the match on its ``src`` or ``dst`` ports; one for all ports."""
        for proto in self.spec.match.protocol:
            if not self.spec.match.ports:
                yield proto, {}
            for ports in self.spec.match.ports:
                for value, mask in ports.masks():
                    exact = mask == 0xFFFF
                    yield proto, {f"{proto}_{side}": value if exact else Masked(value, mask)}


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
