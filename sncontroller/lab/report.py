"""What the demo found: from its record to figures, and from figures to a verdict.

Owns ``report.json``. Pure: the record comes in, a ``Report`` of plain values comes out, and
``problems`` says in one line each why a run does not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from sncontroller.lab.samples import EventSeen, Moment, Traffic, merged, percentile_ms
from sncontroller.lab.scenario import Phase, Scenario

_SETTLING_S = 1.0
"""A measured phase's first second still has answers of the one before."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the demo did or saw itself."""

    time_s: float
    what: str
    why: str
    node: str | None = None
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that was seen during a run."""

    scenario: Scenario
    began_s: float
    moments: tuple[Moment, ...]
    samples: tuple[Traffic, ...]
    events: tuple[EventSeen, ...]
    marks: tuple[Mark, ...]
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was found when all was over."""

    foreign_flows_identical: bool
    leftovers: tuple[str, ...]
    machine: Mapping[str, Any]
    clean_up_problems: tuple[str, ...] = ()
    hypervisor: str = "netns"


@dataclass(frozen=True, slots=True)
class Connections:
    """Connections, short ones and long-lived ones together."""

    made: int = 0
    held: int = 0
    failed: int = 0
    moved: int = 0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Nodes:
    """How many nodes there were, and what each answered."""

    peak: int = 0
    end: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Answered requests per second, saturated: by the primary alone, and by all nodes."""

    alone: float = 0.0
    peak: float = 0.0

    @property
    def gain(self) -> float:
        """How many times the primary's throughput the group has."""
        return self.peak / self.alone if self.alone else 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of a request, connecting included, in milliseconds."""

    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Drain:
    """How a node went: it waited for the long-lived connections it had."""

    node: str
    began_s: float
    held: int
    """Long-lived connections to it when the drain began."""
    last_held_s: float
    """When it was last seen with one."""
    gone_s: float | None

    @property
    def waited_s(self) -> float:
        """How long it stayed for its long-lived connections."""
        return max(0.0, self.last_held_s - self.began_s)


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of one run; times are seconds since its beginning."""

    ok: bool
    problems: tuple[str, ...]
    took_s: float
    connections: Connections
    nodes: Nodes
    throughput: Throughput
    latency_ms: Mapping[str, Latency]
    drains: tuple[Drain, ...]
    phases: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    leftovers: tuple[str, ...]
    """What is still there after the clean-up, one line each."""
    foreign_flows_identical: bool
    machine: Mapping[str, Any]
    hypervisor: str
    """What nodes were made by."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``report.json``."""
        plain = asdict(self)
        plain["throughput"]["gain"] = round(self.throughput.gain, 2)
        for drain, value in zip(plain["drains"], self.drains, strict=True):
            drain["waited_s"] = round(value.waited_s, 1)
        return plain


def report(record: Record, after: Aftermath) -> Report:
    """The findings of a run."""
    alone = window(record, Phase.ALONE, record.scenario.ramp_alone_s + _SETTLING_S)
    peak = window(record, Phase.PEAK, _SETTLING_S)
    counted = (_connections(record), _nodes(record), Throughput(_rate(alone), _rate(peak)))
    problems = tuple(_problems(record, after, *counted))
    return Report(
        not problems,
        problems,
        round(record.moments[-1].time_s - record.began_s, 1) if record.moments else 0.0,
        *counted,
        {"alone": _latency(alone), "peak": _latency(peak), "all": _latency(record.samples)},
        drains(record),
        tuple(
            {"phase": phase.value, "from_s": round(start, 1), "to_s": round(end, 1)}
            for phase, start, end in phases(record)
        ),
        tuple(_events(record)),
        after.leftovers,
        after.foreign_flows_identical,
        after.machine,
        after.hypervisor,
    )


def phases(record: Record) -> tuple[tuple[Phase, float, float], ...]:
    """Each phase that was played, from when to when."""
    at: dict[str, list[float]] = {}
    for before, moment in pairwise((*record.moments[:1], *record.moments)):
        times = (before.time_s - record.began_s, moment.time_s - record.began_s)
        at.setdefault(moment.phase, []).extend(times)
    return tuple((Phase(name), min(times), max(times)) for name, times in at.items())


