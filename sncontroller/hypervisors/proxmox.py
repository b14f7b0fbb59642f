"""Nodes that are VMs of a Proxmox VE cluster: linked clones of a template, on an OVS bridge.

Owns the VMs in its range of numbers whose description carries its owner's tags. The description is
written by the clone's own task, so no VM is ours without saying so. A node's number follows from
its index: Proxmox itself then refuses a second VM of a node, also when the first request comes from
a controller that was killed, and there is no number to allocate in a race.

It was run against a stand-in of the API, not on a cluster: ``docs/plugins.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sncontroller.hypervisors import _addresses
from sncontroller.hypervisors._ovsdb import Ovsdb
from sncontroller.hypervisors._ownership import Ownership, ownership
from sncontroller.hypervisors._proxmox_api import AbsentError, Api, TakenError, Vm
from sncontroller.hypervisors._waiting import moments
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

__all__ = ["Proxmox", "ProxmoxConfig"]

_UP: Final = {"running": NodeStatus.RUNNING, "prelaunch": NodeStatus.STARTING}
"""What QEMU says of a VM that serves, or that another start has just made."""
VMID_MIN: Final = 100
VMID_MAX: Final = 999_999_999


class ProxmoxConfig(BaseModel):
    """The plugin's section of a group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern="^https?://[^/?#]+/?$", description="A host's API: https://pve1:8006.")
    token_file: Path = Field(description="File with the API token: USER@REALM!ID=SECRET.")
    ca_file: Path | None = Field(
        None, description="Certificates that the server's is checked with; the system's by default."
    )
    host: str = Field(
        pattern="^[A-Za-z0-9-]+$", description="Proxmox node with the template and the bridge."
    )
    template: int = Field(ge=VMID_MIN, le=VMID_MAX, description="Number of the template.")
    vmids: str = Field(
        pattern="^[0-9]+-[0-9]+$",
        description="Numbers that are this group's alone, FIRST-LAST: index 2 has the first.",
    )
    bridge: str = Field(min_length=1, max_length=10, description="OVS bridge of that host.")
    vlan: int | None = Field(None, ge=1, le=4094, description="VLAN of the VMs' ports.")
    firewall: bool = Field(False, description="Whether Proxmox' firewall stands before the VM.")
    cores: int | None = Field(None, ge=1, description="Processors; the template's by default.")
    memory_mib: int | None = Field(None, ge=16, description="Memory; the template's by default.")
    subnet: IPv4Network | None = Field(None, description="Network of the nodes' own addresses.")
    addresses: str | None = Field(
        None,
        pattern=_addresses.PATTERN,
        description="Own addresses, FIRST-LAST, by cloud-init: index 2 has the first.",
    )
    gateway: IPv4Address | None = Field(None, description="Default gateway, by cloud-init.")
    pool: str | None = Field(None, min_length=1, description="Resource pool of the VMs.")
    shutdown_s: int = Field(
        0, ge=0, le=600, description="A node may shut down for so long; 0 is the power switch."
    )
    ovsdb: str | None = Field(
        None,
        pattern="^(unix|tcp|ssl):",
        description="OVSDB remote of the host's switch: a node whose port is gone is found.",
    )
    timeout_s: float = Field(30.0, gt=0, le=600, description="Each request must end in this time.")
    wait_s: float = Field(300.0, gt=0, le=3600, description="So must each task.")

    @model_validator(mode="after")
    def _fits(self) -> ProxmoxConfig:
        first, last = self.range
        if not VMID_MIN <= first <= last <= VMID_MAX:
            raise ValueError(f"vmids {self.vmids} must be FIRST-LAST, from {VMID_MIN}")
        if first <= self.template <= last:
            raise ValueError(f"vmids {self.vmids} must not have the template's, {self.template}")
        if (self.subnet is None) != (self.addresses is None):
            raise ValueError("subnet and addresses must both be there, or none of them")
        if self.gateway is not None and self.subnet is None:
            raise ValueError("gateway needs subnet and addresses")
        if self.subnet is not None and self.addresses is not None:
            own = _addresses.Range.parse(self.addresses)
            for address in (own.first, own.last, *([self.gateway] if self.gateway else [])):
                if address not in self.subnet:
                    raise ValueError(f"{address} is not in subnet {self.subnet}")
        return self

    @property
    def range(self) -> tuple[int, int]:
        """First and last number."""
        first, _, last = self.vmids.partition("-")
        return int(first), int(last)

    def vmid_of(self, index: int) -> int:
        """The number of the node of this index. Raises ``PermanentError`` when there is none."""
        first, last = self.range
        vmid = first + index - _addresses.FIRST_INDEX
        if index < _addresses.FIRST_INDEX or vmid > last:
            raise PermanentError(f"vmids {self.vmids} have none for index {index}: widen them")
        return vmid

    def address_of(self, index: int) -> IPv4Interface | None:
        """Own address of the node of this index, with its network."""
        if self.addresses is None or self.subnet is None:
            return None
        address = _addresses.Range.parse(self.addresses).of(index)
        return IPv4Interface(f"{address}/{self.subnet.prefixlen}")


