"""Nodes that are servers of an OpenStack cloud, on Neutron ports with the hardware address we give.

Owns the ports whose description, and the servers whose metadata, carry its owner's tags; both are
written by the request that makes the object. A node's port is the first thing made and the last one
removed. Neutron has one port per network and hardware address: that makes the port the node's key,
also for a request of a killed controller that arrives late. A second server of a node, which such a
request can make, cannot have the port; it is removed with the node's next start or stop.

It was run against a stand-in of the API, not on a cloud: ``docs/plugins.md``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from pydantic import BaseModel

from sncontroller.hypervisors._openstack_cloud import Cloud, ConflictError, Port, Server
from sncontroller.hypervisors._openstack_config import OpenStackConfig
from sncontroller.hypervisors._ovsdb import Ovsdb
from sncontroller.hypervisors._ownership import Ownership, ownership
from sncontroller.hypervisors._waiting import moments
from sncontroller.hypervisors._words import replaced
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
from sncontroller.lab.programs import MissingError

__all__ = ["OpenStack", "OpenStackConfig"]

CONTROLLER, GROUP, NODE, INDEX = (
    f"sncontroller-{key}" for key in ("controller", "group", "node", "index")
)
PORT_NAME_MAX: Final = 14
"""Nova names a server's interface after its port's id, cut to this length."""

_STATUS: Final = {
    "ACTIVE": NodeStatus.RUNNING,
    "BUILD": NodeStatus.STARTING,
    "REBOOT": NodeStatus.STARTING,
    "HARD_REBOOT": NodeStatus.STARTING,
    "REBUILD": NodeStatus.STARTING,
    "MIGRATING": NodeStatus.RUNNING,
    "PASSWORD": NodeStatus.RUNNING,
}
"""A server in any other state does not come up by itself."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What there is of one node."""

    tags: Ownership
    ports: tuple[Port, ...]
    """The first is the node's; there are more when the group's network was changed meanwhile."""
    server: Server | None
    surplus: tuple[Server, ...]
    """Servers of this node that do not have its port."""

    @property
    def port(self) -> Port | None:
        """The node's port."""
        return self.ports[0] if self.ports else None


