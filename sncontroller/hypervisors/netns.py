"""Nodes that are network namespaces on this machine: one veth on the bridge, one real service.

Owns the processes and directories of nodes; what they hang on is in ``_plug``. A node counts as
made when its port's record says so and a process runs in it, so that one whose making was cut
short is BROKEN, never RUNNING.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar, Final

from pydantic import BaseModel

from sncontroller.hypervisors._addresses import Address
from sncontroller.hypervisors._directory import NodeDirectory
from sncontroller.hypervisors._netns_config import NetnsConfig
from sncontroller.hypervisors._plug import Plug, Plugs, machine_errors
from sncontroller.hypervisors._tags import READY, replaced
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
    namespace_pids,
    pids_with_environment,
    processes_by_namespace,
)
from sncontroller.lab.programs import SCRIPT_TIMEOUT_S, LabError, program, search_path

__all__ = ["ENVIRONMENT_MARK", "Netns", "NetnsConfig"]

ENVIRONMENT_MARK: Final = "SNCONTROLLER_NODE"
SETTLE_S: Final = 0.05

_SERVICE: Final = 'exec >>"$1" 2>&1 </dev/null; cd "$2"; sleep "$3"; shift 3; exec "$@"'


class Netns:
    """The ``netns`` plugin: ``NetnsConfig`` is its section, the module says what it promises."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = NetnsConfig

    def __init__(self, config: NetnsConfig, owner: Owner) -> None:
        """Serve one group; nothing is touched until the first call."""
        self._config = config
        self._owner = owner
        self._plugs = Plugs(config, owner)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the node exists and its service was started; its port is on the bridge."""
        address = self._config.address_of(request.index)
        self._starting.add(request.name)
        try:
            with machine_errors("netns"):
                directory = self._directory(request.name)
                command = self._command(request, address, directory)
                made = self._plugs.ours(request)
                processes = processes_by_namespace()
                if not any(self._is(plug, request, processes) for plug in made):
                    for plug in made:
                        self._remove(plug.port, plug.name)
                    self._make(request, address, directory, command)
        finally:
            self._starting.discard(request.name)
        return self._listed(request)

    def stop_node(self, name: str) -> None:
        """Ensure that the node's processes, namespace, interface, port and directory are gone."""
        with machine_errors("netns"):
            for plug in self._plugs.find():
                if plug.name == name:
                    self._remove(plug.port, name)
            self._directory(name).remove()

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes of this owner, sorted by index; half-made ones are BROKEN and say why."""
        with machine_errors("netns"):
            found, processes = self._plugs.find(), processes_by_namespace()
            nodes = [self._info(plug, processes) for plug in found]
        return tuple(sorted(nodes, key=lambda node: (node.index, node.port)))

    # -- what is there ---------------------------------------------------------------------------

    def _problem(self, plug: Plug, processes: Mapping[str, tuple[int, ...]]) -> str:
        problem = plug.problem(self._config.bridge)
        if problem or processes.get(plug.port):
            return problem
        return f"no process runs in namespace {plug.port}"

    def _is(
        self, plug: Plug, request: NodeRequest, processes: Mapping[str, tuple[int, ...]]
    ) -> bool:
        return plug.is_for(request) and not self._problem(plug, processes)

    def _info(self, plug: Plug, processes: Mapping[str, tuple[int, ...]]) -> NodeInfo:
        problem = self._problem(plug, processes)
        booting = time.time() < float(plug.tags.get(READY, 0))
        if plug.name in self._starting or (booting and not problem):
            status = NodeStatus.STARTING
        else:
            status = NodeStatus.BROKEN if problem else NodeStatus.RUNNING
        address = self._config.known_address(plug.index)
        return plug.info(status, problem or f"namespace {plug.port}", address)

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
        self._plugs.record(request)
        try:
            self._plugs.make(request, address, config.rate_bps)
            directory.make()
            self._plugs.settle(port, time.time() + config.boot_s)
            self._serve(request, directory, command)
        except BaseException:
            with suppress(HypervisorError, LabError):  # what stays is found and removed later
                self._remove(port, request.name)
            raise

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
        command = [replaced(word, words) for word in self._config.command]
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
        self._plugs.remove_namespace(port)
        # when someone else has removed the namespace's name, process and interface live on
        mark = self._process_mark(name)
        end_processes(lambda: pids_with_environment(mark))
        self._directory(name).remove()
        self._plugs.remove_port(port)

    def _process_mark(self, name: str) -> str:
        """The entry in the environment by which a node's processes are known as its own.

        It names the switch, too: another lab on this machine may use the same names on its own.
        """
        return f"{ENVIRONMENT_MARK}={self._whose(name)}@{self._plugs.ovsdb.identity()}"

    def _whose(self, name: str) -> str:
        return f"{self._owner.controller}/{self._owner.group}/{name}"

    def _directory(self, name: str) -> NodeDirectory:
        return NodeDirectory(self._config.workdir, name, self._whose(name))
