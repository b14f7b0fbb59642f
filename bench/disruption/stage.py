"""Where disruption is measured: the same four backends and the same client for each contender.

Owns a private Open vSwitch, the hosts on it, their service, and the faults that can befall them. A
contender stands between the client and the backends; it says through which bridge, under which
addresses, and how the number of backends is changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bench.clients import Clients
from bench.waiting import until
from sncontroller.lab.namespaces import namespace_pids
from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.service import Service

ADDRESS = "10.0.0.10"
"""Where clients go."""
MOST_NODES = 4
SERVICE = Service(page_bytes=64, rate_bps=1_000_000_000)


def node_name(index: int) -> str:
    """The name that a backend's answers bear."""
    return f"web-{index}"


class Contender(ABC):
    """One way to spread connections over backends, on a switch of its own; a context manager."""

    title: str
    bridge = "br0"

    def __init__(self, directory: Path) -> None:
        """Describe it; entering the context sets everything up, with three backends in use."""
        self.directory = directory
        self.stack = ExitStack()
        self.backends: dict[int, Host] = {}
        self.client: Host

    def __enter__(self) -> Self:
        with self.stack:
            self.ovs = self.stack.enter_context(PrivateOvs(self.directory / "ovs"))
            self.prepare()
            for index in range(1, MOST_NODES + 1):
                self.backends[index] = self._host(f"vm{index}", self.backend_link(index))
                self._serve(index)
            self.client = self._host("cli1", self.client_link())
            ports = "/proc/sys/net/ipv4/ip_local_port_range"
            self.client.run("sh", "-c", f"echo 10000 65000 >{ports}")
            self.begin()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    # what differs

    @abstractmethod
    def prepare(self) -> None:
        """Make the bridge, before anything is plugged in."""

    @abstractmethod
    def begin(self) -> None:
        """Start it, with three backends that take new connections."""

    @abstractmethod
    def scale(self, nodes: int) -> None:
        """Let the first so many backends take new connections; return when that is in force."""

    @abstractmethod
    def backend_link(self, index: int) -> Link:
        """A backend's interface."""

    def client_link(self) -> Link:
        """The client's interface."""
        return Link("10.0.0.101/24")

    def wait_recovered(self, index: int) -> None:
        """Return when the backend takes new connections again."""
        wanted = node_name(index)

        def seen() -> bool:
            with Clients(self.client, address=ADDRESS, width=4, max_s=3.0) as clients:
                time.sleep(0.5)
                return any(visit.node == wanted for visit in clients.finish().visits)

        until(seen, f"{self.title}: {wanted} did not come back")

    def doubt(self) -> str:
        """Why it would keep a node that looks dead, in its own words; mostly there is no reason."""
        return ""

    def answers(self) -> bool:
        """Whether the client is answered now."""
        command = ("curl", "-s", "-m", "1", f"http://{ADDRESS}/ping")
        return "pong" in self.client.run(*command, check=False).stdout

    # faults

    def link(self, index: int, up: bool) -> float:
        """Set the backend's interface up or down; when."""
        host, at_s = self.backends[index], time.time()
        host.run("ip", "link", "set", "eth0", "up" if up else "down")
        if up and host.link.gateway is not None:  # went with the link
            host.run("ip", "route", "replace", "default", "via", host.link.gateway)
        return at_s

    def silence(self, index: int, silent: bool) -> float:
        """Let the backend hear nothing, as a frozen machine with its link up; when.

        It has another hardware address for the time being, and answers no ARP.
        """
        host, at_s = self.backends[index], time.time()
        mac = "02:00:00:00:ee:01" if silent else str(host.link.mac)
        arp = "off" if silent else "on"
        host.run("ip", "link", "set", "eth0", "address", mac, "arp", arp)
        return at_s

    def hang(self, index: int, hung: bool) -> float:
        """Stop the backend's service, whose kernel goes on completing handshakes; when."""
        number = signal.SIGSTOP if hung else signal.SIGCONT
        at_s = time.time()
        for pid in namespace_pids(self.backends[index].name):
            os.kill(pid, number)
        return at_s

    # parts

    def _host(self, name: str, link: Link) -> Host:
        host = self.stack.enter_context(Host(self.ovs, self.bridge, name, link))
        self.plugged(host)
        return host

    def plugged(self, host: Host) -> None:  # noqa: B027  # most have nothing to do
        """What has to be done for a host that is on the bridge now."""

    def _serve(self, index: int) -> None:
        name = node_name(index)
        log = self.stack.enter_context((self.directory / f"{name}.log").open("wb"))
        command = SERVICE.command(name, str(self.directory / name))
        host = self.backends[index]
        host.popen(*command, stdout=log, stderr=subprocess.STDOUT)
        until(lambda: ":80" in host.run("ss", "-Hltn").stdout, f"{name} does not serve")
