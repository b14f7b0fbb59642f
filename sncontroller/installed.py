"""What of a group can be read back from a bridge's dump: its nodes, its slot table, its primary.

Pure functions of the dump's text. The controller reads the same from OpenFlow messages
(``core.adoption``); this is for commands that run without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sncontroller.bridge import Entries
from sncontroller.core import layout
from sncontroller.core.layout import PRIMARY_INDEX, Index, Kind, Zone
from sncontroller.core.plan import ASKED, DRAIN_NOTE, FAILED_NOTE, SINCE, Drain

_ANSWER = re.compile(
    r"(?:arp_op=1|icmp_type=135,nd_target=\S+) actions=move:.*set_field:([0-9a-f:]{17})->eth_src"
)
_DELIVERY = re.compile(r"set_field:([0-9a-f:]{17})->eth_dst,output:(\d+)")
_OWNER = re.compile(r"load:(0x[0-9a-f]+)->NXM_NX_REG0\[\]")
_LOADED = re.compile(r"load:(0x[0-9a-f]+|0)->(NXM_NX_REG\d)\[\]")
_IN_PORT = re.compile(r"in_port=(\d+)")


def of_group(there: Entries, zone: Zone) -> Entries:
    """The entries of one group."""
    flows = ((line, origin(line)) for line in there.flows)
    groups = ((line, layout.group_origin(group_id(line))) for line in there.groups)
    return Entries(
        frozenset(line for line, found in flows if found is not None and found.zone == zone),
        frozenset(line for line, found in groups if found is not None and found[0] == zone),
    )


def without_pins(there: Entries) -> Entries:
    """Without the entries of single flows, which no configuration asks for."""
    kinds = ((line, origin(line)) for line in there.flows)
    lasting = (line for line, found in kinds if found is None or found.kind is not Kind.PIN)
    return Entries(frozenset(lasting), there.groups)


def delivered(mine: Entries) -> dict[Index, tuple[int, str]]:
    """Port number and hardware address of each node that flows may reach."""
    found = ((group_index(line), _DELIVERY.search(line)) for line in mine.groups)
    return {index: (int(to[2]), to[1]) for index, to in found if index and to is not None}


def probed(mine: Entries) -> dict[Index, int]:
    """Port number of each node whose answers to probes come to the controller."""
    return {
        found.index: int(port[1])
        for line in mine.flows
        if (found := origin(line)) is not None
        and (port := _IN_PORT.search(line)) is not None
        and found.kind is Kind.SERVICE
        and found.index
    }


def draining(mine: Entries) -> dict[Index, Drain]:
    """The drains under way, by node."""
    drains = {}
    for index, line in _noted(mine, DRAIN_NOTE):
        said = {register: int(value, 16) for value, register in _LOADED.findall(line)}
        drains[index] = Drain(said.get(SINCE, 0), bool(said.get(ASKED)))
    return drains


def failed(mine: Entries) -> frozenset[Index]:
    """The nodes that an operator took out."""
    return frozenset(index for index, _ in _noted(mine, FAILED_NOTE))


def _noted(mine: Entries, note: int) -> Iterator[tuple[Index, str]]:
    """The notes of one kind: node and line."""
    for line in mine.flows:
        found = origin(line) if f" priority={note}," in line else None
        if found is not None and found.kind is Kind.SELECT and found.index:
            yield found.index, line


def primary(mine: Entries) -> tuple[int, str] | None:
    """Port and hardware address of the primary, from its delivery or from what was handed back."""
    there = delivered(mine).get(PRIMARY_INDEX)
    if there is not None:
        return there
    found = (_DELIVERY.search(line) for line in mine.flows)
    return next(((int(to[2]), to[1]) for to in found if to is not None), None)


def slots(mine: Entries) -> tuple[Index, ...]:
    """The owners in the slot table: by mark, or by port where the buckets deliver themselves."""
    by_port = {port: index for index, (port, _) in delivered(mine).items()}
    for line in mine.groups:
        if group_index(line) == 0:
            marks = tuple(_marked(mark) for mark in _OWNER.findall(line))
            ports = (int(port) for _, port in _DELIVERY.findall(line))
            return marks or tuple(by_port.get(port, Index(0)) for port in ports)
    return ()


def adopter(mine: Entries) -> Index | None:
    """The node that gets connections older than us, if one does."""
    lines = (line for line in mine.flows if "tcp_flags=-syn" in line)
    marks = (_OWNER.search(line) for line in lines)
    return next((_marked(mark[1]) for mark in marks if mark is not None), None)


def adopting(mine: Entries) -> bool:
    """Whether connections older than us are the primary's."""
    return any("tcp_flags=-syn" in line for line in mine.flows)


def straight(mine: Entries) -> bool:
    """Whether SYNs go straight to their slots."""
    found = (origin(line) for line in mine.flows if "tcp_flags=+syn-ack" in line)
    return any(whose is not None and whose.kind is Kind.CLASSIFY for whose in found)


def answers(there: Entries) -> dict[Zone, str]:
    """The groups for whose address the switch answers, and the hardware address it names."""
    return {
        found.zone: answer[1]
        for line in there.flows
        if (found := origin(line)) is not None
        and (answer := _ANSWER.search(line)) is not None
        and found.kind is Kind.SERVICE
        and not found.index
    }


def origin(line: str) -> layout.Origin | None:
    """What the cookie in a line of ``dump-flows`` says, ``None`` for a foreign one."""
    found = re.search(r"cookie=(0x[0-9a-f]+)", line)
    return None if found is None else layout.origin(int(found[1], 16))


def group_id(line: str) -> int:
    """The identifier in a line of ``dump-groups``."""
    return int(line.partition(",")[0].removeprefix("group_id="))


def group_index(line: str) -> Index:
    """The node of one of our groups; 0 for the slot table."""
    found = layout.group_origin(group_id(line))
    return Index(0) if found is None else found[1]


def _marked(mark: str) -> Index:
    return Index(int(mark, 16) & layout.MAX_INDEX)
