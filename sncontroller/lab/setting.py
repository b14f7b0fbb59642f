"""What can be chosen about the demo, and the names and addresses that it has on its stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sncontroller.hypervisors.libvirt import Virtualization
from sncontroller.lab.clients import Plan
from sncontroller.lab.controller import Endpoints
from sncontroller.lab.service import Service

OWNER, GROUP, BRIDGE, PRIMARY_PORT = "demo", "web", "br0", "vm1"
PRIMARY_NODE = f"{GROUP}-1"
PREFIX_LENGTH = 24
ADDRESS, PROBE_SOURCE = "10.0.0.10", "10.0.0.254"
SUBNET, SECONDARIES = f"10.0.0.0/{PREFIX_LENGTH}", "10.0.0.20-10.0.0.60"
CLIENTS = ("10.0.0.101", "10.0.0.102", "10.0.0.103", "10.0.0.104")
THINK_S = 0.2
"""Users' mean pause between two requests."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What can be chosen about the stage."""

    output: Path
    pinning: str = "conntrack"
    hypervisor: str = "netns"
    max_nodes: int = 4
    quick: bool = False
    seed: int = 1
    service: Service = field(default_factory=Service)
    endpoints: Endpoints = field(default_factory=Endpoints)
    guest: Path = Path("build/guest")
    """Where what virtual machines boot is kept."""
    virtualization: Virtualization = Virtualization.AUTO

    @property
    def configuration(self) -> Path:
        """Where the controller's configuration is written."""
        return self.output / "sncontroller.yaml"

    @property
    def nodes(self) -> Path:
        """Where nodes have their files."""
        return self.output / "nodes"

    def plan(self) -> Plan:
        """Whom the clients visit, and within which bounds."""
        return Plan(
            address=ADDRESS,
            port=self.service.port,
            sources=CLIENTS,
            page_bytes=self.service.page_bytes,
            think_s=THINK_S,
            seed=self.seed,
        )
