"""A private podman: containers, images and locks of its own, and an image that serves HTTP.

Owns what is mounted over podman's directories in a mount namespace that this process moves to
(:func:`sncontroller.lab.net.isolate`): the machine's containers are never seen or touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sncontroller.lab.isolation import isolate
from sncontroller.lab.programs import LabError, program, require_root, run_script

IMAGE: Final = "localhost/sn-web:1"
"""A few files of busybox: its service answers on port 80 with the container's host name."""
SERVICE: Final = "mkdir -p /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www"
OPTIONS: Final = ("--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
"""For ``podman run`` inside of containers and small VMs, which may not raise limits."""
MOUNTS: Final = {
    "/var/lib/containers": "tmpfs",
    "/run/containers": "tmpfs",
    "/run/libpod": "tmpfs",
    "/run/crun": "tmpfs",
    "/dev/shm": "tmpfs",
    # crun looks for it; the sysfs of isolate() comes without
    "/sys/fs/cgroup": "cgroup2",
}
_APPLETS: Final = ("sh", "httpd", "hostname", "mkdir", "sleep", "echo")
_TIMEOUT_S: Final = 60


class PrivatePodman:
    """podman with nothing but :data:`IMAGE`, for this process and its children."""

    def __init__(self) -> None:
        """Nothing is done yet."""
        self._mounted: list[str] = []
        self._made: list[str] = []

    def __enter__(self) -> Self:
        require_root("a private podman")
        isolate()
        try:
            for target, kind in MOUNTS.items():
                if not os.path.isdir(target):
                    os.makedirs(target)
                    self._made.append(target)
                run_script(f"mount -t {kind} none {target}")
                self._mounted.append(target)
            self._import_image()
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
        if self._mounted:
            self.run("rm", "--force", "--all", "--time", "0")
        for target in reversed(self._mounted):
            # its storage is a mount on a mount
            subprocess.run(["umount", "--recursive", target], stderr=subprocess.DEVNULL)
        for target in self._made:
            os.rmdir(target)
        self._mounted.clear()
        self._made.clear()

    def run(self, *arguments: str) -> str:
        """What podman prints. Raises ``LabError`` with what it said."""
        done = subprocess.run(
            [program("podman"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise LabError(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _import_image(self) -> None:
        with tempfile.TemporaryDirectory(prefix=f"sn-image-{os.getpid()}-") as directory:
            binaries = Path(directory, "bin")
            binaries.mkdir()
            shutil.copy(program("busybox"), binaries / "busybox")
            for applet in _APPLETS:
                (binaries / applet).symlink_to("busybox")
            archive = Path(directory, "image.tar")
            with tarfile.open(archive, "w") as tar:
                tar.add(binaries, "bin")
            command = f'CMD ["sh", "-c", "{SERVICE}"]'
            self.run("import", "--quiet", "--change", command, str(archive), IMAGE)
