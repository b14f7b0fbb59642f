"""What a change of the nodes breaks and moves: for ours, OVN's load balancer and HAProxy.

    _scaling    backends added and removed under held and new connections
    _failover   a node that dies in three ways
    hashing     the share of the hash space that moves, and evenness; computed

Counts of broken and moved connections do not depend on the machine; times of failover are set by
the intervals of the checks: OVN has the shortest that it supports, HAProxy the same as ours.
"""

from __future__ import annotations

from pathlib import Path

from bench import Report, Section, _failover, _scaling, hashing
from bench.targets import target
from sncontroller.core.slots import SLOTS


def run(quick: bool, report: Report) -> Section:
    """Measure; see ``bench.Part``."""
    found: Section = {
        "hashing": hashing.run(quick, report),
        "scaling": _scaling.measured(quick, report),
        "failover": _failover.measured(quick, report),
    }
    return {**found, "targets": _targets(found)}


def _targets(found: Section) -> list[dict[str, object]]:
    ours = found["scaling"]["ours"]
    rows, least = found["hashing"]["methods"]["ours"], found["hashing"]["least"]
    excess = max(
        row["moved_by_add"] - best["moved_by_add"] for row, best in zip(rows, least, strict=True)
    )
    cut = found["failover"]["ours"]["link_down"]
    return [
        target("held connections broken by scale events", ours["held_broken"], at_most=0),
        target("held connections moved by scale events", ours["held_moved"], at_most=0),
        target("new connections failed at scale events", ours["new_failed"], at_most=0),
        target("slots moved beyond the least, by an addition", excess * SLOTS, at_most=1),
        target(
            "last request lost after a link went down", cut["last_lost_s"], at_most=0.1, unit="s"
        ),
    ]


def table(section: Section) -> str:
    """The section as Markdown."""
    return "\n".join(
        [
            "### Scale events",
            "",
            _scaling.table(section["scaling"]),
            "",
            "### Failover",
            "",
            _failover.table(section["failover"]),
            "",
            "### Hash space",
            "",
            hashing.table(section["hashing"]),
        ]
    )


def readme(section: Section) -> str:
    """The README's rows."""
    scaling, failover = section["scaling"], section["failover"]
    lines = [
        "| | connections broken or moved by scale events | requests lost when a link goes down "
        "| when a service hangs |",
        "|---|---:|---:|---:|",
    ]
    for name, found in scaling.items():
        lost = [_lost(failover[name].get(fault)) for fault in ("link_down", "hang")]
        broken = found["held_broken"] + found["held_moved"] + found["new_failed"]
        made = found["held"] + found["new"]
        lines.append(f"| {_scaling.title_of(name)} | {broken} of {made} | {lost[0]} | {lost[1]} |")
    return "\n".join(lines)


def _lost(cost: dict[str, object] | None) -> str:
    if cost is None:  # a quick run
        return ""
    unnoticed = "" if cost["noticed"] else ", never noticed"
    return f"{cost['lost']:.0f}{unnoticed}"


def plot(section: Section, directory: Path) -> list[Path]:
    """The pictures."""
    path = directory / "hashing.png"
    hashing.plot(section["hashing"], path)
    return [path]
