"""Named network namespaces and the processes in them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from sncontroller.lab.programs import LabError, run_script

RUN_NETNS: Final = "/run/netns"
INNER: Final = "eth0"


def namespaces() -> tuple[str, ...]:
    """Names of all named network namespaces, sorted."""
    try:
        names = os.listdir(RUN_NETNS)
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in names if not is_dead_name(name)))


def is_dead_name(name: str) -> bool:
    """Whether the name is an empty file that a killed ``ip netns`` left, with nothing mounted."""
    try:
        return os.stat(f"{RUN_NETNS}/{name}").st_dev == os.stat(RUN_NETNS).st_dev
    except FileNotFoundError:
        return False


def namespace_alias(name: str) -> str:
    """What was written on the namespace's loopback; empty when nothing or no such namespace."""
    return _alias(f"ip -json -n {shlex.quote(name)} link show lo")


def link_alias(name: str) -> str:
    """What was written on this interface; empty when nothing or no such interface."""
    return _alias(f"ip -json link show {shlex.quote(name)}") if name in links() else ""


def _alias(command: str) -> str:
    try:
        return str(json.loads(run_script(command))[0].get("ifalias", ""))
    except LabError:  # gone meanwhile
        return ""


def links() -> tuple[str, ...]:
    """Names of all interfaces of the current namespace, sorted."""
    return tuple(sorted(name for _, name in socket.if_nameindex()))


def remove_link(name: str) -> None:
    """Ensure that this interface of the current namespace is gone."""
    if name in links():
        quoted = shlex.quote(name)
        run_script(f"ip link delete {quoted} || ! ip link show {quoted} 2>/dev/null")


def pids_with_environment(entry: str) -> tuple[int, ...]:
    """Ids of the processes that were started with ``NAME=value`` in their environment."""
    wanted = entry.encode()
    return tuple(pid for pid in all_pids() if wanted in environment_of(pid))


def environment_of(pid: int) -> tuple[bytes, ...]:
    """The environment a process was started with; empty when it is gone or not to be seen."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return tuple(file.read().split(b"\0"))
    except OSError:
        return ()


def all_pids() -> tuple[int, ...]:
    """Ids of all processes."""
    return tuple(int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def namespace_pids(*names: str) -> tuple[int, ...]:
    """Ids of the processes that live in the named namespaces; one that is absent has none."""
    found = processes_by_namespace()
    return tuple(pid for name in names for pid in found.get(name, ()))


def processes_by_namespace() -> dict[str, tuple[int, ...]]:
    """Ids of the processes in each named namespace that has any."""
    name_of = {_inode(f"{RUN_NETNS}/{name}"): name for name in namespaces()}
    found: dict[str, list[int]] = {}
    for pid in all_pids():
        # a zombie has no namespace any more, and one that has just gone has no directory
        inode = _inode(f"/proc/{pid}/ns/net")
        if inode is not None and inode in name_of:
            found.setdefault(name_of[inode], []).append(pid)
    return {name: tuple(pids) for name, pids in found.items()}


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def end_processes(find: Callable[[], Sequence[int]], patience_s: float = 1.0) -> None:
    """Ask the processes that ``find`` names to end, kill the deaf, return when none is left."""
    deadline = time.monotonic() + patience_s
    asked: set[int] = set()
    while pids := find():
        late = time.monotonic() > deadline
        for pid in pids:
            if late or pid not in asked:
                _signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked.update(pids)
        if time.monotonic() > deadline + 10:
            raise LabError(f"processes {list(pids)} cannot be killed")
        time.sleep(0.005)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def remove_namespace(name: str) -> None:
    """Ensure that the namespace, its processes, its interface and the other end of it are gone."""
    end_processes(lambda: namespace_pids(name))
    if is_dead_name(name):
        os.unlink(f"{RUN_NETNS}/{name}")
    elif name in namespaces():
        quoted = shlex.quote(name)
        # the interface first: with the namespace alone it would go some time later
        run_script(f"ip -n {quoted} link delete {INNER} 2>/dev/null; ip netns delete {quoted}")
