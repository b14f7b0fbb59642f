"""One node started and stopped, step by step: whether a group's hypervisor does what it must.

Owns the order of the steps and what each must find. The node is nobody's of the running controller:
it has an owner tag, a name, a port and a hardware address that no group's node ever has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sncontroller.core.layout import MAX_INDEX, Zone
from sncontroller.core.model import GroupSpec
from sncontroller.hypervisors import base
from sncontroller.hypervisors.base import Hypervisor, NodeInfo, NodeRequest, NodeStatus, Owner

__all__ = ["Step", "owner_of", "request_of", "steps"]

RUNNING_S: Final = 120.0
POLL_S: Final = 0.25


class UnexpectedError(Exception):
    """A call succeeded and its result is not what it must be."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was taken."""

    title: str
    took_s: float
    said: str
    """What was found, or why it failed."""
    ok: bool


def owner_of(controller: str, group: str) -> Owner:
    """Whose the node is: not the controller's own, which would adopt it."""
    return Owner(f"{controller}-check", group)


def request_of(spec: GroupSpec, used: frozenset[int]) -> NodeRequest:
    """The node to start: the lowest index that none of the group's nodes has."""
    index = next(index for index in range(2, MAX_INDEX + 1) if index not in used)
    return NodeRequest(
        name=f"{spec.name}-check",
        index=index,
        port=f"sn{spec.zone:04x}-check",
        mac=_mac(spec.zone),
        addresses=(spec.address,),
    )


def steps(controller: str, spec: GroupSpec, running_s: float = RUNNING_S) -> Iterator[Step]:
    """Take the steps one by one; after one that failed, what was made is removed, and it ends."""
    if spec.hypervisor is None:
        raise ValueError(f"group {spec.name} has no hypervisor")
    kind, config = base.load(spec.hypervisor.plugin), spec.hypervisor.config
    ours = kind(config, Owner(controller, spec.name))
    check = _Check(kind(config, owner_of(controller, spec.name)), running_s)
    used: list[NodeInfo] = []
    step = _taken("list", lambda: _listed(ours, used))
    yield step
    if not step.ok:
        return
    request = request_of(spec, frozenset(node.index for node in used))
    ended = False
    try:
        for title, call in check.calls(request):
            step = _taken(title, call)
            yield step
            if not step.ok:
                yield _taken("clean up", lambda: check.stop(request))
                break
        ended = True
    finally:
        if not ended:  # interrupted
            _taken("clean up", lambda: check.stop(request))


class _Check:
    """The calls for one node."""

    def __init__(self, plugin: Hypervisor, running_s: float) -> None:
        self._plugin = plugin
        self._running_s = running_s

    def calls(self, request: NodeRequest) -> tuple[tuple[str, Callable[[], str]], ...]:
        """Each step and what does it."""
        return (
            ("clear", lambda: self.stop(request)),
            ("start", lambda: self._start(request)),
            ("running", lambda: self._running(request)),
            ("start again", lambda: self._again(request)),
            ("stop", lambda: self.stop(request)),
            ("stop again", lambda: self.stop(request)),
        )

    def stop(self, request: NodeRequest) -> str:
        """The node is gone."""
        self._plugin.stop_node(request.name)
        if any(node.name == request.name for node in self._plugin.list_nodes()):
            raise UnexpectedError(f"{request.name} is still listed after it was stopped")
        return "nothing of it is left"

    def _start(self, request: NodeRequest) -> str:
        info = self._plugin.start_node(request)
        if info.status is NodeStatus.BROKEN:
            raise UnexpectedError(f"{info.name} is broken: {info.detail}")
        return f"{info.name} on port {info.port}, {info.mac}"

    def _running(self, request: NodeRequest) -> str:
        deadline = time.monotonic() + self._running_s
        while True:
            info = self._one(request)
            if info.status is NodeStatus.RUNNING:
                return info.detail or "the hypervisor says so"
            if info.status is NodeStatus.BROKEN:
                raise UnexpectedError(f"{info.name} is broken: {info.detail}")
            if time.monotonic() > deadline:
                raise UnexpectedError(
                    f"{info.name} is still starting after {self._running_s:.0f} s"
                )
            time.sleep(POLL_S)

    def _again(self, request: NodeRequest) -> str:
        before = self._one(request)
        again = self._plugin.start_node(request)
        if (again.port, again.mac) != (before.port, before.mac):
            raise UnexpectedError(f"another node than before: port {again.port}, {again.mac}")
        self._one(request)
        return "still the same one"

    def _one(self, request: NodeRequest) -> NodeInfo:
        found = [node for node in self._plugin.list_nodes() if node.name == request.name]
        if len(found) != 1:
            raise UnexpectedError(f"{request.name} is listed {len(found)} times, not once")
        return found[0]


def _listed(plugin: Hypervisor, into: list[NodeInfo]) -> str:
    into.extend(plugin.list_nodes())
    nodes = (f"{node.name} ({node.status.value})" for node in into)
    return f"nodes: {', '.join(nodes) or 'none'}"


def _taken(title: str, call: Callable[[], str]) -> Step:
    began = time.monotonic()
    try:
        said, ok = call(), True
    except (base.HypervisorError, UnexpectedError) as error:
        said, ok = str(error), False
    except Exception as error:  # a plugin's bug is a finding of this check
        said, ok = f"unexpected {type(error).__name__}: {error}", False
    return Step(title, time.monotonic() - began, said, ok)


def _mac(zone: Zone) -> str:
    """Locally administered as ``layout.node_mac``, with an index that no node can have."""
    return f"02:53:{zone >> 8:02x}:{zone & 0xFF:02x}:ff:fe"
