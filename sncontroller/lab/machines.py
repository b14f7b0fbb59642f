"""What the demo's nodes are made of, per hypervisor: the primary that is there first, and the
plugin's section for the secondaries.

Owns :data:`HYPERVISORS`, the one place that knows which hypervisors the demo can use, and how large
its story is on each. The controller, the clients and the story itself are the same on all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from sncontroller.hypervisors.base import HypervisorError, NodeRequest, Owner
from sncontroller.hypervisors.libvirt import Libvirt, LibvirtConfig
from sncontroller.lab.guest import cmdline, guest_files
from sncontroller.lab.isolation import isolate
from sncontroller.lab.libvirtd import PrivateLibvirt
from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError, last_lines, program
from sncontroller.lab.scenario import Scenario, quick
from sncontroller.lab.service import Service
from sncontroller.lab.setting import (
    ADDRESS,
    BRIDGE,
    GROUP,
    PREFIX_LENGTH,
    PRIMARY_NODE,
    PRIMARY_PORT,
    SECONDARIES,
    SUBNET,
    Setting,
)

OPERATOR: Final = Owner("operator", GROUP)
"""Whose VM the primary is: not the controller's."""
_PRIMARY_INDEX, _PRIMARY_MAC = 2, "52:54:00:00:00:01"
_GUEST_MIB = 128
_IMAGE_BYTES = 16 << 20


class Machines(Protocol):
    """A hypervisor, set up, with the primary; a context manager."""

    @property
    def section(self) -> Mapping[str, Any]:
        """The hypervisor plugin's section of the group."""

    def expect_primary(self) -> None:
        """Raises ``LabError`` with the reason when the primary has ended."""

    def left(self) -> tuple[str, ...]:
        """What there is of secondaries, one line each."""

    def versions(self) -> Mapping[str, str]:
        """What the nodes run on."""

    def __enter__(self) -> Self:
        """Start the primary: its port is on the bridge, its service may still be coming up."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ensure that all is gone."""


class NetnsMachines:
    """Network namespaces that run nginx."""

    def __init__(self, setting: Setting, ovs: PrivateOvs) -> None:
        """Describe them; entering the context makes the primary."""
        self._setting = setting
        self._ovs = ovs
        self._host = Host(ovs, BRIDGE, PRIMARY_PORT, Link(f"{ADDRESS}/{PREFIX_LENGTH}"))
        self._directory = setting.nodes / PRIMARY_NODE
        self._process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        self._host.start()
        self._directory.mkdir(parents=True, exist_ok=True)
        command = self._setting.service.command(PRIMARY_NODE, str(self._directory))
        with (self._directory / "service.log").open("wb") as log:
            self._process = self._host.popen(*command, stdout=log, stderr=log)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._host.stop()

    @property
    def section(self) -> Mapping[str, Any]:
        """The ``netns`` plugin's: secondaries run the same service."""
        return {
            "bridge": BRIDGE,
            "ovsdb": self._ovs.db,
            "subnet": SUBNET,
            "addresses": SECONDARIES,
            "workdir": str(self._setting.nodes),
            "command": list(self._setting.service.command("{name}", "{directory}")),
        }

    def expect_primary(self) -> None:
        """Raises ``LabError`` with its last words when its service has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"the primary:\n{last_lines(self._directory / 'service.log', 15)}")

    def left(self) -> tuple[str, ...]:
        """Nothing that :mod:`sncontroller.lab.leftovers` would not find."""
        return ()

    def versions(self) -> Mapping[str, str]:
        """Namespaces are the kernel's."""
        return {}


