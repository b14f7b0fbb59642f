"""A Proxmox VE host's HTTP API as the plugin sees it: VMs, their configurations, and tasks.

Owns the requests, and what their failures mean to the controller. Proxmox answers nearly every
failure with 500 and a sentence, in the status line or, since version 8, in the body too: they are
told apart by words, which were read in its sources (qemu-server, pve-guest-common, 2026).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import requests

from sncontroller.hypervisors._http import reason
from sncontroller.hypervisors._waiting import moments
from sncontroller.hypervisors.base import HypervisorError, PermanentError, TransientError

__all__ = ["AbsentError", "Api", "TakenError", "Vm"]

_SAID_MAX: Final = 300
_TAKEN: Final = ("config file already exists", "already exists on node", "File exists")
_ABSENT: Final = (".conf' does not exist",)
_FOR_GOOD: Final = (
    "ermission check failed",
    "clone feature is not supported",
    "not allowed for linked clones",
    "uses local storage",
    "unable to parse",
    "does not exist",
    "no such",
)
"""Words that tell what another try cannot mend."""
_TRY_AGAIN: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.LOCKED, HTTPStatus.TOO_MANY_REQUESTS}
)


class TakenError(PermanentError):
    """There is a VM with this number already."""


class AbsentError(TransientError):
    """There is no VM with this number; there may have been one a moment ago."""


@dataclass(frozen=True, slots=True)
class Vm:
    """A VM of the cluster, as its configuration and its host have it."""

    vmid: int
    host: str
    """The cluster's node that it is on."""
    status: str
    """``running``, ``stopped``, or what QEMU says: ``paused``, ``io-error``..."""
    lock: str
    """What is being done with it: ``clone``, ``backup``... or nothing."""
    description: str
    net0: str


