"""Nodes that are podman containers on this machine, each in a namespace plugged into the bridge.

Owns the containers that carry its owner's labels; what they hang on is in ``_plug``, and is there
before the container and as long as anything of it, so that a container of which podman itself was
killed half-way is known by the port's record. A node runs when podman says so of its container
and a process is in its namespace.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from pydantic import BaseModel

from sncontroller.hypervisors._addresses import Address
from sncontroller.hypervisors._plug import Plug, Plugs, machine_errors
from sncontroller.hypervisors._podman import STORAGE_ONLY, Container, Podman
from sncontroller.hypervisors._podman_config import PodmanConfig
from sncontroller.hypervisors._tags import INDEX, MAC, NODE, owned, replaced, tags_of
from sncontroller.hypervisors.base import (
    PROTOCOL_VERSION,
    HypervisorError,
    NodeInfo,
    NodeRequest,
    NodeStatus,
    Owner,
    PermanentError,
    TransientError,
)
from sncontroller.lab.namespaces import RUN_NETNS, processes_by_namespace
from sncontroller.lab.programs import LabError

__all__ = ["PodmanConfig", "PodmanContainers"]

PORT: Final = "sn-port"
SETTLE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Found:
    """What exists of one node: a plug, a container, or both."""

    name: str
    plug: Plug | None
    container: Container | None
    processes: int

    def problem(self, bridge: str) -> str:
        """What is wrong with it; empty when nothing is."""
        if self.plug is None:
            return "its port is missing"
        if problem := self.plug.problem(bridge):
            return problem
        if self.container is None:
            return "its container is missing"
        if problem := self.container.problem:
            return problem
        return "" if self.processes else f"no process runs in namespace {self.plug.port}"

    def info(self, status: NodeStatus, detail: str) -> NodeInfo:
        """The node as the controller sees it."""
        if self.plug is not None:
            return self.plug.info(status, detail)
        labels = {} if self.container is None else self.container.labels
        port, mac = labels.get(PORT, ""), labels.get(MAC, "")
        return NodeInfo(self.name, int(labels[INDEX]), port, mac, status, detail)


class PodmanContainers:
    """The ``podman`` plugin: ``PodmanConfig`` is its section."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = PodmanConfig

    def __init__(self, config: PodmanConfig, owner: Owner) -> None:
        """Serve one group; nothing is touched until the first call."""
        self._config = config
        self._owner = owner
        self._plugs = Plugs(config, owner)
        self._podman = Podman(config.podman, config.timeout_s)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the container runs; its port is on the bridge."""
        address = self._config.address_of(request.index)
        self._starting.add(request.name)
        try:
            with machine_errors("podman"):
                made = self._ours(request)
                for node in made:
                    if self._is(node, request):
                        return self._info(node)
                for node in made:
                    self._remove(node)
                return self._info(self._make(request, address))
        finally:
            self._starting.discard(request.name)

    def stop_node(self, name: str) -> None:
        """Ensure that the container, its namespace, interface and port are gone."""
        with machine_errors("podman"):
            for node in self._find():
                if node.name == name:
                    self._remove(node)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes of this owner, sorted by index; half-made ones are BROKEN and say why."""
        with machine_errors("podman"):
            nodes = [self._info(node) for node in self._find()]
        return tuple(sorted(nodes, key=lambda node: (node.index, node.port)))

    # -- what is there ---------------------------------------------------------------------------

    def _find(self) -> list[_Found]:
        return self._found(self._podman.containers())

    def _found(self, containers: Mapping[str, Container]) -> list[_Found]:
        plugs, processes = self._plugs.find(), processes_by_namespace()
        found = [
            _Found(
                name=plug.name,
                plug=plug,
                container=self._container_of(plug.name, containers),
                processes=len(processes.get(plug.port, ())),
            )
            for plug in plugs
        ]
        plugged = {node.name for node in found}
        for container in containers.values():
            name = container.labels.get(NODE, "")
            if owned(container.labels, self._owner) and name not in plugged:
                found.append(_Found(name, None, container, 0))
        return found

    def _container_of(self, node: str, containers: Mapping[str, Container]) -> Container | None:
        """The container of a node whose plug is ours: labelled so, or never finished."""
        container = containers.get(self._container_name(node))
        if container is None:
            return None
        unfinished = container.state == STORAGE_ONLY
        return container if unfinished or owned(container.labels, self._owner) else None

    def _container_name(self, node: str) -> str:
        return f"{self._owner.controller}.{node}"

    def _ours(self, request: NodeRequest) -> list[_Found]:
        """What exists of the node. Raises ``PermanentError`` when a name it needs is taken."""
        self._plugs.ours(request)
        containers, name = self._podman.containers(), self._container_name(request.name)
        found = [node for node in self._found(containers) if node.name == request.name]
        if name in containers and not any(node.container for node in found):
            raise PermanentError(f"container {name} exists and is not ours: remove it")
        return found

    def _is(self, node: _Found, request: NodeRequest) -> bool:
        same = node.plug is not None and node.plug.is_for(request)
        return same and not node.problem(self._config.bridge)

    def _info(self, node: _Found) -> NodeInfo:
        problem = node.problem(self._config.bridge)
        status = NodeStatus.BROKEN if problem else NodeStatus.RUNNING
        starting = problem and node.name in self._starting
        detail = problem or f"container {self._container_name(node.name)}"
        info = node.info(NodeStatus.STARTING if starting else status, detail)
        return replace(info, address=self._config.known_address(info.index))

    # -- making and removing ---------------------------------------------------------------------

    def _make(self, request: NodeRequest, address: Address) -> _Found:
        self._plugs.record(request)
        try:
            self._plugs.make(request, address, self._config.rate_bps)
            self._run(request, address)
            self._plugs.settle(request.port, time.time())
            time.sleep(SETTLE_S)
            return self._running(request)
        except BaseException:
            with suppress(HypervisorError, LabError):  # what stays is found and removed later
                for node in self._find():
                    if node.name == request.name:
                        self._remove(node)
            raise

    def _run(self, request: NodeRequest, address: Address) -> None:
        """Start the container, which outlives this process."""
        config = self._config
        words = {
            "{name}": request.name,
            "{index}": str(request.index),
            "{address}": str(address),
            "{mac}": request.mac,
            "{port}": request.port,
            "{group_addresses}": ",".join(request.addresses),
        }
        environment = {key: replaced(value, words) for key, value in config.environment.items()}
        tags = tags_of(self._owner, request, config.bridge)
        self._podman.run(
            self._container_name(request.name),
            f"{RUN_NETNS}/{request.port}",
            config.image,
            labels={**tags, PORT: request.port},
            options=[
                *("--pull", "missing" if config.pull else "never"),
                *("--hostname", request.name),
                *(word for pair in environment.items() for word in ("--env", "=".join(pair))),
                *config.options,
            ],
            command=[replaced(word, words) for word in config.command],
        )

    def _running(self, request: NodeRequest) -> _Found:
        """The node, which was made. Raises ``TransientError`` when it does not run any more."""
        for node in self._find():
            if node.name == request.name and node.container is not None:
                if not node.container.problem:
                    return node
                said = self._podman.log_tail(node.container.name) or "it said nothing"
                raise TransientError(f"{node.container.problem} at once: {said}")
        raise TransientError(f"{request.name} vanished while it was started")

    def _remove(self, node: _Found) -> None:
        """The port's record goes last: as long as anything is left, it is found by it."""
        if node.container is not None:
            self._podman.remove(node.container, self._config.stop_s)
        if node.plug is not None:
            self._plugs.remove_namespace(node.plug.port)
            self._plugs.remove_port(node.plug.port)
