"""podman as a plugin sees it: containers by name, through its own command.

Owns the commands and what their failures mean to the controller. It touches no container that its
caller does not name.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sncontroller.hypervisors.base import HypervisorError, PermanentError, TransientError
from sncontroller.lab.programs import dies_with_parent, program

STORAGE_ONLY: Final = "storage"
LOG_TAIL_LINES: Final = 5
_FOR_GOOD: Final = (
    "unknown flag",
    "unknown shorthand flag",
    "invalid argument",
    "not found in $PATH",
    "no such file or directory",
    "permission denied",
    "Operation not permitted",
    "operation not permitted",
    "unauthorized",
    "manifest unknown",
    "already in use",
)
"""Words of podman's messages that tell what another try cannot mend."""

_OF_IMAGE: Final = {
    "image not known": "is not on this machine: podman pull it, or say pull: true",
    "invalid reference format": "cannot be an image's name",
}
"""The same, where the image is the trouble."""

_GONE_MEANWHILE: Final = "container not known"


@dataclass(frozen=True, slots=True)
class Container:
    """One container as podman has it."""

    name: str
    id: str
    state: str
    """``running``, ``exited``, ..., or ``storage``: its file system is all there is of it."""
    exit_code: int
    labels: Mapping[str, str]

    @property
    def problem(self) -> str:
        """Why it does not run; empty when it does."""
        if self.state == "exited":
            return f"container {self.name} ended with status {self.exit_code}"
        return "" if self.state == "running" else f"container {self.name} is {self.state}"


class Podman:
    """One podman: its program with global options."""

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        """Use ``command``; each call ends after ``timeout_s`` seconds."""
        self._command = tuple(command)
        self._timeout_s = timeout_s

    def containers(self) -> dict[str, Container]:
        """Every container by name, running or not, those that other programs made too."""
        found = (_container(raw) for raw in json.loads(self._listed() or "[]") or ())
        return {container.name: container for container in found}

    def _listed(self, tries: int = 5) -> str:
        """JSON of all containers; podman gives up when one, whosever, vanishes while it looks."""
        try:
            return self._run("ps", "--all", "--external", "--format", "json")
        except TransientError as error:
            if tries == 1 or _GONE_MEANWHILE not in str(error):
                raise
        return self._listed(tries - 1)

    def run(
        self,
        name: str,
        namespace: str,
        image: str,
        *,
        labels: Mapping[str, str],
        options: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> None:
        """Make a container in this network namespace and start it."""
        tags = (word for key, value in labels.items() for word in ("--label", f"{key}={value}"))
        place = ("--name", name, "--network", f"ns:{namespace}")
        try:
            self._run("run", "--detach", *options, *place, *tags, image, *command)
        except HypervisorError as error:
            for said, meant in _OF_IMAGE.items():
                if said in str(error):
                    raise PermanentError(f"image {image} {meant}") from error
            raise

    def remove(self, container: Container, stop_s: int) -> None:
        """Ensure that the container is gone, asked to end first; and its unnamed volumes."""
        if container.state == "created":
            self._end_unknown(container)
        force = ("rm", "--force", "--ignore", "--volumes", "--time", str(stop_s))
        self._run(*force, container.id)

    def _end_unknown(self, container: Container) -> None:
        """End what a podman that was killed had started already and not yet taken down."""
        try:
            runtime = self._run("inspect", "--format", "{{.OCIRuntime}}", container.id).strip()
        except HypervisorError:  # gone meanwhile
            return
        subprocess.run(
            [*dies_with_parent(), program(runtime), "delete", "--force", container.id],
            stdin=subprocess.DEVNULL,
            capture_output=True,  # most have nothing to delete, which it calls an error
            timeout=self._timeout_s,
        )

    def log_tail(self, name: str) -> str:
        """The last lines that the container wrote."""
        return self._run("logs", "--tail", str(LOG_TAIL_LINES), name, both=True).strip()

    def _run(self, *arguments: str, both: bool = False) -> str:
        """Standard output, or ``both`` it and standard error."""
        podman = [*dies_with_parent(), program(self._command[0]), *self._command[1:]]
        try:
            done = subprocess.run(
                [*podman, *arguments],
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if both else subprocess.PIPE,
                text=True,
                timeout=self._timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise TransientError(
                f"podman {arguments[0]} has not ended after {self._timeout_s:g} s"
            ) from error
        if done.returncode == 0:
            return done.stdout
        raise _failure(arguments[0], done.stdout if both else done.stderr)


def _container(raw: Mapping[str, Any]) -> Container:
    return Container(
        name=raw["Names"][0],
        id=raw["Id"],
        state=raw["State"].lower(),
        exit_code=raw["ExitCode"],
        labels=raw["Labels"] or {},
    )


def _failure(call: str, said: str) -> TransientError | PermanentError:
    _, _, error = said.rpartition("Error: ")
    why = " ".join(error.split()) or "no reason given"
    if why.endswith("image not known"):
        image = why.partition(": ")[0]
        return PermanentError(
            f"image {image} is not on this machine: podman pull it, or pull: true"
        )
    kind = PermanentError if any(word in why for word in _FOR_GOOD) else TransientError
    return kind(f"podman {call}: {why}")
