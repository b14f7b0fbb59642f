"""One look at what a switch holds: its ports, our entries by group, and who else is at the door.

Owns which tables are asked for. The table of pins is not among them: its size is that of the
traffic, and nobody desires its entries. Of the table that we share with the bridge's owner, foreign
entries are read too, because adding one of ours where one of theirs is would replace it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sncontroller.core.entries import FlowEntry, FlowKey, GroupEntry, Table
from sncontroller.core.events import Port
from sncontroller.core.layout import (
    COOKIE_MAGIC,
    COOKIE_MAGIC_MASK,
    Layout,
    Zone,
    group_origin,
    origin,
)
from sncontroller.openflow import codec, requests
from sncontroller.openflow.wire import Answer, Part, Problem, Wire

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dumped:
    """What the switch holds."""

    ports: tuple[Port, ...]
    installed: Mapping[Zone, Table]
    foreign: Mapping[FlowKey, FlowEntry]
    """Somebody else's entries in the shared table."""


def own_tables(layout: Layout) -> tuple[int, ...]:
    """The tables of compiled entries that we share with nobody."""
    return layout.dispatch_table, layout.commit_table, layout.slot_table


class Dump:
    """Asks for everything at once; ``finish`` gets the result when the last reply is there."""

    def __init__(self, wire: Wire, layout: Layout, finish: Callable[[Dumped], None]) -> None:
        self._wire, self._layout, self._finish = wire, layout, finish
        self._readers: dict[int, Callable[[bytes], None]] = {}
        self._ports: list[Port] = []
        self._flows: list[FlowEntry] = []
        self._groups: list[GroupEntry] = []

    def start(self) -> None:
        """Send the requests; ports come last, so that what is heard of one later is newer."""
        messages = [
            requests.flow_request(self._reader(self._read_flows), self._layout.entry_table, 0, 0),
            *(
                requests.flow_request(
                    self._reader(self._read_flows), table, COOKIE_MAGIC, COOKIE_MAGIC_MASK
                )
                for table in own_tables(self._layout)
            ),
            requests.group_desc_request(self._reader(self._read_groups)),
            requests.port_desc_request(self._reader(self._read_ports)),
        ]
        self._wire.send(*messages)

    def _reader(self, reader: Callable[[bytes], None]) -> int:
        xid = self._wire.question(self._hear)
        self._readers[xid] = reader
        return xid

    def _hear(self, xid: int, answer: Answer) -> None:
        match answer:
            case Part(body, last):
                self._readers[xid](body)
                if not last:
                    return
            case Problem(name):
                LOG.error("switch %016x cannot be dumped: %s", self._wire.datapath_id, name)
        del self._readers[xid]
        if not self._readers:
            self._finish(self._dumped())

    def _dumped(self) -> Dumped:
        foreign = {flow.key: flow for flow in self._flows if origin(flow.cookie) is None}
        return Dumped(tuple(self._ports), by_zone(self._flows, self._groups), foreign)

    def _read_ports(self, body: bytes) -> None:
        self._ports += requests.ports(body)

    def _read_flows(self, body: bytes) -> None:
        self._flows += codec.flows(body)

    def _read_groups(self, body: bytes) -> None:
        self._groups += codec.groups(body)


def by_zone(flows: list[FlowEntry], groups: list[GroupEntry]) -> dict[Zone, Table]:
    """The entries that are ours, by the group of nodes they belong to."""
    ours: dict[Zone, tuple[list[FlowEntry], list[GroupEntry]]] = defaultdict(lambda: ([], []))
    for flow in flows:
        whose = origin(flow.cookie)
        if whose is not None:
            ours[whose.zone][0].append(flow)
    for group in groups:
        where = group_origin(group.group_id)
        if where is not None:
            ours[where[0]][1].append(group)
    return {
        zone: Table({f.key: f for f in flows}, {g.group_id: g for g in groups})
        for zone, (flows, groups) in ours.items()
    }
