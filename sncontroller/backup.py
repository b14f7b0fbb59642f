"""A bridge's entries in a file, for the moment in which the bridge is without them.

Owns the file's form, which ``ovs-ofctl bundle`` takes, and what is said where there is no room.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sncontroller.bridge import Bridge, Entries
from sncontroller.errors import OperatorError


def save(bridge: Bridge, version: str, entries: Entries) -> Path:
    """A file with everything needed to put the entries back by hand. Raises ``OperatorError``."""
    try:
        handle, name = tempfile.mkstemp(prefix=f"sncontroller-{bridge.name}-", suffix=".bundle")
        os.close(handle)
    except OSError as error:
        raise _no_room(error) from None
    write(Path(name), bridge, version, entries)
    return Path(name)


def write(file: Path, bridge: Bridge, version: str, entries: Entries) -> None:
    """Let the file hold these entries. Raises ``OperatorError``; then there is no file."""
    lines = [
        f"# Entries of bridge {bridge.name}. To put them back:",
        f"#   ovs-ofctl -O {version} bundle {bridge.name} {file}",
        *(f"# meter {meter}" for meter in sorted(entries.meters)),
        *additions(entries),
    ]
    try:
        with file.open("w") as out:
            out.write("".join(f"{line}\n" for line in lines))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        file.unlink()
        raise _no_room(error) from None


def additions(entries: Entries) -> list[str]:
    """The entries, but for meters, as lines of a bundle."""
    groups = [f"group add_or_mod {line}" for line in sorted(entries.groups)]
    return [*groups, *(f"flow add {line}" for line in sorted(entries.flows))]


def _no_room(error: OSError) -> OperatorError:
    return OperatorError(
        f"cannot keep the bridge's entries in {tempfile.gettempdir()} meanwhile: "
        f"{error.strerror}; make room there, or name another directory with TMPDIR"
    )
