"""The data plane: rates, latency and the switch's work, ours beside what users would compare.

    turns         one turn of one contender, and what all turns say together
    contenders    how each contender is set up; textbook.py is the reactive one everybody writes
    field         the switch, the client, the backends: the same for each contender
    client        wrk for rates (client.lua), visits.py for latency
    pins          the same beside many pinned flows

Owns the order of the rounds, the targets and how the section is shown.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import SCRATCH, Report, Section
from bench.dataplane import pins
from bench.dataplane.contenders import PINNINGS, Contender, contenders
from bench.dataplane.field import BACKENDS, Field
from bench.dataplane.turns import Rounds, Spans, Turn, ratio, summary, turn
from bench.targets import Target, target
from sncontroller.lab.programs import LabError

ROUNDS: Final = 5
BUDGET_S: Final = 420.0
"""No further round begins that would not be over by then."""
_QUICK: Final = Spans(new=1, visits=0.5, keep=1)
NAMES: Final = ("normal", "conntrack", "learn", "reactive", "ovn", "haproxy", "nginx", "textbook")


def run(quick: bool, report: Report) -> Section:
    """Measure all contenders, round by round, in an order that is turned round every time."""
    directory = SCRATCH / "dataplane"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    spans = _QUICK if quick else Spans()
    with Field(directory) as field:
        found, mishaps = _rounds(field, 1 if quick else ROUNDS, spans, report)
        held = {} if quick else pins.measure(field, pins.SIZES, report)
    section: Section = {name: _contender(summary(name, found), mishaps[name]) for name in NAMES}
    section["rounds"] = len(found)
    section["backends"] = len(BACKENDS)
    section["pinned_flows"] = held
    section["ratios"] = _ratios(found)
    section["targets"] = targets(section)
    return section


@dataclass
class _Mishaps:
    """Turns of one contender that came to no end."""

    crashes: int = 0
    """The switch died."""
    failures: int = 0
    """The service could not be reached, or went away."""


def _rounds(
    field: Field, count: int, spans: Spans, report: Report
) -> tuple[Rounds, Mapping[str, _Mishaps]]:
    """All rounds, and what went wrong in them."""
    everybody = contenders(field)
    mishaps = {contender.name: _Mishaps() for contender in everybody}
    found: list[dict[str, Turn]] = []
    try:
        field.clear()
        began = time.monotonic()
        for number in range(1, count + 1):
            if (time.monotonic() - began) * number / max(1, number - 1) > BUDGET_S:
                break
            turns: dict[str, Turn] = {}
            for contender in everybody if number % 2 else reversed(everybody):
                say = partial(_say, report, f"round {number}, {contender.name}")
                taken = _turn(contender, spans, mishaps[contender.name], say)
                if taken is not None:
                    turns[contender.name] = taken
            found.append(turns)
    finally:
        for contender in everybody:
            contender.close()
    return found, mishaps


def _contender(found: dict[str, Any], mishaps: _Mishaps) -> dict[str, Any]:
    """A contender's figures; for one that never came to an end, that nothing came of it."""
    turns = {"switch_crashes": mishaps.crashes, "failed_turns": mishaps.failures}
    if found:
        return {**found, **turns}
    errors = mishaps.crashes + mishaps.failures
    none = {"new_connections_per_s": 0.0, "keepalive_requests_per_s": 0.0, "errors": errors}
    return {**none, **turns}


def _turn(contender: Contender, spans: Spans, mishaps: _Mishaps, say: Report) -> Turn | None:
    """One turn from the empty bridge to the empty bridge; None when it came to no end."""
    taken = None
    try:
        contender.start()
        taken = turn(contender, spans)
        say(_said(taken))
    except LabError as error:
        say(str(error).splitlines()[0])
    died = contender.field.revive()
    contender.stop()
    if died:
        mishaps.crashes += 1
        say("the switch died")
        return None
    mishaps.failures += taken is None
    return taken


def _say(report: Report, who: str, what: str) -> None:
    report(f"{who}: {what}")


def _said(taken: Turn) -> str:
    rates = f"{taken.new.rate.per_s:.0f} connections/s, {taken.keep.rate.per_s:.0f} requests/s"
    return f"{rates}, {taken.errors} errors"


def _ratios(rounds: Rounds) -> dict[str, float | None]:
    """The rates of new connections that targets speak of."""
    pairs = (
        ("conntrack", "ovn"),
        ("conntrack", "haproxy"),
        ("conntrack", "nginx"),
        ("conntrack", "textbook"),
        ("reactive", "textbook"),
    )
    return {f"{name}_to_{other}": ratio(rounds, name, other, "new") for name, other in pairs}


def targets(section: Mapping[str, Any]) -> list[Target]:
    """What was hoped for."""
    ours, ratios = section["conntrack"], section["ratios"]
    passes, of_normal = ours.get("passes_per_packet", {}), ours.get("of_normal", {})
    learn = section["learn"].get("of_normal", {})
    return [
        target(
            "conntrack to NORMAL, new connections", of_normal.get("new_connections"), at_least=0.95
        ),
        target(
            "conntrack to NORMAL, keep-alive", of_normal.get("keepalive_requests"), at_least=0.98
        ),
        target(
            "conntrack, passes per packet, new connections",
            _hundredths(passes.get("new_connections")),
            at_most=1.6,
        ),
        target(
            "conntrack, passes per packet, keep-alive",
            _hundredths(passes.get("keepalive_requests")),
            at_most=1.5,
        ),
        target("conntrack to OVN, new connections", ratios["conntrack_to_ovn"], at_least=1.1),
        target(
            "conntrack to HAProxy, new connections", ratios["conntrack_to_haproxy"], at_least=1.7
        ),
        target(
            "conntrack to textbook, new connections", ratios["conntrack_to_textbook"], at_least=10
        ),
        target("learn to NORMAL, new connections", learn.get("new_connections"), at_least=0.5),
        target("reactive to textbook, new connections", ratios["reactive_to_textbook"], at_least=3),
        target("reactive, errors", section["reactive"].get("errors"), at_most=0),
    ]


