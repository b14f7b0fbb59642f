"""Mininet's own command line with our topologies, and the real controller beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import dies_with_parent, program

HERE = Path(__file__).parents[2] / "mininet_topos"
OPENFLOW, REST = 16653, 18080
PATIENCE_S = 60.0


class Mininet:
    """A running ``mn``, spoken to on its prompt."""

    def __init__(self, topology: str, environment: dict[str, str], log: Path) -> None:
        custom = str(HERE / "topologies.py")
        self.log = log
        self.process = subprocess.Popen(
            [
                *(program("mn"), "--custom", custom, "--topo", topology, "--switch", "snovs"),
                *("--controller", f"remote,ip=127.0.0.1,port={OPENFLOW}"),
            ],
            stdin=subprocess.PIPE,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            preexec_fn=dies_with_parent,
        )

    def say(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def ask(self, line: str, tag: str) -> str:
        """What a host's command printed, up to a line with ``tag``."""
        host, _, command = line.partition(" ")
        already = self.log.read_text().count(f"<{tag}>")
        self.say(f"{host} {command}; echo '<'{tag}'>'")
        eventually(lambda: self.log.read_text().count(f"<{tag}>") > already, self.log)
        return self.log.read_text().rpartition(f"<{tag}>")[0]

    def close(self) -> int:
        """Leave as a user does; mn takes its network down."""
        self.say("exit")
        return self.process.wait(60)


def eventually(holds: Callable[[], object], log: Path) -> None:
    """Return when ``holds``; fail after a long time with the log's end."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def group() -> dict[str, Any]:
    """The group as the controller shows it, or nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{REST}/v1/status", timeout=2) as reply:
            status: dict[str, Any] = json.load(reply)
    except OSError:
        return {"nodes": [], "active": 0}
    return dict(status["groups"][0])


def scale(nodes: int | None) -> None:
    """Ask for a number of nodes."""
    body = json.dumps({"nodes": nodes}).encode()
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{REST}/v1/groups/web/scale"
    request = urllib.request.Request(url, body, headers, method="POST")
    urllib.request.urlopen(request, timeout=5).close()


@pytest.fixture
def ovs(tmp_path: Path) -> Iterator[PrivateOvs]:
    """A switch daemon that mn finds instead of the machine's own."""
    isolate()
    with PrivateOvs(tmp_path / "ovs") as ovs:
        yield ovs


@pytest.fixture
def controller(tmp_path: Path, ovs: PrivateOvs) -> Callable[[str], Path]:
    """Starts the controller on a topology's configuration; the log's path."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> Path:
        raw = yaml.safe_load((HERE / f"{name}.yaml").read_text())
        raw["groups"]["web"]["hypervisor"].update(ovsdb=ovs.db, workdir=str(tmp_path / "nodes"))
        configuration, log = tmp_path / "sn.yaml", tmp_path / "controller.log"
        configuration.write_text(yaml.safe_dump(raw))
        command = [
            *(str(Path(sys.executable).parent / "ryu-manager"), "sncontroller.app"),
            *("--sn-config", str(configuration), "--ofp-listen-host", "127.0.0.1"),
            *("--ofp-tcp-listen-port", str(OPENFLOW), "--wsapi-port", str(REST)),
        ]
        environment = {**os.environ, **ovs.environment}
        with log.open("w") as out:
            child = subprocess.Popen(
                command, stdout=out, stderr=out, env=environment, preexec_fn=dies_with_parent
            )
        started.append(child)
        return log

    yield start  # type: ignore[misc]
    for child in started:
        child.terminate()
        child.wait(20)


@pytest.mark.parametrize(
    ("name", "topology"), [("single", "snsingle"), ("linear", "snlinear"), ("leaf_spine", "snleafspine")]
)
def test_a_topology_serves_an_elastic_group(
    ovs: PrivateOvs,
    controller: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    topology: str,
) -> None:
    """A client anywhere reaches the primary, then three nodes, then the primary alone again."""
    log = controller(name)
    environment = {**os.environ, **ovs.environment}
    mininet = Mininet(topology, environment, tmp_path / "mn.log")
    try:
        eventually(lambda: group()["active"] == 1, log)
        scale(3)
        eventually(lambda: group()["active"] == 3, log)
        fetch = "c1 for i in 1 2 3 4 5 6 7 8 9 10; do curl -s --max-time 5 http://10.0.0.10/; done"
        seen: set[str] = set()
        for attempt in range(10):
            said = mininet.ask(fetch, f"fetched{attempt}")
            seen |= {node for node in ("vm1", "web-2", "web-3") if f"{node}\n" in said}
            if len(seen) == 3:
                break
        assert seen == {"vm1", "web-2", "web-3"}, mininet.log.read_text()
        scale(1)
        eventually(lambda: len(group()["nodes"]) == 1, log)
    finally:
        assert mininet.close() == 0
    assert "web-2" not in ovs.vsctl("list-ports", "s1") if "s1" in ovs.vsctl("list-br") else True
