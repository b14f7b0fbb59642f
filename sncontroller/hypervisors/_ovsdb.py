"""Ports of Open vSwitch as a plugin sees them: tagged records in OVSDB, through ovs-vsctl.

Owns the commands and what their failures mean to the controller. It touches no port that its caller
does not name, and no table but Port and Interface.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sncontroller.hypervisors.base import PermanentError, TransientError
from sncontroller.lab.programs import dies_with_parent, program

TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class PortRecord:
    """One interface as OVSDB has it."""

    name: str
    ofport: int | None
    """None until the daemon has configured it, and -1 when it could not."""
    tags: Mapping[str, str]
    error: str = ""
    down: bool = False
    """Whether its link is known to be down; so is that of an interface that has gone."""


class Ovsdb:
    """The ports in one Open vSwitch database; ``remote`` None is the system's."""

    def __init__(self, remote: str | None) -> None:
        """Speak to ``remote``, as ``unix:/run/openvswitch/db.sock``."""
        self._remote = remote

    def ports(self) -> dict[str, PortRecord]:
        """Every interface by name."""
        columns = "--columns=name,ofport,external_ids,error,link_state"
        said = json.loads(self._vsctl("--format=json", columns, "list", "interface"))
        return {row[0]: _record(*row) for row in said["data"]}

    def identity(self) -> str:
        """What tells this database from every other one, as long as it exists."""
        return self._vsctl("get", "Open_vSwitch", ".", "_uuid").strip()

    def record_port(
        self, bridge: str, name: str, tags: Mapping[str, str], vlan: int | None
    ) -> None:
        """Ensure that the port is recorded with these tags; its interface need not exist yet."""
        port = [] if vlan is None else ["--", "set", "port", name, f"tag={vlan}"]
        interface = ["--", "set", "interface", name, *_settings(tags)]
        add = ["--may-exist", "add-port", bridge, name]
        self._vsctl("--no-wait", *add, *port, *interface)

    def settle_port(self, name: str, tags: Mapping[str, str]) -> None:
        """Add tags and return when the daemon has the port open. Raises ``TransientError``."""
        self._vsctl("set", "interface", name, *_settings(tags))
        record = self.ports().get(name)
        if record is None or record.ofport is None or record.ofport < 0:
            why = record.error if record is not None else "its record vanished"
            raise TransientError(
                f"Open vSwitch cannot open port {name}: {why or 'no reason given'}"
            )

    def delete_port(self, name: str) -> None:
        """Ensure that the record is gone; it does not wait for the daemon."""
        self._vsctl("--no-wait", "--if-exists", "del-port", name)

    def _vsctl(self, *arguments: str) -> str:
        database = [] if self._remote is None else [f"--db={self._remote}"]
        vsctl = [*dies_with_parent(), program("ovs-vsctl")]
        command = [*vsctl, *database, f"--timeout={TIMEOUT_S}", *arguments]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S + 5,
            )
        except subprocess.TimeoutExpired as error:
            raise TransientError(f"{self._where} does not answer in {TIMEOUT_S} s") from error
        if done.returncode == 0:
            return done.stdout
        raise self._failure(done.stderr)

    def _failure(self, said: str) -> TransientError | PermanentError:
        last = said.strip().splitlines()[-1].removeprefix("ovs-vsctl: ") if said.strip() else "?"
        if "Alarm clock" in said:
            return TransientError(
                f"{self._where} does not answer in {TIMEOUT_S} s: is ovs-vswitchd running?"
            )
        if "database connection failed" in said:
            return TransientError(f"{self._where} cannot be reached, is it running? ({last})")
        if "no bridge named" in said:
            return PermanentError(f"{self._where}: {last}; make it or correct the group's bridge")
        return TransientError(f"{self._where}: {last}")

    @property
    def _where(self) -> str:
        return "Open vSwitch" if self._remote is None else f"Open vSwitch at {self._remote}"


def _record(name: str, ofport: Any, external_ids: Any, error: Any, link: Any) -> PortRecord:
    return PortRecord(
        name=name,
        ofport=ofport if isinstance(ofport, int) else None,
        tags=dict(external_ids[1]),
        error=error if isinstance(error, str) else "",
        down=link == "down",
    )


def _settings(tags: Mapping[str, str]) -> list[str]:
    return [f"external_ids:{key}={json.dumps(value)}" for key, value in tags.items()]
