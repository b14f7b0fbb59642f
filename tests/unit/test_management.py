"""The controller's own network: reports read and fetched, services asked, all by real sockets."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core.commands import AskNode, FetchReport
from sncontroller.core.health_spec import HealthSpec
from sncontroller.core.layout import Index, Zone
from sncontroller.core.report import Reading, ReportSpec
from sncontroller.lab.programs import dies_with_parent
from sncontroller.management import ask, fetch
from sncontroller.management.parse import MAX_SAMPLES, ReportError, readings

CPU = {
    "kind": "counter",
    "metric": "node_cpu_seconds_total",
    "minus": {"metric": "node_cpu_seconds_total", "labels": {"mode": ["idle", "iowait"]}},
    "per": "node_cpu_seconds_total",
}
PAGE = b"""\
# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} 100.5
node_cpu_seconds_total{cpu="0",mode="user"} 20
node_cpu_seconds_total{cpu="1",mode="idle"} 1.0e+02
node_cpu_seconds_total{cpu="1",mode="iowait"} 9.5 1395066363000
node_cpu_seconds_total_other 7
node_load1 0.25
odd{path="C:\\\\x, \\"quoted\\" } 1",} 3
nothing NaN
endless +Inf
"""


def spec(*, url: str = "http://{address}/", **signals: Any) -> ReportSpec:
    """A report with these signals."""
    return ReportSpec.model_validate({"url": url, "signals": signals})


def read(body: bytes, **signals: Any) -> Mapping[str, Reading]:
    """What ``readings`` finds."""
    return readings(spec(**signals), body)


# Prometheus ---------------------------------------------------------------------------------------


def test_counters_by_label() -> None:
    """Samples of one metric are summed, all or by labels; a name that begins alike is another."""
    assert read(PAGE, cpu=CPU)["cpu"] == Reading(230.0, 210.0, 230.0)
    assert read(PAGE, load="node_load1")["load"] == Reading(0.25)


@pytest.mark.parametrize(
    ("combine", "value"), [("sum", 200.5), ("max", 100.5), ("min", 100.0), ("mean", 100.25)]
)
def test_several_samples_become_one_number(combine: str, value: float) -> None:
    """As the configuration says."""
    idle = {"metric": "node_cpu_seconds_total", "labels": {"mode": "idle"}, "combine": combine}
    assert read(PAGE, idle=idle)["idle"] == Reading(value)


@pytest.mark.parametrize(
    ("signal", "value"),
    [
        ({"metric": "odd", "labels": {"path": 'C:\\x, "quoted" } 1'}}, 3.0),
        ({"metric": "odd", "labels": {"path": "x"}}, None),
        ({"metric": "odd", "labels": {"other": "x"}}, None),
        ("nothing", None),
        ("endless", None),
        ({"metric": "endless", "combine": "mean"}, None),
        ({"metric": "nothing", "combine": "max"}, None),
        ("node_load", None),
    ],
)
def test_samples_that_are_odd_or_absent(signal: Any, value: float | None) -> None:
    """Escapes are read; what is no finite number is unknown."""
    assert read(PAGE, it=signal)["it"] == Reading(value)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"busy one\n", "is not in Prometheus' text format"),
        (b'busy{a="b 1\n', "is not in Prometheus' text format"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"busy 1\n" * (MAX_SAMPLES + 1), "has more than 10000 samples of what is asked for"),
    ],
)
def test_pages_that_cannot_be_read(body: bytes, why: str) -> None:
    """One error, in words."""
    with pytest.raises(ReportError, match=why):
        read(body, busy="busy")


def test_what_is_not_asked_for_is_not_read() -> None:
    """A line that is wrong elsewhere does no harm."""
    assert read(b"other{{{\nbusy 1\n<html>\n", busy="busy")["busy"] == Reading(1.0)


def test_long_pages_are_read_in_pieces() -> None:
    """Nothing is lost at the seams, and others may go on in between."""
    page = b"".join(b'other{n="%d"} 1\nbusy{n="%d"} 1\n' % (n, n) for n in range(9_000))
    page += b"other 1\n" * 60_000
    breaths: list[None] = []
    found = readings(spec(busy="busy"), page, lambda: breaths.append(None))
    assert found["busy"] == Reading(9_000.0)
    assert len(breaths) > 90
    assert read(page[: page.index(b"other 1\n")].rstrip(), busy="busy") == found


def test_the_client_librarys_own_page() -> None:
    """What every Python exporter serves is read as it was meant."""
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("jobs", "Jobs.", ["queue"], registry=registry)
    counter.labels('a"b\\c\n').inc(7)
    counter.labels("other").inc(5)
    page = prometheus_client.generate_latest(registry)
    jobs = {"metric": "jobs_total", "labels": {"queue": 'a"b\\c\n'}}
    assert read(page, jobs=jobs)["jobs"] == Reading(7.0)


# JSON ---------------------------------------------------------------------------------------------

DOCUMENT = {
    "queue": {"length": 12, "a/b": 3, "m~n": 4, "": 5, "text": "12", "yes": True, "no": None},
    "cpus": [{"busy": 0.5}, {"busy": 0.75}],
    "huge": 10**400,
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/queue/length", 12.0),
        ("/queue/a~1b", 3.0),
        ("/queue/m~0n", 4.0),
        ("/queue/", 5.0),
        ("/cpus/1/busy", 0.75),
        ("/cpus/2/busy", None),
        ("/cpus/-1/busy", None),
        ("/cpus/01/busy", None),
        ("/cpus/busy", None),
        ("/queue/length/x", None),
        ("/queue/text", None),
        ("/queue/yes", None),
        ("/queue/no", None),
        ("/queue", None),
        ("/huge", None),
        ("/absent/at/all", None),
    ],
)
def test_pointers(pointer: str, value: float | None) -> None:
    """RFC 6901; only finite numbers count, and no text that looks like one."""
    body = json.dumps(DOCUMENT).encode()
    assert read(body, it=pointer)["it"] == Reading(value)
    share = read(body, it={"pointer": "/cpus/0/busy", "minus": pointer, "per": pointer})["it"]
    assert share == Reading(0.5, value, value)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[" * 100_000, b"\xff"])
def test_what_is_no_json(body: bytes) -> None:
    """However deep or wrong, it is one error."""
    with pytest.raises(ReportError):
        read(body, it="/a")


@given(st.binary(max_size=60), st.sampled_from(["/a/0", "busy"]))
def test_no_bytes_raise_anything_else(body: bytes, signal: str) -> None:
    """What nodes say was written by strangers."""
    with suppress(ReportError):
        assert set(read(b"busy " + body, it=signal)) == {"it"}


# HTTP ---------------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    seen: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        """One of the answers a node may give."""
        self.seen.append((self.path, dict(self.headers)))
        match self.path:
            case "/metrics":
                self._say(200, b"busy 2.5\n")
            case "/huge":
                self._say(200, b"x" * (fetch.MAX_BYTES[False] + 1))
            case "/moved":
                self.send_response(302)
                self.send_header("Location", "/metrics")
                self.end_headers()
            case "/rude":
                self.wfile.write(b"SSH-2.0-OpenSSH\r\n")
            case "/gone":
                self.close_connection = True
            case _:
                self._say(503, b"later\n")

    def _say(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.0 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n"
        with suppress(ConnectionError):  # a probe has read enough, and a report is too large
            self.wfile.write(head.encode() + body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Quiet(http.server.ThreadingHTTPServer):
    """Does not complain of clients that have heard enough."""

    def handle_error(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of all the paths above."""
    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on and nobody gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def command(url: str, **section: Any) -> FetchReport:
    """The command to fetch this."""
    raw = {"url": url, "signals": {"busy": "busy"}, **section}
    return FetchReport(Zone(7), Index(2), 1, 42.0, ReportSpec.model_validate(raw), url)


