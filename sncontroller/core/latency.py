"""How long a node takes to answer probes, as a signal of its load.

Owns the smoothing: one probe is one sample of something that varies from one moment to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

SMOOTHED_OVER_S = 5.0
"""A sample this old weighs 1/e of a new one."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The smoothed latency, and when it was last measured."""

    value_s: float
    at_s: float


def observed(last: Latency | None, latency_s: float, now: float, keep_s: float) -> Latency:
    """The latency after one more probe; what was measured longer than ``keep_s`` ago is void.

    A probe that was not answered in time took *at least* its timeout: give that.
    """
    if last is None or now - last.at_s > keep_s:
        return Latency(latency_s, now)
    weight = 1.0 - exp(-max(0.0, now - last.at_s) / SMOOTHED_OVER_S)
    return Latency(last.value_s + weight * (latency_s - last.value_s), now)


def known(last: Latency | None, now: float, keep_s: float) -> float | None:
    """The latency in seconds, while it counts."""
    return None if last is None or now - last.at_s > keep_s else last.value_s
