"""Signals and verdicts that do not come through the switch: reports, the controller's probes, BFD.

Everything is real: the controller, the switch, the nodes, their exporters, and the Open vSwitch in
the nodes that speak BFD. The figures that are printed (``pytest -s``) are in docs/.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sncontroller.core.commands import SetBfd
from sncontroller.core.layout import Zone
from sncontroller.lab.net import Host, Link, isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.management import ovsdb
from tests.lab.failover_lab import (
    ADDRESS,
    BRIDGE,
    PRIMARY,
    REPOSITORY,
    SERVICE,
    Lab,
    running,
    visits,
)

TO = {"address": ADDRESS, "port": 80}
MANAGEMENT = "10.0.0.253/24"
"""The controller's own address on the nodes' network, at the bridge's local port."""


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


class Managed(Lab):
    """A lab whose controller reaches the nodes' own addresses."""

    def add_foreign(self) -> None:
        """And an address for the controller's host."""
        super().add_foreign()
        for command in (
            f"ip address add {MANAGEMENT} dev {BRIDGE}",
            f"ip link set {BRIDGE} up",
            f"ethtool -K {BRIDGE} tx off",
        ):
            subprocess.run(command.split(), check=True, capture_output=True, timeout=10)


# Reports ------------------------------------------------------------------------------------------

REPORTS = {
    "url": "http://{address}:9100/metrics",
    "interval_s": 0.5,
    "keep_s": 2,
    "signals": {"busy": {"metric": "test_busy", "labels": {"part": "all"}}},
}
THRESHOLD = {
    "policy": "threshold",
    "min": 1,
    "max": 2,
    "high": 0.8,
    "high_for_s": 1,
    "low": 0.3,
    "low_for_s": 1,
    "up_cooldown_s": 1,
    "down_cooldown_s": 1,
}


class Exporting(Managed):
    """A lab whose nodes run an exporter beside the service; what it says is in a file."""

    primarys = "busy"
    """Where the primary's exporter finds what it says."""

    def serve_primary(self) -> None:
        """And its exporter."""
        super().serve_primary()
        for file in ("busy", self.primarys):
            self.say(0.5, file)
        spoken = str(self.directory / self.primarys)
        command = (sys.executable, "-m", "tests.lab.exporter", spoken)
        started = self.primary.popen(*command, cwd=REPOSITORY, stdout=subprocess.PIPE)
        assert started.stdout is not None
        self.stack.enter_context(started.stdout)
        self.exporter = int(started.stdout.readline())

    def say(self, busy: float, file: str = "busy") -> None:
        """What all exporters that read this file say from now on."""
        fresh = self.directory / f"{file}.new"
        fresh.write_text(str(busy))
        fresh.replace(self.directory / file)

    def hypervisor(self, **changes: Any) -> dict[str, Any]:
        """Secondaries with an exporter of their own."""
        exporter = (sys.executable, "-m", "tests.lab.exporter", str(self.directory / "busy"))
        command = [*exporter, *SERVICE.command("{name}", "{directory}")]
        environment = {"PYTHONPATH": str(REPOSITORY)}
        return super().hypervisor(command=command, environment=environment, **changes)


def test_a_group_scales_by_what_an_exporter_reports(tmp_path: Path) -> None:
    """Up when nodes say that they are busy, down when they say that they are not, and not before.

    While one exporter hangs, its node is not taken for idle; the other one is asked as ever.
    """
    changes = {"capacity": {"reports": {"busy": 2.0}}, "reports": REPORTS, "scaling": THRESHOLD}
    with running(tmp_path, nodes=1, lab=Exporting, **changes) as lab:
        assert isinstance(lab, Exporting)
        lab.until(lambda: lab.node(PRIMARY)["load_signal"] == "busy", "no report")
        assert lab.node(PRIMARY)["signals"]["busy"] == 0.5
        busy_s = time.time()
        lab.say(1.9)
        wanted = lab.wait_event("wanted", since=busy_s)
        assert wanted["reason"].startswith("1 -> 2 nodes")
        lab.active(PRIMARY, "web-2")
        lab.until(lambda: lab.node("web-2")["signals"]["busy"] == 1.9, "web-2 reports nothing")

        os.kill(lab.exporter, signal.SIGSTOP)
        lab.until(lambda: lab.node(PRIMARY)["signals"]["busy"] is None, "it is still known")
        lab.say(0.1)
        lab.until(lambda: lab.node("web-2")["signals"]["busy"] == 0.1, "one late, all late")
        lab.until(lambda: lab.events("report", PRIMARY), "nobody is told")
        (said,) = lab.events("report", PRIMARY)
        time.sleep(2)
        assert lab.serving() == {PRIMARY, "web-2"}
        assert lab.node(PRIMARY)["load"] is None
        os.kill(lab.exporter, signal.SIGCONT)
        lab.active(PRIMARY)
        print(
            f"\nscaled up {wanted['time_s'] - busy_s:.2f} s after the exporters said so; with one"
            f" silent: {said['reason']!r}, no change"
        )