class LibvirtMachines:
    """Virtual machines of a private libvirt, each with a copy-on-write disk."""

    def __init__(self, setting: Setting, ovs: PrivateOvs) -> None:
        """Describe them; entering the context starts libvirt and boots the primary."""
        self._setting = setting
        self._ovs = ovs
        self._image = setting.nodes / "image.raw"
        self._disks = setting.nodes / "disks"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._guest = guest_files(self._setting.guest, isolate())
            self._disks.mkdir(parents=True, exist_ok=True)
            with self._image.open("wb") as image:
                image.truncate(_IMAGE_BYTES)
            directory = tempfile.mkdtemp(prefix=f"sn-libvirt-{os.getpid()}-")
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            self._libvirt = PrivateLibvirt(Path(directory), self._ovs.environment)
            stack.enter_context(self._libvirt)
            stack.callback(self._end_primary)
            self._plugin().start_node(
                NodeRequest(PRIMARY_NODE, _PRIMARY_INDEX, PRIMARY_PORT, _PRIMARY_MAC, ())
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def section(self) -> Mapping[str, Any]:
        """The ``libvirt`` plugin's: secondaries boot what the primary did."""
        return self._section(SECONDARIES)

    def expect_primary(self) -> None:
        """Raises ``LabError`` with the reason when its VM does not run."""
        for node in self._plugin().list_nodes():
            if node.status.value == "broken":
                raise LabError(f"the primary: {node.detail}\n{self._libvirt.log_tail()}")

    def left(self) -> tuple[str, ...]:
        """Virtual machines, in whatever state, and disks."""
        said = subprocess.run(
            [program("virsh"), "-q", "-c", self._libvirt.uri, "list", "--all", "--name"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        primary = f"{OPERATOR.controller}.{PRIMARY_NODE}"
        machines = set(said.stdout.split()) - {primary}
        disks = {path.name for path in self._disks.iterdir()} - {f"{primary}.qcow2"}
        lines = [*(f"VM {name}" for name in machines), *(f"disk {name}" for name in disks)]
        return tuple(sorted([*lines, *(["libvirt's list"] if said.returncode else [])]))

    def versions(self) -> Mapping[str, str]:
        """libvirt, QEMU and how it runs guests."""
        said = subprocess.run(
            [program("virsh"), "-c", self._libvirt.uri, "version"], capture_output=True, text=True
        ).stdout
        found = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
        return {
            "libvirt": found.get("Using library", "unknown").removeprefix("libvirt "),
            "qemu": found.get("Running hypervisor", "unknown").removeprefix("QEMU "),
            "virtualization": self._virtualization(),
        }

    def _virtualization(self) -> str:
        """What ``auto`` has become: the primary's."""
        name = f"{OPERATOR.controller}.{PRIMARY_NODE}"
        xml = subprocess.run(
            [program("virsh"), "-c", self._libvirt.uri, "dumpxml", name],
            capture_output=True,
            text=True,
        ).stdout
        return "kvm" if "<domain type='kvm'" in xml else "qemu"

    def _section(self, addresses: str) -> dict[str, Any]:
        return {
            "bridge": BRIDGE,
            "uri": self._libvirt.uri,
            "ovsdb": self._ovs.db,
            "addresses": addresses,
            "virtualization": self._setting.virtualization.value,
            "memory_mib": _GUEST_MIB,
            "kernel": str(self._guest.kernel.absolute()),
            "initramfs": str(self._guest.initramfs.absolute()),
            "cmdline": cmdline(self._setting.service),
            "image": str(self._image),
            "image_format": "raw",
            "disks": str(self._disks),
        }

    def _plugin(self) -> Libvirt:
        """For the primary: the plugin in the hands of another owner."""
        section = self._section(f"{ADDRESS}-{ADDRESS}")
        return Libvirt(LibvirtConfig.model_validate(section), OPERATOR)

    def _end_primary(self) -> None:
        try:
            self._plugin().stop_node(PRIMARY_NODE)
        except HypervisorError as error:
            raise LabError(f"the primary cannot be ended: {error}") from error


@dataclass(frozen=True, slots=True)
class Kind:
    """A hypervisor that the demo can use."""

    machines: Callable[[Setting, PrivateOvs], Machines]
    service: Service = field(default_factory=Service)
    """What a node can do there."""
    programs: tuple[str, ...] = ()
    """What must be installed besides what every demo needs."""
    full: Callable[[float, bool], Scenario] = lambda users, kill: Scenario(
        users, kill_controller=kill
    )
    quick: Callable[[float, bool], Scenario] = quick


def _three_slow_nodes(users: float, kill: bool) -> Scenario:
    """The full story where a node takes its time to boot, and three are what two cores can do."""
    return Scenario(
        users,
        max_nodes=3,
        kill_controller=kill,
        load_peak=3.9,
        patience_s=150.0,
        expected_gain=2.0,
    )


HYPERVISORS: Final[Mapping[str, Kind]] = {
    "libvirt": Kind(
        LibvirtMachines,
        Service(rate_bps=2_000_000),  # three of them emulated by two cores that have more to do
        ("libvirtd", "virsh", "qemu-img", "qemu-system-x86_64", "busybox", "dpkg-deb"),
        _three_slow_nodes,
        lambda users, kill: replace(quick(users, kill), patience_s=150.0),
    ),
    "netns": Kind(NetnsMachines),
}
"""By the plugin's name."""
