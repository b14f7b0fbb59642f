"""A live bridge through Open vSwitch's own tools: what is on it, and changing it.

Owns the command lines of ovs-vsctl, ovs-ofctl and ovs-appctl, and what their failures mean to an
operator. Entries are lines in the tools' own text, because a foreign entry must come back exactly
as it was, whatever it says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sncontroller.controller_row import Link, PacketIns
from sncontroller.core import layout
from sncontroller.errors import OperatorError

TIMEOUT_S: Final = 10
SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
OF13: Final = "OpenFlow13"
VERSIONS: Final = ("OpenFlow15", "OpenFlow14", OF13)
"""In the order of how much of an entry they can say."""
START_IT = "start it (systemctl start openvswitch-switch), or name its socket with --ovsdb"
_COOKIE = re.compile(r"cookie=(0x[0-9a-f]+)")
_GROUP_ID = re.compile(r"group_id=(\d+)")
_LIFETIME = re.compile(r"(idle|hard)_timeout=\d")


@dataclass(frozen=True, slots=True)
class Controller:
    """One controller that a bridge is told to connect to."""

    uuid: str
    target: str
    ours: bool
    """Whether it carries our mark."""
    link: Link
    packet_ins: PacketIns
    external_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the database says about a bridge."""

    fail_mode: str
    """``secure``, ``standalone``, or empty where it is not set (which means standalone)."""
    protocols: tuple[str, ...]
    controllers: tuple[Controller, ...]
    external_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entries:
    """Flows, groups and meters as lines that ovs-ofctl takes back."""

    flows: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    meters: frozenset[str] = frozenset()

    @property
    def ours(self) -> Entries:
        """Those with our cookie or in our range of groups."""
        return Entries(
            frozenset(line for line in self.flows if is_our_flow(line)),
            frozenset(line for line in self.groups if is_our_group(line)),
        )

    @property
    def foreign(self) -> Entries:
        """Everybody else's."""
        return self - self.ours

    @property
    def lasting(self) -> Entries:
        """Without the flows that go by themselves: those with a timeout."""
        flows = frozenset(line for line in self.flows if not _LIFETIME.search(line))
        return Entries(flows, self.groups, self.meters)

    def __sub__(self, other: Entries) -> Entries:
        return Entries(
            self.flows - other.flows, self.groups - other.groups, self.meters - other.meters
        )

    def __or__(self, other: Entries) -> Entries:
        return Entries(
            self.flows | other.flows, self.groups | other.groups, self.meters | other.meters
        )

    def __bool__(self) -> bool:
        return bool(self.flows or self.groups or self.meters)

    def __str__(self) -> str:
        counts = ((self.flows, "flow"), (self.groups, "group"), (self.meters, "meter"))
        told = [f"{len(of)} {what}{'s' * (len(of) != 1)}" for of, what in counts if of]
        return ", ".join(told) or "no entries"


def is_our_flow(line: str) -> bool:
    """Whether a line of ``dump-flows`` has our cookie."""
    found = _COOKIE.search(line)
    return found is not None and layout.origin(int(found[1], 16)) is not None


def is_our_group(line: str) -> bool:
    """Whether a line of ``dump-groups`` is in our range."""
    found = _GROUP_ID.search(line)
    return found is not None and layout.group_origin(int(found[1])) is not None


