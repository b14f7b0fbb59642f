"""A private OVN: both databases, northd and, when wanted, ovn-controller on a private switch.

Owns these processes, their sockets and logs in one directory, started from Debian's packages
without their services. ovn-controller programs whichever bridge it is told.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sncontroller.lab.child import Child
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError, program, run_script

SCHEMAS: Final = Path("/usr/share/ovn")
READY_WITHIN_S: Final = 20.0
COMMAND_TIMEOUT_S: Final = 60
_CHASSIS = "bench"
_QUIET = ("-vconsole:emer", "-vsyslog:off")


class Ovn:
    """Databases and northd run while this context is entered."""

    def __init__(self, directory: Path) -> None:
        """``directory`` keeps databases, sockets and logs; older ones are replaced."""
        self._directory = directory.absolute()
        self._stack = ExitStack()
        self._northd: Child | None = None
        self._controller: Child | None = None
        self._rundir = self._directory

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_controller()
        self._stack.close()
        self._northd = None

    @property
    def pids(self) -> tuple[int, ...]:
        """northd and ovn-controller, those that run."""
        return tuple(child.pid for child in (self._northd, self._controller) if child is not None)

    @property
    def northbound(self) -> str:
        """The remote of the northbound database."""
        return f"unix:{self._directory}/nb.sock"

    @property
    def southbound(self) -> str:
        """The remote of the southbound database."""
        return f"unix:{self._directory}/sb.sock"

    def nbctl(self, *arguments: str) -> str:
        """Output of ``ovn-nbctl``. Raises ``LabError`` with what it said."""
        return self._ctl("ovn-nbctl", self.northbound, *arguments)

    def sbctl(self, *arguments: str) -> str:
        """Output of ``ovn-sbctl``. Raises ``LabError`` with what it said."""
        return self._ctl("ovn-sbctl", self.southbound, *arguments)

    def start_controller(self, ovs: PrivateOvs, bridge: str) -> None:
        """Start ovn-controller on this bridge; returns when all that is wanted is installed."""
        settings = {
            "system-id": _CHASSIS,
            "ovn-remote": self.southbound,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge": bridge,
            "ovn-bridge-datapath-type": "netdev",
        }
        ids = [f'external_ids:{key}="{value}"' for key, value in settings.items()]
        ovs.vsctl("set", "open_vswitch", ".", *ids)
        self._rundir = ovs.directory
        self._controller = self._daemon("ovn-controller", ovs.db, environment=ovs.environment)
        self.sync()

    def stop_controller(self) -> None:
        """End ovn-controller; what it installed stays on the bridge."""
        if self._controller is None:
            return
        child, self._controller = self._controller, None
        control = self._rundir / f"ovn-controller.{child.pid}.ctl"
        if child.running and control.exists():  # a switch that was started anew swept it away
            _run(program("ovn-appctl"), "-t", str(control), "exit", "--restart")
        child.stop()

    def sync(self) -> None:
        """Return when the switch has what the northbound database says."""
        if self._controller is not None:
            self._controller.expect_running()
        self.nbctl("--wait=hv", "sync")

    def await_ports(self, count: int) -> None:
        """Return when that many ports are in use; before the first is, ``sync`` waits for nobody.

        Raises ``LabError``.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while self.sbctl("--bare", "--columns=up", "list", "port_binding").count("true") < count:
            if time.monotonic() > deadline:
                raise LabError(f"OVN does not bring its ports up: {self.sbctl('show')}")
            time.sleep(0.05)
        self.sync()

    # what is wanted

    def add_switch(self, name: str, ports: Mapping[str, tuple[str, str]]) -> None:
        """A logical switch with these ports: name (the ``iface-id``) to hardware and IP address."""
        command = ["ls-add", name]
        for port, (mac, address) in ports.items():
            command += ["--", "lsp-add", name, port]
            command += ["--", "lsp-set-addresses", port, f"{mac} {address}"]
        self.nbctl(*command)

    def add_router(self, name: str, switch: str, mac: str, network: str) -> None:
        """A logical router with one port, on this switch."""
        inner, outer = f"{name}-{switch}", f"{switch}-{name}"
        self.nbctl(
            *("lr-add", name, "--", "lrp-add", name, inner, mac, network),
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

    # processes

    def _start(self, stack: ExitStack) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for old in self._directory.glob("*.db"):
            old.unlink()
        for short, schema in (("nb", "ovn-nb.ovsschema"), ("sb", "ovn-sb.ovsschema")):
            database, socket = self._directory / f"{short}.db", self._directory / f"{short}.sock"
            socket.unlink(missing_ok=True)
            _run(program("ovsdb-tool"), "create", str(database), str(SCHEMAS / schema))
            log = self._directory / f"{short}.log"
            child = Child(
                f"ovsdb-server ({short})",
                (
                    *(program("ovsdb-server"), str(database), f"--remote=punix:{socket}"),
                    *("--no-chdir", f"--unixctl={self._directory}/{short}.ctl", *_QUIET),
                ),
                log,
                environment=self._environment(),
            )
            stack.callback(child.stop)
            _await_path(socket, child)
        self.nbctl("init")
        self.sbctl("init")
        remotes = (f"--ovnnb-db={self.northbound}", f"--ovnsb-db={self.southbound}")
        self._northd = self._daemon("ovn-northd", *remotes, environment=self._environment())
        stack.callback(self._northd.stop)

    def _environment(self) -> dict[str, str]:
        directory = str(self._directory)
        names = ("OVS_RUNDIR", "OVS_LOGDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR")
        return {**os.environ, **dict.fromkeys(names, directory)}

    def _daemon(self, name: str, *arguments: str, environment: Mapping[str, str]) -> Child:
        run = environment["OVS_RUNDIR"]
        child = Child(
            name,
            (program(name), *arguments, "--no-chdir", *_QUIET),
            self._directory / f"{name}.log",
            environment={**environment, "OVN_RUNDIR": run},
        )
        _await_path(Path(run) / f"{name}.{child.pid}.ctl", child)
        return child

    def _ctl(self, name: str, database: str, *arguments: str) -> str:
        limit = f"--timeout={COMMAND_TIMEOUT_S}"
        return _run(program(name), f"--db={database}", limit, *arguments)


def _run(*command: str) -> str:
    return run_script(shlex.join(command))


def _await_path(path: Path, child: Child) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not path.exists():
        child.expect_running()
        if time.monotonic() > deadline:
            raise LabError(f"{child.name} does not start: {child.last_words()}")
        time.sleep(0.02)