def test_a_report_is_fetched(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the token, past any proxy; the event is the answer to that question."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    (tmp_path / "token").write_text("secret\n")
    url = f"http://127.0.0.1:{port}/metrics"
    event = fetch.report(command(url, token_file=str(tmp_path / "token")))
    assert (event.zone, event.index, event.source, event.asked_s) == (7, 2, 1, 42.0)
    assert (event.readings, event.error) == ({"busy": Reading(2.5)}, None)
    path, headers = Handler.seen[-1]
    assert (path, headers["Authorization"]) == ("/metrics", "Bearer secret")
    assert headers["Accept"].startswith("text/plain;version=0.0.4")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("moved", "HTTP 302"),
        ("other", "HTTP 503"),
        ("huge", "is larger than 4194304 bytes"),
    ],
)
def test_answers_that_are_no_report(port: int, path: str, error: str) -> None:
    """They are errors in a few words, and no redirect is followed."""
    event = fetch.report(command(f"http://127.0.0.1:{port}/{path}"))
    assert (event.readings, event.error) == ({}, error)


def test_nobody_there_and_files_that_are_not(port: int, tmp_path: Path) -> None:
    """The innermost reason, on one line."""
    with closed_port() as dead:
        event = fetch.report(command(f"http://127.0.0.1:{dead}/metrics"))
        assert event.error is not None
        assert "Connection refused" in event.error
        assert "\n" not in event.error
    missing = fetch.report(
        command(f"http://127.0.0.1:{port}/metrics", token_file=str(tmp_path / "none"))
    )
    assert missing.error is not None
    assert "No such file" in missing.error
    no_json = fetch.report(command(f"http://127.0.0.1:{port}/metrics", signals={"busy": "/busy"}))
    assert no_json.error is not None
    assert no_json.error.startswith("is no JSON")
    rude = fetch.report(command(f"http://127.0.0.1:{port}/rude"))
    assert rude.error
    assert "\n" not in rude.error


def test_a_silent_server_is_not_waited_for_longer_than_the_timeout() -> None:
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert fetch.report(command(url, timeout_s=0.1)).error == "no answer in time"


# A service ----------------------------------------------------------------------------------------


