"""Who is measured: each takes the empty bridge, makes the service reachable, and lets go again.

Owns how each contender is set up, as its own documentation would have it. All use the same
backends; those that rewrite addresses or stand in between get theirs at the backends' own
addresses.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml

from bench.counters import tree
from bench.dataplane.field import BACKENDS, BRIDGE, PROXY, ROUTED, SERVICE, SPREAD, Field
from bench.ovn import Ovn
from bench.waiting import fetched, until
from sncontroller.controller_row import PacketIns
from sncontroller.core.layout import Layout
from sncontroller.lab.child import Child
from sncontroller.lab.controller import Controller, Endpoints
from sncontroller.lab.namespaces import end_processes, namespace_pids
from sncontroller.lab.programs import program

__all__ = ["Contender", "contenders"]

PROBES_FROM: Final = "10.0.0.254"
TEXTBOOK_ADDRESS: Final = "10.0.0.100"
ZONE: Final = 100
"""Our group's number, also its conntrack zone."""
READY_WITHIN_S: Final = 40.0
_SETTLE_S: Final = 1
"""So long after a change SYNs look for their pins first: a turn measures a group at rest, and is
over before the product's own time is."""
PINNINGS: Final = ("conntrack", "learn", "reactive")
STREAM_MODULE: Final = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Contender(ABC):
    """A way to spread connections over the backends."""

    def __init__(self, name: str, field: Field) -> None:
        """``name`` is the key in the results; nothing is started."""
        self.name = name
        self.field = field

    @property
    def address(self) -> str:
        """Where clients find the service."""
        return SERVICE

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that do its work beside the switch, while it is up."""
        return ()

    def start(self) -> None:
        """Take the empty bridge and return when all backends answer. Raises ``LabError``."""
        self._start()
        self.field.await_answers(self.address)

    def stop(self) -> None:
        """Leave the bridge empty and nothing running."""
        self._stop()
        self.field.clear()

    @abstractmethod
    def _start(self) -> None:
        """Begin."""

    def _stop(self) -> None:  # noqa: B027
        """End what was begun beside the switch."""

    def close(self) -> None:  # noqa: B027
        """End what lasts from one turn to the next."""


class Normal(Contender):
    """No balancing at all: the bridge forwards, the client knows every backend. The limit."""

    @property
    def address(self) -> str:
        """Where the client's own routing table gives each connection its backend."""
        return SPREAD

    def _start(self) -> None:
        self.field.forward()


class Ours(Contender):
    """sncontroller with one of its pinnings, as an operator runs it."""

    def __init__(self, pinning: str, field: Field, pin: dict[str, Any] | None = None) -> None:
        """``pin`` is the configuration's section of that name."""
        super().__init__(pinning, field)
        self._pin = pin or {}
        self._endpoints = Endpoints()
        configuration = field.directory / f"{pinning}.yaml"
        self._controller = Controller(
            self._endpoints, configuration, field.directory / f"{pinning}.log"
        )
        self._configuration = configuration

    @property
    def pids(self) -> tuple[int, ...]:
        """ryu-manager and its plugin's process."""
        return tree(self._controller.pids[-1])

    def _start(self) -> None:
        self._configuration.write_text(yaml.safe_dump(self._config(), sort_keys=False))
        ovs = self.field.ovs
        self._controller.start()
        ovs.set_controller(BRIDGE, self._endpoints.target)
        self.field.forward()
        unready = f"{self.name}: not all nodes serve at rest:"
        ready = lambda: self._serves() and self._rests()  # noqa: E731
        until(ready, lambda: f"{unready} {self._status()}", READY_WITHIN_S)

    def _stop(self) -> None:
        self._controller.stop()

    def _serves(self) -> bool:
        self._controller.expect_running()
        status = self._status()
        nodes = status["nodes"] if status else ()
        serving = [node for node in nodes if node["state"] == "active" and node["slots"] > 0]
        return bool(status) and len(serving) == len(BACKENDS) and bool(status["live"])

    def _rests(self) -> bool:
        """Whether slots count as settled: with conntrack SYNs go straight to theirs then."""
        straight = f"table={Layout().entry_table},tcp,tcp_flags=+syn-ack"
        return self.name != "conntrack" or "tcp" in self.field.ovs.ofctl(
            "dump-flows", BRIDGE, straight
        )

    def _status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = fetched(f"{self._endpoints.rest}/v1/status")["groups"][0]
        except OSError:
            return {}
        return found

    def _config(self) -> dict[str, Any]:
        nodes = [
            {"port": host.name, "mac": str(host.link.mac), "address": host.ip}
            for host in self.field.backends[1:]
        ]
        count = len(BACKENDS)
        group = {
            "id": ZONE,
            "bridge": BRIDGE,
            "match": {"address": SERVICE, "protocol": "tcp", "ports": [80]},
            "primary": {"port": self.field.backends[0].name},
            "pinning": self.name,
            "pin": {"syn_settle_s": _SETTLE_S, **self._pin},
            "health": {"kind": "http", "source": PROBES_FROM, "rise": 1},
            "scaling": {"policy": "manual", "nodes": count, "min": 1, "max": count},
            "hypervisor": {"plugin": "pool", "ovsdb": self.field.ovs.db, "nodes": nodes},
        }
        return {"controller": "bench", "poll_interval_s": 1, "groups": {"web": group}}


