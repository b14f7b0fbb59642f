"""The controller's side of the plugin process: commands out, results back as events.

Owns the child process (``hypervisors.host``), its restart, and the calls under way. Nothing here
waits: a call returns at once, its result comes to ``emit`` later, whatever becomes of the child.
A plugin keeps to times of its own; a call that does not is ended with the child and all its other
calls, which a plugin must survive anyway, and which are made again.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import eventlet
from eventlet import queue
from eventlet.green import subprocess

from sncontroller.core.commands import ListNodes, StartNode, StopNode
from sncontroller.core.events import Call, HypervisorResult
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Zone
from sncontroller.core.model import HypervisorSpec

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pending:
    zone: Zone
    call: Call
    node: str | None


class PluginHost:
    """One child process for the plugins of all groups; started with the first call."""

    def __init__(self, owner: str, emit: Callable[[HypervisorResult], None]) -> None:
        self._owner = owner
        self._emit = emit
        self._child: Any = None
        self._lines: Any = queue.LightQueue()
        """What the child is still to be told."""
        self._pending: dict[int, _Pending] = {}
        self._timers: dict[int, Any] = {}
        self._overdue = ""
        self._known: dict[Zone, tuple[str, HypervisorSpec]] = {}
        """Each group's name and section, as the child has them."""
        self._last = 0

    def carry_out(
        self, group: str, spec: HypervisorSpec, command: StartNode | StopNode | ListNodes
    ) -> None:
        """Begin a hypervisor call."""
        pending, line = _as_line(command)
        try:
            if self._child is None:
                self._start()
        except OSError as error:
            self._emit(_lost(pending, f"the plugin process cannot be started: {error}"))
            return
        if self._known.get(command.zone) != (group, spec):
            self._known[command.zone] = group, spec
            line["plugin"] = spec.plugin
            line["config"] = spec.config.model_dump(mode="json")
            line["owner"] = {"controller": self._owner, "group": group}
        self._last += 1
        self._pending[self._last] = pending
        self._timers[self._last] = eventlet.spawn_after(
            spec.call_deadline_s, self._end, self._child, pending, spec.call_deadline_s
        )
        self._lines.put({**line, "id": self._last, "zone": command.zone})

    def close(self) -> None:
        """End the child; calls under way end with it."""
        child, self._child = self._child, None
        if child is not None:
            child.stdin.close()
            child.terminate()
            child.wait()

    def _start(self) -> None:
        self._known.clear()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "sncontroller.hypervisors.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._lines = queue.LightQueue()
        writer = eventlet.spawn(self._write, self._child, self._lines)
        eventlet.spawn(self._read, self._child, writer)

    def _write(self, child: Any, lines: Any) -> None:
        """Give lines to a child, which may be slow to take them: it has yet to start."""
        try:
            while True:
                child.stdin.write(json.dumps(lines.get()).encode() + b"\n")
        except OSError:
            LOG.warning("the plugin process does not listen any more")  # _read reports the calls

    def _read(self, child: Any, writer: Any) -> None:
        try:
            for text in child.stdout:
                self._hear(json.loads(text))
        except Exception:  # half a line, if it was killed while it wrote
            LOG.warning("the plugin process cannot be understood; it is ended", exc_info=True)
            child.kill()
        child.wait()
        writer.kill()
        if self._child is child:
            self._child = None
        why, self._overdue = self._overdue, ""
        self._fail_pending(why or f"the plugin process ended with status {child.returncode}")

    def _hear(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        if number in self._pending:
            result = _result(self._pending[number], answer)
            del self._pending[number]
            self._timers.pop(number).cancel()
            self._emit(result)

    def _end(self, child: Any, pending: _Pending, deadline_s: float) -> None:
        """End the child of a call that is overdue."""
        what = " ".join(word for word in (pending.call.value, pending.node) if word)
        self._overdue = f"{what}: no answer within {deadline_s:g} s; the plugin process was ended"
        LOG.warning("%s", self._overdue)
        child.kill()

    def _fail_pending(self, why: str) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        lost, self._pending = self._pending, {}
        for pending in lost.values():
            self._emit(_lost(pending, why))


def _as_line(command: StartNode | StopNode | ListNodes) -> tuple[_Pending, dict[str, Any]]:
    match command:
        case StartNode(zone, request):
            line = {"call": "start", "request": asdict(request)}
            return _Pending(zone, Call.START, request.name), line
        case StopNode(zone, name):
            return _Pending(zone, Call.STOP, name), {"call": "stop", "name": name}
        case ListNodes(zone):
            return _Pending(zone, Call.LIST, None), {"call": "list"}


def _lost(pending: _Pending, why: str) -> HypervisorResult:
    answer = {"nodes": [], "error": why, "permanent": False, "took_s": 0.0}
    return _result(pending, answer)


def _result(pending: _Pending, answer: dict[str, Any]) -> HypervisorResult:
    return HypervisorResult(
        zone=pending.zone,
        call=pending.call,
        node=pending.node,
        nodes=tuple(_info(raw) for raw in answer["nodes"]),
        error=answer["error"],
        permanent=answer["permanent"],
        took_s=answer["took_s"],
    )


def _info(raw: dict[str, Any]) -> NodeInfo:
    return NodeInfo(**{**raw, "status": NodeStatus(raw["status"])})
