"""How a guest's instructions are run, and which way this machine is good for.

Owns what ``/proc/cpuinfo`` means for that; libvirt's ``virt-host-validate`` asks the same file. A
device ``/dev/kvm`` alone tells nothing: a virtual machine's may interpret its guests, one
instruction after another, and is then slower than emulation.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")
_EXTENSIONS: Final = frozenset({"vmx", "svm"})
"""Intel's and AMD's words, among an x86 processor's flags, for running guests itself."""


class Virtualization(Enum):
    """How a guest's instructions are run; the values are libvirt's types of a domain, and auto."""

    AUTO = "auto"
    """By KVM where libvirt has it and the processor runs guests itself, else by emulation."""
    KVM = "kvm"
    QEMU = "qemu"


def domain_type(wanted: Virtualization, cpuinfo: str, has_kvm: Callable[[], bool]) -> str:
    """A domain's type; ``has_kvm`` asks libvirt, and is called only where that decides."""
    if wanted is not Virtualization.AUTO:
        return str(wanted.value)
    usable = virtualizes(cpuinfo) and has_kvm()
    return "kvm" if usable else "qemu"


def virtualizes(cpuinfo: str) -> bool:
    """Whether a processor of this description runs guests; those that have no flags are trusted.

    Only x86 has a line ``flags``; other processors do not tell there.
    """
    flags = [line for line in cpuinfo.splitlines() if line.startswith("flags")]
    return not flags or any(not _EXTENSIONS.isdisjoint(line.split()) for line in flags)
