"""What status and events look like in a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200
"""Columns where there is no terminal."""
BAR_CELLS = 10
_COLOURS = {
    "active": "green",
    "warming": "green",
    "standby": "blue",
    "draining": "yellow",
    "failed": "red",
    "gone": "dim",
}
_PREFIXES = ("", "k", "M", "G", "T")


def print_status(status: dict[str, Any]) -> None:
    """All groups, once."""
    _console().print(rendered(status))


def watch_status(read: Callable[[], dict[str, Any]], every_s: float) -> None:
    """All groups, again and again until Ctrl-C; one below the other where there is no terminal."""
    console = _console()
    while not console.is_terminal:
        console.print(rendered(read()))
        console.file.flush()
        time.sleep(every_s)
    with Live(rendered(read()), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(rendered(read()), refresh=True)


def rendered(status: dict[str, Any]) -> Group:
    """The status as a table per group."""
    now_s = status["time_s"]
    if not status["groups"]:
        return Group("no groups")
    return Group(*(part for group in status["groups"] for part in _group(group, now_s)))


def event_line(event: dict[str, Any]) -> str:
    """One entry of the event log."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time_s"]))
    who = event["node"] or event["group"]
    took = "" if event["took_s"] is None else f" ({event['took_s']:.1f} s)"
    return f"{when}  {who:<16} {event['kind']:<14} {event['reason']}{took}"


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _group(group: dict[str, Any], now_s: float) -> Iterator[Table | Text]:
    yield Text(_title(group), style="bold", no_wrap=True, overflow="ellipsis")
    if group["reason"]:
        yield Text(f"  wanted: {_wanted(group)}", style="dim")
    if group["held"]:
        yield Text(f"  BREAKER: {group['held_reason']}", style="bold red")
    table = Table(box=None)
    for name in ("node", "role", "state", "load", "slots", "flows/s", "bits/s", "since", "reason"):
        right = name in ("slots", "flows/s", "bits/s", "since")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "reason")
    for node in group["nodes"]:
        signals = node["signals"]
        colour = _COLOURS.get(node["state"], "cyan")
        table.add_row(
            node["name"],
            node["role"],
            f"[{colour}]{node['state']}[/]",
            _bar(node["load"]),
            str(node["slots"]),
            amount(signals["new_flows_per_s"]),
            amount(signals["bits_per_s"]),
            duration(now_s - node["since_s"]),
            escape(_reason(node)),
        )
    yield table
    yield Text()


def _reason(node: dict[str, Any]) -> str:
    """Why it is in its state; of one that serves, how its service does now."""
    now: str | None = node["health"].get("reason")  # a controller from before an upgrade has none
    reason: str = node["reason"]
    return now if now and node["state"] == "active" else reason


def _title(group: dict[str, Any]) -> str:
    where = f" on {group['bridge']}" if group["bridge"] else ""
    lost = (
        "switch not connected"
        if where
        else f"waits for a switch with {group.get('lives_with', 'its port')}"
    )
    switch = "" if group["connected"] else f", {lost}"
    load = "" if group["load"] is None else f", load {group['load']:.2f}"
    addresses = " ".join(group["addresses"])
    nodes = f"{group['active']} of {group['wanted']} nodes"
    if group.get("warm") or group.get("warm_wanted"):
        nodes += f" and {group['warm']} of {group['warm_wanted']} warm"
    return f"{group['name']}  {addresses}{where}: {nodes}{load}{switch}"


def _wanted(group: dict[str, Any]) -> str:
    """How many nodes, and why."""
    by_hand = f"; set by hand until: sncontroller scale {group['name']} auto"
    return f"{group['wanted']}, {group['reason']}{'' if group['override'] is None else by_hand}"


def _bar(load: float | None) -> str:
    if load is None:
        return "-"
    cells = min(BAR_CELLS, round(load * BAR_CELLS))
    colour = "red" if load > 0.9 else "yellow" if load > 0.7 else "green"
    return f"[{colour}]{'█' * cells}[/][dim]{'░' * (BAR_CELLS - cells)}[/] {load:.2f}"


def amount(value: float | None) -> str:
    """A number with three digits and a prefix: ``12.3M``; ``-`` for unknown."""
    if value is None:
        return "-"
    power = min(int(math.log10(abs(value)) // 3), len(_PREFIXES) - 1) if abs(value) >= 1 else 0
    return f"{value / 1000**power:.3g}{_PREFIXES[power]}"


def duration(seconds: float) -> str:
    """A time span in its two largest units: ``3h12m``."""
    whole = max(0, int(seconds))
    for size, unit, below, lesser in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // below:02d}{lesser}"
    return f"{whole}s"
