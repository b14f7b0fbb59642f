"""Nodes that exist already: a fixed set of ready ones, to allocate from and to give back.

Owns allocations: records in the ``external_ids`` of the nodes' switch ports, which outlive every
process and which all groups and controllers on that switch see. It makes and destroys nothing.

An allocation is recorded before ``on_allocate`` runs, marked as ready after it, and the mark goes
before ``on_release`` runs: whatever was cut short is BROKEN and found again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sncontroller.hypervisors._ovsdb import Ovsdb, PortRecord
from sncontroller.hypervisors._records import replace_tags
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
from sncontroller.lab.programs import MissingError, dies_with_parent, search_path

__all__ = ["Pool", "PoolConfig", "PoolNode"]

PREFIX: Final = "sn-pool-"
TAGS: Final = tuple(
    f"{PREFIX}{key}"
    for key in (
        "controller",
        "group",
        "node",
        "index",
        "mac",
        "address",
        "group-addresses",
        "ready",
    )
)
CONTROLLER, GROUP, NODE, INDEX, MAC, ADDRESS, SERVES, READY = TAGS
ATTEMPTS: Final = 10
_SAID_MAX: Final = 300


class PoolNode(BaseModel):
    """One ready node."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: str = Field(min_length=1, max_length=15, description="Its Open vSwitch port.")
    mac: str = Field(
        pattern="^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$", description="Its interface's address."
    )
    address: IPv4Address | IPv6Address | None = Field(None, description="Its own IP address.")

    @field_validator("mac")
    @classmethod
    def _lower(cls, mac: str) -> str:
        return mac.lower()


