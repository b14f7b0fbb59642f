"""One turn of one contender, and what many turns say together.

Owns the sequence of measurements within a turn and their summary. Turns of a round follow each
other closely, so that what else the machine does meets all contenders alike; ratios are taken
within a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.counters import (
    Datapath,
    cpu_s,
    datapath,
    datapath_flows,
    openflow_entries,
)
from bench.dataplane import client
from bench.dataplane.client import Rate, Visits
from bench.dataplane.contenders import Contender
from bench.dataplane.field import BRIDGE, Field


@dataclass(frozen=True, slots=True)
class Spans:
    """How long the measurements of a turn take, in seconds; wrk knows only whole ones."""

    warm: int = 1
    new: int = 3
    visits: float = 2.0
    keep: int = 2


@dataclass(frozen=True, slots=True)
class Load:
    """A rate under full load, and the work behind it."""

    rate: Rate
    datapath: Datapath
    switch_cpu_s: float
    other_cpu_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn found."""

    new: Load
    keep: Load
    visits: Visits
    datapath_flows: int
    openflow_entries: int

    @property
    def errors(self) -> int:
        """Connections and requests that failed, over the whole turn."""
        return self.new.rate.errors + self.keep.rate.errors + self.visits.errors


def turn(contender: Contender, spans: Spans) -> Turn:
    """Measure a contender that is up."""
    field = contender.field
    client.rate(field.client, contender.address, spans.warm, close=True)
    new = _load(field, contender, spans.new, close=True)
    flows = datapath_flows(field.ovs)
    entries = openflow_entries(field.ovs, BRIDGE)
    visits = client.visits(field.client, contender.address, spans.visits)
    keep = _load(field, contender, spans.keep, close=False)
    return Turn(new, keep, visits, flows, entries)


def _load(field: Field, contender: Contender, span_s: int, *, close: bool) -> Load:
    others = contender.pids
    # A client's port that comes round meets no old connection's entry: with OVN's ct(nat) that ends
    # the switch daemon (OVS 3.1.0, an assertion in conn_update_state).
    field.ovs.appctl("dpctl/flush-conntrack")
    before = datapath(field.ovs), cpu_s((field.switch_pid,)), cpu_s(others)
    rate = client.rate(field.client, contender.address, span_s, close=close)
    return Load(
        rate,
        datapath(field.ovs) - before[0],
        cpu_s((field.switch_pid,)) - before[1],
        cpu_s(others) - before[2],
    )


Rounds = Sequence[Mapping[str, Turn]]
"""Per round, the turns by contender; one whose switch died has none."""


def summary(name: str, rounds: Rounds) -> dict[str, Any]:
    """A contender's figures over all rounds, as JSON; empty when no turn came to its end."""
    turns = [each[name] for each in rounds if name in each]
    if not turns:
        return {}
    took_us = [us for each in turns for us in each.visits.took_us]
    return {
        **_rates("new_connections", [each.new for each in turns]),
        **_rates("keepalive_requests", [each.keep for each in turns]),
        "of_normal": {
            "new_connections": ratio(rounds, name, "normal", "new"),
            "keepalive_requests": ratio(rounds, name, "normal", "keep"),
        },
        "errors": sum(each.errors for each in turns),
        "connections": sum(each.new.rate.requests + len(each.visits.took_us) for each in turns),
        "latency_ms": {
            "connection_p50": percentile(took_us, 0.50, 1e3),
            "connection_p99": percentile(took_us, 0.99, 1e3),
            "keepalive_p50": round(median(each.keep.rate.p50_ms for each in turns), 3),
            "keepalive_p99": round(median(each.keep.rate.p99_ms for each in turns), 3),
        },
        "cpu_us": {
            "switch_per_connection": _cpu_us(turns, "new", "switch_cpu_s"),
            "controller_per_connection": _cpu_us(turns, "new", "other_cpu_s"),
            "switch_per_keepalive_request": _cpu_us(turns, "keep", "switch_cpu_s"),
            "controller_per_keepalive_request": _cpu_us(turns, "keep", "other_cpu_s"),
        },
        "passes_per_packet": {
            "new_connections": _passes([each.new for each in turns]),
            "keepalive_requests": _passes([each.keep for each in turns]),
        },
        "packets_per_connection": _per_request([each.new for each in turns], "packets"),
        "upcalls_per_connection": _per_request([each.new for each in turns], "upcalls"),
        "datapath_flows": round(median(each.datapath_flows for each in turns)),
        "datapath_flows_per_connection": round(
            median(each.datapath_flows / max(1, each.new.rate.requests) for each in turns), 4
        ),
        "openflow_entries": round(median(each.openflow_entries for each in turns)),
    }


def ratio(rounds: Rounds, name: str, other: str, load: str) -> float | None:
    """The median over the rounds of one contender's rate to another's; None without a pair."""
    pairs = [(each[name], each[other]) for each in rounds if name in each and other in each]
    ratios = [_rate(a, load) / _rate(b, load) for a, b in pairs if _rate(b, load)]
    return round(median(ratios), 3) if ratios else None


def percentile(values: Sequence[float], share: float, unit: float) -> float | None:
    """The value that ``share`` of all did not exceed, over ``unit``; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] / unit, 3)


def _rate(found: Turn, load: str) -> float:
    chosen: Load = getattr(found, load)
    return chosen.rate.per_s


def _rates(what: str, loads: Sequence[Load]) -> dict[str, Any]:
    rates = [each.rate.per_s for each in loads]
    return {
        f"{what}_per_s": round(median(rates), 1),
        f"{what}_per_s_spread": [round(min(rates), 1), round(max(rates), 1)],
    }


def _cpu_us(turns: Sequence[Turn], load: str, which: str) -> float:
    loads = [getattr(each, load) for each in turns]
    used: list[float] = [getattr(each, which) / max(1, each.rate.requests) for each in loads]
    return round(median(used) * 1e6, 2)


def _passes(loads: Sequence[Load]) -> float | None:
    found = [each.datapath.passes_per_packet for each in loads]
    known = [each for each in found if each is not None]
    return round(median(known), 3) if known else None


def _per_request(loads: Sequence[Load], what: str) -> float:
    found: list[float] = [
        getattr(each.datapath, what) / max(1, each.rate.requests) for each in loads
    ]
    return round(median(found), 4)