class Proxmox:
    """The ``proxmox`` plugin: ``ProxmoxConfig`` is its section."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = ProxmoxConfig

    def __init__(self, config: ProxmoxConfig, owner: Owner) -> None:
        """Serve one group; nothing is asked until the first call."""
        self._config = config
        self._owner = owner
        self._api = Api(config.url, config.token_file, config.ca_file, config.timeout_s)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the VM runs; its port is on the bridge."""
        vmid = self._config.vmid_of(request.index)
        settings = self._settings(request)
        self._starting.add(request.name)
        try:
            with _errors():
                found = self._settled(vmid)
                if found is not None and not self._can_go_on(found, request):
                    self._remove(found)
                    found = None
                if found is None:
                    self._clone(request, vmid)
                if found is None or found.status not in _UP:
                    self._run(vmid, settings)
                return self._made(vmid)
        finally:
            self._starting.discard(request.name)

    def stop_node(self, name: str) -> None:
        """Ensure that the VM and its disks are gone."""
        with _errors():
            for vm, tags in self._nodes():
                if tags.name == name:
                    settled = self._settled(vm.vmid)
                    if settled is not None and ownership(settled.description) == tags:
                        self._remove(settled)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All VMs of this owner, sorted by index; those that do not run are BROKEN."""
        with _errors():
            nodes = self._nodes()
            ports = self._switch_ports() if nodes else None
            infos = (self._info(vm, tags, ports) for vm, tags in nodes)
            return tuple(sorted(infos, key=lambda info: info.index))

    # -- what is there ---------------------------------------------------------------------------

    def _nodes(self) -> list[tuple[Vm, Ownership]]:
        """The VMs in our range that carry our tags."""
        first, last = self._config.range
        hosts = self._api.hosts()
        found = [self._api.vm(hosts[vmid], vmid) for vmid in hosts if first <= vmid <= last]
        tagged = [(vm, ownership(vm.description)) for vm in found if vm is not None]
        return [(vm, tags) for vm, tags in tagged if tags and tags.owner == self._owner]

    def _find(self, vmid: int) -> Vm | None:
        """The VM of this number, wherever it is."""
        host = self._api.hosts().get(vmid)
        return None if host is None else self._api.vm(host, vmid)

    def _settled(self, vmid: int) -> Vm | None:
        """The VM, when nothing is being done with it any more; a killed start's clone goes on."""
        lock = ""
        for _ in moments(self._config.wait_s):
            found = self._find(vmid)
            if found is None or not found.lock:
                return found
            lock = found.lock
        raise TransientError(
            f"VM {vmid} is locked ({lock}) since {self._config.wait_s:g} s: wait for what "
            f"does it, or run qm unlock {vmid}"
        )

    def _can_go_on(self, vm: Vm, request: NodeRequest) -> bool:
        """Whether it is that node, running or never started. ``PermanentError`` if not ours."""
        tags = ownership(vm.description)
        if tags is None or tags.owner != self._owner:
            raise PermanentError(
                f"VM {vm.vmid} exists and is not ours: remove it or give the group other vmids"
            )
        if tags != Ownership.of(self._owner, request):
            return False
        is_configured = request.mac.lower() in vm.net0.lower()
        if vm.status in _UP:
            return is_configured and self._is_plugged(vm, self._switch_ports())
        return vm.status == "stopped" and not is_configured

    def _switch_ports(self) -> frozenset[str] | None:
        """Names of the switch's ports, ``None`` when there is no switch to ask."""
        if self._config.ovsdb is None:
            return None
        records = Ovsdb(self._config.ovsdb).ports().values()
        return frozenset(record.name for record in records if (record.ofport or 0) > 0)

    def _is_plugged(self, vm: Vm, ports: frozenset[str] | None) -> bool:
        return ports is None or self._port(vm.vmid) in ports

    def _port(self, vmid: int) -> str:
        """Proxmox' name for the port of net0 on an OVS bridge (PVE::Network)."""
        return f"fwln{vmid}o0" if self._config.firewall else f"tap{vmid}i0"

    def _info(self, vm: Vm, tags: Ownership, ports: frozenset[str] | None) -> NodeInfo:
        detail = f"VM {vm.vmid} on {vm.host}"
        status = NodeStatus.BROKEN if vm.lock else _UP.get(vm.status, NodeStatus.BROKEN)
        if status is not NodeStatus.RUNNING:
            detail += f" is {vm.status}" + (f", locked ({vm.lock})" if vm.lock else "")
        elif not self._is_plugged(vm, ports):
            status, detail = NodeStatus.BROKEN, f"{detail} has no port {self._port(vm.vmid)}"
        if status is NodeStatus.BROKEN and tags.name in self._starting:
            status = NodeStatus.STARTING
        return NodeInfo(tags.name, tags.index, self._port(vm.vmid), tags.mac, status, detail)

    def _made(self, vmid: int) -> NodeInfo:
        """The node as it is after its start."""
        for vm, tags in self._nodes():
            if vm.vmid == vmid:
                return self._info(vm, tags, self._switch_ports())
        raise TransientError(f"VM {vmid} vanished while it was started")

    # -- making and removing ---------------------------------------------------------------------

    def _clone(self, request: NodeRequest, vmid: int) -> None:
        config = self._config
        pool = {} if config.pool is None else {"pool": config.pool}
        name = re.sub("[^a-zA-Z0-9.-]", "-", f"{self._owner.controller}.{request.name}")
        description = Ownership.of(self._owner, request).text()
        try:
            task = self._api.clone(
                config.host, config.template, vmid, name=name, description=description, **pool
            )
            self._finish(task)
        except TakenError as error:
            made = self._find(vmid)
            tags = None if made is None else ownership(made.description)
            if made is None or made.lock or (tags and tags.owner == self._owner):
                raise TransientError(f"another start of {request.name} is under way") from error
            raise

    def _run(self, vmid: int, settings: dict[str, str]) -> None:
        """Configure and start the clone; what fails is removed."""
        try:
            self._api.configure(self._config.host, vmid, **settings)
            self._start(vmid)
        except BaseException:
            with suppress(HypervisorError):  # what stays is listed
                if (made := self._find(vmid)) is not None and not made.lock:
                    self._remove(made)
            raise

    def _start(self, vmid: int) -> None:
        try:
            self._finish(self._api.start(self._config.host, vmid))
        except TransientError as error:
            if "already running" not in str(error):
                raise

    def _settings(self, request: NodeRequest) -> dict[str, str]:
        """What the clone gets that the template does not have."""
        config = self._config
        vlan = "" if config.vlan is None else f",tag={config.vlan}"
        owner = f"sn-controller-{self._owner.controller};sn-group-{self._owner.group}"
        settings = {
            "net0": f"virtio={request.mac.upper()},bridge={config.bridge},"
            f"firewall={int(config.firewall)}{vlan}",
            "tags": f"sncontroller;{owner}".lower(),
        }
        if (address := config.address_of(request.index)) is not None:
            gateway = "" if config.gateway is None else f",gw={config.gateway}"
            settings["ipconfig0"] = f"ip={address}{gateway}"
        if config.cores is not None:
            settings["cores"] = str(config.cores)
        if config.memory_mib is not None:
            settings["memory"] = str(config.memory_mib)
        return settings

    def _remove(self, vm: Vm) -> None:
        """The configuration, which carries the tags, is what Proxmox removes last."""
        with suppress(AbsentError):
            if vm.status != "stopped":
                patience_s = self._config.shutdown_s
                if patience_s and vm.status == "running":
                    task = self._api.shut_down(vm.host, vm.vmid, patience_s)
                    self._api.finish(task, patience_s + self._config.wait_s)
                else:
                    self._finish(self._api.stop(vm.host, vm.vmid))
            self._finish(self._api.destroy(vm.host, vm.vmid))

    def _finish(self, task: str) -> None:
        self._api.finish(task, self._config.wait_s)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except MissingError as error:
        raise PermanentError(str(error)) from error
    except OSError as error:
        raise TransientError(str(error)) from error
