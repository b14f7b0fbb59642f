"""One round of statistics, in messages whose number does not depend on the traffic.

Owns which counter of which entry means what about a node. Flow statistics are asked for by table
and with our cookie, for all groups at once; per-flow pins only as a sum per node, and entries that
count for no node only as their number. A round that is not complete when it is closed has ``None``
where an answer is missing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TypeAlias

from sncontroller.core.entries import Resubmit, Table
from sncontroller.core.events import NodeCounters, Polled
from sncontroller.core.layout import (
    COOKIE_EXACT,
    COOKIE_MAGIC,
    COOKIE_MAGIC_MASK,
    Index,
    Kind,
    Layout,
    Zone,
    cookie,
    deliver_group,
    origin,
)
from sncontroller.openflow import codec, requests
from sncontroller.openflow.wire import Answer, Part, Wire

_SERVICE = cookie(Kind.SERVICE, Zone(0))
"""The bits of cookies of entries that count for no node, of which each node has several."""
_SERVICE_MASK = COOKIE_MAGIC_MASK | 0xFFFF << 32
_COUNTING = cookie(Kind.CLASSIFY, Zone(0))
_COUNTING_MASK = COOKIE_MAGIC_MASK | (Kind.SERVICE ^ Kind.RETURN | Kind.CLASSIFY) << 32
"""What ``CLASSIFY`` and ``RETURN`` have in common, and ``SERVICE`` has not: one bit."""
_ZONE_SHIFT = (cookie(Kind.CLASSIFY, Zone(1)) ^ _COUNTING).bit_length() - 1
"""Where the zone begins in a cookie."""

ASKED_AT_ONCE = 6_000
"""Where there are more entries to ask for, it is done in pieces of at most about so many. By table
the switch does nothing twice; for each part of the groups it looks through a whole table: of 14,400
entries, two parts took it 1.3 times as long as one, and eight twice as long."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a poll asks about one group, and how many entries it has to find."""

    nodes: Mapping[Index, int | None]
    """Nodes, and the port of each."""
    pins: bool
    """Whether the pins are flow entries."""
    entries: Mapping[tuple[int, int], int]
    """How many entries there are per table and cookie, of those asked for one by one."""
    others: int
    """How many other entries the table has that we share with the bridge's owner."""


def watched(zone: Zone, table: Table, layout: Layout) -> Watched:
    """What to ask about a group with this table installed."""
    flows = table.flows.values()
    owners = map(origin, {flow.cookie for flow in flows})
    indexes = sorted({owner.index for owner in owners if owner is not None and owner.index})
    polled = set(polled_tables(layout))
    ours = Counter((flow.table, flow.cookie) for flow in flows if flow.table in polled)
    asked = {key: count for key, count in ours.items() if not _is_summed(*key, layout)}
    return Watched(
        {index: _port(zone, index, table) for index in indexes},
        any(Resubmit(layout.pin_table) in flow.actions for flow in flows),
        asked,
        ours.total() - sum(asked.values()),
    )


def polled_tables(layout: Layout) -> tuple[int, ...]:
    """The tables whose entries count for nodes."""
    return layout.entry_table, layout.dispatch_table, layout.commit_table


def _is_summed(table: int, number: int, layout: Layout) -> bool:
    """Whether entries of this cookie, of which that table has many, are asked for as a number."""
    return table == layout.entry_table and number & _SERVICE == _SERVICE


Sums: TypeAlias = tuple[int, int, int]
"""Over all entries of a cookie in a table: how many there are, packets, bytes."""
_NONE: Sums = (0, 0, 0)
_Unknown: TypeAlias = tuple[None, None, None]
_UNKNOWN: _Unknown = (None, None, None)


