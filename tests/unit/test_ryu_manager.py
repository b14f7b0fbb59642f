"""The real ``ryu-manager`` command, as installed, with applications small enough to read here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

COMMAND = str(Path(sys.executable).with_name("ryu-manager"))
PATIENCE_S = 60.0

OPENFLOW_APP = """
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import MAIN_DISPATCHER, set_ev_cls
from ryu.lib import hub


class App(app_manager.RyuApp):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print("option", self.CONF.sn_config, flush=True)
        hub.spawn({started})

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event):
        pass

    def busy(self):
        print("ready", flush=True)
        while True:
            sum(range(20_000))
            hub.sleep(0)

    def idle(self):
        hub.sleep(0.2)
        print("ready", flush=True)

    def close(self):
        print("closing", flush=True)
        hub.sleep({closes_in_s})
        print("closed", flush=True)
"""

REST_APP = """
from ryu.app import wsgi
from ryu.base import app_manager
from ryu.lib import hub


class Api(wsgi.ControllerBase):
    @wsgi.route("hello", "/hello")
    def hello(self, req, **_):
        return wsgi.Response(body=b"hello")

    @wsgi.websocket("talk", "/talk")
    def talk(self, websocket):
        websocket.send("said " + websocket.wait())


class App(app_manager.RyuApp):
    _CONTEXTS = {"wsgi": wsgi.WSGIApplication}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        kwargs["wsgi"].register(Api)
        hub.spawn(print, "ready", flush=True)
"""


class Manager:
    """One ryu-manager process and what it has printed so far."""

    def __init__(self, directory: Path, *arguments: str, ignore: signal.Signals | None = None):
        self.log = directory / f"ryu-manager.{time.monotonic_ns()}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [COMMAND, *arguments],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=ignore and (lambda: signal.signal(ignore, signal.SIG_IGN)),
            )

    @property
    def said(self) -> str:
        """All of stdout and stderr so far."""
        return self.log.read_text()

    def until(self, text: str) -> None:
        """Wait for `text` in the output."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(PATIENCE_S)

    def stopped_by(self, signum: signal.Signals) -> int:
        """Send `signum` and wait for the end; the exit code."""
        self.process.send_signal(signum)
        return self.ended()

    def discard(self) -> None:
        """Leave no process behind."""
        self.process.kill()
        self.process.wait()


Start: TypeAlias = Callable[..., Manager]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ryu-manager with arguments; all are gone after the test."""
    managers: list[Manager] = []

    def started(*arguments: str, ignore: signal.Signals | None = None) -> Manager:
        managers.append(Manager(tmp_path, *arguments, ignore=ignore))
        return managers[-1]

    yield started
    for manager in managers:
        manager.discard()


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., str]:
    """Write an OpenFlow application and return its path."""

    def written(started: str = "self.idle", closes_in_s: float = 0.2) -> str:
        path = tmp_path / "an_app.py"
        path.write_text(OPENFLOW_APP.format(started=started, closes_in_s=closes_in_s))
        return str(path)

    return written


@pytest.fixture
def rest_app(tmp_path: Path) -> str:
    """The path of an application with a REST call and a websocket."""
    path = tmp_path / "a_rest_app.py"
    path.write_text(REST_APP)
    return str(path)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def openflow_port() -> tuple[str, str]:
    """The arguments for a free OpenFlow port on loopback."""
    return "--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={free_port()}"


def answer(port: int, request: str, host: str = "127.0.0.1") -> bytes:
    """What the HTTP server answers to `request` until it closes the connection."""
    with socket.create_connection((host, port), PATIENCE_S) as client:
        client.sendall(request.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_version_names_ryu_and_nothing_else(start: Start) -> None:
    """``--version`` is one line, without eventlet's deprecation warning around it."""
    manager = start("--version")
    assert manager.ended() == 0
    assert manager.said == "ryu-manager 4.34\n"


def test_help_shows_our_option_and_the_loopback_default(start: Start) -> None:
    """``--help`` names ``--sn-config FILE`` and tells the truth about where REST listens."""
    manager = start("--help")
    assert manager.ended() == 0
    assert "--sn-config FILE" in manager.said
    assert "webapp listen host (default 127.0.0.1" in manager.said


