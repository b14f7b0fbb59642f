"""Where contenders meet: one switch, one client, three backends, room for a proxy.

Owns the private Open vSwitch with its userspace datapath, the hosts on its one bridge and the web
servers in them. They stay the same for everybody; a contender only gets the bridge, empty.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from bench.waiting import until
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
SPREAD: Final = "10.9.0.20"
"""All backends hold it on their loopback, and the client's own routing table gives each connection
one of them: equal-cost multipath by a hash of addresses and ports."""
ANSWERS_WITHIN_S: Final = 30.0
BODY_BYTES: Final = 128

_SETTINGS: Final = (
    "net.ipv4.fib_multipath_hash_policy=1",
    "net.ipv4.ip_local_port_range=1024 65000",
    "net.core.somaxconn=4096",
    # Nobody's turn meets the closed connections of another's: ports come round within seconds, and
    # a new connection that an old one's timestamps do not go before is answered late or never.
    "net.ipv4.tcp_max_tw_buckets=0",
    # Packets from nowhere (bench/syns.py) are dropped where they arrive.
    "net.ipv4.conf.eth0.rp_filter=1",
)
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
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.ovs)
            self._bridge()
            for host in (self.client, self.proxy, *self.backends):
                stack.enter_context(host)
                name = f"external_ids:iface-id={host.name}"
                self.ovs.vsctl("set", "interface", host.name, name)
                host.run("sysctl", "-qw", *_SETTINGS)
            self.client.run("ip", "route", "add", f"{ROUTED}/32", "via", ROUTER)
            hops = (word for address in BACKENDS for word in ("nexthop", "via", address))
            self.client.run("ip", "route", "add", f"{SPREAD}/32", *hops)
            for host in self.backends:
                self._serve(host)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
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
        self.ovs.appctl("revalidator/purge")
        for host in (self.client, self.proxy, *self.backends):
            # Connections that one end has forgotten: a new one on the same port is not answered.
            host.run("ss", "-K", "-t", "state", "connected")
            host.run("ip", "neigh", "flush", "all")

    def forward(self) -> None:
        """Let the bridge forward as a plain switch does."""
        self.ovs.ofctl("add-flow", BRIDGE, "priority=0,actions=NORMAL")

    def await_answers(self, address: str) -> None:
        """Return when all backends have answered there. Raises ``LabError`` when they do not."""
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        missing = {host.name for host in self.backends}
        said = ""
        while missing:
            ask = ("curl", "-sS", "-o", "/dev/null", "-D", "-", "--max-time", "1")
            asked = self.client.run(*ask, f"http://{address}/", check=False)
            said = asked.stderr.strip() or said
            missing -= set(re.findall(r"^X-Node: (\S+)", asked.stdout, re.MULTILINE))
            if time.monotonic() > deadline:
                lost = ", ".join(sorted(missing))
                raise LabError(f"{lost} cannot be reached at {address}: {said}")

    def revive(self) -> bool:
        """Start the switch again if it has died; whether it had."""
        try:
            self.ovs.appctl("version")
            return False
        except LabError:
            self.restart()
            return True

    def restart(self) -> None:
        """Stop the switch and start it again; its ports come back, its entries do not."""
        self.ovs.stop()
        self.ovs.start()
        self._bridge()

    def _bridge(self) -> None:
        self.ovs.add_bridge(BRIDGE, fail_mode="secure", dpid=0xBE)

    def _host(self, name: str, address: str, number: int) -> Host:
        shared = (SERVICE, SPREAD) if address in BACKENDS else ()
        loopback = tuple(each for each in shared if each != address)
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
        until(
            lambda: ":80 " in host.run("ss", "-Hltn").stdout,
            f"nginx in {host.name} does not listen: {directory}/error.log",
        )
