"""Where contenders meet: one switch, one client, three backends, room for a proxy.

Owns the private Open vSwitch with its userspace datapath, the hosts on its one bridge and the web
servers in them. They stay the same for everybody; a contender only gets the bridge, empty.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError, program

BRIDGE: Final = "br0"
SUBNET_BITS: Final = 24
CLIENT, PROXY, ROUTER = "10.0.0.101", "10.0.0.5", "10.0.0.1"
BACKENDS: Final = ("10.0.0.10", "10.0.0.11", "10.0.0.12")
"""Each backend's own address; the first one's is the service's where that is shared."""
SERVICE: Final = BACKENDS[0]
"""All backends hold it, the others on their loopback, where nobody hears of it."""
ROUTED: Final = "10.9.0.10"
"""A service address in another subnet, for a contender that has to route."""
ANSWERS_WITHIN_S: Final = 30.0
BODY_BYTES: Final = 128

_NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_timeout 3600s;
    keepalive_requests 100000000;
    server {{
        listen 80 backlog=4096;
        add_header X-Node {name} always;
        location / {{ return 200 "{body}"; }}
    }}
}}
"""


class Field:
    """The switch and all hosts, serving; a context manager."""

    def __init__(self, directory: Path) -> None:
        """Describe it; ``directory`` keeps configurations and logs."""
        self.directory = directory
        self.ovs = PrivateOvs(directory / "ovs")
        self.client = self._host("client", CLIENT, 0x65)
        self.proxy = self._host("proxy", PROXY, 0x05)
        self.backends = tuple(
            self._host(f"vm{number}", address, number)
            for number, address in enumerate(BACKENDS, start=1)
        )
        self.crashes = 0
        """How often the switch died and was started again."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.ovs)
            self._bridge()
            for host in (self.client, self.proxy, *self.backends):
                stack.enter_context(host)
                name = f"external_ids:iface-id={host.name}"
                self.ovs.vsctl("set", "interface", host.name, name)
                host.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000")
                host.run("sysctl", "-qw", "net.core.somaxconn=4096")
            self.client.run("ip", "route", "add", f"{ROUTED}/32", "via", ROUTER)
            for host in self.backends:
                self._serve(host)
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
    def switch_pid(self) -> int:
        """The switch daemon's process id."""
        return self.ovs.pids[1]

    def clear(self) -> None:
        """Make the bridge as empty as at the beginning, without a controller."""
        self.ovs.vsctl("del-controller", BRIDGE, "--", "set-fail-mode", BRIDGE, "secure")
        self.ovs.ofctl("del-flows", BRIDGE)
        self.ovs.ofctl("del-groups", BRIDGE)
        self.ovs.appctl("fdb/flush", BRIDGE)
        self.ovs.appctl("dpctl/flush-conntrack")
        for host in (self.client, self.proxy, *self.backends):
            host.run("ip", "neigh", "flush", "all")

    def forward(self) -> None:
        """Let the bridge forward as a plain switch does."""
        self.ovs.ofctl("add-flow", BRIDGE, "priority=0,actions=NORMAL")

    def await_answer(self, address: str) -> None:
        """Return when the service answers there. Raises ``LabError`` when it does not."""
        ask = ("curl", "-sS", "-o", "/dev/null", "--max-time", "1", f"http://{address}/")
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            asked = self.client.run(*ask, check=False)
            if asked.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise LabError(f"{address} does not answer: {asked.stderr.strip()}")
            time.sleep(0.05)

    def revive(self) -> bool:
        """Start the switch again if it has died; whether it had."""
        try:
            self.ovs.appctl("version")
            return False
        except LabError:
            self.crashes += 1
        self.ovs.stop()
        self.ovs.start()
        self._bridge()
        return True

    def _bridge(self) -> None:
        self.ovs.add_bridge(BRIDGE, fail_mode="secure", dpid=0xBE)

    def _host(self, name: str, address: str, number: int) -> Host:
        loopback = (SERVICE,) if address in BACKENDS[1:] else ()
        mac = f"02:00:00:00:00:{number:02x}"
        link = Link(f"{address}/{SUBNET_BITS}", mac=mac, loopback=loopback)
        return Host(self.ovs, BRIDGE, name, link)

    def _serve(self, host: Host) -> None:
        directory = self.directory / host.name
        directory.mkdir(parents=True, exist_ok=True)
        body = ("x" * (BODY_BYTES - 1)) + "\\n"
        conf = _NGINX.format(directory=directory, name=host.name, body=body)
        (directory / "nginx.conf").write_text(conf)
        host.popen(program("nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf"))
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while ":80 " not in host.run("ss", "-Hltn").stdout:
            if time.monotonic() > deadline:
                raise LabError(f"nginx in {host.name} does not listen: {directory}/error.log")
            time.sleep(0.02)