def test_setuptools_is_left_out_where_python_has_distutils(start: Start, tmp_path: Path) -> None:
    """Ryu wants one class, and setuptools, which would answer with its own, is slow to import."""
    path = tmp_path / "an_app.py"
    path.write_text(
        "import sys\n"
        "from ryu.base import app_manager\n"
        "class App(app_manager.RyuApp):\n"
        "    def start(self):\n"
        "        print('setuptools:', 'setuptools' in sys.modules, flush=True)\n"
    )
    start(str(path)).until(f"setuptools: {sys.version_info >= (3, 12)}\n")


def test_the_installed_command_is_ours() -> None:
    """Ryu installs a command of the same name, which cannot start; ours has replaced it."""
    assert "sncontroller.ryu_manager" in Path(COMMAND).read_text()


def test_the_option_reaches_the_application(start: Start, app: Callable[..., str]) -> None:
    """An application reads ``--sn-config`` as ``CONF.sn_config``."""
    manager = start(app(), "--sn-config", "a.yaml", *openflow_port())
    manager.until("option a.yaml")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("started", ["self.idle", "self.busy"])
def test_a_signal_ends_it_cleanly(
    start: Start, app: Callable[..., str], signum: signal.Signals, started: str
) -> None:
    """Applications are closed, timers still run meanwhile, no traceback, exit code 0."""
    manager = start(app(started), *openflow_port())
    manager.until("ready")
    assert manager.stopped_by(signum) == 0
    assert manager.said.splitlines()[-2:] == ["closing", "closed"]
    assert "Traceback" not in manager.said


def test_the_same_request_twice_is_one_request(start: Start, app: Callable[..., str]) -> None:
    """A Ctrl-C that comes from the terminal and from the parent does not cut the clean-up short."""
    manager = start(app(closes_in_s=0.5), *openflow_port())
    manager.until("ready")
    manager.process.send_signal(signal.SIGINT)
    manager.until("closing")
    assert manager.stopped_by(signal.SIGTERM) == 0
    assert manager.said.endswith("closed\n")


def test_a_second_request_ends_a_clean_up_that_hangs(start: Start, app: Callable[..., str]) -> None:
    """Who asks again later does not wait for an application that never closes."""
    manager = start(app(closes_in_s=3600), *openflow_port())
    manager.until("ready")
    manager.process.send_signal(signal.SIGTERM)
    manager.until("closing")
    time.sleep(1.2)
    assert manager.stopped_by(signal.SIGTERM) == -signal.SIGTERM
    assert "Traceback" not in manager.said


def test_an_ignored_interrupt_stays_ignored(start: Start, app: Callable[..., str]) -> None:
    """A shell's background job does not die of the Ctrl-C meant for the job in front."""
    manager = start(app(), *openflow_port(), ignore=signal.SIGINT)
    manager.until("ready")
    manager.process.send_signal(signal.SIGINT)
    assert manager.stopped_by(signal.SIGTERM) == 0
    assert manager.said.endswith("closed\n")


def test_an_application_of_ryus_runs(start: Start) -> None:
    """The command is for every Ryu application: the one of Ryu's tutorial, over a real socket."""
    listen = openflow_port()
    manager = start("ryu.app.simple_switch_13", *listen)
    manager.until("instantiating app ryu.controller.ofp_handler")
    with connected(int(listen[1].partition("=")[2])) as switch:
        version, kind = switch.recv(8)[:2]
    assert (version, kind) == (4, 0), "OFPT_HELLO of OpenFlow 1.3"
    assert manager.stopped_by(signal.SIGTERM) == 0
    assert "Traceback" not in manager.said


