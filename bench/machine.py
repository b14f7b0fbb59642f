"""The machine that figures were taken on, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import sncontroller
from sncontroller.lab.programs import MissingError, program

_VERSIONS = {
    "open_vswitch": ("ovs-vswitchd", "--version"),
    "ovn": ("ovn-northd", "--version"),
    "haproxy": ("haproxy", "-v"),
    "nginx": ("nginx", "-v"),
    "wrk": ("wrk", "-v"),
}
_TIMEOUT_S = 10


def machine() -> dict[str, Any]:
    """Processor, memory, kernel and versions; what is not installed is ``None``."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_kib() / 2**20, 1),
        "kernel": platform.release(),
        "system": _system(),
        "python": platform.python_version(),
        "sncontroller": sncontroller.__version__,
        **{name: _version(*command) for name, command in _VERSIONS.items()},
    }


def require_programs() -> None:
    """Raises ``MissingError`` when something that is measured, or measures, is not installed."""
    for name, _ in _VERSIONS.values():
        program(name)


def load_average() -> float:
    """The last minute's; near 0 on a machine that has nothing else to do."""
    return round(os.getloadavg()[0], 2)


def described(found: dict[str, Any]) -> str:
    """One line for a reader."""
    versions = ", ".join(
        f"{name.replace('_', ' ')} {found[name]}" for name in _VERSIONS if found[name]
    )
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']:g} GiB, "
        f"{found['system']}, Linux {found['kernel']}, Python {found['python']}; {versions}"
    )


def _version(name: str, option: str) -> str | None:
    try:
        command = [program(name), option]
    except MissingError:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found.group() if found else None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _memory_kib() -> int:
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found.group(1)) if found else 0


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()
