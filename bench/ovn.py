"""A private OVN: both databases, northd and, when wanted, ovn-controller on a private switch.

Owns these processes, their sockets and logs in one directory, started from Debian's packages
without their services. They never speak to the machine's own OVN or Open vSwitch, and end with this
process. ovn-controller programs whichever bridge it is told.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from bench.waiting import until
from sncontroller.lab.child import Child
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError, MissingError, program

SCHEMAS: Final = Path("/usr/share/ovn")
READY_WITHIN_S: Final = 20.0
_CHASSIS: Final = "bench"
_QUIET: Final = ("-vconsole:warn", "-vsyslog:off")
_PROGRAMS: Final = ("ovn-northd", "ovn-controller", "ovn-nbctl", "ovn-sbctl", "ovsdb-tool")
_DIRECTORIES: Final = ("OVN_RUNDIR", "OVN_DBDIR", "OVN_LOGDIR", "OVN_SYSCONFDIR")


class Ovn:
    """Databases and northd run while this context is entered."""

    def __init__(self, directory: Path, patience_s: int = 30) -> None:
        """``directory`` keeps databases, sockets and logs; older ones are replaced.

        No command is waited for any longer than ``patience_s``.
        """
        self._directory = directory.absolute()
        self._patience_s = patience_s
        self._stack = ExitStack()
        self._children: dict[str, Child] = {}
        self._rundir = self._directory
        """Where ovn-controller's control socket is: beside its switch's."""

    def __enter__(self) -> Self:
        for name in _PROGRAMS:
            program(name)
        if not SCHEMAS.exists():
            raise MissingError(f"no OVN schemas in {SCHEMAS} (Debian: ovn-common)")
        with ExitStack() as stack:
            stack.callback(self._end)
            self._start_databases()
            remotes = (f"--ovnnb-db={self.db}", f"--ovnsb-db={self.db}")
            self._daemon("ovn-northd", *remotes, environment=self._environment())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def db(self) -> str:
        """The remote of both databases."""
        return f"unix:{self._directory}/ovn.sock"

    @property
    def pids(self) -> Mapping[str, int]:
        """``ovsdb-server``, ``ovn-northd`` and ``ovn-controller``, those that run."""
        return {name: child.pid for name, child in self._children.items() if child.running}

    def nbctl(self, *arguments: str) -> str:
        """Output of ``ovn-nbctl``. Raises ``LabError`` with what it said."""
        return self._ctl("ovn-nbctl", *arguments)

    def sbctl(self, *arguments: str) -> str:
        """Output of ``ovn-sbctl``. Raises ``LabError`` with what it said."""
        return self._ctl("ovn-sbctl", *arguments)

    def start_controller(self, ovs: PrivateOvs, bridge: str) -> None:
        """Start ovn-controller on this bridge; returns when all that is wanted is installed.

        It asks nobody whether he is still there: who is busy with a thousand groups answers late.
        """
        settings = {
            "system-id": _CHASSIS,
            "ovn-remote": self.db,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge": bridge,
            "ovn-remote-probe-interval": "0",
            "ovn-openflow-probe-interval": "0",
        }
        ids = [f'external_ids:{key}="{value}"' for key, value in settings.items()]
        ovs.vsctl("set", "open_vswitch", ".", *ids)
        self._rundir = ovs.directory
        self._daemon("ovn-controller", ovs.db, environment=ovs.environment)
        self.sync()

    def stop_controller(self) -> None:
        """End ovn-controller; what it installed stays on the bridge."""
        child = self._children.pop("ovn-controller", None)
        if child is None:
            return
        control = self._rundir / f"ovn-controller.{child.pid}.ctl"
        if child.running and control.exists():  # a switch that was started anew swept it away
            _run(program("ovn-appctl"), "--timeout=20", "-t", str(control), "exit", "--restart")
        child.stop()

    def kill_controller(self) -> None:
        """End it as a crash would; what it installed stays on the bridge."""
        self._children.pop("ovn-controller").kill()

    def sync(self) -> None:
        """Return when the switch has what the northbound database says."""
        if "ovn-controller" in self._children:
            self._children["ovn-controller"].expect_running()
        self.nbctl("--wait=hv", "sync")

    def took_ms(self) -> int:
        """From northd's seeing the last waited-for change to its being in the switch."""
        stamps = "--columns=nb_cfg_timestamp,hv_cfg_timestamp"
        seen, done = map(int, self.nbctl(stamps, "--bare", "list", "NB_Global").split())
        return done - seen

    def await_ports(self, count: int) -> None:
        """Return when that many ports are in use; before the first is, ``sync`` waits for nobody.

        Raises ``LabError``.
        """
        up = ("--bare", "--columns=up", "list", "port_binding")
        until(
            lambda: self.sbctl(*up).count("true") >= count,
            lambda: f"OVN does not bring its ports up: {self.sbctl('show')}",
            READY_WITHIN_S,
        )
        self.sync()

    # what is wanted

    def add_switch(self, name: str, ports: Mapping[str, tuple[str, str]]) -> None:
        """A logical switch with these ports: name (the ``iface-id``) to hardware and IP address."""
        command = ["ls-add", name]
        for port, (mac, address) in ports.items():
            command += ["--", "lsp-add", name, port]
            command += ["--", "lsp-set-addresses", port, f"{mac} {address}"]
        self.nbctl(*command)

    def add_router(self, name: str, links: Mapping[str, tuple[str, str]]) -> None:
        """A logical router with a port on each of these switches: hardware address and network."""
        self.nbctl("lr-add", name)
        for switch, (mac, network) in links.items():
            inner, outer = f"{name}-{switch}", f"{switch}-{name}"
            self.nbctl(
                *("lrp-add", name, inner, mac, network),
                *("--", "lsp-add", switch, outer, "--", "lsp-set-type", outer, "router"),
                *("--", "lsp-set-addresses", outer, "router"),
                *("--", "lsp-set-options", outer, f"router-port={inner}"),
            )

    def add_balancer(self, name: str, switch: str, address: str, backends: Sequence[str]) -> None:
        """A TCP load balancer on the switch; addresses as ``10.0.0.1:80``."""
        self.nbctl(
            *("lb-add", name, address, ",".join(backends), "tcp"),
            *("--", "ls-lb-add", switch, name),
        )

    def set_backends(self, name: str, address: str, backends: Sequence[str]) -> None:
        """Other backends for a load balancer; returns when the switch has them."""
        vip = f'vips:"{address}"="{",".join(backends)}"'
        self.nbctl("--wait=hv", "set", "Load_Balancer", name, vip)

    # processes

    def _start_databases(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        databases = []
        for name in ("nb", "sb"):
            database, schema = self._directory / f"{name}.db", SCHEMAS / f"ovn-{name}.ovsschema"
            database.unlink(missing_ok=True)
            _run(program("ovsdb-tool"), "create", str(database), str(schema))
            databases.append(str(database))
        socket = self._directory / "ovn.sock"
        socket.unlink(missing_ok=True)
        arguments = (*databases, f"--remote=p{self.db}")
        child = self._daemon("ovsdb-server", *arguments, environment=self._environment())
        _await(socket.exists, child)
        self.nbctl("init")
        self.sbctl("init")
        # a database that is busy with a thousand groups answers late
        self.nbctl("set", "NB_Global", ".", "options:northd_probe_interval=0")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OVS_RUNDIR": str(self._directory)}

    def _daemon(self, name: str, *arguments: str, environment: Mapping[str, str]) -> Child:
        run = environment["OVS_RUNDIR"]
        own = dict.fromkeys(_DIRECTORIES, str(self._directory)) | {"OVN_RUNDIR": run}
        child = Child(
            name,
            (program(name), *arguments, "--no-chdir", *_QUIET),
            self._directory / f"{name}.log",
            environment={**environment, **own},
        )
        self._children[name] = child
        _await((Path(run) / f"{name}.{child.pid}.ctl").exists, child)
        return child

    def _end(self) -> None:
        self.stop_controller()
        for child in reversed(self._children.values()):
            child.stop(3.0)
        self._children.clear()

    def _ctl(self, name: str, *arguments: str) -> str:
        limit = f"--timeout={self._patience_s}"
        try:
            return _run(program(name), f"--db={self.db}", limit, *arguments)
        except LabError:
            for child in self._children.values():
                child.expect_running()
            raise


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        shown = " ".join(command)[:200]
        raise LabError(f"{shown}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _await(ready: Callable[[], bool], child: Child) -> None:
    def holds() -> bool:
        child.expect_running()
        return ready()

    until(holds, lambda: f"{child.name} does not start: {child.last_words()}", READY_WITHIN_S)
