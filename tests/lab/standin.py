"""What the stand-ins of clouds' HTTP APIs have in common: a server process on loopback.

A stand-in imitates what a client sees of an API: paths, status codes, bodies, states that change
by themselves. Where the real thing would plug a VM into Open vSwitch, it plugs a real port into a
real switch. Beside the API it has paths of its own, under ``/_lab``:

========================  =========================================================================
``POST /_lab/faults``     how requests go wrong from now on: :class:`Fault` as JSON, a list of them
``GET /_lab/objects``     names of all that exists
``GET /_lab/details``     one of them, with all that is known of it: ``?name=...``
``POST /_lab/do``         ``{"what": ..., ...}``: something that happens behind the client's back
``GET /_lab/requests``    how often each request was made
========================  =========================================================================
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import dies_with_parent

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What comes back."""

    status: int
    body: object = None
    reason: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class RefusedError(Exception):
    """A request that the API refuses."""

    def __init__(self, answer: Answer) -> None:
        """Refuse with this answer."""
        super().__init__(answer)
        self.answer = answer


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Fault:
    """How requests whose ``METHOD /path`` the pattern finds go wrong, so many times."""

    match: str
    times: int = 1_000_000
    delay_s: float = 0.0
    status: int | None = None
    """Answered instead of the API's answer."""
    reason: str | None = None
    body: object = None
    reset: bool = False
    """The connection is reset instead of an answer; what was asked is done all the same."""


class Api(ABC):
    """The API that is imitated, with its state."""

    def __init__(self, switch: Switch) -> None:
        """Start empty."""
        self.lock = threading.RLock()
        self.switch = switch
        self.url = ""

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """The answer to a request; called with the lock held."""

    @abstractmethod
    def objects(self) -> list[str]:
        """Names of all that exists."""

    @abstractmethod
    def details(self, name: str) -> object:
        """All that is known of one thing."""

    @abstractmethod
    def do(self, what: str, **details: Any) -> None:
        """Let something happen behind the client's back."""

    def later(self, *steps: tuple[float, Any]) -> None:
        """Carry out steps, each so many seconds after the one before, until one returns False."""

        def run() -> None:
            for delay_s, step in steps:
                time.sleep(delay_s)
                with self.lock:
                    if step() is False:
                        return

        threading.Thread(target=run, daemon=True).start()


class Switch:
    """A bridge of a real Open vSwitch that VMs' ports are plugged into; without one, nothing."""

    def __init__(self, ovsdb: str | None, bridge: str | None) -> None:
        """Use this bridge."""
        self._ovsdb, self._bridge = ovsdb, bridge

    def plug(self, port: str, **external_ids: str) -> None:
        """Add a port as a VM's tap would be."""
        ids = [f'external_ids:{key.replace("_", "-")}="{to}"' for key, to in external_ids.items()]
        interface = ["--", "set", "interface", port, "type=internal", *ids]
        self._vsctl("--may-exist", "add-port", str(self._bridge), port, *interface)

    def unplug(self, port: str) -> None:
        """Remove it."""
        self._vsctl("--if-exists", "del-port", port)

    def _vsctl(self, *arguments: str) -> None:
        if self._ovsdb is not None:
            command = ["ovs-vsctl", f"--db={self._ovsdb}", "--timeout=10", *arguments]
            subprocess.run([*dies_with_parent(), *command], check=True, stdin=subprocess.DEVNULL)


