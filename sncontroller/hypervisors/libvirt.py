"""Nodes that are QEMU virtual machines of a libvirt daemon, plugged into Open vSwitch by libvirt.

Owns the domains whose metadata carries its owner's tags, and the files that these name. The
domain's record is the first thing made, with all tags, and the last one removed. A node runs when
its domain does; a domain that is defined and does not run is BROKEN.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sncontroller.hypervisors._addresses import FIRST_INDEX, PATTERN, Range
from sncontroller.hypervisors._libvirt_domain import Guest, Tags, domain_name, domain_xml, tags_of
from sncontroller.hypervisors._libvirt_files import make_disk, make_seed
from sncontroller.hypervisors._ovsdb import Ovsdb
from sncontroller.hypervisors._virsh import Virsh
from sncontroller.hypervisors._virtualization import CPUINFO, Virtualization, domain_type
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

__all__ = ["Libvirt", "LibvirtConfig", "Virtualization"]

DISK_SUFFIX, SEED_SUFFIX = "qcow2", "seed.iso"


class LibvirtConfig(BaseModel):
    """The plugin's section of a group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridge: str = Field(min_length=1, description="Bridge that the VMs are plugged into.")
    uri: str = Field("qemu:///system", min_length=1, description="The libvirt daemon.")
    ovsdb: str | None = Field(
        None, pattern="^(unix|tcp|ssl):", description="OVSDB remote; the system's by default."
    )
    template: Path | None = Field(
        None, description="Domain XML; its name, UUID, metadata and interfaces are replaced."
    )
    kernel: Path | None = Field(None, description="Kernel that is booted without a boot loader.")
    initramfs: Path | None = Field(None, description="Initial RAM file system for it.")
    cmdline: str = Field("", description="Its command line.")
    image: Path | None = Field(
        None, description="Disk image; each VM gets a copy-on-write disk of its own on it."
    )
    image_format: str = Field("qcow2", pattern="^(qcow2|raw)$", description="Of the image.")
    disks: Path | None = Field(None, description="Directory of those disks, and of seeds.")
    user_data: Path | None = Field(
        None, description="cloud-init's user data: each VM gets it on a seed disk (NoCloud)."
    )
    network_config: Path | None = Field(
        None, description="cloud-init's network configuration, on the same disk."
    )
    memory_mib: int = Field(256, ge=32, description="Memory of a VM.")
    cpus: int = Field(1, ge=1, le=255, description="Processors of a VM.")
    vlan: int | None = Field(None, ge=1, le=4094, description="VLAN of the VMs' ports.")
    virtualization: Virtualization = Field(Virtualization.AUTO, description="kvm, qemu or auto.")
    addresses: str | None = Field(
        None,
        pattern=PATTERN,
        description="Own addresses, FIRST-LAST, for {address}: index 2 has the first.",
    )
    timeout_s: float = Field(60.0, gt=0, le=600, description="libvirt must answer in this time.")

    @model_validator(mode="after")
    def _bootable(self) -> LibvirtConfig:
        if self.template is None and self.kernel is None and self.image is None:
            raise ValueError("template, kernel or image: one of them must say what a VM boots")
        if self.template is not None and self.kernel is not None:
            raise ValueError("kernel: a template says itself what it boots")
        if self.image is not None and self.disks is None:
            raise ValueError("image and disks must both be there, or none of them")
        if self.user_data is not None and self.disks is None:
            raise ValueError("user_data: disks must say where the VMs' seed disks are to be")
        if self.disks is not None and self.image is None and self.user_data is None:
            raise ValueError("image and disks must both be there, or none of them")
        if self.network_config is not None and self.user_data is None:
            raise ValueError("network_config: it goes with user_data, which may be '#cloud-config'")
        if self.addresses is not None:
            Range.parse(self.addresses)
        return self

    def address_of(self, index: int) -> str:
        """Own address of the node of this index, if there are any. Raises ``PermanentError``."""
        if index < FIRST_INDEX:
            raise PermanentError(f"index {index} is no secondary's")
        if self.addresses is None:
            return ""
        return str(Range.parse(self.addresses).of(index))


