"""The results file: one section per part, and when, where and how long each part ran.

Owns ``latest.json`` and what is written from it: the table, and the figures in the documents. A
part that runs alone replaces its own section and leaves the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from bench import PARTS, REPOSITORY, RESULTS, Section, part, targets
from bench.machine import described

Results: TypeAlias = dict[str, Any]

FILE = "latest.json"
TABLE = "latest.md"
MARK = "<!-- bench:"
_BLOCK = re.compile(r"(?<=<!-- bench:)([a-z]+)( -->\n)(.*?)(?=<!-- /bench -->)", re.DOTALL)


def documents() -> tuple[Path, ...]:
    """Those that bear figures, between ``<!-- bench:NAME -->`` and ``<!-- /bench -->``."""
    candidates = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    return tuple(path for path in candidates if MARK in path.read_text())


def load(directory: Path = RESULTS) -> Results:
    """What was measured before; empty when nothing was."""
    try:
        return dict(json.loads((directory / FILE).read_text()))
    except FileNotFoundError:
        return {}


def save(found: Results, directory: Path) -> None:
    """Write the results and their table."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (directory / FILE).write_text(text + "\n")
    (directory / TABLE).write_text(table(found))


def with_part(found: Results, name: str, section: Section, ran: Mapping[str, Any]) -> Results:
    """The results with this section and how it came about, in place of older ones."""
    runs = {**found.get("runs", {}), name: dict(ran)}
    sections = {**found, name: section}
    return {
        "runs": {each: runs[each] for each in PARTS if each in runs},
        **{each: sections[each] for each in PARTS if each in sections},
    }


def sections(found: Results) -> tuple[str, ...]:
    """The parts that there are figures of."""
    return tuple(name for name in PARTS if name in found)


def table(found: Results) -> str:
    """Everything as one Markdown page."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; docs/performance.md says how to read it.",
        "",
    ]
    for name in sections(found):
        lines += [f"## {name}", "", _ran(found["runs"][name]), "", block(found, name), ""]
    return "\n".join(lines)


def block(found: Results, name: str) -> str:
    """One part's figures as Markdown, its targets last; ``readme`` is what the README shows."""
    if name == "readme":
        return "\n".join(_readme(found))
    section = found[name]
    shown = part(name).table(section).strip()
    return f"{shown}\n\n{targets.table(section['targets'])}" if section.get("targets") else shown


def _readme(found: Results) -> list[str]:
    shown = [
        part(name).readme(found[name]).strip()  # type: ignore[attr-defined]
        for name in sections(found)
        if hasattr(part(name), "readme")
    ]
    return ["\n\n".join([*shown, *_where(found["runs"])])]


def _where(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each machine that parts ran on, with the load before each of them."""
    loads: dict[str, list[str]] = {}
    for name, run in runs.items():
        on, load = run["machine"], run["load_average_before"]
        machine = (
            f"{on['processor']}, {on['cores']} cores, {on['system']}, "
            f"Open vSwitch {on['open_vswitch']}"
        )
        loads.setdefault(machine, []).append(f"{load:g} before {name}")
    for machine, before in loads.items():
        yield f"{machine}; load average {', '.join(before)}."


def _ran(run: Mapping[str, Any]) -> str:
    how = "quick, " if run["quick"] else ""
    load = f"load average {run['load_average_before']:g} before it began"
    where = described(run["machine"])
    return f"{run['began']}, {how}took {run['took_s']:.0f} s, {load}. {where}."


def filled(text: str, found: Results) -> str:
    """A document with this run's figures in its blocks; blocks of parts without any stay."""

    def replaced(match: re.Match[str]) -> str:
        name = match.group(1)
        if name != "readme" and name not in found:
            return match.group()
        return f"{name}{match.group(2)}{block(found, name)}\n"

    return _BLOCK.sub(replaced, text)
