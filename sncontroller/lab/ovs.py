"""A private Open vSwitch: its own database, daemons, sockets and logs in one directory.

Owns the two daemon processes and nothing else: it is started beside whatever Open vSwitch the
machine has and never speaks to that. The daemons are held as children, are killed by the kernel
when the process that started them dies, and are stopped by their own pids.

One thing cannot be private: the userspace datapath opens a tap device called ``ovs-netdev`` in the
network namespace it runs in, and each bridge one of its own name. A second userspace datapath needs
a second network namespace (:func:`sncontroller.lab.net.isolate`).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from sncontroller.controller_row import DEFAULT, PacketIns, replacing
from sncontroller.lab._tap import NETDEV_TAP, remove_tap, require_free_tap
from sncontroller.lab.programs import (
    LabError,
    MissingError,
    dies_with_parent,
    last_lines,
    program,
    require_root,
)

__all__ = ["LabError", "MissingError", "PrivateOvs", "program", "require_root"]

START_TIMEOUT_S: Final = 20.0
COMMAND_TIMEOUT_S: Final = 20
END_PATIENCE_S: Final = 5.0
ENDING_S: Final = 0.1
POLL_S: Final = 0.005
LOG_TAIL_LINES: Final = 15
OPENFLOW_VERSIONS: Final = "OpenFlow13,OpenFlow14,OpenFlow15"
SCHEMA_DIRECTORIES: Final = ("/usr/share/openvswitch", "/usr/local/share/openvswitch")

_Daemon: TypeAlias = subprocess.Popen[bytes]


class PrivateOvs:
    """ovsdb-server and ovs-vswitchd of our own; a context manager.

    Start it from a thread that lives as long as it: the kernel's parent-death signal follows the
    thread, not the process.
    """

    def __init__(
        self, directory: Path | str | None = None, *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Use ``directory`` (made if missing, kept afterwards) or a temporary one (removed).

        ``environment`` is added to that of the daemons and of :attr:`environment`.
        """
        self._given = Path(directory).absolute() if directory is not None else None
        self._extra = dict(environment or {})
        self._directory: Path | None = None
        self._ovsdb: _Daemon | None = None
        self._vswitchd: _Daemon | None = None
        self._bridges: dict[str, str] = {}
        self._noop_qos: str | None = None

    # -- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start both daemons and return when they answer. Raises ``LabError``."""
        require_root("a private Open vSwitch")
        for name in ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "setpriv"):
            program(name)
        self._directory = self._given or Path(tempfile.mkdtemp(prefix=f"sn-ovs-{os.getpid()}-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._create_database()
            self._start_ovsdb()
            self._start_vswitchd()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both daemons by their pids; remove the directory if it was a temporary one."""
        self._end_vswitchd()
        _end(self._ovsdb)
        self._vswitchd = self._ovsdb = None
        self._bridges.clear()
        self._noop_qos = None
        if self._directory is None:
            return
        if self._given is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        else:
            _unlink(*self._directory.glob("*.ctl"), *self._directory.glob("*.pid"))
            _unlink(*self._directory.glob("*.mgmt"), *self._directory.glob("*.snoop"))
            _unlink(self.directory / "db.sock")
        self._directory = None

    def restart_vswitchd(self) -> None:
        """Kill the switch daemon with SIGKILL and start it again: all flows are lost."""
        daemon = self._running(self._vswitchd, "ovs-vswitchd")
        daemon.kill()
        daemon.wait()
        _unlink(*self.directory.glob("*.mgmt"), *self.directory.glob("*.snoop"))
        self._start_vswitchd()

    # -- what children need ----------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Where sockets, database, pid files and logs are."""
        if self._directory is None:
            raise LabError("the private Open vSwitch is not running")
        return self._directory

    @property
    def db(self) -> str:
        """The database's remote for ``ovs-vsctl --db`` and for a plugin's ``ovsdb`` option."""
        return f"unix:{self.directory}/db.sock"

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which plain ovs-vsctl, ovs-ofctl and ovs-appctl find this switch."""
        directory = str(self.directory)
        return {
            **os.environ,
            **self._extra,
            "OVS_RUNDIR": directory,
            "OVS_DBDIR": directory,
            "OVS_LOGDIR": directory,
            "OVS_SYSCONFDIR": directory,
        }

    @property
    def pids(self) -> tuple[int, ...]:
        """The daemons' process ids: database, switch."""
        return tuple(child.pid for child in (self._ovsdb, self._vswitchd) if child is not None)

    # -- commands --------------------------------------------------------------------------------

    def vsctl(self, *arguments: str) -> str:
        """Standard output of ``ovs-vsctl``. Raises ``LabError`` with what it said."""
        said = self._command("ovs-vsctl", f"--timeout={COMMAND_TIMEOUT_S}", *arguments)
        if "Error detected while setting up" in said.stderr:
            raise LabError(
                f"ovs-vsctl {' '.join(arguments)}: {said.stderr.strip()}\n{self.log_tail()}"
            )
        return said.stdout

    def ofctl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of ``ovs-ofctl``, which speaks OpenFlow 1.3 or newer."""
        limits = ("-O", OPENFLOW_VERSIONS, f"--timeout={COMMAND_TIMEOUT_S}")
        return self._command("ovs-ofctl", *limits, *arguments, stdin=stdin).stdout

    def appctl(self, *arguments: str) -> str:
        """Standard output of ``ovs-appctl`` to the switch daemon."""
        limit = f"--timeout={COMMAND_TIMEOUT_S}"
        target = self._control(self._running(self._vswitchd, "ovs-vswitchd"))
        return self._command("ovs-appctl", limit, f"--target={target}", *arguments).stdout

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the switch daemon's log."""
        return last_lines(self.directory / "ovs-vswitchd.log", lines)

    # -- bridges and ports -----------------------------------------------------------------------

    def add_bridge(
        self,
        name: str,
        *,
        datapath_type: str = "netdev",
        fail_mode: str | None = None,
        dpid: int | None = None,
        controller: str | None = None,
        other_config: Mapping[str, str] | None = None,
    ) -> None:
        """Ensure a bridge. ``dpid`` is the 64-bit datapath id, ``controller`` as tcp:host:port."""
        if datapath_type == "netdev" and "netdev@" not in self.appctl("dpif/show"):
            require_free_tap()
        config = {"disable-in-band": "true", **(other_config or {})}
        if dpid is not None:
            config["datapath-id"] = f"{dpid:016x}"
        settings = [f"datapath_type={datapath_type}", *_map("other_config", config)]
        settings += [] if fail_mode is None else [f"fail_mode={fail_mode}"]
        command = ["--may-exist", "add-br", name, "--", "set", "bridge", name, *settings]
        if controller is not None:
            command += ["--", *replacing(name, [controller], DEFAULT)]
        self.vsctl(*command)
        self._bridges[name] = datapath_type

    def del_bridge(self, name: str) -> None:
        """Ensure that the bridge is gone."""
        self.vsctl("--if-exists", "del-br", name)
        self._bridges.pop(name, None)

    def set_controller(self, bridge: str, *targets: str, limit: PacketIns = DEFAULT) -> None:
        """Point the bridge at these controllers; the first one ever makes it flush its flows."""
        self.vsctl(*replacing(bridge, targets, limit))

    def add_port(
        self,
        bridge: str,
        name: str,
        *,
        external_ids: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        type: str | None = None,
        ofport: int | None = None,
        tag: int | None = None,
    ) -> int:
        """Ensure that the interface is a port of the bridge; its OpenFlow port number."""
        command = ["--may-exist", "add-port", bridge, name]
        if tag is not None:
            command.append(f"tag={tag}")
        settings = [*_map("external_ids", external_ids or {}), *_map("options", options or {})]
        if type is not None:
            settings.append(f"type={type}")
        if ofport is not None:
            settings.append(f"ofport_request={ofport}")
        if settings:
            command += ["--", "set", "interface", name, *settings]
        self.vsctl(*command)
        return self.ofport(name)

    def del_port(self, name: str) -> None:
        """Ensure that no bridge has this port."""
        self.vsctl("--if-exists", "del-port", name)

    def leave_qdisc(self, name: str) -> None:
        """Keep the daemon's hands off this port's qdisc, which it would delete otherwise."""
        if self._noop_qos is None:
            self._noop_qos = self.vsctl("create", "qos", "type=linux-noop").strip()
        self.vsctl("set", "port", name, f"qos={self._noop_qos}")

    def ofport(self, name: str) -> int:
        """The OpenFlow port number of an interface. Raises ``LabError`` when it has none."""
        said = self.vsctl("get", "interface", name, "ofport").strip()
        if not said.isdigit():
            raise LabError(f"port {name} has no OpenFlow port number ({said}):\n{self.log_tail()}")
        return int(said)

    def _create_database(self) -> None:
        database = self.directory / "conf.db"
        if not database.exists():
            self._command("ovsdb-tool", "create", str(database), _schema())

    def _start_ovsdb(self) -> None:
        _unlink(self.directory / "db.sock")
        self._ovsdb = self._daemon("ovsdb-server", "conf.db", f"--remote=p{self.db}")
        _wait_for("ovsdb-server", self._ovsdb, lambda: _answers(self.directory / "db.sock"), self)
        self.vsctl("--no-wait", "init")

    def _start_vswitchd(self) -> None:
        self._vswitchd = self._daemon("ovs-vswitchd", self.db, "--enable-dummy")
        control = self._control(self._vswitchd)
        _wait_for("ovs-vswitchd", self._vswitchd, lambda: _answers(control), self)
        # Any change that ovs-vsctl waits for: it returns when all bridges are configured.
        self.vsctl("set", "open_vswitch", ".", f"external_ids:sn-lab-pid={self._vswitchd.pid}")

    def _daemon(self, name: str, *arguments: str) -> _Daemon:
        log = self.directory / f"{name}.log"
        with open(self.directory / f"{name}.err", "wb") as err:
            return subprocess.Popen(
                [
                    *(*dies_with_parent(), program(name), *arguments),
                    *("--pidfile", "--no-chdir", f"--log-file={log}"),
                    *("-vconsole:emer", "-vsyslog:off"),
                ],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                start_new_session=True,  # Ctrl-C is ours to handle, the daemons end in stop()
            )

    def _end_vswitchd(self) -> None:
        """Its taps are persistent: asked to clean up it removes them, killed it leaves them."""
        if self._vswitchd is not None and self._vswitchd.poll() is None:
            try:
                self.appctl("exit", "--cleanup")
                self._vswitchd.wait(END_PATIENCE_S)
            except (LabError, subprocess.TimeoutExpired):
                _end(self._vswitchd)
        for tap in (name for name, kind in self._bridges.items() if kind == "netdev"):
            remove_tap(tap)
        if "netdev" in self._bridges.values():
            remove_tap(NETDEV_TAP)

    def _control(self, daemon: _Daemon) -> Path:
        return self.directory / f"ovs-vswitchd.{daemon.pid}.ctl"

    def _running(self, daemon: _Daemon | None, name: str) -> _Daemon:
        if daemon is None:
            raise LabError(f"{name} is not running")
        if daemon.poll() is not None:
            raise LabError(self.death(name, daemon))
        return daemon

    def death(self, name: str, daemon: _Daemon) -> str:
        """How a daemon ended, with the tail of what it wrote."""
        written = last_lines(self.directory / f"{name}.err", LOG_TAIL_LINES)
        written += last_lines(self.directory / f"{name}.log", LOG_TAIL_LINES)
        return f"{name} ended with status {daemon.returncode}; its last words:\n{written}"

    def _command(
        self, name: str, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program(name), *arguments],
            env=self.environment,
            input=stdin if stdin is not None else "",
            text=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S + 10,
        )
        if done.returncode == 0:
            return done
        for daemon, title in ((self._ovsdb, "ovsdb-server"), (self._vswitchd, "ovs-vswitchd")):
            if daemon is not None and _has_ended(daemon):
                raise LabError(self.death(title, daemon))
        said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
        raise LabError(f"{name} {' '.join(arguments)}: {said}")


def _schema() -> str:
    directories = [os.environ.get("OVS_PKGDATADIR", ""), *SCHEMA_DIRECTORIES]
    for directory in filter(None, directories):
        schema = Path(directory) / "vswitch.ovsschema"
        if schema.exists():
            return str(schema)
    raise LabError(f"no vswitch.ovsschema in {', '.join(SCHEMA_DIRECTORIES)} (openvswitch-switch)")


def _map(column: str, values: Mapping[str, str]) -> list[str]:
    return [f'{column}:{key}="{value}"' for key, value in values.items()]


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _wait_for(name: str, daemon: _Daemon, ready: Callable[[], bool], ovs: PrivateOvs) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if daemon.poll() is not None:
            raise LabError(ovs.death(name, daemon))
        if time.monotonic() > deadline:
            raise LabError(f"{name} does not answer after {START_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)


def _has_ended(daemon: _Daemon) -> bool:
    """Whether it has ended or is ending: its socket goes before its last thread does."""
    try:
        daemon.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(daemon: _Daemon | None) -> None:
    if daemon is None or daemon.poll() is not None:
        return
    daemon.terminate()
    try:
        daemon.wait(END_PATIENCE_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
