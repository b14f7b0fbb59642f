"""The demo's side of the controller: ryu-manager as a real process, and its REST answers.

Owns the process and a thread that asks for the status. It uses what any operator has: the command
line and the northbound API.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sncontroller.lab.child import Child
from sncontroller.lab.samples import EventSeen, GroupSeen, StatusSeen

_ASK_EVERY_S = 0.4
_ANSWER_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the controller listens, on loopback."""

    openflow_port: int = 6653
    rest_port: int = 8080
    host: str = "127.0.0.1"

    @property
    def target(self) -> str:
        """The controller as a bridge is told of it."""
        return f"tcp:{self.host}:{self.openflow_port}"

    @property
    def rest(self) -> str:
        """The northbound API."""
        return f"http://{self.host}:{self.rest_port}"

    def command(self, configuration: Path) -> tuple[str, ...]:
        """ryu-manager's command line."""
        manager = Path(sys.executable).parent / "ryu-manager"
        return (
            str(manager),
            *("--sn-config", str(configuration)),
            *("--ofp-listen-host", self.host),
            *("--ofp-tcp-listen-port", str(self.openflow_port)),
            *("--wsapi-host", self.host),
            *("--wsapi-port", str(self.rest_port)),
            "sncontroller.app",
        )


class Controller:
    """The controller: not running at first, may be started, killed and started again."""

    def __init__(self, endpoints: Endpoints, configuration: Path, log: Path) -> None:
        self._command = endpoints.command(configuration)
        self._log = log
        self._child: Child | None = None
        self.pids: tuple[int, ...] = ()
        """The process ids it has had."""

    def start(self) -> None:
        """Start the process; it needs a moment until it answers."""
        self._child = Child("the controller", self._command, self._log)
        self.pids += (self._child.pid,)

    def kill(self) -> None:
        """Kill it with SIGKILL, in the middle of whatever it does."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def expect_running(self) -> None:
        """Raises ``LabError`` with its last words when it ended by itself."""
        if self._child is not None:
            self._child.expect_running()

    def stop(self) -> int:
        """Ensure that it does not run; its status, 0 when it was not running."""
        child, self._child = self._child, None
        return child.stop() if child is not None else 0


class Watch:
    """Asks the controller again and again how one group is; never fails, only knows nothing."""

    def __init__(self, endpoints: Endpoints, group: str) -> None:
        self._url = f"{endpoints.rest}/v1/status"
        self._name = group
        self._group: GroupSeen | None = None
        self.trouble = "not asked yet"
        """Why there is no answer; the last one's reason stays."""
        self._events: dict[tuple[float, str, str | None, str], EventSeen] = {}
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    @property
    def group(self) -> GroupSeen | None:
        """The newest answer; None when there is none now."""
        with self._lock:
            return self._group

    @property
    def events(self) -> tuple[EventSeen, ...]:
        """All events seen so far, oldest first, those before a restart included."""
        with self._lock:
            return tuple(sorted(self._events.values(), key=lambda event: event.time_s))

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            group = self._ask()
            with self._lock:
                self._group = group
                for event in group.events if group else ():
                    key = (event.time_s, event.kind, event.node, event.reason)
                    self._events.setdefault(key, event)
            self._over.wait(max(0.05, _ASK_EVERY_S - (time.monotonic() - began)))

    def _ask(self) -> GroupSeen | None:
        try:
            with self._opener.open(self._url, timeout=_ANSWER_WITHIN_S) as answer:
                return StatusSeen.model_validate_json(answer.read()).group(self._name)
        except (OSError, http.client.HTTPException, ValidationError) as error:
            self.trouble = str(error)
            return None
