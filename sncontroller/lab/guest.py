"""A small Linux guest: a kernel, and an initial RAM file system that serves HTTP.

Owns the way from a Debian kernel package and busybox to two files. Nothing is installed.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sncontroller.lab.programs import LabError, program, run_script

KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
DOWNLOAD_TIMEOUT_S: Final = 120
_MODULES: Final = (  # in the order in which they go in
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
)
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys
for module in {modules}; do insmod /modules/$module.ko; done
for word in $(cat /proc/cmdline); do
  case $word in sn.address=*|sn.group=*|sn.name=*) export "${{word#sn.}}" ;; esac
done
echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce
ip link set lo up; ip address add "$group/32" dev lo
ip link set eth0 up; ip address add "$address" dev eth0
mkdir -p /www; echo "$name" >/www/index.html
exec httpd -f -p 80 -h /www
"""
CMDLINE: Final = (
    "console=ttyS0 quiet panic=1 sn.name={name} sn.address={address}/24 sn.group={group_addresses}"
)
"""What the guest wants to be told; for a plugin's ``cmdline``."""


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """What a guest boots."""

    kernel: Path
    initramfs: Path


def guest_files(directory: Path, outside: Sequence[str] = ()) -> GuestFiles:
    """Ensure the guest's two files in ``directory``: the kernel is downloaded once.

    ``outside`` are the words before a command that needs the machine's own network.
    """
    files = GuestFiles(directory / "vmlinuz", directory / "initramfs.gz")
    if not (files.kernel.exists() and files.initramfs.exists()):
        directory.mkdir(parents=True, exist_ok=True)
        tree = directory / "package"
        _unpack(directory, tree, outside)
        (kernel,) = (tree / "boot").glob("vmlinuz-*")
        _pack(tree, directory / "root", files.initramfs)
        shutil.copy(kernel, files.kernel)
        shutil.rmtree(tree)
        shutil.rmtree(directory / "root")
    return files


def _unpack(directory: Path, tree: Path, outside: Sequence[str]) -> None:
    """Download the package that the kernel's metapackage stands for, and unpack it."""
    if not list(directory.glob("linux-image-*.deb")):
        said = run_script(f"apt-cache depends {KERNEL_PACKAGE}")
        names = [line.split()[-1] for line in said.splitlines() if "Depends: linux-image" in line]
        if not names:
            raise LabError(f"apt knows no {KERNEL_PACKAGE}; run apt-get update")
        download = f"apt-get -q -o APT::Sandbox::User=root download {names[0]}"
        done = subprocess.run(
            [*outside, "sh", "-c", f"cd {shlex.quote(str(directory.absolute()))} && {download}"],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise LabError(f"apt-get download {names[0]}: {done.stderr.strip()}")
    (package,) = directory.glob("linux-image-*.deb")
    subprocess.run([program("dpkg-deb"), "-x", str(package), str(tree)], check=True)


def _pack(tree: Path, root: Path, initramfs: Path) -> None:
    for name in ("bin", "proc", "sys", "dev", "modules"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(program("busybox"), root / "bin" / "busybox")
    for module in _MODULES:
        (found,) = tree.rglob(f"{module}.ko")
        shutil.copy(found, root / "modules" / f"{module}.ko")
    init = root / "init"
    init.write_text(_INIT.format(modules=" ".join(_MODULES)))
    init.chmod(0o755)
    pack = "find . | busybox cpio -o -H newc 2>/dev/null | gzip -1"
    run_script(f"cd '{root}' && {pack} >'{initramfs}'")