def _hundredths(passes: float | None) -> float | None:
    """Health probes, ARP and the handshakes of keep-alive connections are in the third digit."""
    return None if passes is None else round(passes, 2)


def table(section: Section) -> str:
    """The section as Markdown."""
    return "\n".join(
        [
            f"Medians of {section['rounds']} interleaved rounds, {section['backends']} backends;",
            "in brackets the spread.",
            "",
            *_rates_table(section),
            "",
            *_latency_table(section),
            "",
            *_work_table(section),
            *_pins_table(section["pinned_flows"]),
        ]
    )


def readme(section: Section) -> str:
    """The rows that the README shows."""
    return "\n".join(_rates_table(section))


def _measured(section: Section) -> Iterator[tuple[str, dict[str, Any]]]:
    """The contenders that have figures."""
    return ((name, section[name]) for name in NAMES if "of_normal" in section[name])


def _rates_table(section: Section) -> Iterator[str]:
    yield "| | new connections/s | of NORMAL | keep-alive requests/s | of NORMAL | errors |"
    yield "|---|---|---|---|---|---|"
    for name in NAMES:
        found = section[name]
        if "of_normal" not in found:
            yield f"| {name} | none | | none | | {_said_mishaps(found).removeprefix('; ')} |"
            continue
        rates = (
            _spread(found, "new_connections_per_s"),
            _number(found["of_normal"]["new_connections"], 2),
            _spread(found, "keepalive_requests_per_s"),
            _number(found["of_normal"]["keepalive_requests"], 2),
        )
        yield f"| {name} | {' | '.join(rates)} | {found['errors']:,}{_said_mishaps(found)} |"


def _said_mishaps(found: Mapping[str, Any]) -> str:
    crashed = f"; rounds in which the switch died: {n}" if (n := found["switch_crashes"]) else ""
    failed = f"; rounds without an answer: {n}" if (n := found["failed_turns"]) else ""
    return crashed + failed


def _latency_table(section: Section) -> Iterator[str]:
    yield (
        "| | connection p50 | p99 | keep-alive p50 | p99 "
        "| switch CPU per connection | controller or proxy CPU per connection |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, found in _measured(section):
        latency, cpu = found["latency_ms"], found["cpu_us"]
        keys = ("connection_p50", "connection_p99", "keepalive_p50", "keepalive_p99")
        times = " | ".join(f"{_number(latency[key], 2)} ms" for key in keys)
        used = (cpu["switch_per_connection"], cpu["controller_per_connection"])
        yield f"| {name} | {times} | {' | '.join(f'{each:.0f} µs' for each in used)} |"


def _work_table(section: Section) -> Iterator[str]:
    yield (
        "| | passes per packet, new | keep-alive | upcalls per connection "
        "| datapath flows per connection | datapath flows | OpenFlow entries |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, found in _measured(section):
        passes = found["passes_per_packet"]
        cells = (
            _number(passes["new_connections"], 2),
            _number(passes["keepalive_requests"], 2),
            _number(found["upcalls_per_connection"], 3),
            _number(found["datapath_flows_per_connection"], 3),
            f"{found['datapath_flows']:,}",
            f"{found['openflow_entries']:,}",
        )
        yield f"| {name} | {' | '.join(cells)} |"


def _pins_table(held: Mapping[str, Any]) -> Iterator[str]:
    if not held:
        return
    yield ""
    yield (
        "| pinning | pins | new connections/s | keep-alive requests/s | errors | switch memory "
        "| CPU per poll: switch | controller |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for pinning, rows in held.items():
        for row in rows:
            if "not_measured" in row:
                yield f"| {pinning} | {row['wanted']:,} | not measured: {row['not_measured']} |"
                continue
            cells = (
                f"{row['new_connections_per_s']:,.0f}",
                f"{row['keepalive_requests_per_s']:,.0f}",
                f"{row['errors']:,}",
                f"{row['switch_memory_mib']:,.0f} MiB",
                f"{row['poll_switch_cpu_ms']:.1f} ms",
                f"{row['poll_controller_cpu_ms']:.1f} ms",
            )
            yield f"| {pinning} | {row['pins']:,} | {' | '.join(cells)} |"


def _spread(found: Mapping[str, Any], key: str) -> str:
    low, high = found[f"{key}_spread"]
    return f"{found[key]:,.0f} ({low:,.0f}-{high:,.0f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def plot(section: Section, directory: Path) -> list[Path]:
    """Both rates of each contender as bars, the spread as whiskers; ours are dark."""
    from bench.plots import pair

    path = directory / "dataplane.png"
    found = dict(reversed(list(_measured(section))))
    colours = ["#08519c" if name in PINNINGS else "#9ecae1" for name in found]
    with pair(path) as both:
        for axes, what in zip(both, ("new_connections", "keepalive_requests"), strict=True):
            values = [each[f"{what}_per_s"] for each in found.values()]
            spreads = [each[f"{what}_per_s_spread"] for each in found.values()]
            below = [value - low for value, (low, _) in zip(values, spreads, strict=True)]
            above = [high - value for value, (_, high) in zip(values, spreads, strict=True)]
            axes.barh(list(found), values, xerr=(below, above), color=colours, ecolor="#636363")
            axes.set_xlabel(f"{what.replace('_', ' ')} per second")
    return [path]
