"""A port's BFD in Open vSwitch's database, by ``ovs-vsctl``.

Touches the keys that it is given in the ``bfd`` column of that one interface, and nothing else.
"""

from __future__ import annotations

from eventlet.green import subprocess

from sncontroller.core.events import BfdFailed, SetBfd
from sncontroller.lab.programs import MissingError, program

TIMEOUT_S = 10


def bfd(command: SetBfd) -> BfdFailed | None:
    """Set or remove the keys; what went wrong, or ``None``. A port that has gone is fine."""
    try:
        said = _run(command)
    except (OSError, MissingError) as error:
        said = str(error)
    except subprocess.TimeoutExpired:
        said = f"{command.ovsdb} does not answer in {TIMEOUT_S} s"
    return BfdFailed(command.zone, command.port, said) if said else None


def _run(command: SetBfd) -> str:
    """What the program complains of; empty when it worked."""
    verb = "set" if command.on else "remove"
    if command.on:
        what = [f"bfd:{key}={value}" for key, value in command.column]
    else:
        what = ["bfd", *(key for key, _ in command.column)]
    options = [f"--db={command.ovsdb}", f"--timeout={TIMEOUT_S}", "--no-wait", "--if-exists"]
    done = subprocess.run(
        [program("ovs-vsctl"), *options, verb, "interface", command.port, *what],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S + 5,
    )
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return str(lines[-1]).removeprefix("ovs-vsctl: ")
