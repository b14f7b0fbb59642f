"""Compare-and-set of an interface's ``external_ids``, so that two controllers never take one port.

Owns one OVSDB transaction, sent by ovsdb-client: ovs-vsctl has none that fails when another writer
was faster. It touches no interface that its caller does not name.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from sncontroller.hypervisors.base import TransientError
from sncontroller.lab.programs import dies_with_parent, program

TIMEOUT_S: Final = 10


def replace_tags(
    remote: str | None, interface: str, before: Mapping[str, str], after: Mapping[str, str]
) -> bool:
    """Whether ``external_ids`` were ``before`` and are ``after`` now; else nothing was changed.

    Raises ``TransientError`` when the database cannot be asked.
    """
    where = [["name", "==", interface]]
    as_before: dict[str, Any] = {
        "op": "wait",
        "table": "Interface",
        "where": where,
        "columns": ["external_ids"],
        "until": "==",
        "rows": [{"external_ids": _map(before)}],
        "timeout": 0,
    }
    update = {
        "op": "update",
        "table": "Interface",
        "where": where,
        "row": {"external_ids": _map(after)},
    }
    results = _transact(remote, ["Open_vSwitch", as_before, update])
    errors = [result for result in results if result and "error" in result]
    if not errors:
        return True
    if errors[0]["error"] == "timed out":  # RFC 7047, 5.2.6: the rows were not as waited for
        return False
    raise TransientError(f"Open vSwitch refused to record {interface}: {errors[0]}")


def _transact(remote: str | None, transaction: list[Any]) -> list[dict[str, Any] | None]:
    client = [*dies_with_parent(), program("ovsdb-client"), f"--timeout={TIMEOUT_S}"]
    server = [] if remote is None else [remote]
    where = "Open vSwitch" if remote is None else f"Open vSwitch at {remote}"
    try:
        done = subprocess.run(
            [*client, "transact", *server, json.dumps(transaction)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S + 5,
        )
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{where} does not answer in {TIMEOUT_S} s") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise TransientError(f"{where}: {said[0]}")
    answer: list[dict[str, Any] | None] = json.loads(done.stdout)
    return answer


def _map(tags: Mapping[str, str]) -> list[Any]:
    return ["map", sorted(tags.items())]
