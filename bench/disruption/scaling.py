"""What adding and removing backends breaks and moves.

Owns the course of it: connections are held and others come all the time, while the number of
backends goes down and up. A backend that is removed takes no new connections but stays alive, as
one that is drained does: what breaks then was broken by the contender.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import Section
from bench.attempts import NOT_MEASURED, Attempts
from bench.clients import Clients, Seen
from bench.disruption.contenders import CONTENDERS
from bench.disruption.stage import ADDRESS, MOST_NODES, Contender, node_name
from sncontroller.lab.programs import LabError

HELD, WIDTH = 200, 4
EVENTS, QUICK_EVENTS = 8, 2
BETWEEN_S = 1.0
PAUSE_S = 0.01
REMOVED = node_name(MOST_NODES)
_OLDER_S, _SETTLED_S = 0.5, 0.3


def measured(quick: bool, attempts: Attempts) -> Section:
    """Every contender in turn, each on a switch of its own."""
    events = QUICK_EVENTS if quick else EVENTS
    return {
        name: attempts.made(f"scale events: {name}", partial(_measured, contender, events))
        for name, contender in CONTENDERS.items()
    }


@dataclass
class _Course:
    """What was done."""

    took_s: list[float] = field(default_factory=list)
    removals: list[tuple[float, float]] = field(default_factory=list)
    """When a backend was out: nobody new should come to it."""
    died: str = ""
    """Why the switch daemon does not answer any more."""


def _measured(make: type[Contender], events: int) -> Section:
    with (
        tempfile.TemporaryDirectory(prefix="sn-bench-") as directory,
        make(Path(directory)) as contender,
    ):
        contender.scale(MOST_NODES)
        plan = {"width": WIDTH, "held": HELD, "pause_s": PAUSE_S, "max_s": 120.0}
        with Clients(contender.client, address=ADDRESS, timeout_s=2.0, **plan) as clients:
            time.sleep(_OLDER_S)
            course = _course(contender, events)
            seen = clients.finish()
    return _counted(course, seen)


def _course(contender: Contender, events: int) -> _Course:
    """One backend fewer, one more, and so on; it ends early when the switch dies."""
    course = _Course()
    for nth in range(events):
        nodes = MOST_NODES if nth % 2 else MOST_NODES - 1
        began = time.time()
        try:
            contender.scale(nodes)
        except LabError:
            course.died = _died(contender)
            if not course.died:
                raise
            break
        course.took_s.append(time.time() - began)
        if nodes < MOST_NODES:
            course.removals.append((time.time() + _SETTLED_S, time.time() + BETWEEN_S))
        time.sleep(BETWEEN_S)
    course.died = course.died or _died(contender)
    return course


def _counted(course: _Course, seen: Seen) -> Section:
    late = sum(
        visit.node == REMOVED and since <= visit.began_s < until
        for visit in seen.visits
        for since, until in course.removals
    )
    return {
        "events": len(course.took_s),
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
        "change_s": sorted(course.took_s),
        "switch_died": course.died,
    }


def _died(contender: Contender) -> str:
    """Why the switch daemon does not answer any more; empty when it does."""
    try:
        contender.ovs.appctl("version")
    except LabError as error:
        return str(error)[:500]
    return ""


def table(section: Section) -> str:
    """The comparison in Markdown."""
    lines = [
        "| | events | held connections | of them on the removed node | broken | moved "
        "| new connections | failed | took the change (median) |",
        "|---|" + "---:|" * 8,
    ]
    lines += [
        f"| {contender.title} | {' | '.join(_cells(section[name]))} |"
        for name, contender in CONTENDERS.items()
    ]
    return "\n".join(lines)


def _cells(found: dict[str, Any]) -> list[str]:
    if NOT_MEASURED in found:
        return [f"not measured: {found[NOT_MEASURED]}", *[""] * 7]
    died = ", then **the switch died**" if found["switch_died"] else ""
    numbers = ("held", "held_on_removed", "held_broken", "held_moved", "new", "new_failed")
    counts = (f"{found[each]:,}" for each in numbers)
    took = f"{median(found['change_s']) * 1e3:.0f} ms" if found["change_s"] else ""
    return [f"{found['events']}{died}", *counts, took]
