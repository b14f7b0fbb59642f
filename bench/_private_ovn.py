"""A private OVN: its databases, northd and controller, beside a private Open vSwitch.

Owns these three daemons and their directory. They never speak to the machine's own OVN or Open
vSwitch, are held as children, and end with this process.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sncontroller.lab.child import Child
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError, MissingError, program

BRIDGE = "br-int"
SCHEMAS = Path("/usr/share/ovn")
COMMAND_TIMEOUT_S = 120
_ANSWERS_WITHIN_S = 20.0
_PROGRAMS = ("ovn-northd", "ovn-controller", "ovn-nbctl", "ovn-sbctl", "ovsdb-tool")


class PrivateOvn:
    """ovsdb-server for both databases, ovn-northd, ovn-controller; a context manager.

    The bridge ``br-int`` must be there.
    """

    def __init__(self, ovs: PrivateOvs, directory: Path) -> None:
        """Use ``directory``, which is made."""
        self.ovs, self.directory = ovs, directory
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        for name in _PROGRAMS:
            program(name)
        if not SCHEMAS.exists():
            raise MissingError(f"no OVN schemas in {SCHEMAS} (Debian: ovn-common)")
        self.directory.mkdir(parents=True)
        try:
            self._start_databases()
            self._start("ovn-northd", f"--ovnnb-db={self.db}", f"--ovnsb-db={self.db}")
            self._introduce()
            self.start_controller()
            self.nbctl("--wait=hv", "sync")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._children.values()):
            child.stop(3.0)
        self._children.clear()

    @property
    def db(self) -> str:
        """The remote of both databases."""
        return f"unix:{self.directory}/ovn.sock"

    @property
    def environment(self) -> Mapping[str, str]:
        """Where OVN's and Open vSwitch's programs find each other."""
        own = str(self.directory)
        places = ("OVN_RUNDIR", "OVN_DBDIR", "OVN_LOGDIR", "OVN_SYSCONFDIR")
        return {**self.ovs.environment, **dict.fromkeys(places, own)}

    def pid(self, name: str) -> int:
        """The process id of ``ovsdb-server``, ``ovn-northd`` or ``ovn-controller``."""
        self._children[name].expect_running()
        return self._children[name].pid

    def start_controller(self) -> None:
        """Start ovn-controller; it needs a moment."""
        self._start("ovn-controller", self.ovs.db)

    def kill_controller(self) -> None:
        """End it as a crash would; the flows stay."""
        self._children.pop("ovn-controller").kill()

    def nbctl(self, *arguments: str) -> str:
        """What ``ovn-nbctl`` prints. Raises ``LabError``."""
        return self._command("ovn-nbctl", *arguments)

    def sbctl(self, *arguments: str) -> str:
        """What ``ovn-sbctl`` prints. Raises ``LabError``."""
        return self._command("ovn-sbctl", *arguments)

    def took_ms(self) -> int:
        """From northd's seeing the last waited-for change to its being in the switch."""
        said = self.nbctl(
            "--columns=nb_cfg_timestamp,hv_cfg_timestamp", "--bare", "list", "NB_Global"
        )
        seen, done = map(int, said.split())
        return done - seen

    def _start_databases(self) -> None:
        for name in ("nb", "sb"):
            schema = SCHEMAS / f"ovn-{name}.ovsschema"
            self._run("ovsdb-tool", "create", str(self.directory / f"{name}.db"), str(schema))
        self._start(
            *("ovsdb-server", f"--remote=p{self.db}"),
            *(str(self.directory / f"{name}.db") for name in ("nb", "sb")),
        )
        until_answers(lambda: self._command("ovn-nbctl", "init"))
        self._command("ovn-sbctl", "init")
        # a database that is busy with a thousand groups answers late
        self.nbctl("set", "NB_Global", ".", "options:northd_probe_interval=0")

    def _introduce(self) -> None:
        settings = {
            "system-id": "bench",
            "ovn-remote": self.db,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge": BRIDGE,
            "ovn-remote-probe-interval": "0",
            "ovn-openflow-probe-interval": "0",
        }
        self.ovs.vsctl(
            *("set", "open_vswitch", "."),
            *(f'external_ids:{key}="{value}"' for key, value in settings.items()),
        )

    def _start(self, name: str, *arguments: str) -> None:
        command = [program(name), *arguments, "-vconsole:warn", "-vsyslog:off"]
        log = self.directory / f"{name}.log"
        self._children[name] = Child(name, command, log, environment=self.environment)

    def _command(self, name: str, *arguments: str) -> str:
        limit = f"--timeout={COMMAND_TIMEOUT_S}"
        return self._run(name, f"--db={self.db}", limit, *arguments)

    def _run(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [program(name), *arguments],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S + 10,
        )
        if done.returncode != 0:
            for child in self._children.values():
                child.expect_running()
            shown = " ".join(arguments)[:200]
            raise LabError(f"{name} {shown}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def until_answers(ask: Callable[[], object]) -> None:
    """Try until it does not raise ``LabError``, but not for ever."""
    deadline = time.monotonic() + _ANSWERS_WITHIN_S
    while True:
        try:
            ask()
            return
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
