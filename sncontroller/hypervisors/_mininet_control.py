"""A running Mininet as a plugin sees it: the hosts that were added, through its control socket.

Owns the client's side of the protocol that ``mininet_topos/elastic.py`` defines.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sncontroller.hypervisors.base import PermanentError, TransientError


@dataclass(frozen=True, slots=True)
class Guest:
    """A host that was added to Mininet."""

    host: str
    port: str
    tags: Mapping[str, str]
    problem: str
    """What is wrong with it; empty when nothing is."""


class MininetControl:
    """One running Mininet."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Speak to the socket at ``path``; each call ends after ``timeout_s`` seconds."""
        self._path = path
        self._timeout_s = timeout_s

    def guests(self) -> dict[str, Guest]:
        """Every host that was added, by its port."""
        return {guest.port: guest for guest in self._call(call="list")}

    def add(
        self,
        name: str,
        *,
        switch: str,
        port: str,
        mac: str,
        setup: str,
        command: Sequence[str],
        tags: Mapping[str, str],
    ) -> Guest:
        """Add a host; ``setup`` is a shell script that is run inside before ``command``."""
        (guest,) = self._call(
            call="add",
            name=name,
            switch=switch,
            port=port,
            mac=mac,
            setup=setup,
            command=list(command),
            tags=dict(tags),
        )
        return guest

    def remove(self, port: str) -> None:
        """Ensure that the host with this port is gone."""
        self._call(call="remove", port=port)

    def _call(self, **request: Any) -> list[Guest]:
        answer = self._answer(json.dumps(request))
        if "error" in answer:
            kind = PermanentError if answer.get("permanent") else TransientError
            raise kind(f"Mininet at {self._path}: {answer['error']}")
        return [Guest(**host) for host in answer["hosts"]]

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._timeout_s)
                connection.connect(str(self._path))
                with connection.makefile("rw") as lines:
                    lines.write(line + "\n")
                    lines.flush()
                    said = lines.readline()
        except PermissionError as error:
            raise PermanentError(f"Mininet at {self._path}: {error.strerror}") from error
        except TimeoutError as error:
            raise TransientError(
                f"Mininet at {self._path} does not answer in {self._timeout_s:g} s"
            ) from error
        except OSError as error:
            raise TransientError(
                f"no Mininet answers at {self._path}: is it running, with elastic.py? "
                f"({error.strerror})"
            ) from error
        if not said:
            raise TransientError(f"Mininet at {self._path} ended before it answered")
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError as error:
            raise PermanentError(f"what answers at {self._path} is no elastic.py") from error
        return answer