class Unequal(Exporting):
    """A lab whose primary says something else than its secondaries."""

    primarys = "primary"


def test_weights_follow_what_nodes_report(tmp_path: Path) -> None:
    """A weak primary gets fewer new flows, bit by bit; in the band, and at a restart, none move.

    Connections that are there stay where they are, whatever the weights do.
    """
    balance = {"kind": "least-load", "interval_s": 1}
    changes = {"capacity": {"reports": {"busy": 1.0}}, "reports": REPORTS, "balance": balance}
    with running(tmp_path, nodes=2, lab=Unequal, **changes) as lab:
        assert isinstance(lab, Unequal)
        lab.until(lambda: lab.node("web-2")["load"] == 0.5, "no report")
        holder = lab.visitor()
        assert holder.do("open", count=30, **TO)["nodes"][PRIMARY] > 5
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        assert lab.node(PRIMARY)["slots"] == 128
        seen = [128]
        lab.say(0.8, "primary")

        def fewer() -> bool:
            now = lab.node(PRIMARY)["slots"]
            seen.extend([now] if now != seen[-1] else [])
            return now <= 64

        lab.until(fewer, "the weights do not follow")
        for file in ("busy", "primary"):
            lab.say(0.6, file)
        lab.until(lambda: {n["load"] for n in lab.group()["nodes"]} == {0.6}, "no report")
        lab.say(0.65, "primary")
        settled = lab.slots()
        time.sleep(3)  # three intervals
        assert lab.slots() == settled
        lab.restart_controller()
        lab.active(PRIMARY, "web-2")
        time.sleep(3)
        assert lab.slots() == settled
        holder.do("stop")
        held = holder.wait(churn)
        assert (held["broken"], held["moved"]) == (0, 0)
        assert seen == sorted(seen, reverse=True)
        assert len(seen) > 2
        print(f"\nleast-load: slots of a primary at 0.8 beside 0.5: {seen}; then all stay")


# Probes by the controller -------------------------------------------------------------------------


class SecondAddress(Managed):
    """A lab whose primary has an address apart from the group's."""

    OWN = "10.0.0.9"

    def serve_primary(self) -> None:
        """By that, too."""
        self.primary.run("ip", "address", "replace", f"{self.OWN}/24", "dev", "eth0")
        super().serve_primary()


def test_a_probe_by_the_controller_takes_a_hanging_node_out(tmp_path: Path) -> None:
    """Over the nodes' own addresses, with the same counts; the switch carries no probe."""
    health = {"kind": "http", "via": "controller", "path": "/ping", "interval_s": 0.2, "fall": 3}
    management = {"primary_address": SecondAddress.OWN}
    changes = {"health": {**health, "expect_status": "200-299"}, "management": management}
    with running(tmp_path, nodes=2, lab=SecondAddress, **changes) as lab:
        agent = lab.visitor()
        assert lab.node("web-2")["health"]["detail"] == "HTTP 200"
        hung_s = lab.signal("web-2", signal.SIGSTOP)
        failed = lab.wait_event("failed", "web-2", since=hung_s)
        lab.until(lambda: lab.group()["live"], "the switch was not told")
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert failed["reason"] == "3 probes failed, last: no answer within 0.17 s"
        assert seen.failed == ()
        assert "web-2" not in seen.nodes
        lab.signal("web-2", signal.SIGCONT)
        lab.active(PRIMARY, "web-2")
        killed_s = lab.signal(PRIMARY, signal.SIGKILL)
        refused = lab.wait_event("failed", PRIMARY, since=killed_s)
        assert refused["reason"] == "3 probes failed, last: port 80 refuses"
        print(
            f"\nvia controller, interval 0.2 s, fall 3: a hang is out after"
            f" {failed['time_s'] - hung_s:.3f} s, a dead service after"
            f" {refused['time_s'] - killed_s:.3f} s"
        )
        lab.serve_primary()
        lab.active(PRIMARY, "web-2")


# BFD ----------------------------------------------------------------------------------------------


