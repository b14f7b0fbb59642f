"""What a dead node costs the clients, and for how long.

Owns the faults and the windows in which they are watched. Three faults: the node's link goes down;
the node falls silent with its link up, as a frozen machine; its service hangs, while its kernel
goes on completing handshakes. Clients make short connections all the time and give each
``TIMEOUT_S``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import Section
from bench.attempts import NOT_MEASURED, Attempts
from bench.clients import Clients
from bench.disruption.contenders import CONTENDERS
from bench.disruption.stage import ADDRESS, Contender

WIDTH, PAUSE_S, TIMEOUT_S = 8, 0.005, 0.5
ROUNDS = {"ours": 3, "haproxy": 3, "ovn": 2}
WATCHED_S = {"ours": 2.5, "haproxy": 2.5, "ovn": 9.0}
"""How long after the fault; OVN's checks come once per second."""
_BEFORE_S = 0.5
FAULTS = {
    "link_down": "link down",
    "silent": "silent, link up",
    "hang": "service hangs",
}
QUICK_FAULT = "link_down"
_CAUSES: dict[str, Callable[[Contender, int, bool], float]] = {
    "link_down": lambda contender, node, on: contender.link(node, up=not on),
    "silent": lambda contender, node, on: contender.silence(node, on),
    "hang": lambda contender, node, on: contender.hang(node, on),
}
_VICTIM = 2


def measured(quick: bool, attempts: Attempts) -> Section:
    """Every contender in turn, all faults, each several times and on a switch of its own."""
    faults = [fault for fault in FAULTS if fault == QUICK_FAULT or not quick]
    return {
        name: {
            fault: attempts.made(
                f"failover: {name}, {FAULTS[fault]}",
                partial(_rounds, name, fault, 1 if quick else ROUNDS[name]),
            )
            for fault in faults
        }
        for name in CONTENDERS
    }


def _rounds(name: str, fault: str, rounds: int) -> Section:
    with (
        tempfile.TemporaryDirectory(prefix="sn-bench-") as directory,
        CONTENDERS[name](Path(directory)) as contender,
    ):
        found = []
        for nth in range(rounds):
            if nth:
                contender.wait_recovered(_VICTIM)
            found.append(_one(contender, fault, name))
        return _summed(found)


def _one(contender: Contender, fault: str, name: str) -> dict[str, Any]:
    plan = {"width": WIDTH, "pause_s": PAUSE_S, "timeout_s": TIMEOUT_S, "max_s": 30.0}
    with Clients(contender.client, address=ADDRESS, **plan) as clients:
        time.sleep(_BEFORE_S)
        at_s = _CAUSES[fault](contender, _VICTIM, True)
        time.sleep(WATCHED_S[name])
        seen = clients.finish()
    doubt = contender.doubt()
    _CAUSES[fault](contender, _VICTIM, False)
    until_s = at_s + WATCHED_S[name] - TIMEOUT_S
    cost = seen.fault(at_s, until_s)
    ended = cost["last_lost_s"] < WATCHED_S[name] - 2 * TIMEOUT_S
    return {**cost, "noticed": ended, "doubt": doubt}


def _summed(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and the worst; the rounds themselves, too."""
    firsts = [each["first_success_s"] for each in rounds]
    return {
        "requests": median(each["requests"] for each in rounds),
        "lost": median(each["lost"] for each in rounds),
        "lost_most": max(each["lost"] for each in rounds),
        "last_lost_s": median(each["last_lost_s"] for each in rounds),
        "first_success_s": None if None in firsts else median(firsts),
        "noticed": all(each["noticed"] for each in rounds),
        "doubts": sorted({each["doubt"] for each in rounds if each["doubt"]}),
        "rounds": rounds,
    }


def table(section: Section) -> str:
    """The comparison in Markdown."""
    lines = [
        "| fault | | requests lost (median, most) | of | last one lost after "
        "| first success of the unluckiest client after |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for fault, title in FAULTS.items():
        lines += [
            f"| {title} | {contender.title} | {_cells(section[name][fault])} |"
            for name, contender in CONTENDERS.items()
            if fault in section[name]
        ]
    return "\n".join([*lines, *_doubts(section)])


def _doubts(section: Section) -> Iterator[str]:
    for name, contender in CONTENDERS.items():
        for fault, cost in section[name].items():
            for doubt in cost.get("doubts", ()):
                yield f"\n{contender.title}, {FAULTS[fault]}: it said: {doubt}."


def _cells(cost: dict[str, Any]) -> str:
    if NOT_MEASURED in cost:
        return f"not measured: {cost[NOT_MEASURED]} | | |"
    last = _last_lost(cost) if cost["lost"] else "-"
    first = cost["first_success_s"]
    shown = "-" if not cost["lost"] else "none" if first is None else f"{first:.2f} s"
    lost = f"{cost['lost']:.0f}, {cost['lost_most']:.0f}"
    return f"{lost} | {cost['requests']:.0f} | {last} | {shown}"


def _last_lost(cost: dict[str, Any]) -> str:
    if cost["noticed"]:
        return f"{cost['last_lost_s']:.2f} s"
    ended = [each["last_lost_s"] for each in cost["rounds"] if each["noticed"]]
    return f"{median(ended):.2f} s; {no_end(cost)}" if ended else no_end(cost)


def no_end(cost: dict[str, Any]) -> str:
    """In how many rounds requests were lost for as long as was looked; empty for none."""
    rounds = cost["rounds"]
    late = sum(not each["noticed"] for each in rounds)
    return f"no end in {late} of {len(rounds)} rounds" if late else ""
