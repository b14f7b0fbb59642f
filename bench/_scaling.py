"""What adding and removing backends breaks and moves.

Owns the course of it: connections are held and others come all the time, while the number of
backends goes down and up. A backend that is removed takes no new connections but stays alive, as
one that is drained does: what breaks then was broken by the contender.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench import Report
from bench._haproxy import Haproxy
from bench._ours import Ours
from bench._ovn import Ovn
from bench._seen import Clients
from bench._stage import ADDRESS, MOST_NODES, Contender, node_name
from sncontroller.lab.programs import LabError

CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "ovn": Ovn,
    "haproxy": Haproxy,
}
HELD, WIDTH = 200, 4
EVENTS, QUICK_EVENTS = 8, 2
BETWEEN_S = 1.0
PAUSE_S = 0.01
REMOVED = node_name(MOST_NODES)
_OLDER_S, _SETTLED_S = 0.5, 0.3


def measured(quick: bool, report: Report) -> dict[str, Any]:
    """Every contender in turn, each on a switch of its own."""
    found = {}
    for name, contender in CONTENDERS.items():
        report(f"scale events: {name}")
        with tempfile.TemporaryDirectory(prefix="sn-bench-") as directory:
            found[name] = _measured(contender(Path(directory)), QUICK_EVENTS if quick else EVENTS)
    return found


def _measured(contender: Contender, events: int) -> dict[str, Any]:
    took_s: list[float] = []
    with contender:
        contender.scale(MOST_NODES)
        plan = {"width": WIDTH, "held": HELD, "pause_s": PAUSE_S, "max_s": 120.0}
        with Clients(contender.client, address=ADDRESS, timeout_s=2.0, **plan) as clients:
            time.sleep(_OLDER_S)
            removals = []
            for nth in range(events):
                nodes = MOST_NODES if nth % 2 else MOST_NODES - 1
                began = time.time()
                contender.scale(nodes)
                took_s.append(time.time() - began)
                if nodes < MOST_NODES:
                    removals.append((began + took_s[-1] + _SETTLED_S, time.time() + BETWEEN_S))
                time.sleep(BETWEEN_S)
            died = _died(contender)
            seen = clients.finish()
    late = sum(
        visit.node == REMOVED and since <= visit.began_s < until
        for visit in seen.visits
        for since, until in removals
    )
    return {
        "events": events,
        "held": len(seen.held),
        "held_on_removed": sum(each.node == REMOVED for each in seen.held),
        "held_answers": sum(each.answers for each in seen.held),
        "held_broken": seen.held_broken(),
        "held_moved": seen.held_moved(),
        "new": len(seen.visits),
        "new_failed": len(seen.failed),
        "new_to_removed": late,
        "new_on_added": sum(visit.node == REMOVED for visit in seen.visits),
        "errors": seen.errors(),
        "change_s": sorted(took_s),
        "switch_died": died,
    }


def _died(contender: Contender) -> str:
    """Why the switch daemon does not answer any more; empty when it does."""
    try:
        contender.ovs.appctl("version")
    except LabError as error:
        return str(error)[:500]
    return ""


def title_of(name: str) -> str:
    """A contender's name for a reader."""
    return CONTENDERS[name].title


def table(section: dict[str, Any]) -> str:
    """The comparison in Markdown."""
    lines = [
        "| | events | held connections | of them on the removed node | broken | moved "
        "| new connections | failed | took the change (median) |",
        "|---|" + "---:|" * 8,
    ]
    for name, found in section.items():
        took = found["change_s"][len(found["change_s"]) // 2]
        died = ", **the switch daemon died**" if found["switch_died"] else ""
        numbers = ("events", "held", "held_on_removed", "held_broken", "held_moved")
        cells = [str(found[each]) for each in (*numbers, "new", "new_failed")]
        title = f"{title_of(name)}{died}"
        lines.append(f"| {title} | {' | '.join(cells)} | {took * 1000:.0f} ms |")
    return "\n".join(lines)
