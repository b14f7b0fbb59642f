"""Calls of a plugin through ``PluginHost`` and its child process, one after the other.

A process of its own, because green threads take the thread over that they run in. Each argument is
what the plugin is to do in a call, and a group of its own. Prints what came of each call, or that
nothing did.
"""

from __future__ import annotations

import os
import sys

import eventlet

if __name__ == "__main__":
    eventlet.monkey_patch()

import json
import signal
import time
from typing import Any

from pydantic import BaseModel

from sncontroller.core.commands import ListNodes
from sncontroller.core.events import HypervisorResult
from sncontroller.core.layout import Zone
from sncontroller.core.model import HypervisorSpec
from sncontroller.hypervisors.remote import PluginHost

PATIENCE_S, DEADLINE_S = 30.0, 90.0
MANY = 2000
"""Calls that no pipe has room for."""


class Section(BaseModel):
    """The faulty plugin's section."""

    does: str


class Caller:
    """Calls, and their results."""

    def __init__(self) -> None:
        self.results: list[HypervisorResult] = []
        self.host: Any = PluginHost("test", self.results.append)

    def call(self, does: str, group: str = "web") -> str:
        """What came of a call: an error, or the number of nodes."""
        self.results.clear()
        self._begin(does, group)
        self._wait(1)
        return self.results[0].error or f"{len(self.results[0].nodes)} nodes"

    def nowhere(self) -> str:
        """What came of a call where no process can be started."""
        here, sys.executable = sys.executable, "/nowhere"
        try:
            return self.call("fine")
        finally:
            sys.executable = here

    def renamed(self) -> str:
        """Whose a node is that another group of that number asks for."""
        self.call("names", "web")
        self.call("names", "dns")
        return self.results[0].nodes[0].name

    def stopped(self) -> str:
        """What came of many calls to a process that takes none, and is killed then."""
        self.call("fine")
        self.results.clear()
        os.kill(self.host._child.pid, signal.SIGSTOP)
        with eventlet.Timeout(PATIENCE_S):
            for _ in range(MANY):
                self._begin("fine")
        os.kill(self.host._child.pid, signal.SIGKILL)
        self._wait(MANY)
        return str(self.results[-1].error)

    def _begin(self, does: str, group: str = "web") -> None:
        section = Section(does=does)
        spec = HypervisorSpec.model_construct(
            plugin="faulty", call_deadline_s=DEADLINE_S, config=section
        )
        self.host.carry_out(group, spec, ListNodes(Zone(sum(does.encode()))))

    def _wait(self, results: int) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while len(self.results) < results:
            if time.monotonic() > end_s:
                raise TimeoutError(f"{len(self.results)} of {results} calls got an answer")
            eventlet.sleep(0.01)


if __name__ == "__main__":
    caller = Caller()
    own = {each.__name__: each for each in (caller.nowhere, caller.renamed, caller.stopped)}
    print(json.dumps([own[word]() if word in own else caller.call(word) for word in sys.argv[1:]]))
    caller.host.close()
