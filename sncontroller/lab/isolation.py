"""Network and mount namespaces of its own for a whole process: a lab that cannot leak."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any, Final

from sncontroller.lab.namespaces import RUN_NETNS
from sncontroller.lab.programs import LabError, program, require_root, run_script

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWNET: Final = 0x40000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_MNT_DETACH: Final = 2

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_outside: tuple[str, ...] | None = None


def isolate() -> tuple[str, ...]:
    """Move this process into network and mount namespaces of its own, once and for good.

    Interfaces, ports, bridges and named namespaces made from here on, by this process and its
    children, are invisible to the machine, cannot clash with its own, and vanish with the last of
    these processes, however it dies. There is no way out to other networks.

    Returns the words to put before a command that must run outside. Call it from the main thread
    before others start: threads that run already stay outside. Raises ``LabError``, and leaves the
    process where it was, when that cannot be had.
    """
    global _outside
    if _outside is None:
        require_root("a network namespace")
        original = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
        directory = os.getcwd()
        _libc(_LIBC.unshare, _CLONE_NEWNET | _CLONE_NEWNS)
        try:
            _furnish()
        except BaseException:
            _go_back(original, directory)
            raise
        net, mnt = (f"/proc/{os.getpid()}/fd/{fd}" for fd in original)
        _outside = (program("nsenter"), f"--net={net}", f"--mount={mnt}", "--")
    return _outside


def _furnish() -> None:
    """Make the new namespaces usable: a loopback that is up, names and interfaces of their own."""
    run_script("ip link set lo up")
    _libc(_LIBC.mount, b"none", b"/", None, _MS_REC_PRIVATE, None)
    os.makedirs(RUN_NETNS, exist_ok=True)
    _libc(_LIBC.mount, b"tmpfs", RUN_NETNS.encode(), b"tmpfs", 0, b"mode=0755")
    _LIBC.umount2(b"/sys", _MNT_DETACH)  # sysfs shows the namespace it was mounted in
    _libc(_LIBC.mount, b"sysfs", b"/sys", b"sysfs", 0, None)


def _go_back(original: Sequence[int], directory: str) -> None:
    """Return to the namespaces that the process came from: a bare one has no loopback."""
    for namespace in original:
        _libc(_LIBC.setns, namespace, 0)
        os.close(namespace)
    os.chdir(directory)  # entering a mount namespace goes to its root


def _libc(function: Any, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise LabError(f"{function.__name__}: {os.strerror(number)} (is this process root?)")