class Round:
    """Asks once; ``heard`` is called when all that was asked for so far is answered.

    Where there is much to ask for, it is one piece after the other: what else the switch has to
    answer waits for one of them, not for all. ``given`` is what ``NodeCounters.flows_given`` is to
    say, ``reader`` remembers earlier rounds.
    """

    def __init__(
        self,
        wire: Wire,
        layout: Layout,
        groups: Mapping[Zone, Watched],
        at_s: float,
        heard: Callable[[], None],
        given: Mapping[tuple[Zone, Index], int] | None = None,
        reader: codec.CounterReader | None = None,
    ) -> None:
        self._counted = reader or codec.CounterReader()
        self._wire, self._layout, self._groups = wire, layout, groups
        self._given = given or {}
        self._at_s, self._heard = at_s, heard
        self._readers: dict[int, Callable[[bytes], None]] = {}
        self._unasked: deque[Callable[[], Iterable[bytes]]] = deque()
        self._flows: dict[int, dict[int, Sums]] = {table: {} for table in polled_tables(layout)}
        """By table and cookie."""
        entries = sum(len(group.entries) for group in groups.values())
        self._is_large = entries > ASKED_AT_ONCE
        self._parts: int = 1 << (entries // len(self._flows) // ASKED_AT_ONCE).bit_length()
        """A power of 2: into so many the groups are divided, by the last bits of their zones."""
        self._unread = dict.fromkeys(self._flows, self._parts)
        """By table, how many answers with entries are missing."""
        self._drops: dict[int | None, int | None] = {}
        self._pins: dict[tuple[Zone, Index], int] = {}
        self._others: int | None = None
        """Entries that are not asked for one by one."""

    def start(self, port_count: int) -> None:
        """Send the first requests; ``port_count`` is how many ports the bridge has."""
        parts = [(table, part) for part in range(self._parts) for table in self._flows]
        self._unasked.extend(partial(self._ask_flows, *each) for each in parts)
        self._unasked.append(partial(self._ask_rest, port_count))
        self._ask(1 if self._is_large else len(self._unasked))

    def go_on(self) -> None:
        """Ask for the next piece, if what was asked for is answered."""
        if self._unasked and not self._readers:
            self._ask(1)

    def _ask(self, pieces: int) -> None:
        asked = [self._unasked.popleft() for _ in range(pieces)]
        self._wire.send(*(request for ask in asked for request in ask()))

    def close(self) -> None:
        """Late answers are not for this round."""
        self._wire.forget(self._readers)
        self._readers.clear()

    @property
    def complete(self) -> bool:
        """Whether everything was answered."""
        return not self._readers and not self._unasked

    def results(self) -> Iterator[Polled]:
        """Every group's counters, with what was answered so far."""
        layout, drops, pins, given = self._layout, self._drops, self._pins, self._given
        new = self._sums(layout.commit_table)
        pinned = self._sums(layout.dispatch_table)
        back = self._sums(layout.entry_table)
        for zone, group in self._groups.items():
            commits, delivers = cookie(Kind.COMMIT, zone), cookie(Kind.PINNED, zone)
            returns = cookie(Kind.RETURN, zone)
            nodes = {}
            for index, port in group.nodes.items():
                _, packets, octets = pinned.get(delivers | index, _UNKNOWN)
                _, reply_packets, reply_bytes = back.get(returns | index, _UNKNOWN)
                nodes[index] = NodeCounters(
                    new.get(commits | index, _UNKNOWN)[1],
                    packets,
                    octets,
                    reply_packets,
                    reply_bytes,
                    drops.get(port),
                    pins.get((zone, index)),
                    given.get((zone, index)),
                )
            yield Polled(self._wire.datapath_id, zone, self._at_s, nodes)

    def _sums(self, table: int) -> Mapping[int, Sums | _Unknown]:
        """What was counted in the table by cookie: nothing is known before its last entry."""
        return {} if self._unread[table] else self._flows[table]

    def is_strange(self, changed: Set[Zone]) -> bool:
        """Whether not exactly the installed entries were found; complete rounds only.

        Groups that ``changed`` meanwhile are not looked at. What is only known as a number is,
        in rounds in which none did.
        """
        quiet = [group for zone, group in self._groups.items() if zone not in changed]
        if not all(map(self._has, quiet)):
            return True
        expected = sum(len(group.entries) for group in quiet)
        if changed or sum(map(len, self._flows.values())) != expected:
            return self._has_more(changed)
        return self._others not in (None, sum(group.others for group in quiet))

    def _has(self, group: Watched) -> bool:
        """Whether all entries of the group were found."""
        flows = self._flows
        return all(
            flows[table].get(number, _NONE)[0] == count
            for (table, number), count in group.entries.items()
        )

    def _has_more(self, changed: Set[Zone]) -> bool:
        """Whether there are entries that no group has; not those of a newer version's kind."""
        for table, cookies in self._flows.items():
            for number in cookies:
                whose = origin(number)
                if whose is None or whose.zone in changed:
                    continue
                group = self._groups.get(whose.zone)
                if group is None or (table, number) not in group.entries:
                    return True
        return False

    # asking

    def _ask_flows(self, table: int, part: int) -> Iterator[bytes]:
        def read(body: bytes) -> None:
            _add(self._flows[table], self._counted.read(body))

        entry = table == self._layout.entry_table
        ours, mask = (_COUNTING, _COUNTING_MASK) if entry else (COOKIE_MAGIC, COOKIE_MAGIC_MASK)
        ours, mask = ours | part << _ZONE_SHIFT, mask | self._parts - 1 << _ZONE_SHIFT
        yield requests.flow_request(self._reader(read, table), table, ours, mask)

    def _ask_rest(self, port_count: int) -> Iterator[bytes]:
        yield self._ask_others()
        yield from self._ask_ports(port_count)
        yield from (self._ask_pins(zone, index) for zone, index in self._pinned_nodes())

    def _ask_others(self) -> bytes:
        def read(body: bytes) -> None:
            self._others = requests.aggregate(body).flows

        table = self._layout.entry_table
        return requests.aggregate_request(self._reader(read), table, _SERVICE, _SERVICE_MASK)

    def _ask_ports(self, port_count: int) -> Iterator[bytes]:
        """All ports in one message where ours are most of them; each costs the switch a look."""
        ports = {p for g in self._groups.values() for p in g.nodes.values() if p is not None}
        if 2 * len(ports) > port_count:
            yield requests.port_stats_request(self._reader(self._read_ports))
            return
        for port in sorted(ports):
            yield requests.port_stats_request(self._reader(self._read_ports), port)

    def _ask_pins(self, zone: Zone, index: Index) -> bytes:
        def read(body: bytes) -> None:
            self._pins[zone, index] = requests.aggregate(body).flows

        number = cookie(Kind.PIN, zone, index)
        return requests.aggregate_request(
            self._reader(read), self._layout.pin_table, number, COOKIE_EXACT
        )

    def _pinned_nodes(self) -> Iterator[tuple[Zone, Index]]:
        for zone, group in self._groups.items():
            if group.pins:
                yield from ((zone, index) for index in group.nodes)

    def _read_ports(self, body: bytes) -> None:
        self._drops.update(requests.port_drops(body))

    def _reader(self, reader: Callable[[bytes], None], table: int | None = None) -> int:
        def hear(xid: int, answer: Answer) -> None:
            if isinstance(answer, Part):
                reader(answer.body)
                if not answer.last:
                    return
                if table is not None:
                    self._unread[table] -= 1
            del self._readers[xid]
            if not self._readers:
                self._heard()

        xid = self._wire.question(hear)
        self._readers[xid] = reader
        return xid


def _add(sums: dict[int, Sums], counted: codec.Counted) -> None:
    """Count a reply's entries in; most cookies are of one entry in its table."""
    fresh = dict(zip(counted.cookies, zip(repeat(1), counted.packets, counted.bytes), strict=False))
    if len(fresh) == len(counted.cookies) and fresh.keys().isdisjoint(sums.keys()):
        sums.update(fresh)
        return
    for number, packets, octets in zip(*counted, strict=True):
        entries, more, bytes_more = sums.get(number, _NONE)
        sums[number] = entries + 1, more + packets, bytes_more + octets


def _port(zone: Zone, index: Index, table: Table) -> int | None:
    """The port that the node's delivery watches."""
    group = table.groups.get(deliver_group(zone, index))
    return group.buckets[0].watch_port if group is not None and group.buckets else None
