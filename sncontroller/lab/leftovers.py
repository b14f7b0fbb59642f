"""What a run has left on the machine: processes, namespaces, interfaces, bridges, directories.

Owns two looks at the machine and their difference. It knows a run's processes by where they live
and what they hold open, not by their names, so that others' Open vSwitch and nginx never count.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from sncontroller.lab.namespaces import (
    all_pids,
    environment_of,
    links,
    namespaces,
    processes_by_namespace,
)
from sncontroller.lab.programs import program

PATIENCE_S: Final = 3.0
_TEMPORARY: Final = re.compile(r"sn-[a-z]+-(\d+)-")


@dataclass(frozen=True, slots=True)
class Scope:
    """How the run's own things are known."""

    directories: tuple[Path, ...] = ()
    """Where it writes: a process whose command line, directory or open file is in one is its."""
    marks: tuple[str, ...] = ()
    """Beginnings of entries in its processes' environment, as ``SNCONTROLLER_NODE=demo/``."""
    ovsdb: str | None = None
    """OVSDB remote whose bridges are looked at too."""


NOTHING_KNOWN: Final = Scope()


class _Thing(NamedTuple):
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was on the machine at one time."""

    scope: Scope
    things: frozenset[_Thing]


def snapshot(scope: Scope = NOTHING_KNOWN) -> Snapshot:
    """What is on the machine now; take one before the run, with what will be known of it."""
    return Snapshot(scope, frozenset(_things(scope)))


def leftovers(before: Snapshot, patience_s: float = PATIENCE_S) -> tuple[str, ...]:
    """What is there now and was not before, sorted; empty is the goal.

    It looks again until nothing is left or ``patience_s`` is over: the kernel takes its time with
    the interfaces of a namespace that has gone.
    """
    deadline = time.monotonic() + patience_s
    while True:
        left = set(_things(before.scope)) - before.things
        if not left or time.monotonic() > deadline:
            return tuple(sorted(_line(thing) for thing in left))
        time.sleep(0.05)


def _things(scope: Scope) -> Iterator[_Thing]:
    yield from (_Thing("namespace", name) for name in namespaces())
    yield from (_Thing("interface", name) for name in links())
    yield from (_Thing("bridge", name) for name in _bridges(scope.ovsdb))
    yield from (_Thing("directory", str(path)) for path in _temporary_directories())
    inside = {pid for pids in processes_by_namespace().values() for pid in pids}
    for pid in all_pids():
        if pid != os.getpid() and (pid in inside or _is_ours(pid, scope)):
            yield _Thing("process", f"{pid} {_start_ticks(pid)}")


def _line(thing: _Thing) -> str:
    if thing.kind != "process":
        return f"{thing.kind} {thing.name}"
    pid = int(thing.name.split()[0])
    return f"process {pid}: {_command_line(pid)}"


def _bridges(ovsdb: str | None) -> list[str]:
    if ovsdb is None or not Path(ovsdb.removeprefix("unix:")).exists():
        return []
    command = [program("ovs-vsctl"), f"--db={ovsdb}", "--timeout=5", "list-br"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def _temporary_directories() -> list[Path]:
    """The lab's, named for the process that made each: not those of another that still runs."""
    alive = set(all_pids()) - {os.getpid()}
    found = Path(tempfile.gettempdir()).iterdir()
    makers = ((path, _TEMPORARY.match(path.name)) for path in found)
    return [path for path, maker in makers if maker and int(maker[1]) not in alive]


def _is_ours(pid: int, scope: Scope) -> bool:
    marks = tuple(mark.encode() for mark in scope.marks)
    if any(entry.startswith(marks) for entry in environment_of(pid)):
        return True
    return any(_touches(pid, str(directory.absolute())) for directory in scope.directories)


def _touches(pid: int, directory: str) -> bool:
    places = [f"/proc/{pid}/cwd"]
    with suppress(OSError):  # gone meanwhile
        places += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    held = (_target(place) for place in places)
    return directory in _command_line(pid) or any(
        place == directory or place.startswith(f"{directory}/") for place in held
    )


def _target(link: str) -> str:
    with suppress(OSError):
        return os.readlink(link)
    return ""


def _start_ticks(pid: int) -> str:
    """What tells a process from a later one with the same id: field 22 of proc(5)'s stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "gone"


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
