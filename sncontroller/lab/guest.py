"""A small Linux guest: a kernel, and an initial RAM file system in which nginx serves.

Owns the way from a Debian kernel package and this machine's nginx, tc and busybox to two files.
Nothing is installed. The guest's service is the one that the lab's network namespaces run
(:mod:`sncontroller.lab.service`); the kernel's command line tells a guest who it is.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sncontroller.lab.programs import LabError, program, run_script
from sncontroller.lab.service import LINE, Service

KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
DOWNLOAD_TIMEOUT_S: Final = 300
_MODULES: Final = (  # in the order in which they go in
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
    "cdrom",
    "isofs",
    "sch_tbf",
)
_DIRECTORIES: Final = (
    *("bin", "dev", "etc", "modules", "proc", "seed", "srv", "sys", "usr/sbin", "var/log/nginx"),
)
_PROGRAMS: Final = ("nginx", "tc")
_ACCOUNTS: Final = {  # nginx looks them up, and stays root
    "etc/passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\nnobody:x:65534:\n",
}
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in {modules}; do insmod /modules/$module.ko; done
for word in $(cat /proc/cmdline); do
  case $word in sn.*=*) export "${{word#sn.}}" ;; esac
done
echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce
ip link set lo up; ip link set eth0 up
# a seed disk as cloud-init's NoCloud has it: of user data, scripts alone are understood
for disk in /dev/vd*; do mount -t iso9660 -o ro $disk /seed 2>/dev/null && break; done
[ -z "$seed" ] || name=$(sed -n 's/^local-hostname: //p' /seed/meta-data)
[ -z "$seed" ] || sh /seed/user-data
hostname "$name"
for one in $(echo "$group" | tr , ' '); do ip address add "$one/32" dev lo; done
[ -z "$address" ] || ip address add "$address" dev eth0
[ -z "$shaping" ] || /usr/sbin/tc $(echo "$shaping" | tr , ' ')
yes '{line}' | head -c ${{page_bytes:-{page_bytes}}} >/srv/page
sed "s/@name@/$name/" /etc/nginx.conf >/srv/nginx.conf
ulimit -n 4096
exec /usr/sbin/nginx -c /srv/nginx.conf
"""
_QUICK: Final = "console=ttyS0 quiet panic=1 mitigations=off no_timer_check cryptomgr.notests"
"""For a guest that is emulated: the kernel's tests of its ciphers take a fifth of such a boot."""
CMDLINE: Final = f"{_QUICK} sn.name={{name}} sn.address={{address}}/24 sn.group={{group_addresses}}"
"""What the guest wants to be told; for a plugin's ``cmdline``."""
CMDLINE_OF_SEED: Final = f"{_QUICK} sn.seed=yes"
"""For a guest that is told by its seed disk."""


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """What a guest boots."""

    kernel: Path
    initramfs: Path


def cmdline(service: Service) -> str:
    """For a plugin's ``cmdline``: a guest that serves this, at this rate."""
    shaping = ",".join(service.shaping[1:])
    return f"{CMDLINE} sn.page_bytes={service.page_bytes} sn.shaping={shaping}"


def guest_files(directory: Path, outside: Sequence[str] = ()) -> GuestFiles:
    """Ensure the guest's two files in ``directory``: the kernel is downloaded once.

    ``outside`` are the words before a command that needs the machine's own network.
    """
    directory = directory.absolute()
    init, nginx = _init(), Service().nginx("@name@", Path("/srv"))
    digest = hashlib.sha256((init + nginx).encode()).hexdigest()[:8]
    files = GuestFiles(directory / "vmlinuz", directory / f"initramfs-{digest}.cpio")
    if not (files.kernel.exists() and files.initramfs.exists()):
        directory.mkdir(parents=True, exist_ok=True)
        package = _package(directory, outside)
        with tempfile.TemporaryDirectory(dir=directory) as name:
            work = Path(name)
            subprocess.run(
                [program("dpkg-deb"), "-x", str(package), str(work / "tree")], check=True
            )
            _lay_out(work / "tree", work / "root", init, nginx)
            _pack(work / "root", work / "initramfs")
            (kernel,) = (work / "tree" / "boot").glob("vmlinuz-*")
            os.replace(kernel, files.kernel)
            os.replace(work / "initramfs", files.initramfs)
    return files


def _init() -> str:
    modules = " ".join(_MODULES)
    return _INIT.format(modules=modules, line=LINE, page_bytes=Service().page_bytes)


def _package(directory: Path, outside: Sequence[str]) -> Path:
    """The kernel's package, downloaded unless it is there."""
    if not list(directory.glob("linux-image-*.deb")):
        name = _package_name()
        if name is None:  # a machine that never had its lists of packages
            _outside(outside, "apt-get -qq update")
            name = _package_name()
        if name is None:
            raise LabError(f"apt knows no {KERNEL_PACKAGE}: the guest's kernel is Debian's, amd64")
        there = shlex.quote(str(directory))
        _outside(outside, f"cd {there} && apt-get -q -o APT::Sandbox::User=root download {name}")
    return next(directory.glob("linux-image-*.deb"))


def _package_name() -> str | None:
    """The package that the kernel's metapackage stands for."""
    said = run_script(f"apt-cache depends {KERNEL_PACKAGE} 2>/dev/null || true")
    lines = (line.split()[-1] for line in said.splitlines() if "Depends: linux-image" in line)
    return next(lines, None)


def _outside(words: Sequence[str], script: str) -> None:
    done = subprocess.run(
        [*words, "sh", "-c", script], capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
    )
    if done.returncode != 0:
        raise LabError(f"{script}: {done.stderr.strip()}")


def _lay_out(tree: Path, root: Path, init: str, nginx: str) -> None:
    """The guest's files; the kernel's package is unpacked in ``tree``."""
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    shutil.copy(program("busybox"), root / "bin" / "busybox")
    for name in _PROGRAMS:
        shutil.copy(program(name), root / "usr/sbin" / name)  # busybox has its own tc, in its shell
        for library in _libraries(program(name)):
            (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library[1:])
    for module in _MODULES:
        (found,) = tree.rglob(f"{module}.ko")
        shutil.copy(found, root / "modules" / f"{module}.ko")
    for name, text in {**_ACCOUNTS, "etc/nginx.conf": nginx, "init": init}.items():
        (root / name).write_text(text)
    (root / "init").chmod(0o755)


def _libraries(binary: str) -> list[str]:
    """The libraries that a program needs, by their paths."""
    words = run_script(f"ldd {shlex.quote(binary)}").split()
    return [word for word in words if word.startswith("/")]


def _pack(root: Path, initramfs: Path) -> None:
    """Not compressed: an emulated processor takes longer to unpack it than to read it."""
    pack = f"find . | busybox cpio -o -H newc 2>/dev/null >{shlex.quote(str(initramfs))}"
    run_script(f"cd {shlex.quote(str(root))} && {pack}")