class Api:
    """One Proxmox VE cluster, asked at one of its hosts."""

    def __init__(self, url: str, token_file: Path, ca_file: Path | None, timeout_s: float) -> None:
        """Speak to ``url`` with the API token in the file; nothing is asked yet."""
        self._url = f"{url.rstrip('/')}/api2/json"
        self._token_file = token_file
        self._verify = True if ca_file is None else str(ca_file)
        self._timeout_s = timeout_s

    # -- VMs -------------------------------------------------------------------------------------

    def hosts(self) -> dict[int, str]:
        """The host of each VM of the cluster that the token may see. Its states there are old."""
        found = self._call("GET", "/cluster/resources", {"type": "vm"})
        with _as_promised("GET /cluster/resources"):
            return {int(vm["vmid"]): str(vm["node"]) for vm in found if vm["type"] == "qemu"}

    def vm(self, host: str, vmid: int) -> Vm | None:
        """The VM of this number, ``None`` when there is none on this host."""
        try:
            config = self._call("GET", f"{_path(host, vmid)}/config")
            current = self._call("GET", f"{_path(host, vmid)}/status/current")
        except AbsentError:
            return None
        with _as_promised(f"GET {_path(host, vmid)}"):
            return Vm(
                vmid=vmid,
                host=host,
                status=str(current.get("qmpstatus") or current["status"]),
                lock=str(config.get("lock", "")),
                description=str(config.get("description", "")),
                net0=str(config.get("net0", "")),
            )

    def clone(self, host: str, template: int, vmid: int, **parameters: str) -> str:
        """Begin to clone; the task. Raises ``TakenError`` when the number is another VM's."""
        what = {"newid": str(vmid), "full": "0", **parameters}
        try:
            return self._task("POST", f"{_path(host, template)}/clone", what)
        except AbsentError as error:
            raise PermanentError(f"template {template}: {error}") from error

    def configure(self, host: str, vmid: int, **parameters: str) -> None:
        """Change a VM's configuration."""
        self._call("PUT", f"{_path(host, vmid)}/config", parameters)

    def start(self, host: str, vmid: int) -> str:
        """Begin to start; the task."""
        return self._task("POST", f"{_path(host, vmid)}/status/start", {})

    def stop(self, host: str, vmid: int) -> str:
        """Begin to stop, as by the power switch; the task."""
        return self._task("POST", f"{_path(host, vmid)}/status/stop", {})

    def shut_down(self, host: str, vmid: int, patience_s: int) -> str:
        """Begin to shut down, and to stop after ``patience_s``; the task."""
        patience = {"timeout": str(patience_s), "forceStop": "1"}
        return self._task("POST", f"{_path(host, vmid)}/status/shutdown", patience)

    def destroy(self, host: str, vmid: int) -> str:
        """Begin to remove a VM that is stopped, and its disks; the task."""
        what = {"purge": "1", "destroy-unreferenced-disks": "1"}
        return self._task("DELETE", _path(host, vmid), what)

    # -- tasks -----------------------------------------------------------------------------------

    def finish(self, task: str, within_s: float) -> None:
        """Wait for a task's end. Raises what it failed with, ``TransientError`` when too slow."""
        try:
            _, host, *_, kind, _, _, _ = task.split(":")
        except ValueError as error:
            raise TransientError(f"{task!r} is no task of Proxmox VE") from error
        path = f"/nodes/{quote(host, safe='')}/tasks/{quote(task, safe=':@!')}/status"
        for _ in moments(within_s):
            status = self._call("GET", path)
            with _as_promised(f"GET {path}"):
                if status["status"] != "running":
                    said = str(status.get("exitstatus", "no exit status"))
                    break
        else:
            raise TransientError(f"task {kind} is not finished after {within_s:g} s ({task})")
        if said != "OK" and not said.startswith("WARNINGS"):
            raise _meaning(f"task {kind}: {said}", said)

    def _task(self, method: str, path: str, parameters: Mapping[str, str]) -> str:
        return str(self._call(method, path, parameters))

    # -- requests --------------------------------------------------------------------------------

    def _call(self, method: str, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The ``data`` of a good answer."""
        what = f"{method} {self._url}{path}"
        in_url = method in ("GET", "DELETE")
        token = self._token()
        try:
            with requests.Session() as session:
                # neither proxies nor ~/.netrc, which would take the token's place
                session.trust_env = False
                session.verify = self._verify
                answer = session.request(
                    method,
                    f"{self._url}{path}",
                    params=parameters if in_url else None,
                    data=None if in_url else parameters,
                    headers={"Authorization": f"PVEAPIToken={token}"},
                    timeout=self._timeout_s,
                    allow_redirects=False,
                )
        except (requests.RequestException, OSError) as error:
            raise TransientError(f"{what}: {reason(error)}") from error
        if not 200 <= answer.status_code < 300:
            raise _refusal(what, answer)
        with _as_promised(what):
            return answer.json()["data"]

    def _token(self) -> str:
        """``USER@REALM!ID=SECRET``; read at each call, so it may change."""
        try:
            return self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(f"token_file {self._token_file}: {error}") from error


@contextmanager
def _as_promised(what: str) -> Iterator[None]:
    """Turn an answer of another shape than Proxmox' into ``TransientError``."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TransientError(f"{what}: no answer of Proxmox VE: {error}") from error


def _path(host: str, vmid: int) -> str:
    return f"/nodes/{quote(host, safe='')}/qemu/{vmid}"


def _refusal(what: str, answer: requests.Response) -> HypervisorError:
    said = _said(answer)
    whole = f"{what}: {answer.status_code} {said}"
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        return PermanentError(f"Proxmox VE does not accept the token: {whole}")
    if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _meaning(whole, said)
    # 595 to 599 are pveproxy's own: it cannot reach the host that the request is for
    again = answer.status_code > HTTPStatus.NOT_IMPLEMENTED or answer.status_code in _TRY_AGAIN
    return TransientError(whole) if again else PermanentError(whole)


def _said(answer: requests.Response) -> str:
    """Its own words: the body's message and parameters' errors, or the status line's."""
    said = [answer.reason or ""]
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        body = answer.json()
        said = [str(body.get("message") or answer.reason)]
        said += [f"{name}: {why}" for name, why in (body.get("errors") or {}).items()]
    return " ".join(" ".join(said).split())[:_SAID_MAX]


def _meaning(whole: str, said: str) -> HypervisorError:
    """What a sentence of Proxmox means."""
    if any(word in said for word in _TAKEN):
        return TakenError(whole)
    if any(word in said for word in _ABSENT):
        return AbsentError(whole)
    for_good = any(word in said for word in _FOR_GOOD)
    return PermanentError(whole) if for_good else TransientError(whole)