class Switch:
    """One Open vSwitch: its database, and the directory with its daemon's sockets."""

    def __init__(self, ovsdb: str | None = None, rundir: str | None = None) -> None:
        """Use the system's switch, or the one of this database (``unix:/path/db.sock``)."""
        if rundir is None and ovsdb is not None and ovsdb.startswith("unix:"):
            rundir = os.path.dirname(ovsdb.removeprefix("unix:"))
        self.ovsdb = ovsdb
        self.rundir = rundir

    @property
    def where(self) -> str:
        """Which switch this is, in words."""
        return "Open vSwitch" if self.ovsdb is None else f"Open vSwitch at {self.ovsdb}"

    def vsctl(self, *arguments: str) -> str:
        """Output of ovs-vsctl, which waits until the switch has done it."""
        database = [] if self.ovsdb is None else [f"--db={self.ovsdb}"]
        return self.run("ovs-vsctl", *database, f"--timeout={TIMEOUT_S}", *arguments)

    def rows(self, table: str, columns: str, *conditions: str) -> list[dict[str, Any]]:
        """Rows of a table of the database, as plain values."""
        said = json.loads(
            self.vsctl("--format=json", f"--columns={columns}", "find", table, *conditions)
        )
        names = said["headings"]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in said["data"]]

    def bridge(self, name: str) -> Bridge:
        """The bridge of that name. Raises ``OperatorError`` when there is none."""
        names = sorted(row["name"] for row in self.rows("bridge", "name"))
        if name not in names:
            there = ", ".join(names) or "none"
            raise OperatorError(f"no bridge {name}; {self.where} has: {there}")
        return Bridge(self, name)

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Output of one of the tools. Raises ``OperatorError``."""
        found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
        if found is None:
            raise OperatorError(f"{program} is not installed (Debian: openvswitch-switch)")
        environment = dict(os.environ)
        if self.rundir is not None:
            environment["OVS_RUNDIR"] = self.rundir
        try:
            done = subprocess.run(
                [found, *arguments],
                env=environment,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S + 5,
            )
        except subprocess.TimeoutExpired:
            raise OperatorError(f"{self.where} does not answer; {START_IT}") from None
        if done.returncode == 0:
            return done.stdout
        raise OperatorError(self._meaning(program, done.stderr))

    def _meaning(self, program: str, said: str) -> str:
        lines = [line for line in said.strip().splitlines() if "|WARN|" not in line]
        last = " ".join(lines).removeprefix(f"{program}: ") or "it gave no reason"
        if "Permission denied" in said:
            return f"no permission to speak to {self.where}; run as root (sudo)"
        if "database connection failed" in said:
            return f"{self.where} is not running: its database does not answer; {START_IT}"
        if "Alarm clock" in said or "failed to open socket" in said:
            return f"{self.where} is not running: ovs-vswitchd does not answer; {START_IT}"
        if "is not a bridge or a socket" in said:
            return (
                f"{last}, yet the database has it: ovs-vswitchd's sockets are elsewhere; "
                "name their directory with --rundir"
            )
        return f"{program}: {last}"


class Bridge:
    """One bridge of a switch."""

    def __init__(self, switch: Switch, name: str) -> None:
        """Use ``Switch.bridge``, which knows whether there is such a bridge."""
        self.switch = switch
        self.name = name

    def settings(self) -> Settings:
        """What the database says about it."""
        columns = "fail_mode,protocols,controller,external_ids"
        (row,) = self.switch.rows("bridge", columns, f"name={self.name}")
        limits = "controller_rate_limit,controller_burst_limit"
        columns = f"_uuid,target,external_ids,is_connected,status,{limits}"
        known = {each["_uuid"]: each for each in self.switch.rows("controller", columns)}
        controllers = (known[uuid] for uuid in _listed(row["controller"]))
        return Settings(
            fail_mode="" if row["fail_mode"] == [] else row["fail_mode"],
            protocols=tuple(_listed(row["protocols"])),
            controllers=tuple(_controller(each) for each in controllers),
            external_ids=row["external_ids"],
        )

    def ports(self) -> dict[str, int]:
        """OpenFlow port numbers by name, of the ports that have one."""
        names = set(self.switch.vsctl("list-ports", self.name).split()) | {self.name}
        rows = self.switch.rows("interface", "name,ofport")
        return {
            row["name"]: row["ofport"]
            for row in rows
            if row["name"] in names and isinstance(row["ofport"], int) and row["ofport"] > 0
        }

    def neighbour(self, port: str, number: int) -> str | None:
        """The hardware address behind a port: as the hypervisor noted it, or as it was learned."""
        rows = self.switch.rows("interface", "external_ids", f"name={port}")
        noted: str | None = rows[0]["external_ids"].get("attached-mac") if rows else None
        if noted:
            return noted.lower()
        behind = {mac for at, mac in self._learned() if at == number}
        return behind.pop() if len(behind) == 1 else None

    def port_of(self, mac: str) -> int | None:
        """The number of the port behind which a hardware address was learned."""
        return next((at for at, found in self._learned() if found == mac), None)

    def _learned(self) -> list[tuple[int, str]]:
        """Port numbers and hardware addresses, as the bridge's own forwarding knows them."""
        lines = (line.split() for line in self.appctl("fdb/show", self.name).splitlines())
        return [
            (int(words[0]), words[2]) for words in lines if len(words) == 4 and words[0].isdigit()
        ]

    def entries(self, version: str) -> Entries:
        """All flows, groups and meters, in the text of this OpenFlow version."""
        form = ("-O", version, "--no-names")
        flows = self._ofctl(*form, "--no-stats", "dump-flows", self.name)
        groups = self._ofctl(*form, "dump-groups", self.name)
        meters = self._ofctl(*form, "dump-meters", self.name)
        return Entries(
            frozenset(line.strip() for line in flows.splitlines() if "actions=" in line),
            frozenset(line.strip() for line in groups.splitlines() if "group_id=" in line),
            frozenset(_meters(meters)),
        )

    def change(self, version: str, lines: Iterable[str]) -> None:
        """Carry out lines such as ``flow add ...`` and ``group add ...``, all or none of them."""
        text = "".join(f"{line}\n" for line in lines)
        if text:
            self._ofctl("-O", version, "bundle", self.name, "-", stdin=text)

    def set_meters(self, version: str, meters: Iterable[str]) -> None:
        """Ensure these meters."""
        there = self.entries(version).meters
        for meter in sorted(frozenset(meters) - there):
            self._ofctl("-O", version, "add-meter", self.name, meter)

    def version(self, settings: Settings) -> str:
        """The OpenFlow version to speak: at least 1.3, and the one that says most."""
        for version in VERSIONS:
            if not settings.protocols or version in settings.protocols:
                return version
        raise self._speaks_another(settings)

    def require_controllable(self, settings: Settings) -> None:
        """Raise ``OperatorError`` when the controller, which speaks 1.3, would not be heard."""
        if settings.protocols and OF13 not in settings.protocols:
            raise self._speaks_another(settings)

    def _speaks_another(self, settings: Settings) -> OperatorError:
        return OperatorError(
            f"bridge {self.name} speaks only {', '.join(settings.protocols)}; allow 1.3: "
            f"ovs-vsctl add bridge {self.name} protocols {OF13}"
        )

    def appctl(self, *arguments: str) -> str:
        """Output of ovs-appctl."""
        return self.switch.run("ovs-appctl", f"--timeout={TIMEOUT_S}", *arguments)

    def _ofctl(self, *arguments: str, stdin: str = "") -> str:
        return self.switch.run("ovs-ofctl", f"--timeout={TIMEOUT_S}", *arguments, stdin=stdin)


