"""Nodes that are hosts of a running Mininet, which adds and removes them by a control socket.

Owns the hosts and switch ports that carry its owner's tags. The port's record in Open vSwitch comes
first, with all tags, then the host with the same tags, in a process that is not ours; the record
goes last. A host runs when Mininet says so of its shell, its link and its service.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel, Field, field_validator

from sncontroller.hypervisors._addresses import Address
from sncontroller.hypervisors._mininet_control import Guest, MininetControl
from sncontroller.hypervisors._ovsdb import Ovsdb, PortRecord
from sncontroller.hypervisors._plug import machine_errors
from sncontroller.hypervisors._plugged_config import PluggedConfig
from sncontroller.hypervisors._tags import BRIDGE, INDEX, MAC, NODE, READY, owned, replaced, tags_of
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
from sncontroller.lab.net import Link, inside_script

__all__ = ["MininetConfig", "MininetHosts"]

SOCKET_PATH_MAX: Final = 107
"""Of Linux, unix(7)."""


class MininetConfig(PluggedConfig):
    """The plugin's section of a group."""

    control: Path = Field(
        Path("/run/sn-mininet.sock"), description="Socket of the Mininet, by elastic.py."
    )
    command: tuple[str, ...] = Field(
        min_length=1,
        description="The service: {name}, {index}, {address}, {port} and {directory} are replaced.",
    )
    rate_bps: int | None = Field(None, ge=8000, description="Limit on what a node sends.")
    timeout_s: float = Field(60.0, gt=0, le=600, description="Mininet must answer in this time.")

    @field_validator("control")
    @classmethod
    def _fits(cls, control: Path) -> Path:
        if len(bytes(control)) > SOCKET_PATH_MAX:
            raise ValueError(f"a socket's path has at most {SOCKET_PATH_MAX} bytes: {control}")
        return control


@dataclass(frozen=True, slots=True)
class _Found:
    """What exists of one node."""

    port: str
    tags: Mapping[str, str]
    record: PortRecord | None
    guest: Guest | None

    @property
    def name(self) -> str:
        return self.tags[NODE]

    def problem(self, bridge: str) -> str:
        """What is wrong with it; empty when nothing is."""
        if self.record is None:
            return f"port {self.port} is not on switch {bridge}"
        if self.tags.get(BRIDGE) != bridge:
            return f"port {self.port} is on switch {self.tags.get(BRIDGE)}, not {bridge}"
        if self.guest is None:
            return f"Mininet has no host on port {self.port}"
        if self.guest.problem:
            return self.guest.problem
        if READY not in self.tags:
            return "it was never finished"
        if self.record.ofport is not None and self.record.ofport < 0:
            return f"Open vSwitch cannot open port {self.port}: {self.record.error}"
        return ""

    def is_for(self, request: NodeRequest) -> bool:
        """Whether port, hardware address and index are the requested ones."""
        mine = (self.port, self.tags.get(MAC), self.tags[INDEX])
        return mine == (request.port, request.mac, str(request.index))


