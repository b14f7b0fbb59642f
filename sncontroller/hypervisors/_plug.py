"""Network namespaces plugged into a bridge, and whose they are: what a node hangs on.

Owns the namespaces, veth pairs and switch ports that carry its owner's tags, and finds all of them
again in any state. The order in which they are made says who owns what at every moment: first the
switch port's record with all tags, then the namespace with its tag, then the interface; the
port's record goes last. What runs inside is its caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import TimeoutExpired
from typing import Final
from urllib.parse import parse_qsl, urlencode

from sncontroller.hypervisors._addresses import Address
from sncontroller.hypervisors._ovsdb import Ovsdb, PortRecord
from sncontroller.hypervisors._plugged_config import PluggedConfig
from sncontroller.hypervisors._tags import BRIDGE, INDEX, MAC, NODE, READY, owned, tags_of
from sncontroller.hypervisors.base import (
    NodeInfo,
    NodeRequest,
    NodeStatus,
    Owner,
    PermanentError,
    TransientError,
)
from sncontroller.lab.namespaces import (
    is_dead_name,
    link_alias,
    links,
    namespace_alias,
    namespaces,
    remove_link,
    remove_namespace,
)
from sncontroller.lab.net import Link, attach_script
from sncontroller.lab.programs import LabError, MissingError, require_root, run_script

ALIAS_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Plug:
    """What exists of one node's port, namespace and interface, all three of one name."""

    port: str
    tags: Mapping[str, str]
    record: PortRecord | None
    namespace: bool
    interface: bool

    @property
    def name(self) -> str:
        """The node's."""
        return self.tags[NODE]

    def problem(self, bridge: str) -> str:
        """What is wrong with it; empty when nothing is."""
        if self.record is None:
            return f"port {self.port} is not on bridge {bridge}"
        if self.tags.get(BRIDGE) != bridge:
            return f"port {self.port} is on bridge {self.tags.get(BRIDGE)}, not {bridge}"
        if not self.namespace:
            return f"namespace {self.port} is missing"
        if not self.interface:
            return f"interface {self.port} is missing"
        if READY not in self.tags:
            return "it was never finished"
        if self.record.ofport is not None and self.record.ofport < 0:
            return f"Open vSwitch cannot open port {self.port}: {self.record.error}"
        return ""

    @property
    def index(self) -> int:
        """The node's index in its group."""
        return int(self.tags[INDEX])

    def info(self, status: NodeStatus, detail: str, address: str = "") -> NodeInfo:
        """The node, with what its caller knows of it."""
        mac = self.tags.get(MAC, "")
        return NodeInfo(self.name, self.index, self.port, mac, status, detail, address)

    def is_for(self, request: NodeRequest) -> bool:
        """Whether port, hardware address and index are the requested ones."""
        mine = (self.port, self.tags.get(MAC), self.tags[INDEX])
        return mine == (request.port, request.mac, str(request.index))


class Plugs:
    """All plugs of one owner."""

    def __init__(self, config: PluggedConfig, owner: Owner) -> None:
        """Serve one group; nothing is touched until the first call."""
        self._config = config
        self._owner = owner
        self.ovsdb = Ovsdb(config.ovsdb)

    def find(self) -> list[Plug]:
        """All that exist, in whatever state."""
        records = self.ovsdb.ports()
        spaces = set(namespaces())
        tags_by_name = {name: record.tags for name, record in records.items()}
        for orphan in spaces - records.keys():
            tags_by_name[orphan] = _tags(namespace_alias(orphan))
        interfaces = set(links())
        return [
            Plug(
                port=name,
                tags=tags,
                record=records.get(name),
                namespace=name in spaces,
                interface=name in interfaces,
            )
            for name, tags in tags_by_name.items()
            if owned(tags, self._owner)
        ]

    def ours(self, request: NodeRequest) -> list[Plug]:
        """What exists of the node. Raises ``PermanentError`` when its port's name is taken."""
        found = self.find()
        ports = {plug.port: plug.name for plug in found}
        if ports.get(request.port, request.name) != request.name:
            raise PermanentError(f"port {request.port} is node {ports[request.port]}'s")
        if request.port not in ports:
            self._refuse_foreign(request.port)
        return [plug for plug in found if plug.name == request.name]

    def record(self, request: NodeRequest) -> None:
        """Record the port with all tags: from here on the node is found."""
        config, tags = self._config, tags_of(self._owner, request, self._config.bridge)
        if len(urlencode(tags)) > ALIAS_MAX:
            raise PermanentError("the names of controller, group and bridge are too long together")
        self.ovsdb.record_port(config.bridge, request.port, tags, config.vlan)

    def make(self, request: NodeRequest, address: Address, rate_bps: int | None) -> None:
        """Make the namespace and its interface, which :meth:`record` has made ours."""
        config = self._config
        link = Link(
            address=f"{address}/{config.subnet.prefixlen}",
            mac=request.mac,
            gateway=None if config.gateway is None else str(config.gateway),
            loopback=request.addresses,
            rate_bps=rate_bps,
            alias=urlencode(tags_of(self._owner, request, config.bridge)),
        )
        run_script(attach_script(request.port, request.port, link))

    def settle(self, port: str, ready_at: float) -> None:
        """Record that the node is finished, and return when the switch has its port open."""
        self.ovsdb.settle_port(port, {READY: f"{ready_at:.3f}", "iface-status": "active"})

    def remove_namespace(self, port: str) -> None:
        """Ensure that the namespace and all that runs in it are gone, if it is ours."""
        if owned(_tags(namespace_alias(port)), self._owner) or is_dead_name(port):
            remove_namespace(port)

    def remove_port(self, port: str) -> None:
        """Ensure that the interface is gone, if it is ours, and then the port's record."""
        if owned(_tags(link_alias(port)), self._owner):
            remove_link(port)
        self.ovsdb.delete_port(port)

    def _refuse_foreign(self, port: str) -> None:
        taken = {
            "switch port": port in self.ovsdb.ports(),
            "network namespace": port in namespaces(),
            "interface": port in links(),
        }
        for what, is_taken in taken.items():
            if is_taken:
                raise PermanentError(f"{what} {port} exists and is not ours: remove it")


def _tags(alias: str) -> dict[str, str]:
    return dict(parse_qsl(alias))


@contextmanager
def machine_errors(plugin: str) -> Iterator[None]:
    """Turn what can go wrong on this machine into the plugin protocol's errors."""
    try:
        require_root(f"the {plugin} plugin")
        yield
    except MissingError as error:
        raise PermanentError(str(error)) from error
    except (LabError, OSError, TimeoutExpired) as error:
        denied = isinstance(error, PermissionError) or "not permitted" in str(error)
        raise (PermanentError if denied else TransientError)(str(error)) from error
