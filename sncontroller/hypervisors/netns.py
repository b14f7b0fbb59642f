"""Nodes that are network namespaces on this machine: one veth on the bridge, one real service.

Owns the namespaces, veth pairs, switch ports and processes that carry its owner's tags, and finds
all of them again in any state. The order in which a node is made says who owns what at every
moment: first the switch port's record with all tags, then the namespace with its tag, then the
rest; the port's record goes last. A node counts as made when its record says so and a process runs
in it, so that one whose making was cut short is BROKEN, never RUNNING.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel

from sncontroller.hypervisors._directory import NodeDirectory
from sncontroller.hypervisors._netns_config import Address, NetnsConfig
from sncontroller.hypervisors._ovsdb import Ovsdb, PortRecord
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
from sncontroller.lab.namespaces import (
    end_processes,
    is_dead_name,
    link_alias,
    links,
    namespace_alias,
    namespace_pids,
    namespaces,
    pids_with_environment,
    processes_by_namespace,
    remove_link,
    remove_namespace,
)
from sncontroller.lab.net import Link, attach_script
from sncontroller.lab.programs import (
    SCRIPT_TIMEOUT_S,
    LabError,
    MissingError,
    program,
    require_root,
    run_script,
    search_path,
)

__all__ = ["ENVIRONMENT_MARK", "Netns", "NetnsConfig"]

ALIAS_MAX: Final = 255
ENVIRONMENT_MARK: Final = "SNCONTROLLER_NODE"
SETTLE_S: Final = 0.05

CONTROLLER, GROUP, NODE, INDEX = "sn-controller", "sn-group", "sn-node", "sn-index"
BRIDGE, MAC, READY = "sn-bridge", "attached-mac", "sn-ready-at"

_SERVICE: Final = 'exec >>"$1" 2>&1 </dev/null; cd "$2"; sleep "$3"; shift 3; exec "$@"'


@dataclass(frozen=True, slots=True)
class _Found:
    """What exists of one node."""

    port: str
    tags: Mapping[str, str]
    record: PortRecord | None
    namespace: bool
    interface: bool
    processes: int

    @property
    def name(self) -> str:
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
        return "" if self.processes else f"no process runs in namespace {self.port}"


class Netns:
    """The ``netns`` plugin: ``NetnsConfig`` is its section, the module says what it promises."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = NetnsConfig

    def __init__(self, config: NetnsConfig, owner: Owner) -> None:
        """Serve one group; nothing is touched until the first call."""
        self._config = config
        self._owner = owner
        self._ovsdb = Ovsdb(config.ovsdb)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the node exists and its service was started; its port is on the bridge."""
        address = self._config.address_of(request.index)
        self._starting.add(request.name)
        try:
            with _errors():
                directory = self._directory(request.name)
                command = self._command(request, address, directory)
                made = self._ours(request)
                if not any(self._is(node, request) for node in made):
                    for node in made:
                        self._remove(node.port, node.name)
                    self._make(request, address, directory, command)
        finally:
            self._starting.discard(request.name)
        return self._listed(request)

    def stop_node(self, name: str) -> None:
        """Ensure that the node's processes, namespace, interface, port and directory are gone."""
        with _errors():
            for node in self._find():
                if node.name == name:
                    self._remove(node.port, name)
            self._directory(name).remove()

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes of this owner, sorted by index; half-made ones are BROKEN and say why."""
        with _errors():
            nodes = [self._info(node) for node in self._find()]
        return tuple(sorted(nodes, key=lambda node: (node.index, node.port)))

    # -- what is there ---------------------------------------------------------------------------

    def _find(self) -> list[_Found]:
        records = self._ovsdb.ports()
        spaces = set(namespaces())
        processes = processes_by_namespace()
        tags_of = {name: record.tags for name, record in records.items()}
        for orphan in spaces - records.keys():
            tags_of[orphan] = _tags(namespace_alias(orphan))
        interfaces = set(links())
        return [
            _Found(
                port=name,
                tags=tags,
                record=records.get(name),
                namespace=name in spaces,
                interface=name in interfaces,
                processes=len(processes.get(name, ())),
            )
            for name, tags in tags_of.items()
            if self._owns(tags)
        ]

    def _ours(self, request: NodeRequest) -> list[_Found]:
        """What exists of the node. Raises ``PermanentError`` when its port's name is taken."""
        found = self._find()
        ports = {node.port: node.name for node in found}
        if ports.get(request.port, request.name) != request.name:
            raise PermanentError(f"port {request.port} is node {ports[request.port]}'s")
        if request.port not in ports:
            self._refuse_foreign(request.port)
        return [node for node in found if node.name == request.name]

    def _refuse_foreign(self, port: str) -> None:
        taken = {
            "switch port": port in self._ovsdb.ports(),
            "network namespace": port in namespaces(),
            "interface": port in links(),
        }
        for what, is_taken in taken.items():
            if is_taken:
                raise PermanentError(f"{what} {port} exists and is not ours: remove it")

    def _owns(self, tags: Mapping[str, str]) -> bool:
        """Someone else's mutilation of the tags makes a thing foreign: it is left alone."""
        owner = (self._owner.controller, self._owner.group)
        is_node = NODE in tags and tags.get(INDEX, "").isdecimal()
        return is_node and (tags.get(CONTROLLER), tags.get(GROUP)) == owner

    def _is(self, node: _Found, request: NodeRequest) -> bool:
        info = self._info(node)
        same = (info.port, info.mac, info.index) == (request.port, request.mac, request.index)
        return same and not node.problem(self._config.bridge)

    def _info(self, node: _Found) -> NodeInfo:
        problem = node.problem(self._config.bridge)
        booting = time.time() < float(node.tags.get(READY, 0))
        if node.name in self._starting or (booting and not problem):
            status = NodeStatus.STARTING
        else:
            status = NodeStatus.BROKEN if problem else NodeStatus.RUNNING
        return NodeInfo(
            name=node.name,
            index=int(node.tags[INDEX]),
            port=node.port,
            mac=node.tags.get(MAC, ""),
            status=status,
            detail=problem or f"namespace {node.port}",
            address=self._config.known_address(int(node.tags[INDEX])),
        )

    def _listed(self, request: NodeRequest) -> NodeInfo:
        for node in self.list_nodes():
            if node.name == request.name:
                return node
        raise TransientError(f"{request.name} vanished while it was started")

    # -- making and removing ---------------------------------------------------------------------

    def _make(
        self, request: NodeRequest, address: Address, directory: NodeDirectory, command: list[str]
    ) -> None:
        config, port = self._config, request.port
        tags = self._tags(request)
        self._ovsdb.record_port(config.bridge, port, tags, config.vlan)
        try:
            run_script(attach_script(port, port, self._link(request, address, tags)))
            directory.make()
            ready_at = f"{time.time() + config.boot_s:.3f}"
            self._ovsdb.settle_port(port, {READY: ready_at, "iface-status": "active"})
            self._serve(request, directory, command)
        except BaseException:
            with suppress(HypervisorError, LabError):  # what stays is found and removed later
                self._remove(port, request.name)
            raise

    def _tags(self, request: NodeRequest) -> dict[str, str]:
        tags = {
            CONTROLLER: self._owner.controller,
            GROUP: self._owner.group,
            NODE: request.name,
            INDEX: str(request.index),
            BRIDGE: self._config.bridge,
            MAC: request.mac,
        }
        if len(urlencode(tags)) > ALIAS_MAX:
            raise PermanentError("the names of controller, group and bridge are too long together")
        return tags

    def _link(self, request: NodeRequest, address: Address, tags: Mapping[str, str]) -> Link:
        config = self._config
        return Link(
            address=f"{address}/{config.subnet.prefixlen}",
            mac=request.mac,
            gateway=None if config.gateway is None else str(config.gateway),
            loopback=request.addresses,
            rate_bps=config.rate_bps,
            alias=urlencode(tags),
        )

    def _command(
        self, request: NodeRequest, address: Address, directory: NodeDirectory
    ) -> list[str]:
        """The service's command line. Raises ``PermanentError`` when there is no such program."""
        words = {
            "{name}": request.name,
            "{index}": str(request.index),
            "{address}": str(address),
            "{port}": request.port,
            "{directory}": str(directory.path),
        }
        command = [_replaced(word, words) for word in self._config.command]
        path = self._config.environment.get("PATH", search_path())
        found = shutil.which(command[0], path=path)
        if found is None:
            raise PermanentError(f"command: no program {command[0]!r}")
        return [os.path.abspath(found), *command[1:]]

    def _serve(self, request: NodeRequest, directory: NodeDirectory, command: list[str]) -> None:
        """Start the service, which outlives this process. Raises ``TransientError``."""
        port = request.port
        mark, _, whose = self._process_mark(request.name).partition("=")
        boot = f"{self._config.boot_s:.3f}"
        service = ["sh", "-c", _SERVICE, "sn-node", directory.log, directory.path, boot, *command]
        done = subprocess.run(
            [program("ip"), "netns", "exec", port, "setsid", "--fork", *service],
            env={**os.environ, **self._config.environment, mark: whose},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SCRIPT_TIMEOUT_S,
        )
        time.sleep(SETTLE_S)
        if done.returncode != 0 or not namespace_pids(port):
            said = done.stderr.strip() or directory.log_tail() or "it said nothing"
            raise TransientError(f"{' '.join(command)} ended at once: {said}")

    def _remove(self, port: str, name: str) -> None:
        """The port's record goes last: as long as anything is left, it is found by it."""
        if self._owns(_tags(namespace_alias(port))) or is_dead_name(port):
            remove_namespace(port)
        # when someone else has removed the namespace's name, process and interface live on
        mark = self._process_mark(name)
        end_processes(lambda: pids_with_environment(mark))
        if self._owns(_tags(link_alias(port))):
            remove_link(port)
        self._directory(name).remove()
        self._ovsdb.delete_port(port)

    def _process_mark(self, name: str) -> str:
        """The entry in the environment by which a node's processes are known as its own.

        It names the switch, too: another lab on this machine may use the same names on its own.
        """
        return f"{ENVIRONMENT_MARK}={self._whose(name)}@{self._ovsdb.identity()}"

    def _whose(self, name: str) -> str:
        return f"{self._owner.controller}/{self._owner.group}/{name}"

    def _directory(self, name: str) -> NodeDirectory:
        return NodeDirectory(self._config.workdir, name, self._whose(name))


def _tags(alias: str) -> dict[str, str]:
    return dict(parse_qsl(alias))


def _replaced(word: str, words: Mapping[str, str]) -> str:
    for placeholder, value in words.items():
        word = word.replace(placeholder, value)
    return word


@contextmanager
def _errors() -> Iterator[None]:
    """Turn what can go wrong on this machine into the plugin protocol's errors."""
    try:
        require_root("the netns plugin")
        yield
    except MissingError as error:
        raise PermanentError(str(error)) from error
    except (LabError, OSError, subprocess.TimeoutExpired) as error:
        denied = isinstance(error, PermissionError) or "not permitted" in str(error)
        raise (PermanentError if denied else TransientError)(str(error)) from error
