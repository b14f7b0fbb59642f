"""How a run is told to end, how its processes are known, and how those end that could outlive it.

Owns the demo's signals and the mark in the environment that every descendant of the demo inherits.
Children die with the demo by the kernel's parent-death signal; a node's service is nobody's child,
because it has to outlive the controller, so it gets a watcher.
"""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MARK = "SNCONTROLLER_DEMO"
"""Its value is the demo's process id."""


def mark() -> str:
    """Mark this process's children as this run's: the entry in their environment."""
    os.environ[MARK] = str(os.getpid())
    return f"{MARK}={os.getpid()}"


def listen() -> None:
    """From here on, the first signal to end raises ``KeyboardInterrupt``; further ones are void."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def ignore() -> None:
    """From here on nothing interrupts: neither this process nor the children it starts."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    ignore()
    raise KeyboardInterrupt


def end_with_demo() -> None:
    """Let a watcher kill this process, whatever it becomes by ``exec``, when the demo is gone.

    The watcher ends with either of the two. Does nothing outside a demo.
    """
    demo, me = os.environ.get(MARK), os.getpid()
    if demo is not None and os.fork() == 0:
        _watch(int(demo), me)


def _watch(demo: int, served: int) -> None:
    try:
        serving = os.pidfd_open(served)
        if not _outlives(demo, serving):
            os.kill(served, signal.SIGKILL)
    finally:
        os._exit(0)


def _outlives(demo: int, serving: int) -> bool:
    """Whether the demo still runs when the service has ended; waits for either."""
    try:
        running = os.pidfd_open(demo)
    except ProcessLookupError:
        return False
    ended = select.poll()
    ended.register(running, select.POLLIN)
    ended.register(serving, select.POLLIN)
    return running not in dict(ended.poll())
