"""Network and mount namespaces of its own for a whole process: a lab that cannot leak."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

from sncontroller.lab.namespaces import RUN_NETNS
from sncontroller.lab.programs import LabError, program, require_root, run_script

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWNET: Final = 0x40000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_MNT_DETACH: Final = 2

_outside: tuple[str, ...] | None = None


def isolate() -> tuple[str, ...]:
    """Move this process into network and mount namespaces of its own, once and for good.

    Interfaces, ports, bridges and named namespaces made from here on, by this process and its
    children, are invisible to the machine, cannot clash with its own, and vanish with the last of
    these processes, however it dies. There is no way out to other networks.

    Returns the words to put before a command that must run outside. Call it from the main thread
    before others start: threads that run already stay outside.
    """
    global _outside
    if _outside is None:
        require_root("a network namespace")
        original = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
        libc = ctypes.CDLL(None, use_errno=True)
        _libc(libc.unshare, _CLONE_NEWNET | _CLONE_NEWNS)
        _libc(libc.mount, b"none", b"/", None, _MS_REC_PRIVATE, None)
        os.makedirs(RUN_NETNS, exist_ok=True)
        _libc(libc.mount, b"tmpfs", RUN_NETNS.encode(), b"tmpfs", 0, b"mode=0755")
        libc.umount2(b"/sys", _MNT_DETACH)  # sysfs shows the namespace it was mounted in
        _libc(libc.mount, b"sysfs", b"/sys", b"sysfs", 0, None)
        run_script("ip link set lo up")
        net, mnt = (f"/proc/{os.getpid()}/fd/{fd}" for fd in original)
        _outside = (program("nsenter"), f"--net={net}", f"--mount={mnt}", "--")
    return _outside


def _libc(function: Any, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise LabError(f"{function.__name__}: {os.strerror(number)} (is this process root?)")