def connected(port: int) -> socket.socket:
    """A connection to a port of loopback that is about to be listened on."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_rest_is_for_this_machine_only_unless_asked(start: Start, rest_app: str) -> None:
    """REST answers on 127.0.0.1; any other address of the machine is refused."""
    port = free_port()
    manager = start(rest_app, f"--wsapi-port={port}")
    manager.until("ready")
    assert answer(port, "GET /hello HTTP/1.0\n\n").endswith(b"\r\n\r\nhello")
    with pytest.raises(ConnectionRefusedError):
        answer(port, "GET /hello HTTP/1.0\n\n", host="127.0.0.2")


def test_rest_listens_where_it_is_told(start: Start, rest_app: str) -> None:
    """``--wsapi-host`` still decides."""
    port = free_port()
    manager = start(rest_app, f"--wsapi-port={port}", "--wsapi-host=127.0.0.2")
    manager.until("ready")
    assert answer(port, "GET /hello HTTP/1.0\n\n", host="127.0.0.2").endswith(b"hello")


def test_a_websocket_ends_without_a_traceback(start: Start, rest_app: str) -> None:
    """The name that eventlet dropped is the body Ryu returns after a websocket: nothing follows."""
    port = free_port()
    manager = start(rest_app, f"--wsapi-port={port}")
    manager.until("ready")
    greeting = (
        "GET /talk HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: Upgrade\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n\n"
    )
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(greeting.replace("\n", "\r\n").encode())
        accepted = client.recv(4096)
        client.sendall(b"\x81\x82\0\0\0\0hi")
        said = b"".join(iter(lambda: client.recv(4096), b""))
    assert accepted.startswith(b"HTTP/1.1 101 ")
    assert said.startswith(b"\x81\x07said hi")
    assert b"HTTP" not in said
    assert manager.stopped_by(signal.SIGTERM) == 0
    assert "Traceback" not in manager.said


@pytest.mark.parametrize("which", ["--ofp-tcp-listen-port", "--wsapi-port"])
def test_a_port_that_is_taken_is_one_line(
    start: Start, app: Callable[..., str], rest_app: str, which: str
) -> None:
    """Two controllers never share a port: the second says which one and ends with 2."""
    listen = ("--ofp-listen-host=127.0.0.1", f"{which}={free_port()}")
    subject = app() if which.startswith("--ofp") else rest_app
    first = start(subject, *listen)
    first.until("ready")
    second = start(subject, *listen)
    assert second.ended() == 2
    port = listen[1].partition("=")[2]
    assert second.said.splitlines()[-1] == (
        f"ryu-manager: cannot listen on 127.0.0.1:{port}: Address already in use"
    )
    assert "Traceback" not in second.said
    assert first.process.poll() is None


@pytest.mark.parametrize(
    "name", ["no.such.app", "nosuch", "ryu.app.nosuch", "./nosuch.py", "nosuch.py", "/no/such.py"]
)
def test_an_application_that_is_not_there_is_one_line(start: Start, name: str) -> None:
    """A mistyped application is no traceback."""
    manager = start(name)
    assert manager.ended() == 2
    assert manager.said.splitlines()[1:] == [
        f"ryu-manager: no application {name}: name an installed module or the path of a Python file"
    ]


def test_an_application_with_a_broken_import_shows_where(start: Start, tmp_path: Path) -> None:
    """A module that the application itself lacks is the application's error, shown in full."""
    path = tmp_path / "broken.py"
    path.write_text("import there_is_no_such_module\n")
    manager = start(str(path))
    assert manager.ended() == 1
    assert f'File "{path}", line 1' in manager.said
    assert manager.said.endswith("No module named 'there_is_no_such_module'\n")


def test_an_application_may_end_the_start_with_its_own_code(start: Start, tmp_path: Path) -> None:
    """SystemExit from an application's constructor is the exit code, with no traceback."""
    path = tmp_path / "refusing.py"
    path.write_text(
        "from ryu.base import app_manager\n"
        "class App(app_manager.RyuApp):\n"
        "    def __init__(self, *args, **kwargs):\n"
        "        raise SystemExit(2)\n"
    )
    manager = start(str(path))
    assert manager.ended() == 2
    assert "Traceback" not in manager.said


def test_a_missing_configuration_file_of_ryus_is_one_line(start: Start) -> None:
    """Ryu's own ``--config-file`` that does not exist is no traceback either."""
    manager = start("--config-file=/no/such/file")
    assert manager.ended() == 2
    assert manager.said == "ryu-manager: Failed to find some config files: /no/such/file\n"


def test_another_handlers_signal_wakes_the_hub(start: Start, tmp_path: Path) -> None:
    """An application's own signal handler may schedule work, which runs at once."""
    path = tmp_path / "hup.py"
    path.write_text(
        "import signal\n"
        "from ryu.base import app_manager\n"
        "from ryu.lib import hub\n"
        "class App(app_manager.RyuApp):\n"
        "    def start(self):\n"
        "        signal.signal(signal.SIGHUP, self.reload)\n"
        "        hub.spawn(print, 'ready', flush=True)\n"
        "        return hub.spawn(hub.sleep, 3600)\n"
        "    def reload(self, *_):\n"
        "        hub.spawn(print, 'reloaded', flush=True)\n"
    )
    manager = start(str(path))
    manager.until("ready")
    os.kill(manager.process.pid, signal.SIGHUP)
    manager.until("reloaded")
    assert manager.stopped_by(signal.SIGTERM) == 0
