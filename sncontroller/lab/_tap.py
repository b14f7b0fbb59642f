"""The tap devices of the userspace datapath: named for all, persistent, one owner at a time."""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
from typing import Final

from sncontroller.lab.programs import LabError, program

NETDEV_TAP: Final = "ovs-netdev"
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000


def require_free_tap() -> None:
    """Raise ``LabError`` if a daemon has the userspace datapath's tap open.

    A tap that a killed daemon left is free: the next daemon takes it over.
    """
    if NETDEV_TAP not in (name for _, name in socket.if_nameindex()):
        return
    request = struct.pack("16sH22x", NETDEV_TAP.encode(), _IFF_TAP | _IFF_NO_PI)
    with open("/dev/net/tun", "r+b", buffering=0) as tun:
        try:
            fcntl.ioctl(tun, _TUNSETIFF, request)
        except OSError as error:
            raise LabError(
                f"another userspace Open vSwitch runs in this network namespace ({NETDEV_TAP} is"
                f" in use: {error.strerror}): stop it, or call sncontroller.lab.net.isolate() first"
            ) from error


def remove_tap(name: str) -> None:
    """Ensure that this tap is gone."""
    if name in (found for _, found in socket.if_nameindex()):
        subprocess.run([program("ip"), "link", "delete", name], capture_output=True, timeout=10)
