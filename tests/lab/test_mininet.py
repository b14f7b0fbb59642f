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

from sncontroller.lab.namespaces import links
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import dies_with_parent, program

HERE = Path(__file__).parents[2] / "mininet_topos"
OPENFLOW, REST = 16653, 18080
PATIENCE_S = 60.0
SYSTEM_PYTHON = "/usr/bin/python3"


class Mininet:
    """A Mininet in a process of its own, under the Python that Debian's Mininet is for."""

    def __init__(self, topology: str, environment: dict[str, str], log: Path) -> None:
        driver = str(Path(__file__).with_name("mininet_driver.py"))
        self.process = subprocess.Popen(
            [*dies_with_parent(), SYSTEM_PYTHON, driver, topology, str(OPENFLOW)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            env=environment,
            text=True,
        )
        assert self._answer() == "ready", log.read_text()

    def run(self, host: str, command: str) -> str:
        """What a host's shell command printed."""
        self.process.stdin.write(f"{host} {command}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        said = self.process.stdout.readline()
        return str(json.loads(said)) if said else ""

    def close(self) -> int:
        """Take the network down."""
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        return status


def eventually(holds: Callable[[], object], log: Path) -> None:
    """Return when ``holds``; fail after a long time with the log's end."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{json.dumps(group())}\n{log.read_text()[-4000:]}"
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
        section = raw["groups"]["web"]["hypervisor"]
        places = {"netns": ("workdir", "nodes"), "mininet": ("control", "mininet.sock")}
        option, place = places[section["plugin"]]
        section.update({"ovsdb": ovs.db, option: str(tmp_path / place)})
        configuration, log = tmp_path / "sn.yaml", tmp_path / "controller.log"
        configuration.write_text(yaml.safe_dump(raw))
        command = [
            *dies_with_parent(),
            *(str(Path(sys.executable).parent / "ryu-manager"), "sncontroller.app"),
            *("--sn-config", str(configuration), "--ofp-listen-host", "127.0.0.1"),
            *("--ofp-tcp-listen-port", str(OPENFLOW), "--wsapi-port", str(REST)),
        ]
        environment = {**os.environ, **ovs.environment}
        with log.open("w") as out:
            child = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        started.append(child)
        return log

    yield start  # type: ignore[misc]
    for child in started:
        child.terminate()
        child.wait(20)


@pytest.mark.parametrize(
    ("name", "topology"),
    [("single", "snsingle"), ("linear", "snlinear"), ("leaf_spine", "snleafspine")],
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
        fetch = "for i in 1 2 3 4 5 6 7 8 9 10; do curl -s --max-time 5 http://10.0.0.10/; done"
        seen: set[str] = set()
        for _ in range(10):
            said = mininet.run("c1", fetch)
            seen |= {node for node in ("vm1", "web-2", "web-3") if node in said}
            if len(seen) == 3:
                break
        assert seen == {"vm1", "web-2", "web-3"}
        scale(1)
        eventually(lambda: len(group()["nodes"]) == 1, log)
    finally:
        assert mininet.close() == 0


@pytest.mark.parametrize("topology", ["snsingle", "snlinear", "snleafspine"])
def test_mn_takes_the_topologies(ovs: PrivateOvs, topology: str) -> None:
    """``mn --custom`` brings a topology up with our switch, and down again."""
    done = subprocess.run(
        [
            *(program("mn"), "--custom", str(HERE / "topologies.py"), "--topo", topology),
            *("--switch", "snovs", "--controller", "none", "--test", "none"),
        ],
        env={**os.environ, **ovs.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "vm1" in done.stdout + done.stderr
    assert ovs.vsctl("list-br") == ""


def test_mn_makes_an_elastic_groups_hosts(
    ovs: PrivateOvs, controller: Callable[[str], Path], tmp_path: Path
) -> None:
    """``mn --custom`` with elastic.py: secondaries are hosts that its command line knows."""
    log, custom = controller("elastic"), f"{HERE / 'topologies.py'},{HERE / 'elastic.py'}"
    control = {"SN_MININET_SOCKET": str(tmp_path / "mininet.sock"), "TMPDIR": str(tmp_path)}
    mn = subprocess.Popen(
        [
            *(*dies_with_parent(), program("mn"), "--custom", custom, "--topo", "snsingle"),
            *("--switch", "snovs", "--controller", f"remote,ip=127.0.0.1,port={OPENFLOW}"),
        ],
        env={**os.environ, **ovs.environment, **control},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        eventually(lambda: group()["active"] == 1, log)
        scale(3)
        eventually(lambda: group()["active"] == 3, log)
        fetch = "c1 for i in $(seq 60); do curl -s --max-time 5 http://10.0.0.10/; done\n"
        said, _ = mn.communicate(f"nodes\n{fetch}web_2 ping -c1 10.0.0.101\nexit\n", timeout=120)
    finally:
        mn.kill()
        mn.wait()
    assert mn.returncode == 0, said
    assert "c1 c2 s1 vm1 web_2 web_3" in said
    assert {"vm1", "web-2", "web-3"} <= set(said.split())
    assert "1 packets transmitted, 1 received" in said
    assert ovs.vsctl("list-br") == ""
    assert [name for name in links() if name != "lo"] == []
    assert list(tmp_path.glob("sn-mininet-*")) == []