class OvnBalancer(Contender):
    """OVN's load balancer on a logical switch, its address behind a logical router."""

    def __init__(self, name: str, field: Field) -> None:
        super().__init__(name, field)
        self._stack = ExitStack()
        self._ovn: Ovn | None = None

    @property
    def address(self) -> str:
        """An address that is routed, as OVN wants it."""
        return ROUTED

    @property
    def pids(self) -> tuple[int, ...]:
        """northd and ovn-controller."""
        pids = self._ovn.pids if self._ovn else {}
        return tuple(pid for name, pid in pids.items() if name != "ovsdb-server")

    def _start(self) -> None:
        if self._ovn is None:
            self._ovn = self._stack.enter_context(Ovn(self.field.directory / "ovn"))
            self._network(self._ovn)
        self._ovn.start_controller(self.field.ovs, BRIDGE)
        self._ovn.await_ports(len(BACKENDS) + 1)

    def _stop(self) -> None:
        if self._ovn is not None:
            self._ovn.stop_controller()

    def close(self) -> None:
        """End its databases and northd."""
        self._stack.close()
        self._ovn = None

    def _network(self, ovn: Ovn) -> None:
        hosts = (self.field.client, *self.field.backends)
        ovn.add_switch("ls0", {host.name: (str(host.link.mac), host.ip) for host in hosts})
        ovn.add_router("lr0", {"ls0": ("02:00:00:00:00:fe", "10.0.0.1/24")})
        ovn.add_balancer("lb0", "ls0", f"{ROUTED}:80", [f"{address}:80" for address in BACKENDS])


class Proxy(Contender):
    """A TCP proxy on a host of its own."""

    @property
    def address(self) -> str:
        """The proxy's."""
        return PROXY

    @property
    def pids(self) -> tuple[int, ...]:
        """Everything on the proxy's host."""
        return namespace_pids(self.field.proxy.name)

    def _start(self) -> None:
        self.field.forward()
        log = self.field.directory / f"{self.name}.log"
        with log.open("wb") as written:
            self.field.proxy.popen(*self._command(), stdout=written, stderr=written)

    def _stop(self) -> None:
        end_processes(lambda: namespace_pids(self.field.proxy.name))

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What runs on the proxy's host, in the foreground."""


class Haproxy(Proxy):
    """HAProxy in TCP mode, a thread per core as it decides itself."""

    def _command(self) -> Sequence[str]:
        servers = "\n".join(
            f"    server s{number} {address}:80" for number, address in enumerate(BACKENDS)
        )
        path = self.field.directory / "haproxy.cfg"
        path.write_text(
            "global\n    maxconn 4000\n"
            "defaults\n    mode tcp\n    timeout connect 5s\n"
            "    timeout client 60s\n    timeout server 60s\n"
            f"listen web\n    bind {PROXY}:80\n    balance roundrobin\n{servers}\n"
        )
        return (program("haproxy"), "-db", "-f", str(path))


class NginxStream(Proxy):
    """nginx's stream module, a worker per core."""

    def _command(self) -> Sequence[str]:
        directory = self.field.directory / "nginx"
        directory.mkdir(exist_ok=True)
        servers = " ".join(f"server {address}:80;" for address in BACKENDS)
        path = directory / "nginx.conf"
        path.write_text(
            f"load_module {STREAM_MODULE};\ndaemon off;\nworker_processes auto;\n"
            f"pid {directory}/nginx.pid;\nerror_log {directory}/error.log warn;\n"
            "events { worker_connections 16384; }\n"
            f"stream {{\n    upstream web {{ {servers} }}\n"
            f"    server {{ listen {PROXY}:80 backlog=4096; proxy_pass web; }}\n}}\n"
        )
        return (program("nginx"), "-p", str(directory), "-c", str(path))


class Textbook(Contender):
    """The reactive load balancer that everybody writes first: ``bench/dataplane/textbook.py``."""

    def __init__(self, name: str, field: Field) -> None:
        super().__init__(name, field)
        self._child: Child | None = None

    @property
    def address(self) -> str:
        """A virtual address of the app's."""
        return TEXTBOOK_ADDRESS

    @property
    def pids(self) -> tuple[int, ...]:
        """ryu-manager."""
        return tree(self._child.pid) if self._child else ()

    def _start(self) -> None:
        endpoints = Endpoints()
        ovs = self.field.ovs
        backends = [
            {"ip": host.ip, "mac": str(host.link.mac), "port": ovs.ofport(host.name)}
            for host in self.field.backends
        ]
        manager = Path(sys.executable).parent / "ryu-manager"
        self._child = Child(
            "the textbook controller",
            (
                *(str(manager), "--ofp-listen-host", endpoints.host),
                *("--ofp-tcp-listen-port", str(endpoints.openflow_port)),
                str(Path(__file__).with_name("textbook.py")),
            ),
            self.field.directory / "textbook.log",
            environment={
                **os.environ,
                "TEXTBOOK_ADDRESS": TEXTBOOK_ADDRESS,
                "TEXTBOOK_BACKENDS": json.dumps(backends),
            },
        )
        ovs.set_controller(BRIDGE, endpoints.target, limit=PacketIns())

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


def contenders(field: Field) -> tuple[Contender, ...]:
    """All of them, in the order of the table."""
    return (
        Normal("normal", field),
        *(Ours(pinning, field) for pinning in PINNINGS),
        OvnBalancer("ovn", field),
        Haproxy("haproxy", field),
        NginxStream("nginx", field),
        Textbook("textbook", field),
    )
