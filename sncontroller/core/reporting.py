"""Fetching what nodes report about themselves: when, from where, and what is known of it since.

Owns the timing of reports and the values they leave. Each report of each node is on its own: one
that is late or wrong delays no other. A value stays for as long as the specification keeps it; then
its signal is unknown, which is not zero.
"""

from __future__ import annotations

from dataclasses import replace

from sncontroller.core import measure
from sncontroller.core.chance import chance
from sncontroller.core.commands import FetchReport, Kind
from sncontroller.core.events import Reported
from sncontroller.core.lifecycle import State
from sncontroller.core.report import Known, Reading, ReportSpec, is_whole, value_of
from sncontroller.core.state import Group, Node, Source
from sncontroller.core.turn import Turn

OVERDUE_S = 1.0
"""A fetch that has not ended so long after its timeout is given up."""
SPREAD = 0.1
"""By which share of itself an interval is shortened, so that nodes are not all asked at once."""
_ASKED = frozenset({State.PROBING, State.WARMING, State.ACTIVE, State.DRAINING})
_NOTHING = Reading(None)


def ask(turn: Turn) -> None:
    """Fetch the reports that are due."""
    specs = turn.group.spec.reports
    asked = [n for n in turn.group.nodes.values() if n.state in _ASKED] if specs else []
    for node in asked:
        if not node.sources:
            turn.update(node.index, sources=tuple(Source(next_s=turn.now) for _ in specs))
        for number, spec in enumerate(specs):
            _ask(turn, turn.node(node.index), number, spec)


def reported(turn: Turn, report: Reported) -> None:
    """Take in a report, or why there is none. An answer to an older question is void."""
    node = turn.group.nodes.get(report.index)
    if node is None or report.source >= len(node.sources):
        return
    if node.sources[report.source].asked_s != report.asked_s:
        return
    spec = turn.group.spec.reports[report.source]
    if report.error is not None:
        _missed(turn, node, report.source, report.error)
    else:
        _read(turn, node, spec, report)
    measure.weigh(turn, turn.node(node.index))


def wake_s(group: Group) -> float:
    """When ``ask`` has something to do next: never before it would do it."""
    if not group.spec.reports:
        return float("inf")
    due = (
        _due_s(source, spec)
        for node in group.nodes.values()
        if node.state in _ASKED
        for source, spec in zip(node.sources, group.spec.reports, strict=False)
    )
    return min(due, default=float("inf"))


def _due_s(source: Source, spec: ReportSpec) -> float:
    if source.asked_s is None:
        return source.next_s
    return source.asked_s + spec.fetch_timeout_s + OVERDUE_S


def _ask(turn: Turn, node: Node, number: int, spec: ReportSpec) -> None:
    source = node.sources[number]
    if turn.now < _due_s(source, spec):
        return
    if source.asked_s is not None:
        _missed(turn, node, number, f"no answer within {spec.fetch_timeout_s:g} s")
        source = turn.node(node.index).sources[number]
    zone, address = turn.group.spec.zone, turn.group.management_address(node)
    early = SPREAD * chance(zone, node.index, number, int(turn.now * 1000))
    again_s = turn.now + spec.interval_s * (1 - early)
    if address is None and spec.needs_address:
        _put(turn, node, number, replace(source, next_s=again_s, asked_s=None))
        _missed(turn, turn.node(node.index), number, "its management address is not known")
        return
    url = spec.url_of(address, node.name, node.index, node.port_name)
    turn.say(FetchReport(zone, node.index, number, turn.now, spec, url))
    _put(turn, node, number, replace(source, next_s=again_s, asked_s=turn.now))


def _read(turn: Turn, node: Node, spec: ReportSpec, report: Reported) -> None:
    """What a report that came leaves behind."""
    before = node.sources[report.source]
    known = dict(node.known)
    for name, signal in spec.signals.items():
        reading = report.readings.get(name, _NOTHING)
        value = value_of(signal, reading, before.read.get(name), report.at_s - before.read_s)
        if value is not None:
            known[name] = Known(value, report.at_s + spec.kept_s)
    turn.update(node.index, known=known)
    after = replace(before, asked_s=None, read=report.readings, read_s=report.at_s)
    absent = [
        name
        for name, signal in spec.signals.items()
        if not is_whole(signal, report.readings.get(name, _NOTHING))
    ]
    _put(turn, node, report.source, after)
    if absent:
        _missed(turn, turn.node(node.index), report.source, f"{', '.join(absent)} not in it")
        return
    if before.complained:
        turn.log(Kind.REPORT, node.name, "reports again")
    whole = replace(after, whole_s=report.at_s, trouble="", complained=False)
    _put(turn, turn.node(node.index), report.source, whole)


def _missed(turn: Turn, node: Node, number: int, why: str) -> None:
    """No report, or not a whole one; it is said once, when the last values do not count any more.

    What is not there yet while a node boots is no news.
    """
    spec, source = turn.group.spec.reports[number], node.sources[number]
    silent_s = turn.now - max(source.whole_s, node.since_s)
    complain = node.serving and silent_s > spec.kept_s and not source.complained
    if complain:
        names = ", ".join(spec.signals)
        turn.log(Kind.REPORT, node.name, f"no report for {silent_s:.0f} s, {names} unknown: {why}")
    complained = source.complained or complain
    after = replace(source, asked_s=None, trouble=why, complained=complained)
    _put(turn, node, number, after)


def _put(turn: Turn, node: Node, number: int, source: Source) -> None:
    sources = (*node.sources[:number], source, *node.sources[number + 1 :])
    turn.update(node.index, sources=sources)