def question(port: int, kind: str = "http", address: str = "127.0.0.1", **section: Any) -> AskNode:
    """The command to ask the service."""
    raw = {"kind": kind, "via": "controller", "timeout_s": 0.2, **section}
    return AskNode(Zone(7), Index(2), 42.0, HealthSpec.model_validate(raw), address, port)


@pytest.mark.parametrize(
    ("section", "ok", "detail"),
    [
        ({"kind": "tcp"}, True, "port {port} accepts"),
        ({"path": "/metrics"}, True, "HTTP 200"),
        ({"path": "/moved"}, True, "HTTP 302"),
        ({"path": "/other"}, False, "HTTP 503"),
        ({"path": "/other", "expect_status": "500-599"}, True, "HTTP 503"),
        ({"path": "/rude"}, False, "what answers is not HTTP/1"),
        ({"path": "/gone"}, False, "closed before a status line"),
    ],
)
def test_a_service_is_asked(port: int, section: dict[str, Any], ok: bool, detail: str) -> None:
    """The same verdicts, in the same words, as through the switch."""
    heard = ask.node(question(port, **section))
    assert heard is not None
    assert (heard.zone, heard.index, heard.asked_s) == (7, 2, 42.0)
    assert (heard.ok, heard.detail) == (ok, detail.format(port=port))
    assert heard.latency_s > 0


def test_the_host_header_names_who_was_asked(port: int) -> None:
    """The node, or what the configuration says."""
    ask.node(question(port, path="/x"))
    assert Handler.seen[-1][1]["Host"] == f"127.0.0.1:{port}"
    ask.node(question(port, path="/x", host="shop.example"))
    assert Handler.seen[-1][1]["Host"] == "shop.example"


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_services_that_are_not_there(kind: str) -> None:
    """A port that refuses, one that resets, an address that leads nowhere, and silence."""
    with closed_port() as dead:
        heard = ask.node(question(dead, kind))
        assert heard is not None
        assert (heard.ok, heard.detail) == (False, f"port {dead} refuses")
    heard = ask.node(question(80, kind, "255.255.255.255"))
    assert heard is not None
    assert not heard.ok
    assert heard.detail


def test_a_service_that_hangs_is_silence() -> None:
    """Accepted by the kernel, answered by nobody: for tcp good, for http nothing in time."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        number = hanging.getsockname()[1]
        heard = ask.node(question(number, "tcp"))
        assert heard is not None
        assert heard.ok
        assert ask.node(question(number, "http")) is None


def test_a_service_that_resets() -> None:
    """It is told from one that closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ask._RESET_AT_CLOSE)
            connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        heard = ask.node(question(server.getsockname()[1]))
        thread.join()
        assert heard is not None
        assert (heard.ok, heard.detail) == (False, "reset before a status line")


# Green threads ------------------------------------------------------------------------------------

DESK = """
import eventlet
eventlet.monkey_patch()
import json, socket, sys
from sncontroller.core.commands import AskNode, FetchReport, SetBfd
from sncontroller.core.health_spec import HealthSpec
from sncontroller.core.report import ReportSpec
from sncontroller.management.desk import Desk

def silent():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server

def dripping(server, pause_s):
    while True:
        connection, _ = server.accept()
        eventlet.spawn_n(drip, connection, pause_s)

def drip(connection, pause_s):
    connection.recv(4096)
    for byte in b"HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\n\\r\\nbusy 1\\n":
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        eventlet.sleep(pause_s)
    connection.close()

said = []
done = eventlet.event.Event()

def emit(event):
    said.append(event)
    if len(said) == 4:
        done.send()

desk = Desk(emit)
quick, slow, mute = silent(), silent(), silent()
eventlet.spawn_n(dripping, quick, 0)
eventlet.spawn_n(dripping, slow, 0.2)
report = ReportSpec.model_validate(
    {"url": "http://x/", "timeout_s": 2, "signals": {"busy": "busy"}})
health = HealthSpec.model_validate({"kind": "http", "via": "controller", "timeout_s": 1})
for index, server in enumerate([slow, mute, quick]):
    url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    desk.carry_out(FetchReport(1, index, 0, 0.0, report, url))
desk.carry_out(AskNode(1, 7, 0.0, health, "127.0.0.1", mute.getsockname()[1]))
desk.carry_out(AskNode(1, 8, 0.0, health, "127.0.0.1", quick.getsockname()[1]))
desk.carry_out("nonsense")
with eventlet.Timeout(20):
    done.wait()
for event in said:
    print(type(event).__name__, event.index, getattr(event, "error", None) or "ok")
"""


def test_late_nodes_delay_nobody() -> None:
    """One drips a byte at a time, one is mute: the quick ones' answers come before any timeout."""
    done = subprocess.run(
        [*dies_with_parent(), sys.executable, "-c", DESK],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = done.stdout.splitlines()
    assert set(said[:2]) == {"Reported 2 ok", "Heard 8 ok"}
    assert set(said[2:]) == {
        "Reported 0 no answer within 2 s",
        "Reported 1 no answer within 2 s",
    }