class OpenStack:
    """The ``openstack`` plugin: ``OpenStackConfig`` is its section."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = OpenStackConfig

    def __init__(self, config: OpenStackConfig, owner: Owner) -> None:
        """Serve one group; nothing is asked until the first call."""
        self._config = config
        self._owner = owner
        self._cloud = Cloud(config.cloud, config.clouds_file, config.timeout_s)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the server is active; its port is on the bridge."""
        address = self._config.address_of(request.index)
        self._starting.add(request.name)
        try:
            with _errors():
                found = self._nodes(request.name)
                if not (found and self._is(found[0], request)):
                    for node in found:
                        self._remove(node)
                    self._make(request, address)
                return self._until_active(request)
        finally:
            self._starting.discard(request.name)

    def stop_node(self, name: str) -> None:
        """Ensure that the server and its port are gone."""
        with _errors():
            for node in self._nodes(name):
                self._remove(node)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes of this owner, sorted by index."""
        with _errors():
            nodes = self._nodes()
            ports = self._switch_ports() if nodes else {}
            return tuple(self._info(node, ports) for node in nodes)

    # -- what is there ---------------------------------------------------------------------------

    def _nodes(self, name: str | None = None) -> tuple[_Node, ...]:
        """The nodes of this owner, or the one of this name, sorted by index."""
        servers = self._servers(name)  # before the ports: an active one has its port already
        found = self._cloud.ports(None if name is None else self._title(name))
        ports = [(port, ownership(port.description)) for port in found]
        ours = [(port, tags) for port, tags in ports if tags and tags.owner == self._owner]
        # a port's tags say more than a server's
        names = {tags.name: tags for tags in (*(t for t, _ in servers), *(t for _, t in ours))}
        nodes = (
            _node(
                tags,
                [port for port, of in ours if of.name == tags.name],
                [server for of, server in servers if of.name == tags.name],
            )
            for tags in names.values()
            if name in (None, tags.name)
        )
        return tuple(sorted(nodes, key=lambda node: node.tags.index))

    def _servers(self, name: str | None) -> list[tuple[Ownership, Server]]:
        """All servers with this owner's tags. Names only narrow down what Nova sends."""
        title = self._title(name or "").replace(".", "[.]")
        found = self._cloud.servers(f"^{title}{'' if name is None else '$'}")
        tagged = ((_tags(server), server) for server in found)
        return [(tags, server) for tags, server in tagged if tags and tags.owner == self._owner]

    def _title(self, node: str) -> str:
        """The name of a node's objects: two controllers may have a ``web-2`` each."""
        return f"{self._owner.controller}.{node}"

    def _switch_ports(self) -> dict[str, str] | None:
        """The switch's ports by their Neutron port's id, ``None`` when there is none to ask."""
        if self._config.ovsdb is None:
            return None
        records = Ovsdb(self._config.ovsdb).ports().values()
        return {
            record.tags["iface-id"]: record.name
            for record in records
            if "iface-id" in record.tags and (record.ofport or 0) > 0
        }

    def _is(self, node: _Node, request: NodeRequest) -> bool:
        """Whether it is that node, running or on its way."""
        made = node.port is not None and node.port.mac == request.mac.lower()
        status, _ = self._seen(node, self._switch_ports())
        return made and node.tags.index == request.index and status is not NodeStatus.BROKEN

    def _seen(self, node: _Node, ports: dict[str, str] | None) -> tuple[NodeStatus, str]:
        """What cloud and switch say of a node, and that in words."""
        status, detail = _state(node)
        if status is NodeStatus.RUNNING and not self._switch_port(node, ports):
            return NodeStatus.BROKEN, f"{detail}, and its port is not on the switch"
        return status, detail

    def _info(self, node: _Node, ports: dict[str, str] | None) -> NodeInfo:
        status, detail = self._seen(node, ports)
        if status is NodeStatus.BROKEN and node.tags.name in self._starting:
            status = NodeStatus.STARTING
        if node.surplus:
            detail += f"; to be deleted: {', '.join(server.id for server in node.surplus)}"
        return NodeInfo(
            name=node.tags.name,
            index=node.tags.index,
            port=self._switch_port(node, ports),
            mac=node.port.mac if node.port else node.tags.mac,
            status=status,
            detail=detail,
        )

    def _switch_port(self, node: _Node, ports: dict[str, str] | None) -> str:
        """The name of the node's port on the switch, empty when it is not there."""
        if node.port is None:
            return ""
        if ports is None:
            return f"{self._config.port_prefix}{node.port.id}"[:PORT_NAME_MAX]
        return ports.get(node.port.id, "")

    # -- making and removing ---------------------------------------------------------------------

    def _make(self, request: NodeRequest, address: str) -> None:
        """Port and server; what a failure leaves is removed."""
        attributes = self._server_attributes()
        port = self._make_port(request, address)
        try:
            self._cloud.create_server(
                **attributes,
                **self._user_data(request, address or port.address),
                name=self._title(request.name),
                networks=[{"port": port.id}],
                metadata=self._metadata(request),
            )
        except PermanentError as error:
            if not self._is_free(port):
                raise TransientError(f"another start of {request.name} is under way") from error
            self._give_up(port)
            raise
        except BaseException:
            self._give_up(port)
            raise

    def _is_free(self, port: Port) -> bool:
        """Whether the port is still there, and no server has it."""
        return any(found.id == port.id and not found.server for found in self._cloud.ports())

    def _give_up(self, port: Port) -> None:
        with suppress(HypervisorError):  # what stays is listed
            self._cloud.delete_port(port.id)

    def _make_port(self, request: NodeRequest, address: str) -> Port:
        attributes: dict[str, Any] = {
            "network_id": self._cloud.network(self._config.network),
            "name": self._title(request.name),
            "description": Ownership.of(self._owner, request).text(),
            "mac_address": request.mac,
        }
        config = self._config
        if address:
            attributes["fixed_ips"] = [{"ip_address": address}]
        if config.port_security:
            attributes["allowed_address_pairs"] = [{"ip_address": a} for a in request.addresses]
        else:
            attributes["port_security_enabled"] = False
            attributes["security_groups"] = []
        if config.security_groups is not None:
            groups = [self._cloud.security_group(name) for name in config.security_groups]
            attributes["security_groups"] = groups
        try:
            return self._cloud.create_port(**attributes)
        except ConflictError as error:
            if self._is_foreign(request.mac, address):
                raise
            raise TransientError(f"{error}: another start of it may be under way") from error

    def _is_foreign(self, mac: str, address: str) -> bool:
        """Whether a port that is not ours, and that we may see, has one of these."""
        for port in self._cloud.ports():
            tags = ownership(port.description)
            is_ours = tags is not None and tags.owner == self._owner
            if not is_ours and (port.mac == mac.lower() or port.address == (address or None)):
                return True
        return False

    def _server_attributes(self) -> dict[str, Any]:
        """What all servers have in common; names become ids."""
        config = self._config
        attributes: dict[str, Any] = {
            "image_id": self._cloud.image(config.image),
            "flavor_id": self._cloud.flavor(config.flavor),
        }
        if config.key_name is not None:
            attributes["key_name"] = config.key_name
        if config.availability_zone is not None:
            attributes["availability_zone"] = config.availability_zone
        if config.server_group is not None:
            group = self._cloud.server_group(config.server_group)
            attributes["scheduler_hints"] = {"group": group}
        if config.config_drive:
            attributes["config_drive"] = True
        return attributes

    def _user_data(self, request: NodeRequest, address: str) -> dict[str, str]:
        file = self._config.user_data
        if file is None:
            return {}
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise PermanentError(f"user_data {file}: {error.strerror}") from error
        return {"user_data": base64.b64encode(replaced(text, request, address).encode()).decode()}

    def _metadata(self, request: NodeRequest) -> dict[str, str]:
        return {
            CONTROLLER: self._owner.controller,
            GROUP: self._owner.group,
            NODE: request.name,
            INDEX: str(request.index),
        }

    def _until_active(self, request: NodeRequest) -> NodeInfo:
        """The node as soon as it runs; one that does not come up in time is removed."""
        for _ in moments(self._config.wait_s):
            found = self._nodes(request.name)
            if not found:
                raise TransientError(f"{request.name} vanished while it was started")
            status, detail = _state(found[0])
            if status is NodeStatus.BROKEN:
                break
            info = self._info(replace(found[0], surplus=()), self._switch_ports())
            if info.status is NodeStatus.RUNNING:
                self._delete(server.id for server in found[0].surplus)
                return info
            detail = info.detail
        else:
            detail = f"{detail} after {self._config.wait_s:g} s"
        with suppress(HypervisorError):  # what stays is listed
            self._remove(found[0])
        raise TransientError(f"{request.name}: {detail}")

    def _remove(self, node: _Node) -> None:
        """The port goes last: as long as anything is left, the node is found by it."""
        servers = (*node.surplus, *([node.server] if node.server else ()))
        self._delete(server.id for server in servers)
        for port in node.ports:
            self._cloud.delete_port(port.id)

    def _delete(self, servers: Iterable[str]) -> None:
        """Delete servers and wait until they are gone. Raises ``TransientError``."""
        left = list(servers)
        for server in left:
            self._cloud.delete_server(server)
        for _ in moments(self._config.wait_s):
            left = [server for server in left if self._cloud.server(server) is not None]
            if not left:
                return
        raise TransientError(
            f"server {', '.join(left)} is not gone {self._config.wait_s:g} s after its deletion"
        )