class Libvirt:
    """The ``libvirt`` plugin: ``LibvirtConfig`` is its section."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = LibvirtConfig

    def __init__(self, config: LibvirtConfig, owner: Owner) -> None:
        """Serve one group; nothing is touched until the first call."""
        self._config = config
        self._owner = owner
        self._virsh = Virsh(config.uri, config.timeout_s)
        self._ovsdb = Ovsdb(config.ovsdb)
        self._starting: set[str] = set()

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the VM runs; its port is on the bridge."""
        address = self._config.address_of(request.index)
        self._starting.add(request.name)
        try:
            with _errors():
                found = self._tags(domain_name(self._owner, request.name))
                if found is None or not self._is(found, request):
                    if found is not None:
                        self._remove(found)
                    self._make(request, address)
        finally:
            self._starting.discard(request.name)
        with _errors():
            made = self._tags(domain_name(self._owner, request.name))
            if made is None:
                raise TransientError(f"{request.name} vanished while it was started")
            return self._info(made, self._ports())

    def stop_node(self, name: str) -> None:
        """Ensure that the VM, its disk, its port and its record are gone."""
        with _errors():
            found = self._tags(domain_name(self._owner, name))
            if found is None:  # its record may have been removed by somebody: the files are ours
                _unlink(self._file(name, suffix) for suffix in (DISK_SUFFIX, SEED_SUFFIX))
            elif self._owns(found):
                self._remove(found)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All VMs of this owner, sorted by index; those that do not run are BROKEN."""
        with _errors():
            prefix = domain_name(self._owner, "")
            names = [name for name in self._virsh.names() if name.startswith(prefix)]
            found = [tags for name in names if (tags := self._tags(name)) is not None]
            ours = [tags for tags in found if self._owns(tags)]
            ports = self._ports() if ours else {}
            return tuple(
                sorted((self._info(tags, ports) for tags in ours), key=lambda info: info.index)
            )

    # -- what is there ---------------------------------------------------------------------------

    def _tags(self, domain: str) -> Tags | None:
        xml = self._virsh.xml(domain)
        return None if xml is None else tags_of(xml)

    def _owns(self, tags: Tags) -> bool:
        return tags.owner == self._owner

    def _is(self, tags: Tags, request: NodeRequest) -> bool:
        """Whether it is that node, running. Raises ``PermanentError`` for somebody else's."""
        if not self._owns(tags):
            raise PermanentError(f"domain {domain_name(self._owner, request.name)} is not ours")
        same = (tags.index, tags.port, tags.mac) == (request.index, request.port, request.mac)
        return same and not self._problem(tags, self._ports())

    def _ports(self) -> dict[str, str]:
        """The ports that libvirt made: the VM's UUID by name."""
        records = self._ovsdb.ports().values()
        return {record.name: record.tags.get("vm-id", "") for record in records}

    def _problem(self, tags: Tags, ports: dict[str, str]) -> str:
        if not tags.active:
            return f"VM {tags.uuid} does not run"
        if ports.get(tags.port) != tags.uuid:
            return f"VM {tags.uuid} has no port {tags.port} on the switch"
        return ""

    def _info(self, tags: Tags, ports: dict[str, str]) -> NodeInfo:
        problem = self._problem(tags, ports)
        status = NodeStatus.BROKEN if problem else NodeStatus.RUNNING
        return NodeInfo(
            name=tags.name,
            index=tags.index,
            port=tags.port,
            mac=tags.mac,
            status=NodeStatus.STARTING if problem and tags.name in self._starting else status,
            detail=problem or f"VM {tags.uuid}",
        )

    # -- making and removing ---------------------------------------------------------------------

    def _make(self, request: NodeRequest, address: str) -> None:
        self._refuse_taken(request.port)
        guest = self._guest(request, address)
        template = self._config.template
        text = None if template is None else _text("template", template)
        words = self._words(request, address)
        seed = self._seed_files(request, words)
        domain = domain_name(self._owner, request.name)
        self._virsh.define(domain_xml(text, words, guest, self._owner, request))
        try:
            if guest.disk is not None and self._config.image is not None:
                make_disk(guest.disk, self._config.image.absolute(), self._config.image_format)
            if guest.seed is not None:
                make_seed(guest.seed, seed)
            self._virsh.start(domain)
        except BaseException:
            with suppress(HypervisorError, OSError):  # what stays is found and removed later
                made = self._tags(domain)
                if made is not None:
                    self._remove(made)
            raise

    def _refuse_taken(self, port: str) -> None:
        owner = self._ports().get(port)
        if owner is not None:
            raise PermanentError(f"switch port {port} exists and is not ours: remove it")

    def _guest(self, request: NodeRequest, address: str) -> Guest:
        config = self._config
        for file in (config.kernel, config.initramfs, config.image):
            if file is not None and not file.is_file():
                raise PermanentError(f"there is no file {file}")
        return Guest(
            virt_type=domain_type(config.virtualization, CPUINFO.read_text(), self._virsh.has_kvm),
            memory_mib=config.memory_mib,
            cpus=config.cpus,
            kernel=_absolute(config.kernel),
            initramfs=_absolute(config.initramfs),
            cmdline=_replaced(config.cmdline, self._words(request, address)),
            disk=None if config.image is None else self._file(request.name, DISK_SUFFIX),
            seed=None if config.user_data is None else self._file(request.name, SEED_SUFFIX),
            bridge=config.bridge,
            vlan=config.vlan,
        )

    def _words(self, request: NodeRequest, address: str) -> dict[str, str]:
        return {
            "{name}": request.name,
            "{index}": str(request.index),
            "{address}": address,
            "{mac}": request.mac,
            "{group_addresses}": ",".join(request.addresses),
        }

    def _file(self, node: str, suffix: str) -> Path | None:
        disks = self._config.disks
        name = f"{domain_name(self._owner, node)}.{suffix}"
        return None if disks is None else disks.absolute() / name

    def _seed_files(self, request: NodeRequest, words: Mapping[str, str]) -> dict[str, str]:
        """What the seed disk has; empty without user data."""
        config, domain = self._config, domain_name(self._owner, request.name)
        if config.user_data is None:
            return {}
        files = {
            "meta-data": f"instance-id: {domain}\nlocal-hostname: {request.name}\n",
            "user-data": _replaced(_text("user_data", config.user_data), words),
        }
        if config.network_config is not None:
            text = _text("network_config", config.network_config)
            files["network-config"] = _replaced(text, words)
        return files

    def _remove(self, tags: Tags) -> None:
        """The record goes last: as long as anything is left, it is found by it."""
        domain = domain_name(self._owner, tags.name)
        self._virsh.destroy(domain)
        if self._ports().get(tags.port) == tags.uuid:  # libvirt was not there when the VM ended
            self._ovsdb.delete_port(tags.port)
        _unlink(tags.files)
        self._virsh.undefine(domain)


def _absolute(file: Path | None) -> Path | None:
    return None if file is None else file.absolute()


def _unlink(files: Iterable[Path | None]) -> None:
    for file in files:
        if file is not None:
            file.unlink(missing_ok=True)


def _text(what: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PermanentError(f"{what} {file}: {error.strerror}") from error


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except MissingError as error:
        raise PermanentError(str(error)) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransientError(str(error)) from error
