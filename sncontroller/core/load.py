"""What a node is asked to do: raw counters become rates, rates become a load.

Owns the arithmetic between a switch's counters and one number per node, and the spec of a node's
capacity. It must not decide anything from that number, and it never invents data: a counter that
is missing, was reset or did not advance in time makes a rate *unknown*, not zero.

A counter that went down was reset (the entry was put back, the port came again, the daemon
restarted). What it shows now was counted since an unknown moment inside the interval, so counting
from zero would report a busy node as calm, and a difference would report nonsense. The interval is
unknown for that counter, and the smoothing window bridges it with the intervals around it.

OpenFlow counters are 64 bits wide (OpenFlow 1.3.5, 5.8): a counter within 2**48 of its end that
came out small has wrapped. All ones means "not counted by this switch" and is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

COUNTER_MODULUS = 2**64
NOT_COUNTED = 2**64 - 1
MAX_WRAP_DELTA = 2**48
"""More than any counter grows between two polls: 256 TB; a reset looks larger than that."""

MIN_INTERVAL_S = 0.05
"""Replies closer together than this were held up on the way; their distance means nothing."""

DEFAULT_WINDOW_S = 5.0


class Signal(StrEnum):
    """The signals measured without a node's help, by their names in the configuration."""

    NEW_FLOWS = "new_flows_per_s"
    PACKETS = "packets_per_s"
    BITS = "bits_per_s"
    ACTIVE_FLOWS = "active_flows"
    PORT_DROPS = "port_drops_per_s"
    PROBE_LATENCY = "probe_latency_s"


class Counters(NamedTuple):
    """A node's raw counters, as the switch has them; None is unknown."""

    new_flows: int | None = None
    packets: int | None = None
    bytes: int | None = None
    drops: int | None = None
    active_flows: int | None = None
    """A gauge: flows pinned to the node now, where the pinning can tell."""


MISSING = Counters()
"""What a reply that did not come says."""


class Sample(NamedTuple):
    """Counters and when they were read, in seconds of any one clock that does not jump.

    The switch's own clock (the duration in a statistics reply) beats the time of arrival: then a
    reply that was held up on the way does no harm.
    """

    counters: Counters
    at_s: float


class Rates(NamedTuple):
    """A node's signals; None is unknown, which is not zero."""

    new_flows_per_s: float | None = None
    packets_per_s: float | None = None
    bits_per_s: float | None = None
    active_flows: float | None = None
    drops_per_s: float | None = None

    def signals(self) -> dict[str, float | None]:
        """The signals by the names that capacities and reports use."""
        return {
            Signal.NEW_FLOWS.value: self.new_flows_per_s,
            Signal.PACKETS.value: self.packets_per_s,
            Signal.BITS.value: self.bits_per_s,
            Signal.ACTIVE_FLOWS.value: self.active_flows,
            Signal.PORT_DROPS.value: self.drops_per_s,
        }


class Interval(NamedTuple):
    """What was counted between two samples; a field is None when it is unknown."""

    end_s: float
    length_s: float
    new_flows: int | None
    packets: int | None
    bytes: int | None
    drops: int | None
    active_flows: int | None

    @property
    def counted(self) -> tuple[int | None, ...]:
        """By how much each counter grew."""
        return self[2:6]


class Tracker(NamedTuple):
    """A node's recent intervals: the memory behind its smoothed rates."""

    window_s: float = DEFAULT_WINDOW_S
    last: Sample | None = None
    intervals: tuple[Interval, ...] = ()
    still: bool = False
    """Whether nothing was counted in any of them."""

    def stays(self, counters: Counters) -> bool:
        """Whether counters that are read now would change no rate: as still as they were."""
        return self.still and self.last is not None and counters == self.last.counters

    @property
    def rates(self) -> Rates:
        """The rates over the window, unknown where no interval in it is known."""
        return smoothed(self.intervals)


class Load(NamedTuple):
    """A node's load: the fraction of its capacity that its most loaded signal uses."""

    value: float
    signal: str
    unknown: tuple[str, ...] = ()
    """Signals that would count and are not known now: the load may be higher than the value."""


