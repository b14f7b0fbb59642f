"""What a change of the nodes breaks and moves: for ours, OVN's load balancer and HAProxy.

    scaling    backends added and removed under held and new connections
    failover   a node that dies in three ways
    hashing    the share of the hash space that moves, and evenness; computed

    stage      the switch, the backends, the client and the faults: the same for each contender
    ours, ovn, haproxy    how each contender is set up on it

Counts of broken and moved connections do not depend on the machine; times of failover are set by
the intervals of the checks: each contender has the shortest at which living backends stay in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import Report, Section
from bench.attempts import NOT_MEASURED, Attempts
from bench.disruption import failover, hashing, scaling
from bench.disruption.contenders import CONTENDERS
from bench.targets import Target, target
from sncontroller.core.slots import SLOTS

BUDGET_S = 270.0
"""What has not begun by then is not measured."""


def run(quick: bool, report: Report) -> Section:
    """Measure; see ``bench.Part``."""
    attempts = Attempts(BUDGET_S, report)
    found: Section = {
        "hashing": attempts.made("hash space", lambda: hashing.run(quick)),
        "scaling": scaling.measured(quick, attempts),
        "failover": failover.measured(quick, attempts),
    }
    return {**found, "targets": targets(found)}


def targets(found: Section) -> list[Target]:
    """What was hoped for; nothing was found where nothing was measured."""
    ours, cut = found["scaling"]["ours"], found["failover"]["ours"]["link_down"]
    return [
        target("held connections broken by scale events", ours.get("held_broken"), at_most=0),
        target("held connections moved by scale events", ours.get("held_moved"), at_most=0),
        target("new connections failed at scale events", ours.get("new_failed"), at_most=0),
        target("slots moved beyond the least, by an addition", _excess(found), at_most=1),
        target(
            "last request lost after a link went down",
            cut.get("last_lost_s"),
            at_most=0.1,
            unit="s",
        ),
    ]


def _excess(found: Section) -> float | None:
    if NOT_MEASURED in found["hashing"]:
        return None
    rows, least = found["hashing"]["methods"]["ours"], found["hashing"]["least"]
    shares = zip(rows, least, strict=True)
    beyond: list[float] = [row["moved_by_add"] - best["moved_by_add"] for row, best in shares]
    return SLOTS * max(beyond)


def table(section: Section) -> str:
    """The section as Markdown."""
    return "\n".join(
        [
            "### Scale events",
            "",
            scaling.table(section["scaling"]),
            "",
            "### Failover",
            "",
            failover.table(section["failover"]),
            "",
            "### Hash space",
            "",
            hashing.table(section["hashing"]),
        ]
    )


def readme(section: Section) -> str:
    """The README's rows."""
    lines = [
        "Connections broken, moved or refused while backends are taken out and put back, and "
        "requests lost when one dies:",
        "",
        "| | scale events | its link goes down | it falls silent | its service hangs |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, contender in CONTENDERS.items():
        lost = (_lost(section["failover"][name].get(fault)) for fault in failover.FAULTS)
        disturbed = _disturbed(section["scaling"][name])
        lines.append(f"| {contender.title} | {disturbed} | {' | '.join(lost)} |")
    return "\n".join(lines)


def _disturbed(found: Section) -> str:
    if NOT_MEASURED in found:
        return "not measured"
    disturbed = found["held_broken"] + found["held_moved"] + found["new_failed"]
    died = "; the switch died" if found["switch_died"] else ""
    return f"{disturbed:,} of {found['held'] + found['new']:,}{died}"


def _lost(cost: dict[str, Any] | None) -> str:
    if cost is None:  # a quick run
        return ""
    if NOT_MEASURED in cost:
        return "not measured"
    lost = f"{cost['lost']:.0f} of {cost['requests']:,.0f}"
    return ", ".join(filter(None, (lost, failover.no_end(cost))))


def plot(section: Section, directory: Path) -> list[Path]:
    """The pictures."""
    if NOT_MEASURED in section["hashing"]:
        return []
    path = directory / "hashing.png"
    hashing.plot(section["hashing"], path)
    return [path]
