"""The programs that the lab runs, and the error it gives when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
DIES_WITH_PARENT: Final = "setpriv --pdeathsig KILL"
SCRIPT_TIMEOUT_S: Final = 20.0
PACKAGES: Final = {
    "ovsdb-tool": "openvswitch-common",
    "ovsdb-server": "openvswitch-common",
    "ovs-vswitchd": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-ofctl": "openvswitch-common",
    "ovs-appctl": "openvswitch-common",
    "ip": "iproute2",
    "tc": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "virsh": "libvirt-clients",
    "libvirtd": "libvirt-daemon",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "dpkg-deb": "dpkg",
}


class LabError(Exception):
    """Something the lab needs failed or died; the message says what and what to do."""


class MissingError(LabError):
    """What is missing can only be mended by the operator: a program, a permission."""


def search_path() -> str:
    """PATH with the directories of administration programs, which not every user's has."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])


def program(name: str) -> str:
    """The path of the program ``name``. Raises ``MissingError`` when it is not installed."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise MissingError(f"{name} is not installed (Debian: {PACKAGES.get(name, name)})")
    return found


def require_root(what: str) -> None:
    """Raise ``MissingError`` unless this process is root."""
    if os.geteuid() != 0:
        raise MissingError(f"{what} needs root: run it with sudo or as root")


def run_script(script: str, *, environment: Mapping[str, str] | None = None) -> str:
    """Output of a shell script. Raises ``LabError`` with what its failing command said.

    The script's shell dies with this process: a killed caller does not go on making things.
    """
    done = subprocess.run(
        [*dies_with_parent(), "sh", "-c", script],
        env={**os.environ, **(environment or {}), "PATH": search_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise LabError(done.stderr.strip() or f"status {done.returncode} from: {script}")
    return done.stdout


def dies_with_parent() -> list[str]:
    """The words before a command that the kernel kills when the thread that started it ends."""
    return [program("setpriv"), *DIES_WITH_PARENT.split()[1:]]


def last_lines(path: Path, lines: int) -> str:
    """The end of a log, indented; empty when there is none."""
    try:
        written = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "".join(f"  {line}\n" for line in written[-lines:])