def _node(tags: Ownership, ports: list[Port], servers: list[Server]) -> _Node:
    """The node that these make up: port and server that have each other, else the best ones."""
    ids = {server.id for server in servers}
    plugged_first = tuple(sorted(ports, key=lambda port: (port.server not in ids, port.id)))
    taken = {port.server for port in plugged_first[:1]}
    best_first = sorted(
        servers,
        key=lambda one: (one.id not in taken, one.status not in _STATUS, one.created, one.id),
    )
    return _Node(tags, plugged_first, next(iter(best_first), None), tuple(best_first[1:]))


def _state(node: _Node) -> tuple[NodeStatus, str]:
    """What the cloud says of a node, and that in words."""
    if node.server is None:
        return NodeStatus.BROKEN, f"port {node.port.id if node.port else ''} has no server"
    title = f"server {node.server.id}"
    if node.port is None:
        return NodeStatus.BROKEN, f"{title} has lost its port"
    if node.server.deleting:
        return NodeStatus.BROKEN, f"{title} is being deleted"
    status = _STATUS.get(node.server.status, NodeStatus.BROKEN)
    if status is NodeStatus.RUNNING:
        if node.port.server != node.server.id:
            return NodeStatus.BROKEN, f"{title} does not have port {node.port.id}"
        return status, title
    fault = f": {node.server.fault}" if node.server.fault else ""
    return status, f"{title} is {node.server.status}{fault}"


def _tags(server: Server) -> Ownership | None:
    said = server.metadata
    try:
        return Ownership(Owner(said[CONTROLLER], said[GROUP]), said[NODE], int(said[INDEX]), "")
    except (KeyError, ValueError):
        return None


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except MissingError as error:
        raise PermanentError(str(error)) from error
    except OSError as error:
        raise TransientError(str(error)) from error