def _controller(row: dict[str, Any]) -> Controller:
    rate, burst = (
        row[f"controller_{what}_limit"] if row[f"controller_{what}_limit"] != [] else None
        for what in ("rate", "burst")
    )
    return Controller(
        row["_uuid"],
        row["target"],
        MARK in row["external_ids"],
        Link.told(row["is_connected"] is True, row["status"]),
        PacketIns(rate, burst),
        row["external_ids"],
    )


MARK: Final = "sncontroller"
"""Key in the external_ids of a controller row that we made."""


def _meters(dump: str) -> Iterable[str]:
    """The meters of ``dump-meters``, with several lines for each, as add-meter wants them."""
    for block in dump.partition("\n")[2].split("\n\n"):
        text = ",".join(block.split())
        if text.startswith("meter="):
            yield text.replace("bands=,", "bands=")


def _plain(value: Any) -> Any:
    """A value of OVSDB's JSON as a plain one: sets as lists, maps as dictionaries."""
    if isinstance(value, list) and len(value) == 2:
        kind, content = value
        if kind == "set":
            return [_plain(item) for item in content]
        if kind == "map":
            return dict(content)
        if kind == "uuid":
            return content
    return value


def _listed(value: Any) -> list[Any]:
    """OVSDB writes a set of one as that one."""
    return value if isinstance(value, list) else [value]
