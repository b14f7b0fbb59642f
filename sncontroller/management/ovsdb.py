"""A port's BFD in Open vSwitch's database, by ``ovs-vsctl``.

Touches the keys that it is given in the ``bfd`` column of that one interface, and nothing else.
"""

from __future__ import annotations

from eventlet.green import subprocess

from sncontroller.core.commands import SetBfd
from sncontroller.core.events import BfdSet
from sncontroller.lab.programs import MissingError, program

TIMEOUT_S = 10


def bfd(command: SetBfd) -> BfdSet:
    """Set or remove the keys, and wait until the daemon has it. A port that has gone is fine."""
    try:
        said = _run(command)
    except (OSError, MissingError) as error:
        said = str(error)
    except subprocess.TimeoutExpired:
        said = f"{command.ovsdb} does not answer in {TIMEOUT_S} s"
    return BfdSet(command.zone, command.port, said or None)


def _run(command: SetBfd) -> str:
    """What the program complains of; empty when it worked."""
    verb = "set" if command.on else "remove"
    if command.on:
        what = [f"bfd:{key}={value}" for key, value in command.column]
    else:
        what = ["bfd", *(key for key, _ in command.column)]
    options = [f"--db={command.ovsdb}", f"--timeout={TIMEOUT_S}"]
    done = subprocess.run(
        [program("ovs-vsctl"), *options, "--if-exists", verb, "interface", command.port, *what],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S + 5,
    )
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return str(lines[-1]).removeprefix("ovs-vsctl: ")
