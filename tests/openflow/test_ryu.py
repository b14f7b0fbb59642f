"""``Switch`` in Ryu's own event loop, with a real switch that connects to it."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.openflow.conftest import PORTS, Bridge
from tests.openflow.tables import compiled
from tests.openflow.test_polls import segment
from tests.openflow.test_switch import shown

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30


class Manager:
    """A ``ryu-manager`` with our test's app and a neighbour."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "sncontroller.ryu_manager"]
        command += ["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", str(port)]
        command += ["tests.openflow.ryu_app", "tests.openflow.ryu_neighbour"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.lines: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout,)),
            threading.Thread(target=self._collect, args=(self.process.stderr,)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.put(line.strip())

    def _collect(self, stream: IO[str]) -> None:
        self.errors += stream

    def until(self, start: str) -> str:
        """The next line that starts so; others are skipped."""
        while True:
            try:
                line = self.lines.get(timeout=TIMEOUT_S)
            except queue.Empty:
                pytest.fail(f"no {start!r}: {''.join(self.errors)}")
            if line.startswith(start):
                return line

    def end(self) -> None:
        """Stop the process, and see that it had nothing to complain of."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        assert "Traceback" not in "".join(self.errors)


@pytest.fixture
def port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def manager(port: int) -> Iterator[Manager]:
    """A running manager."""
    running = Manager(port)
    yield running
    running.end()


def test_a_switch_that_connects(bridge: Bridge, manager: Manager, port: int) -> None:
    """The table is applied and polled; ports and packets come up; a neighbour app sees its own."""
    bridge.ovs.set_controller(bridge.name, f"tcp:127.0.0.1:{port}")
    assert manager.until("up") == f"up {bridge.name} 0"
    manager.until("applied")
    assert manager.until("polled") == "polled 0 0 0"
    assert bridge.dump() == shown(compiled())
    tables = {flow.table for flow in compiled().flows.values()}
    manager.until(f"neighbour {len(compiled().flows)} {len(tables)}")
    bridge.ovs.add_port(bridge.name, f"{bridge.name}-new", type="dummy")
    assert manager.until("port") == f"port {bridge.name}-new"
    answer = segment(1000, "ack", to_node=False).replace("dst=10.0.0.9", "dst=10.0.0.254")
    bridge.inject("sn00a1-2", answer)
    assert manager.until("frame") == f"frame {PORTS['sn00a1-2']}"


def test_a_switch_that_comes_back(bridge: Bridge, manager: Manager, port: int) -> None:
    """After a new connection what is there is kept, and confirmed without a change."""
    target = f"tcp:127.0.0.1:{port}"
    bridge.ovs.set_controller(bridge.name, target)
    manager.until("applied")
    bridge.ovs.set_controller(bridge.name, "tcp:127.0.0.1:1")
    manager.until("gone")
    bridge.ovs.set_controller(bridge.name, target)
    assert manager.until("up") == f"up {bridge.name} {len(compiled().flows)}"
    manager.until("applied")
    assert bridge.dump() == shown(compiled())