class CapacitySpec(BaseModel):
    """What one node can do, per signal; at least one. The most loaded signal counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    new_flows_per_s: PositiveFloat | None = None
    packets_per_s: PositiveFloat | None = None
    bits_per_s: PositiveFloat | None = None
    active_flows: PositiveFloat | None = None
    port_drops_per_s: PositiveFloat | None = Field(
        default=None, description="Drops per second at the node's port that count as load 1.0."
    )
    probe_latency_s: PositiveFloat | None = Field(
        default=None, description="Mean time to a probe's answer that counts as load 1.0."
    )
    reports: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="Signals the node itself reports, and the value of each that is load 1.0.",
    )

    @model_validator(mode="after")
    def _at_least_one(self) -> CapacitySpec:
        if not self.full():
            names = ", ".join(signal.value for signal in Signal)
            raise ValueError(f"name at least one capacity: {names} or reports")
        clash = sorted(set(self.reports) & {signal.value for signal in Signal})
        if clash:
            raise ValueError(f"reports: {', '.join(clash)} is measured by the switch, not reported")
        return self

    def full(self) -> dict[str, float]:
        """The value of each limited signal at which its load is 1.0."""
        measured = {signal.value: getattr(self, signal.value) for signal in Signal}
        return {name: v for name, v in measured.items() if v is not None} | self.reports


def rates(previous: Sample | None, current: Sample) -> Rates:
    """The rates between two samples; unknown where either lacks the counter or it was reset."""
    interval = _interval(previous, current)
    if interval is None:
        return Rates(active_flows=current.counters.active_flows)
    return smoothed((interval,))


def update(tracker: Tracker, sample: Sample, still_s: float = -math.inf) -> Tracker:
    """The tracker after one more sample.

    Samples that it ``stays`` for can be left out; then ``still_s`` is when the last was taken.

    A sample that is older than the last one, or too close to it to tell a rate, changes nothing:
    what was counted is in the next one too. So is what was counted when a reply was missing; but
    once the window has passed without any, the rates are unknown.
    """
    if tracker.last is None:
        return tracker if sample.counters == MISSING else Tracker(tracker.window_s, sample)
    oldest_s = sample.at_s - tracker.window_s
    if tracker.still:
        tracker = _caught_up(tracker, tracker.last, still_s, oldest_s)
    interval = _interval(tracker.last, sample)
    if interval is None:
        return tracker
    recent = tuple(i for i in tracker.intervals if i.end_s > oldest_s)
    if sample.counters == MISSING:
        return Tracker(tracker.window_s, tracker.last, recent)
    intervals = (*recent, interval)
    return Tracker(tracker.window_s, sample, intervals, _are_still(intervals))


def _caught_up(tracker: Tracker, last: Sample, still_s: float, oldest_s: float) -> Tracker:
    """The tracker as if the samples until ``still_s`` had been given to it.

    They are taken to have been as far apart as the last two.
    """
    if still_s <= last.at_s:
        return tracker
    newest = tracker.intervals[-1]
    passed, end_s = [], still_s
    while end_s > max(oldest_s, last.at_s):
        length_s = min(newest.length_s, end_s - last.at_s)
        passed.append(newest._replace(end_s=end_s, length_s=length_s))
        end_s -= newest.length_s
    intervals = (*tracker.intervals, *reversed(passed))
    return Tracker(tracker.window_s, Sample(last.counters, still_s), intervals, still=True)


def _are_still(intervals: tuple[Interval, ...]) -> bool:
    """Whether no counter grew in any of them; one that is not known was known in none."""
    counted = intervals[-1].counted
    return not any(counted) and all(interval.counted == counted for interval in intervals)


def smoothed(intervals: tuple[Interval, ...]) -> Rates:
    """The mean rates over the intervals in which each signal is known; the newest gauge."""
    if not intervals:
        return Rates()
    _, lengths_s, new_flows, packets, octets, drops, gauges = zip(*intervals, strict=True)
    octets_per_s = _mean(octets, lengths_s)
    return Rates(
        new_flows_per_s=_mean(new_flows, lengths_s),
        packets_per_s=_mean(packets, lengths_s),
        bits_per_s=None if octets_per_s is None else 8 * octets_per_s,
        active_flows=gauges[-1],
        drops_per_s=_mean(drops, lengths_s),
    )


def load_of(
    measured: Rates, capacity: CapacitySpec, reports: Mapping[str, float | None] | None = None
) -> Load | None:
    """The load of a node: its most loaded signal and that signal's name; None when none is known.

    ``reports`` are the signals by name that do not come from counters: the node's own, and the
    latency of probes. One of them that is limited and unknown is named in the result. Load is not
    capped: offered load, drops and queues may well exceed what the node can do.
    """
    fractions = loads_by_signal(measured, capacity, reports)
    if not fractions:
        return None
    signal = max(fractions, key=lambda name: fractions[name])
    missing = (name for name, value in (reports or {}).items() if value is None)
    unknown = tuple(sorted(capacity.full().keys() & set(missing)))
    return Load(fractions[signal], signal, unknown)


def loads_by_signal(
    measured: Rates, capacity: CapacitySpec, reports: Mapping[str, float | None] | None = None
) -> dict[str, float]:
    """The used fraction of each limited signal that is known."""
    known = measured.signals() | dict(reports or {})
    full = capacity.full()
    values = ((name, known.get(name), limit) for name, limit in full.items())
    return {name: value / limit for name, value, limit in values if value is not None}


def _interval(previous: Sample | None, current: Sample) -> Interval | None:
    """What was counted between two samples, or None when time tells no rate."""
    if previous is None or current.at_s - previous.at_s < MIN_INTERVAL_S:
        return None
    old, new = previous.counters, current.counters
    return Interval(
        end_s=current.at_s,
        length_s=current.at_s - previous.at_s,
        new_flows=_counted(old.new_flows, new.new_flows),
        packets=_counted(old.packets, new.packets),
        bytes=_counted(old.bytes, new.bytes),
        drops=_counted(old.drops, new.drops),
        active_flows=new.active_flows,
    )


def _counted(old: int | None, new: int | None) -> int | None:
    """By how much a counter grew, or None when that cannot be known."""
    if old is None or new is None or NOT_COUNTED in (old, new):
        return None
    if new >= old:
        return new - old
    grown = new - old + COUNTER_MODULUS
    return grown if grown < MAX_WRAP_DELTA else None


def _mean(counts: tuple[Any, ...], lengths_s: tuple[float, ...]) -> float | None:
    """Counts per second over the intervals with a known count, which is a number."""
    if None in counts:
        known = [each for each in zip(counts, lengths_s, strict=True) if each[0] is not None]
        if not known:
            return None
        counts, lengths_s = zip(*known, strict=True)
    return float(sum(counts) / sum(lengths_s))
