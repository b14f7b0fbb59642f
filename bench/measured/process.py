"""The measured controller as a process.

Owns the process, its command line and the conversation with it: ``bench.measured.app`` says what
may be asked. Everything else about it is the product as an operator starts it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Self

from bench import REPOSITORY
from sncontroller.lab.child import Child
from sncontroller.lab.controller import Endpoints
from sncontroller.lab.programs import LabError

APPLICATION = "bench.measured.app"
START_WITHIN_S = 60.0


class MeasuredController:
    """``ryu-manager`` with the product's application and a clock; a context manager."""

    def __init__(self, directory: Path, configuration: Path, ready_nodes: int | None) -> None:
        """With ``ready_nodes`` the hypervisor is replaced: see ``bench.measured.app``."""
        self.endpoints = Endpoints()
        self._directory, self._configuration = directory, configuration
        self._ready_nodes = ready_nodes
        self._child: Child | None = None
        self._line: socket.socket | None = None
        self._talk: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._child is None:
            raise LabError("the controller is not running")
        return self._child.pid

    def start(self) -> None:
        """Start the process; it answers when this returns."""
        path = self._directory / "bench.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            listening.settimeout(START_WITHIN_S)
            self._child = Child(
                "the controller",
                self._command(),
                self._directory / "controller.log",
                environment=self._environment(path),
            )
            try:
                self._line, _ = listening.accept()
            except TimeoutError:
                raise LabError(f"it did not start:\n{self._child.last_words()}") from None
        self._talk = self._line.makefile("rw")

    def kill(self) -> None:
        """Ensure that it does not run, as a crash would."""
        for thing in (self._talk, self._line):
            if thing is not None:
                thing.close()
        self._talk = self._line = None
        if self._child is not None:
            self._child.kill()
            self._child = None

    def ask(self, do: str, **arguments: Any) -> Any:
        """What it says to a command. Raises ``LabError`` when it has ended."""
        assert self._child is not None
        try:
            self._talk.write(json.dumps({"do": do, **arguments}) + "\n")
            self._talk.flush()
            said = self._talk.readline()
        except OSError:
            said = ""
        if not said:
            raise LabError(f"the controller failed:\n{self._child.last_words(30)}")
        return json.loads(said)

    def _command(self) -> tuple[str, ...]:
        """As an operator would start it, with our application in place of the product's."""
        ryu, *options, _ = self.endpoints.command(self._configuration)
        return (sys.executable, ryu, *options, APPLICATION)

    def _environment(self, path: Path) -> dict[str, str]:
        ready = {}
        if self._ready_nodes is not None:
            ready = {"SNCONTROLLER_BENCH_READY": str(self._ready_nodes)}
        own = {"SNCONTROLLER_BENCH_SOCKET": str(path), "PYTHONPATH": str(REPOSITORY)}
        return {**os.environ, **own, **ready}