class Bfd(Lab):
    """A lab whose nodes have an Open vSwitch inside that speaks BFD; secondaries are a pool."""

    def __init__(self, directory: Path, stack: ExitStack, changes: dict[str, Any]) -> None:
        self.inside: dict[str, int] = {}
        """The switch daemon in each node, by the node's port."""
        super().__init__(directory, stack, changes)

    def serve_primary(self) -> None:
        """And the pool's one node."""
        self._serve(self.primary, PRIMARY)
        link = Link("10.0.0.22/24", mac="02:00:00:00:01:02", loopback=(ADDRESS,))
        host = Host(self.ovs, BRIDGE, "ready", link)
        self._serve(self.stack.enter_context(host), host.name)

    def _serve(self, host: Host, node: str) -> None:
        directory = self.directory / node
        command = (sys.executable, "-m", "tests.lab.bfd_node", str(directory))
        service = SERVICE.command(node, str(directory))
        started = host.popen(*command, *service, cwd=REPOSITORY, stdout=subprocess.PIPE)
        assert started.stdout is not None
        self.stack.enter_context(started.stdout)
        self.inside[host.name] = int(started.stdout.readline())
        self.stack.callback(self._thaw_if_there, host.name)

    def _thaw_if_there(self, port: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.inside[port], signal.SIGCONT)

    def freeze(self, node: str) -> int:
        """Stop the switch in the node, and with it all its traffic; what to thaw."""
        pid = self.inside[self.node(node)["port"]]
        os.kill(pid, signal.SIGSTOP)
        return pid

    def hypervisor(self, **_: Any) -> dict[str, Any]:
        """The pool."""
        nodes = [{"port": "ready", "mac": "02:00:00:00:01:02"}]
        return {"plugin": "pool", "ovsdb": f"unix:{self.hypervisor_socket}", "nodes": nodes}

    def bfd(self, port: str) -> str:
        """The port's column in the database."""
        return self.ovs.vsctl("get", "interface", port, "bfd").strip()


def test_bfd_goes_down(tmp_path: Path) -> None:
    """A node freezes with its link up: the switch routes around it, controller or none."""
    database = f"unix:{tmp_path / 'hypervisor.sock'}"
    health = {"kind": "bfd", "bfd": {"ovsdb": database, "min_rx_ms": 100, "min_tx_ms": 100}}
    with running(tmp_path, nodes=2, lab=Bfd, health=health) as lab:
        assert isinstance(lab, Bfd)
        agent = lab.visitor()
        assert 'enable="true"' in lab.bfd("vm1")
        before = visits(agent, agent.start("visit", total=100, **TO))
        assert before.nodes == {PRIMARY, "ready"}
        frozen_s = time.time()
        frozen = lab.freeze("web-2")
        failed = lab.wait_event("failed", "web-2", since=frozen_s)
        assert failed["reason"] == "BFD: the switch hears nothing from it"
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert seen.failed == ()
        assert seen.nodes == {PRIMARY}
        os.kill(frozen, signal.SIGCONT)
        lab.active(PRIMARY, "web-2")
        lab.consistent()

        frozen = lab.freeze("web-2")
        lab.controller.kill()
        time.sleep(1)
        alone = visits(agent, agent.start("visit", total=300, **TO))
        assert alone.failed == ()
        assert alone.nodes == {PRIMARY}
        os.kill(frozen, signal.SIGCONT)
        lab.controller.start()
        lab.active(PRIMARY, "web-2")
        print(
            f"\nBFD at 100 ms: out after {failed['time_s'] - frozen_s:.3f} s; without a controller"
            f" {len(alone.all)} connections, {len(alone.failed)} failed"
        )


def test_a_ports_setting_in_the_database(tmp_path: Path) -> None:
    """Ours is put there and taken away, what others set stays; a port that has gone is fine."""
    with PrivateOvs(tmp_path / "ovs") as ovs:
        ovs.add_bridge(BRIDGE)
        ovs.add_port(BRIDGE, "p1", type="internal")
        ovs.vsctl("set", "interface", "p1", "bfd:oam=false")
        column = (("enable", "true"), ("min_rx", "200"), ("bfd_dst_ip", "fe80::1"))
        said = []
        for port, on in (("p1", True), ("p2", True), ("p1", False), ("p2", False)):
            result = ovsdb.bfd(SetBfd(Zone(7), port, ovs.db, column, on))
            assert (result.port, result.error) == (port, None)
            said.append(ovs.vsctl("get", "interface", "p1", "bfd").strip())
        assert said[0] == said[1]
        assert said[0] == '{bfd_dst_ip="fe80::1", enable="true", min_rx="200", oam="false"}'
        assert said[2] == said[3] == '{oam="false"}'
    gone = ovsdb.bfd(SetBfd(Zone(7), "p1", f"unix:{tmp_path}/none", column, True))
    assert gone.error is not None
    assert "database connection failed" in gone.error
