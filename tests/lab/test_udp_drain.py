"""A service that speaks UDP alone: its nodes drain, also through the end of the controller."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from sncontroller.lab.net import isolate
from tests.lab.failover_lab import ADDRESS, PRIMARY, PROBES_FROM, REPOSITORY, Lab, running

PORT = 5353
ECHO = (sys.executable, str(REPOSITORY / "tests" / "dataplane" / "udp_echo.py"))
UDP = {
    "match": {"address": ADDRESS, "protocol": "udp", "ports": [PORT]},
    "health": {"kind": "udp", "source": PROBES_FROM, "payload": "ping", "expect": "ping"},
    "drain": {"idle_s": 2, "deadline_s": 300},
    "pin": {"udp_idle_s": 5},
}


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


class UdpLab(Lab):
    """Nodes that answer datagrams."""

    def serve_primary(self) -> None:
        """Start the primary's service, and wait until it listens."""
        served = self.primary.popen(*ECHO, PRIMARY, str(PORT))
        self.stack.callback(served.kill)
        self.until(lambda: f":{PORT}" in self.primary.run("ss", "-Hlun").stdout, "no service")


@pytest.mark.parametrize("pinning", ["conntrack", "learn", "reactive"])
def test_a_drain_of_udp_flows_survives_the_controller(tmp_path: Path, pinning: str) -> None:
    """The next controller knows that the node drains, since when, and that an operator said so."""
    hypervisor = {
        "plugin": "netns",
        "bridge": "br0",
        "ovsdb": f"unix:{tmp_path}/hypervisor.sock",
        "subnet": "10.0.0.0/24",
        "addresses": "10.0.0.20-10.0.0.60",
        "workdir": str(tmp_path / "nodes"),
        "command": [*ECHO, "{name}", str(PORT)],
    }
    with running(tmp_path, lab=UdpLab, pinning=pinning, hypervisor=hypervisor, **UDP) as lab:
        holder = lab.visitor()
        assert holder.do("udp_open", count=60, address=ADDRESS, port=PORT)["nodes"]["web-2"] > 5
        churn = holder.start("churn", rounds=1000, pause_s=0.2)
        lab.verb("web-2", "drain")
        lab.active(PRIMARY, "web-3", "web-4")
        before, slots = lab.node("web-2"), lab.slots()
        lab.restart_controller()
        lab.active(PRIMARY, "web-3", "web-4")
        time.sleep(3)  # longer than drain.idle_s
        after = lab.node("web-2")
        assert (after["state"], after["asked"], after["slots"]) == ("draining", True, 0)
        assert after["since_s"] == int(before["since_s"])
        assert lab.slots() == slots
        lab.consistent()
        other = lab.visitor()
        fresh = other.do("udp_open", count=60, address=ADDRESS, port=PORT)
        assert set(fresh["nodes"]) == {PRIMARY, "web-3", "web-4"}
        holder.do("stop")
        held = holder.wait(churn)
        assert (held["broken"], held["moved"]) == (0, 0)
        other.do("close")
        holder.do("close")
        lab.until(lambda: "web-2" not in lab.states(), "it does not go")
