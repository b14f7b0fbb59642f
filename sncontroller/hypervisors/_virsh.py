"""libvirt as a plugin sees it: domains, through ``virsh``.

Owns the commands and what their failures mean to the controller. Why not the Python binding:
``docs/adr/0007-libvirt-by-virsh.md``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import Final

from sncontroller.hypervisors.base import HypervisorError, PermanentError, TransientError
from sncontroller.lab.programs import dies_with_parent, program

_FOR_GOOD: Final = (
    "already exists",
    "already used by another",
    "XML error",
    "unsupported configuration",
    "invalid argument",
    "Cannot access storage file",
    "could not open",
    "Could not open",
    "could not load kernel",
    "access denied",
    "authentication failed",
    "Operation not permitted",
    "Permission denied",
)
"""Words of libvirt's messages that tell what another try cannot mend."""


class Virsh:
    """One libvirt daemon."""

    def __init__(self, uri: str, timeout_s: float) -> None:
        """Speak to ``uri``; each command ends after ``timeout_s`` seconds."""
        self._uri = uri
        self._timeout_s = timeout_s

    def names(self) -> tuple[str, ...]:
        """All domains, running or not."""
        return tuple(self._run("list", "--all", "--name").split())

    def xml(self, domain: str) -> str | None:
        """The domain's description, ``None`` when there is no such domain."""
        return self._unless_absent("dumpxml", "--domain", domain)

    def define(self, xml: str) -> None:
        """Record a domain; libvirt refuses a name that another has."""
        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as file:
            file.write(xml)
            file.flush()
            self._run("define", "--file", file.name)

    def start(self, domain: str) -> None:
        """Start a domain that is defined."""
        self._run("start", "--domain", domain)

    def destroy(self, domain: str) -> None:
        """Ensure that the domain does not run."""
        try:
            self._unless_absent("destroy", "--domain", domain)
        except HypervisorError as error:
            if "domain is not running" not in str(error):
                raise

    def undefine(self, domain: str) -> None:
        """Ensure that the domain is forgotten, with all that libvirt keeps for it."""
        kept = ("--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram")
        self._unless_absent("undefine", "--domain", domain, *kept)

    def has_kvm(self) -> bool:
        """Whether QEMU found a KVM on this machine when libvirt asked it."""
        try:
            self._run("domcapabilities", "--virttype", "kvm")
        except PermanentError:
            return False
        except TransientError as error:
            if "KVM is not supported" in str(error):
                return False
            raise
        return True

    def _unless_absent(self, *arguments: str) -> str | None:
        try:
            return self._run(*arguments)
        except HypervisorError as error:
            if "failed to get domain" in str(error) or "Domain not found" in str(error):
                return None
            raise

    def _run(self, *arguments: str) -> str:
        command = [*dies_with_parent(), program("virsh"), "--connect", self._uri, "--quiet"]
        try:
            done = subprocess.run(
                [*command, *arguments],
                env={**os.environ, "LC_ALL": "C"},  # errors are told apart by their words
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self._timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise TransientError(
                f"libvirt at {self._uri} does not answer in {self._timeout_s:g} s"
            ) from error
        if done.returncode == 0:
            return done.stdout
        said = " ".join(done.stderr.replace("error: ", "").split())
        kind = PermanentError if any(word in said for word in _FOR_GOOD) else TransientError
        raise kind(f"virsh {arguments[0]} at {self._uri}: {said or 'no reason given'}")
