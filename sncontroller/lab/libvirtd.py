"""A private libvirt daemon: its own state, socket and configuration in one directory.

Owns the daemon's process and its virtual machines'. libvirt's directories are compiled in, so each
gets a place of the private one's mounted over it, in a mount namespace that this process moves to
(:func:`sncontroller.lab.net.isolate`): the machine's libvirt is never touched. Daemon and machines
live in a process namespace of their own, which ends with this process, however that ends: a
virtual machine is nobody's child and would stay.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sncontroller.lab.isolation import isolate
from sncontroller.lab.programs import (
    LabError,
    dies_with_parent,
    last_lines,
    program,
    require_root,
    run_script,
)

START_TIMEOUT_S: Final = 20.0
END_PATIENCE_S: Final = 10.0
POLL_S: Final = 0.02
MOUNTS: Final = (
    "/etc/libvirt",
    "/run/libvirt",
    "/var/lib/libvirt",
    "/var/log/libvirt",
    "/var/cache/libvirt",
)
PID_FILE: Final = "/run/libvirt/libvirtd.pid"
USER: Final = "libvirt-qemu"
ACCOUNTS: Final = {
    "/etc/passwd": f"{USER}:x:64055:64055::/nonexistent:/usr/sbin/nologin",
    "/etc/group": f"{USER}:x:64055:",
}
_QEMU_CONF: Final = """\
namespaces = []
security_driver = "none"
security_default_confined = 0
cgroup_controllers = []
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
"""
_LIBVIRTD_CONF: Final = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
"""


class PrivateLibvirt:
    """libvirtd of our own, at ``qemu:///system`` for this process and its children."""

    uri: Final = "qemu:///system"

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """Keep everything in ``directory``; ``environment`` says where Open vSwitch is."""
        self._directory = directory
        self._environment = dict(environment)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._space: subprocess.Popen[str] | None = None
        self._made: list[str] = []

    def __enter__(self) -> Self:
        require_root("a private libvirt")
        isolate()
        for target in MOUNTS:
            self._cover(target)
        self._ensure_user()
        (self._directory / "etc-libvirt" / "qemu.conf").write_text(_QEMU_CONF)
        (self._directory / "etc-libvirt" / "libvirtd.conf").write_text(_LIBVIRTD_CONF)
        try:
            self._space = _process_namespace()
            self.start()
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
        if self._daemon is not None and self._daemon.poll() is None:
            self._end_guests()
        self.stop()
        if self._space is not None:
            self._space.kill()  # and with it all that lives in it
            self._space.communicate()
        for target in (*ACCOUNTS, *MOUNTS):
            subprocess.run(["umount", target], stderr=subprocess.DEVNULL)
        for target in self._made:
            os.rmdir(target)

    def start(self) -> None:
        """Start the daemon and return when it answers. Raises ``LabError``."""
        with open(self._directory / "libvirtd.err", "ab") as err:
            self._daemon = subprocess.Popen(
                self.argv("libvirtd", "--pid-file", PID_FILE),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        ask = [program("virsh"), "-q", "-c", self.uri, "list"]
        while subprocess.run(ask, capture_output=True).returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"libvirtd does not answer:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop the daemon by its pid; VMs go on, until the context ends."""
        if self._daemon is None:
            return
        self._signal("TERM")
        try:
            self._daemon.wait(END_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._signal("KILL")
            self._daemon.wait()
        self._daemon = None

    def argv(self, *command: str) -> list[str]:
        """The command line that runs ``command`` where the daemon is, who knows it by its pid."""
        if self._space is None:
            raise LabError("the private libvirt is not running")
        place = f"/proc/{self._space.pid}/ns"
        enter = [program("nsenter"), f"--mount={place}/mnt", f"--pid={place}/pid_for_children"]
        return [*dies_with_parent(), *enter, "--", program(command[0]), *command[1:]]

    def kill_guest(self, domain: str) -> None:
        """End a VM with SIGKILL, as a crash would."""
        script = f"kill -KILL $(cat '/run/libvirt/qemu/{domain}.pid')"
        subprocess.run(self.argv("sh", "-c", script), check=True)

    def _signal(self, name: str) -> None:
        """To the daemon: the process that this one started is only the way into the namespace."""
        script = f"kill -{name} $(cat {PID_FILE})"
        subprocess.run(self.argv("sh", "-c", script), capture_output=True)

    def log_tail(self) -> str:
        """The last lines that the daemon wrote."""
        return last_lines(self._directory / "libvirtd.err", 15)

    def _end_guests(self) -> None:
        virsh = [program("virsh"), "-q", "-c", self.uri]
        said = subprocess.run([*virsh, "list", "--uuid"], capture_output=True, text=True)
        for uuid in said.stdout.split():
            subprocess.run([*virsh, "destroy", uuid], capture_output=True)

    def _cover(self, target: str) -> None:
        place = self._directory / target.strip("/").replace("/", "-")
        place.mkdir(parents=True, exist_ok=True)
        if not os.path.isdir(target):
            os.makedirs(target)
            self._made.append(target)
        run_script(f"mount --bind '{place}' '{target}'")

    def _ensure_user(self) -> None:
        """libvirtd wants its user to exist, who comes with the package of its system service."""
        for file, line in ACCOUNTS.items():
            known = Path(file).read_text()
            if f"{USER}:" not in known:
                copy = self._directory / Path(file).name
                copy.write_text(f"{known}{line}\n")
                run_script(f"mount --bind '{copy}' '{file}'")


def _process_namespace() -> subprocess.Popen[str]:
    """A process namespace with a view of its own on /proc; it ends with the process returned."""
    unshare = [program("unshare"), "--fork", "--kill-child", "--pid", "--mount", "--mount-proc"]
    space = subprocess.Popen(
        [*dies_with_parent(), *unshare, sys.executable, "-m", "sncontroller.lab._first"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert space.stdout is not None
    if space.stdout.readline() != "ready\n":
        raise LabError(f"no process namespace: unshare ended with status {space.wait()}")
    return space