class MininetHosts:
    """The ``mininet`` plugin: ``MininetConfig`` is its section."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = MininetConfig

    def __init__(self, config: MininetConfig, owner: Owner) -> None:
        """Serve one group; nothing is touched until the first call."""
        self._config = config
        self._owner = owner
        self._ovsdb = Ovsdb(config.ovsdb)
        self._mininet = MininetControl(config.control, config.timeout_s)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the host is there and its service was started; its port is on the switch."""
        address = self._config.address_of(request.index)
        self._starting.add(request.name)
        try:
            with machine_errors("mininet"):
                made = self._ours(request)
                if not any(self._is(node, request) for node in made):
                    for node in made:
                        self._remove(node.port)
                    self._make(request, address)
        finally:
            self._starting.discard(request.name)
        for info in self.list_nodes():
            if info.name == request.name:
                return info
        raise TransientError(f"{request.name} vanished while it was started")

    def stop_node(self, name: str) -> None:
        """Ensure that the host, its processes and its port are gone."""
        with machine_errors("mininet"):
            for node in self._find():
                if node.name == name:
                    self._remove(node.port)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes of this owner, sorted by index; half-made ones are BROKEN and say why."""
        with machine_errors("mininet"):
            nodes = [self._info(node) for node in self._find()]
        return tuple(sorted(nodes, key=lambda node: (node.index, node.port)))

    # -- what is there ---------------------------------------------------------------------------

    def _find(self) -> list[_Found]:
        guests, records = self._mininet.guests(), self._ovsdb.ports()
        tags = {port: guest.tags for port, guest in guests.items()}
        tags |= {port: record.tags for port, record in records.items()}
        return [
            _Found(port, tags[port], records.get(port), guests.get(port))
            for port in tags
            if owned(tags[port], self._owner)
        ]

    def _ours(self, request: NodeRequest) -> list[_Found]:
        """What exists of the node. Raises ``PermanentError`` when its port's name is taken."""
        found = self._find()
        ports = {node.port: node.name for node in found}
        if ports.get(request.port, request.name) != request.name:
            raise PermanentError(f"port {request.port} is node {ports[request.port]}'s")
        if request.port not in ports and request.port in self._ovsdb.ports():
            raise PermanentError(f"switch port {request.port} exists and is not ours: remove it")
        return [node for node in found if node.name == request.name]

    def _is(self, node: _Found, request: NodeRequest) -> bool:
        return node.is_for(request) and not node.problem(self._config.bridge)

    def _info(self, node: _Found) -> NodeInfo:
        problem = node.problem(self._config.bridge)
        status = NodeStatus.BROKEN if problem else NodeStatus.RUNNING
        return NodeInfo(
            name=node.name,
            index=int(node.tags[INDEX]),
            port=node.port,
            mac=node.tags.get(MAC, ""),
            status=NodeStatus.STARTING if problem and node.name in self._starting else status,
            detail=problem or ("" if node.guest is None else f"host {node.guest.host}"),
            address=self._config.known_address(int(node.tags[INDEX])),
        )

    # -- making and removing ---------------------------------------------------------------------

    def _make(self, request: NodeRequest, address: Address) -> None:
        config, tags = self._config, tags_of(self._owner, request, self._config.bridge)
        self._ovsdb.record_port(config.bridge, request.port, tags, config.vlan)
        try:
            self._mininet.add(
                request.name,
                switch=config.bridge,
                port=request.port,
                mac=request.mac,
                setup=inside_script(self._link(request, address)),
                command=self._command(request, address),
                tags=tags,
            )
            ready = {READY: f"{time.time():.3f}", "iface-status": "active"}
            self._ovsdb.settle_port(request.port, ready)
            self._refuse_dead(request.port)
        except BaseException:
            with suppress(HypervisorError):  # what stays is found and removed later
                self._remove(request.port)
            raise

    def _refuse_dead(self, port: str) -> None:
        """Raises ``TransientError`` when the service has ended already."""
        guest = self._mininet.guests().get(port)
        if guest is not None and guest.problem:
            raise TransientError(guest.problem)

    def _link(self, request: NodeRequest, address: Address) -> Link:
        config = self._config
        return Link(
            address=f"{address}/{config.subnet.prefixlen}",
            gateway=None if config.gateway is None else str(config.gateway),
            loopback=request.addresses,
            rate_bps=config.rate_bps,
        )

    def _command(self, request: NodeRequest, address: Address) -> list[str]:
        """The service's command line; Mininet knows its directory."""
        words = {
            "{name}": request.name,
            "{index}": str(request.index),
            "{address}": str(address),
            "{port}": request.port,
        }
        return [replaced(word, words) for word in self._config.command]

    def _remove(self, port: str) -> None:
        """The port's record goes last: as long as anything is left, it is found by it."""
        self._mininet.remove(port)
        self._ovsdb.delete_port(port)