def window(record: Record, phase: Phase, skip_s: float) -> tuple[Traffic, ...]:
    """The samples that lie wholly in the phase, its first ``skip_s`` seconds left out."""
    found = [(start, end) for name, start, end in phases(record) if name is phase]
    if not found:
        return ()
    first, last = found[0][0] + skip_s + record.began_s, found[0][1] + record.began_s
    return tuple(s for s in record.samples if first <= s.time_s - s.span_s and s.time_s <= last)


def drains(record: Record) -> tuple[Drain, ...]:
    """How each node that was drained went, in the order of their drains' beginnings."""
    seen: dict[str, Drain] = {}
    held: Mapping[str, int] = {}
    for moment in record.moments:
        now = round(moment.time_s - record.began_s, 1)
        held = moment.traffic.held if moment.traffic else held
        if moment.group is None:
            continue
        states = {node.name: node.state for node in moment.group.present}
        for name, state in states.items():
            if state == "draining":
                seen.setdefault(name, Drain(name, now, held.get(name, 0), now, None))
        seen = {name: _followed(drain, now, states, held) for name, drain in seen.items()}
    return tuple(seen.values())


def _followed(
    drain: Drain, now: float, states: Mapping[str, str], held: Mapping[str, int]
) -> Drain:
    if drain.gone_s is not None:
        return drain
    last_held_s = now if held.get(drain.node) else drain.last_held_s
    gone_s = None if drain.node in states else now
    return Drain(drain.node, drain.began_s, drain.held, last_held_s, gone_s)


def _rate(samples: tuple[Traffic, ...]) -> float:
    span_s = sum(sample.span_s for sample in samples)
    return round(sum(sample.requests for sample in samples) / span_s, 1) if span_s else 0.0


def _latency(samples: Iterable[Traffic]) -> Latency:
    total = merged(samples)
    found = (percentile_ms(total, share) for share in (0.5, 0.9, 0.99))
    return Latency(*(None if ms is None else round(ms, 1) for ms in found))


def _connections(record: Record) -> Connections:
    if not record.samples:
        return Connections()
    last = record.samples[-1]
    errors = tuple(text for sample in record.samples for text in sample.errors)
    return Connections(
        last.made_total, last.held_total, last.failed_total, last.moved_total, errors[:20]
    )


def _nodes(record: Record) -> Nodes:
    groups = [moment.group for moment in record.moments if moment.group]
    answered: Counter[str] = Counter()
    for sample in record.samples:
        answered.update(sample.by_node)
    peak = max((len(group.serving) for group in groups), default=0)
    end = len(groups[-1].present) if groups else 0
    return Nodes(peak, end, dict(sorted(answered.items())))


def _events(record: Record) -> Iterator[dict[str, Any]]:
    """What happened, when, how long it took, and why: the controller's log and the demo's own."""
    found = [(e.time_s, e.kind, e.node, e.took_s, e.reason) for e in record.events]
    found += [(m.time_s, m.what, m.node, m.took_s, m.why) for m in record.marks]
    for time_s, what, node, took_s, why in sorted(found, key=lambda event: event[0]):
        took = None if took_s is None else round(took_s, 2)
        at_s = round(time_s - record.began_s, 2)
        yield {"at_s": at_s, "what": what, "node": node, "took_s": took, "why": why}


def _problems(
    record: Record,
    after: Aftermath,
    connections: Connections,
    nodes: Nodes,
    throughput: Throughput,
) -> Iterator[str]:
    """Why the run does not hold, one line each."""
    scenario = record.scenario
    first = f", first: {connections.errors[0]}" if connections.errors else ""
    if connections.made == 0:
        yield "no connection was made"
    if connections.failed:
        yield f"{connections.failed} connections failed{first}"
    if connections.moved:
        yield f"{connections.moved} connections moved to another node{first}"
    if nodes.peak < scenario.expected_nodes:
        yield f"{nodes.peak} nodes at the peak, expected {scenario.expected_nodes}"
    if nodes.end != 1:
        yield f"{nodes.end} nodes at the end, expected the primary alone"
    if throughput.gain < scenario.expected_gain:
        yield (
            f"throughput at the peak is {throughput.gain:.2f} times that of the primary alone, "
            f"expected {scenario.expected_gain:g}"
        )
    if not after.foreign_flows_identical:
        yield "the bridge's other entries are not what they were"
    yield from (f"left behind: {line}" for line in after.leftovers)
    yield from (*record.late, *after.clean_up_problems)
