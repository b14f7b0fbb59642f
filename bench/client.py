"""The client of the data plane's figures: ``wrk`` for rates, ``visits`` for latency.

Owns what is asked and how answers are counted; who answers is not its business.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sncontroller.lab.net import Host
from sncontroller.lab.programs import LabError, program

THREADS = 3
"""One per backend, so that a contender without a balancer can be asked for each of them."""
CONNECTIONS = 33
VISITS_PER_S = 250.0
_HERE = Path(__file__).parent
_PATIENCE_S = 30.0
_TIMEOUT = "5s"


@dataclass(frozen=True, slots=True)
class Rate:
    """What one run of wrk found."""

    requests: int
    span_s: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return self.requests / self.span_s


@dataclass(frozen=True, slots=True)
class Visits:
    """Connections at a fixed rate, one by one."""

    took_us: tuple[int, ...]
    errors: int


def rate(client: Host, addresses: Sequence[str], span_s: int, *, close: bool) -> Rate:
    """As many requests as ``CONNECTIONS`` clients get answered; ``close``: one per connection."""
    command = (
        *("env", f"BENCH_ADDRESSES={' '.join(addresses)}", *(("BENCH_CLOSE=1",) if close else ())),
        *(program("wrk"), f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{span_s}s"),
        *("--timeout", _TIMEOUT, "-s", str(_HERE / "client.lua"), f"http://{addresses[0]}/"),
    )
    said = client.run(*command, timeout_s=span_s + _PATIENCE_S).stdout
    return parsed_rate(said)


def parsed_rate(said: str) -> Rate:
    """What wrk and ``client.lua`` printed. Raises ``LabError`` when it is not that."""
    try:
        found = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        raise LabError(f"wrk printed no counts: {said}") from None
    errors = ("connect", "read", "write", "status", "timeout")
    return Rate(
        requests=found["requests"],
        span_s=found["took_us"] / 1e6,
        errors=sum(found[kind] for kind in errors),
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
    )


def visits(client: Host, address: str, span_s: float) -> Visits:
    """New connections at ``VISITS_PER_S``, each timed from when it was due to its last byte."""
    command = (sys.executable, str(_HERE / "visits.py"), address, f"{VISITS_PER_S}", f"{span_s}")
    found = json.loads(client.run(*command, timeout_s=span_s + _PATIENCE_S).stdout)
    return Visits(tuple(found["took_us"]), sum(found["wrong"].values()))
