"""The client of the data plane's figures: ``wrk`` for rates, ``visits`` for latency.

Owns what is asked and how answers are counted; who answers is not its business.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sncontroller.lab.net import Host
from sncontroller.lab.programs import LabError, program

THREADS = 3
CONNECTIONS = 33
VISITS_PER_S = 250.0
_HERE = Path(__file__).parent
_PATIENCE_S = 15.0
_ATTEMPTS = 20
_NO_START = "unable to connect to"
"""wrk makes one connection before it begins, and gives up when that one fails."""
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


def rate(client: Host, address: str, span_s: int, *, close: bool) -> Rate:
    """As many requests as ``CONNECTIONS`` clients get answered; ``close``: one per connection."""
    command = (
        *(("env", "BENCH_CLOSE=1") if close else ()),
        *(program("wrk"), f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{span_s}s"),
        *("--timeout", _TIMEOUT, "-s", str(_HERE / "client.lua"), f"http://{address}/"),
    )
    failed = 0
    while _NO_START in (done := _finished(client, command, span_s)).stderr:
        failed += 1
        if failed == _ATTEMPTS:
            return Rate(requests=0, span_s=span_s, errors=failed, p50_ms=0, p99_ms=0)
    if done.returncode != 0:
        raise LabError(f"wrk: {done.stderr.strip()}")
    return parsed_rate(done.stdout, failed)


def _finished(
    client: Host, command: Sequence[str], span_s: float
) -> subprocess.CompletedProcess[str]:
    try:
        return client.run(*command, check=False, timeout_s=span_s + _PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise LabError(f"{command[0]} did not come to its end: no answers any more?") from None


def parsed_rate(said: str, failed: int = 0) -> Rate:
    """What wrk and ``client.lua`` printed, after ``failed`` errors. Raises ``LabError``."""
    try:
        found = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        raise LabError(f"wrk printed no counts: {said}") from None
    errors = ("connect", "read", "write", "status", "timeout")
    return Rate(
        requests=found["requests"],
        span_s=found["took_us"] / 1e6,
        errors=failed + sum(found[kind] for kind in errors),
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
    )


def visits(client: Host, address: str, span_s: float) -> Visits:
    """New connections at ``VISITS_PER_S``, each timed from when it was due to its last byte."""
    command = (sys.executable, str(_HERE / "visits.py"), address, f"{VISITS_PER_S}", f"{span_s}")
    done = _finished(client, command, span_s)
    if done.returncode != 0:
        raise LabError(f"visits: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return Visits(tuple(found["took_us"]), sum(found["wrong"].values()))
