"""HAProxy in TCP mode between client and backends, in a namespace of its own on the same switch."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from bench.disruption.stage import ADDRESS, Contender, node_name
from bench.waiting import until
from sncontroller.lab.net import Host, Link
from sncontroller.lab.programs import program

CHECK_INTERVAL_MS = 100
"""As ours. It takes 1 ms, too, but then each check must be connected within that: all were down."""
_CONFIGURATION = """\
global
    maxconn 4000
    stats socket {directory}/admin.sock mode 600 level admin
defaults
    mode tcp
    timeout connect 300ms
    timeout client 300s
    timeout server 300s
    retries 3
    option redispatch 1
frontend web
    bind {address}:80
    default_backend nodes
backend nodes
    balance roundrobin
    option httpchk GET /ping
    default-server check inter {interval}ms fall 3 rise 2
{servers}
"""


class Haproxy(Contender):
    """Master and worker; reloads hand the listening sockets over, as its manual recommends."""

    title = "HAProxy (TCP)"

    def prepare(self) -> None:
        """A plain bridge."""
        program("haproxy")
        self.ovs.add_bridge(self.bridge, fail_mode="secure")
        self.ovs.ofctl("add-flow", self.bridge, "priority=0,actions=NORMAL")

    def backend_link(self, index: int) -> Link:
        """An address of its own."""
        return Link(f"10.0.0.{20 + index}/24", mac=f"02:00:00:00:01:{index:02x}")

    def begin(self) -> None:
        """Start it, and wait until its checks were good."""
        self.proxy = self._host("haproxy", Link(f"{ADDRESS}/24"))
        self._write(3)
        self._start(self.proxy)
        until(self.answers, f"HAProxy does not serve:\n{self.log.read_text()}")

    def scale(self, nodes: int) -> None:
        """Write the configuration and reload; return when the new worker is there."""
        before = self._workers()
        self._write(nodes)
        os.kill(self.process.pid, signal.SIGUSR2)
        until(lambda: self._workers() - before, self._not_reloaded)

    def _not_reloaded(self) -> str:
        said = self.log.read_text().strip().splitlines()[-1:]
        return f"HAProxy did not reload; it ended with {self.process.poll()} and said {said}"

    def _start(self, host: Host) -> None:
        self.log = self.directory / "haproxy.log"
        written = self.stack.enter_context(self.log.open("wb"))
        self.process = host.popen(
            *(program("haproxy"), "-W", "-db", "-f", str(self._file)),
            stdout=written,
            stderr=subprocess.STDOUT,
        )

    @property
    def _file(self) -> Path:
        return self.directory / "haproxy.cfg"

    def _write(self, nodes: int) -> None:
        servers = "".join(
            f"    server {node_name(index)} 10.0.0.{20 + index}:80\n"
            for index in range(1, nodes + 1)
        )
        text = _CONFIGURATION.format(
            directory=self.directory, address=ADDRESS, interval=CHECK_INTERVAL_MS, servers=servers
        )
        self._file.write_text(text)

    def _workers(self) -> set[int]:
        """The master's children; an old one stays while it has connections."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in children.read_text().split()}