class PoolConfig(BaseModel):
    """The plugin's section of a group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[PoolNode, ...] = Field(min_length=1, description="The ready nodes.")
    ovsdb: str | None = Field(
        None, pattern="^(unix|tcp|ssl):", description="OVSDB remote; the system's by default."
    )
    on_allocate: tuple[str, ...] = Field(
        (),
        description="Run for a node before it is used: {name}, {index}, {port}, {mac}, {address} "
        "and {group_addresses} are replaced.",
    )
    on_release: tuple[str, ...] = Field((), description="Run before a node is given back.")
    timeout_s: float = Field(60.0, gt=0, le=600, description="A command is ended after so long.")

    @field_validator("nodes")
    @classmethod
    def _apart(cls, nodes: tuple[PoolNode, ...]) -> tuple[PoolNode, ...]:
        for field in ("port", "mac", "address"):
            values = [getattr(node, field) for node in nodes if getattr(node, field) is not None]
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{field} {', '.join(twice)} stands there twice")
        return nodes


@dataclass(frozen=True, slots=True)
class _Allocation:
    """What the record of one port says, when it is ours."""

    record: PortRecord

    @property
    def name(self) -> str:
        return self.record.tags[NODE]

    def problem(self) -> str:
        """What is wrong with it; empty when nothing is."""
        if READY not in self.record.tags:
            return f"taking port {self.record.name} into use, or out of it, was not finished"
        return "" if self.record.ofport is None else _unusable(self.record)


class Pool:
    """The ``pool`` plugin: ``PoolConfig`` is its section, the module says what it promises."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = PoolConfig

    def __init__(self, config: PoolConfig, owner: Owner) -> None:
        """Serve one group; nothing is asked until the first call."""
        self._config = config
        self._owner = owner
        self._ovsdb = Ovsdb(config.ovsdb)
        self._busy: set[str] = set()
        self._choosing = threading.Lock()
        self._given_back: dict[str, float] = {}

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that a node of the pool is allocated; its port and mac are its own."""
        with _errors(), self._working(request.name):
            self._require_programs()
            for allocation in self._named(request.name):
                if not allocation.problem() and self._index(allocation) == request.index:
                    return self._info(allocation, working=False)
                self._release(allocation)
            with self._choosing:  # between threads here, records settle it between processes
                taken = self._take(request)
            self._prepare(taken)
            return self._info(self._allocation(request.name), working=False)

    def stop_node(self, name: str) -> None:
        """Ensure that the node is given back, after ``on_release``."""
        with _errors(), self._working(name):
            for allocation in self._named(name):
                self._release(allocation)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes that this owner has allocated, whether the section still names them or not."""
        with _errors():
            infos = [self._info(each, each.name in self._busy) for each in self._allocations()]
        return tuple(sorted(infos, key=lambda info: (info.index, info.port)))

    # -- what is allocated -----------------------------------------------------------------------

    def _allocations(self) -> list[_Allocation]:
        records = self._ovsdb.ports().values()
        return [_Allocation(record) for record in records if self._owns(record.tags)]

    def _named(self, name: str) -> list[_Allocation]:
        return [allocation for allocation in self._allocations() if allocation.name == name]

    def _allocation(self, name: str) -> _Allocation:
        for allocation in self._named(name):
            return allocation
        raise TransientError(f"the record of {name} vanished while it was taken into use")

    def _owns(self, tags: Mapping[str, str]) -> bool:
        owner = (self._owner.controller, self._owner.group)
        is_node = NODE in tags and tags.get(INDEX, "").isdecimal()
        return is_node and (tags.get(CONTROLLER), tags.get(GROUP)) == owner

    def _info(self, allocation: _Allocation, working: bool) -> NodeInfo:
        problem, tags = allocation.problem(), allocation.record.tags
        status = NodeStatus.BROKEN if problem else NodeStatus.RUNNING
        return NodeInfo(
            name=allocation.name,
            index=self._index(allocation),
            port=allocation.record.name,
            mac=tags.get(MAC, ""),
            status=NodeStatus.STARTING if working and problem else status,
            detail=problem or f"from the pool: port {allocation.record.name}",
            address=tags.get(ADDRESS, ""),
        )

    def _index(self, allocation: _Allocation) -> int:
        return int(allocation.record.tags[INDEX])

    @contextmanager
    def _working(self, name: str) -> Iterator[None]:
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    # -- taking and giving back ------------------------------------------------------------------

    def _take(self, request: NodeRequest) -> _Allocation:
        """Record the first free node as this one. Raises ``TransientError`` when there is none."""
        for _ in range(ATTEMPTS):
            records = self._ovsdb.ports()
            free = [node for node in self._config.nodes if _is_free(records.get(node.port))]
            if not free:
                raise TransientError(self._exhausted(records))
            # what was given back last may have been bad: the others first
            node = min(free, key=lambda each: self._given_back.get(each.port, 0.0))
            record = records[node.port]
            tags = {**record.tags, **self._tags(request, node)}
            if replace_tags(self._config.ovsdb, record.name, record.tags, tags):
                return self._allocation(request.name)
        raise TransientError(
            f"the pool's ports are changed faster than {request.name} can take one"
        )

    def _tags(self, request: NodeRequest, node: PoolNode) -> dict[str, str]:
        return {
            CONTROLLER: self._owner.controller,
            GROUP: self._owner.group,
            NODE: request.name,
            INDEX: str(request.index),
            MAC: node.mac,
            ADDRESS: "" if node.address is None else str(node.address),
            SERVES: ",".join(request.addresses),
        }

    def _exhausted(self, records: Mapping[str, PortRecord]) -> str:
        known = [records.get(node.port) for node in self._config.nodes]
        used = [record for record in known if record is not None and NODE in record.tags]
        unusable = [
            _unusable(record) if record is not None else f"there is no port {node.port}"
            for node, record in zip(self._config.nodes, known, strict=True)
            if record is None or (NODE not in record.tags and _unusable(record))
        ]
        why = "".join(f"; {reason}" for reason in unusable)
        return f"the pool has no free node: {len(used)} of {len(known)} are in use{why}"

    def _prepare(self, allocation: _Allocation) -> None:
        """Run ``on_allocate`` and mark the allocation as ready, or take it back."""
        try:
            self._run("on_allocate", self._config.on_allocate, allocation)
            self._change(allocation, add={READY: "true"})
        except BaseException:
            with suppress(HypervisorError):  # what stays is listed and given back later
                self._release(allocation)
            raise

    def _release(self, allocation: _Allocation) -> None:
        """The record goes last: until ``on_release`` has worked, nobody else gets the node."""
        self._change(allocation, remove=(READY,))
        self._run("on_release", self._config.on_release, allocation)
        self._change(allocation, remove=TAGS)
        self._given_back[allocation.record.name] = time.monotonic()

    def _change(
        self,
        allocation: _Allocation,
        add: Mapping[str, str] | None = None,
        remove: tuple[str, ...] = (),
    ) -> None:
        """Change the record as long as it is this allocation's; one that is gone is left gone."""
        port = allocation.record.name
        for _ in range(ATTEMPTS):
            record = self._ovsdb.ports().get(port)
            if record is None or not self._owns(record.tags):
                return
            if record.tags[NODE] != allocation.name:
                return
            kept = {key: value for key, value in record.tags.items() if key not in remove}
            after = {**kept, **(add or {})}
            if after == record.tags or replace_tags(self._config.ovsdb, port, record.tags, after):
                return
        raise TransientError(f"the record of port {port} is changed by somebody all the time")

    def _require_programs(self) -> None:
        for what in ("on_allocate", "on_release"):
            command = getattr(self._config, what)
            if command and shutil.which(command[0], path=search_path()) is None:
                raise PermanentError(f"{what}: no program {command[0]!r}")

    def _run(self, what: str, command: tuple[str, ...], allocation: _Allocation) -> None:
        """Run a command of the operator's. It ends with this process."""
        if not command:
            return
        words = [_replaced(word, _words(allocation)) for word in command]
        try:
            done = subprocess.run(
                [*dies_with_parent(), *words],
                env={**os.environ, "PATH": search_path()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._config.timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise TransientError(
                f"{what} for {allocation.name}: not done in {self._config.timeout_s:g} s"
            ) from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-_SAID_MAX:]
            status = f"status {done.returncode}"
            raise TransientError(f"{what} for {allocation.name}: {status}: {said or 'no output'}")


def _is_free(record: PortRecord | None) -> bool:
    return record is not None and NODE not in record.tags and not _unusable(record)


def _unusable(record: PortRecord) -> str:
    """Why a port cannot carry traffic; empty when it can."""
    if record.ofport is None or record.ofport < 0:
        return (
            f"Open vSwitch has not opened port {record.name}: {record.error or 'no reason given'}"
        )
    return f"the link of port {record.name} is down" if record.down else ""


def _words(allocation: _Allocation) -> dict[str, str]:
    tags = allocation.record.tags
    return {
        "{name}": allocation.name,
        "{index}": tags[INDEX],
        "{port}": allocation.record.name,
        "{mac}": tags.get(MAC, ""),
        "{address}": tags.get(ADDRESS, ""),
        "{group_addresses}": tags.get(SERVES, ""),
    }


def _replaced(word: str, words: Mapping[str, str]) -> str:
    for placeholder, value in words.items():
        word = word.replace(placeholder, value)
    return word


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except MissingError as error:
        raise PermanentError(str(error)) from error
    except OSError as error:
        raise TransientError(str(error)) from error