class Server(ThreadingHTTPServer):
    """The API on loopback."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, api: Api) -> None:
        """Listen on a port that is free."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api
        self.faults: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        api.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is nothing to speak of."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def fault(self, what: str) -> Fault | None:
        """How this request goes wrong, if it does."""
        with self.api.lock:
            for fault in self.faults:
                if re.search(fault["match"], what) and fault["times"] > 0:
                    fault["times"] -= 1
                    return Fault(**fault)
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _serve(self) -> None:
        split = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "urlencoded" in self.headers.get("Content-Type", ""):
            body: Any = dict(parse_qsl(raw.decode(), keep_blank_values=True))
        else:
            body = json.loads(raw or b"null")
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        request = Request(str(self.command), split.path, query, body, self.headers)  # type: ignore[arg-type]
        if split.path.startswith("/_lab/"):
            self._say(self._lab(request))
            return
        self.server.asked[f"{request.method} {request.path}"] += 1
        fault = self.server.fault(f"{request.method} {request.path}")
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.status is not None:
                self._say(Answer(fault.status, fault.body, fault.reason))
                return
        answer = self._answer(request)
        if fault is not None and fault.reset:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._say(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names that http.server calls

    def _answer(self, request: Request) -> Answer:
        with self.server.api.lock:
            try:
                return self.server.api.answer(request)
            except RefusedError as refused:
                return refused.answer

    def _lab(self, request: Request) -> Answer:
        with self.server.api.lock:
            match request.path:
                case "/_lab/objects":
                    return Answer(200, self.server.api.objects())
                case "/_lab/details":
                    return Answer(200, self.server.api.details(request.query["name"]))
                case "/_lab/requests":
                    return Answer(200, self.server.asked)
                case "/_lab/faults":
                    self.server.faults = request.body
                case _:
                    self.server.api.do(**request.body)
        return Answer(200, {})

    def _say(self, answer: Answer) -> None:
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        content = b"" if answer.status == 204 else text.encode()
        self.send_response(answer.status, answer.reason)
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers:
            self.send_header(name, value)
        # head and body in one segment: the client's kernel delays its acknowledgement of the first
        self._headers_buffer.append(b"\r\n" + content)  # type: ignore[attr-defined]
        self.flush_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


def main(make: Any) -> None:
    """Serve the API that ``make`` returns for a switch and settings, until killed."""
    parser = argparse.ArgumentParser()
    for option in ("--ovsdb", "--bridge"):
        parser.add_argument(option)
    parser.add_argument("--settings", default="{}")
    options = parser.parse_args()
    api = make(Switch(options.ovsdb, options.bridge), **json.loads(options.settings))
    with Server(api) as server:
        print(api.url, flush=True)
        server.serve_forever(poll_interval=0.05)


@dataclass(frozen=True)
class Running:
    """A stand-in that runs, as a test sees it."""

    url: str

    def objects(self) -> list[str]:
        """Names of all that exists."""
        return list(requests.get(f"{self.url}/_lab/objects", timeout=10).json())

    def details(self, name: str) -> Any:
        """All that is known of one thing."""
        return requests.get(f"{self.url}/_lab/details", {"name": name}, timeout=10).json()

    def requests(self) -> Counter[str]:
        """How often each request was made."""
        return Counter(requests.get(f"{self.url}/_lab/requests", timeout=10).json())

    def do(self, what: str, **details: Any) -> None:
        """Let something happen behind the client's back."""
        self._post("do", {"what": what, **details})

    @contextmanager
    def going_wrong(self, *faults: Fault) -> Iterator[None]:
        """Let requests go wrong meanwhile."""
        self._post("faults", [asdict(fault) for fault in faults])
        try:
            yield
        finally:
            self._post("faults", [])

    def _post(self, what: str, body: object) -> None:
        requests.post(f"{self.url}/_lab/{what}", json=body, timeout=10).raise_for_status()


@contextmanager
def running(module: str, ovs: PrivateOvs, bridge: str, **settings: Any) -> Iterator[Running]:
    """A stand-in as a process of its own, which plugs ports into this switch."""
    options = ["--ovsdb", ovs.db, "--bridge", bridge, "--settings", json.dumps(settings)]
    command = [*dies_with_parent(), sys.executable, "-m", f"tests.lab.{module}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url, f"{module} did not start"
            yield Running(url)
        finally:
            process.terminate()
