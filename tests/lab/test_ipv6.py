"""An IPv6 group under a real controller: probes, each pinning, and a primary that dies.

Everything is real: the controller, the switch, the nodes' and the clients' IPv6 stack. That flows
stay pinned when slots change is in ``tests/dataplane/test_ipv6.py``.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from sncontroller.lab.net import isolate
from tests.lab.failover_lab import PRIMARY, REPOSITORY, Lab, running, visits

ADDRESS = "fd00::10"
ECHO = REPOSITORY / "tests/dataplane/udp_echo.py"
TO = {"address": ADDRESS, "port": 80}
ALL = (PRIMARY, "web-2", "web-3")
FAST = {"interval_s": 0.2, "fall": 3}
FROM = {**FAST, "source": "fd00::254"}
ND = {**FAST, "kind": "nd", "target": "fd00::1e+index", "primary_target": ADDRESS}


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


class Lab6(Lab):
    """The lab in an IPv6 network; nodes have no IPv4 address at all."""

    address, probes_from, client_address, prefix = ADDRESS, "fd00::254", "fd00::101", 64
    subnet, own_addresses = "fd00::/64", "fd00::20-fd00::60"

    def command(self, node: str, directory: str) -> tuple[str, ...]:
        """Served over IPv6."""
        return (*super().command(node, directory), "--listen", "[::]:80")


class Echoing(Lab6):
    """Nodes that also answer datagrams on port 53, with their name before what was said."""

    def command(self, node: str, directory: str) -> tuple[str, ...]:
        """The web server, and an echo beside it."""
        echo = f"{sys.executable} {ECHO} {node} 53 --ipv6 >/dev/null"
        return ("sh", "-c", f'{echo} & exec "$@"', "serve", *super().command(node, directory))


@pytest.mark.parametrize("pinning", ["conntrack", "learn", "reactive"])
def test_connections_stay_while_nodes_come_and_go(tmp_path: Path, pinning: str) -> None:
    """30 held connections stay where they are while the group grows and shrinks again."""
    with running(tmp_path, lab=Lab6, pinning=pinning) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        opened = holder.do("open", count=30, **TO)
        assert (opened["failed"], set(opened["nodes"])) == (0, set(ALL))
        lab.ask("groups/web/scale", {"nodes": 5})
        lab.active(*ALL, "web-4", "web-5")
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert (seen.failed, len(seen.nodes)) == ((), 5)
        lab.ask("groups/web/scale", {"nodes": 3})
        lab.until(lambda: len(lab.serving()) == 3, "nobody drains")
        lab.consistent()
        lab.restart_controller()
        lab.until(lambda: lab.states() and lab.group()["live"], "it does not come back")
        held = holder.do("check")
        assert (held["held"], held["broken"], held["moved"]) == (30, 0, 0)
        holder.do("close")


@pytest.mark.parametrize(
    ("health", "good"),
    [
        (ND, "fd00::20 is at"),
        ({**FROM, "kind": "icmp"}, "echo reply"),
        ({**FROM, "kind": "tcp"}, "port 80 accepts"),
        ({**FROM, "kind": "udp", "port": 53, "payload": "?", "expect": "web-"}, "reply of 7 bytes"),
        ({**FROM, "kind": "http", "path": "/ping"}, "HTTP 200"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_probes_take_a_node_out_and_in(tmp_path: Path, health: dict[str, Any], good: str) -> None:
    """A kind that speaks of the service by its service's end, the others by its interface's."""
    lab6 = Echoing if health["kind"] == "udp" else Lab6
    with running(tmp_path, nodes=2, lab=lab6, health=health) as lab:
        agent = lab.visitor()
        assert good in lab.node("web-2")["health"]["detail"]
        if health["kind"] == "http":
            lab.signal("web-2", signal.SIGSTOP)
        else:
            silence(lab, "add")
        lab.wait_event("failed", "web-2")
        lab.until(lambda: lab.group()["live"], "the switch was not told")
        seen = visits(agent, agent.start("visit", total=100, **TO))
        assert (seen.failed, seen.nodes) == ((), {PRIMARY})
        if health["kind"] == "http":
            lab.signal("web-2", signal.SIGCONT)
        else:
            silence(lab, "delete")
        lab.active(PRIMARY, "web-2")


def silence(lab: Lab, verb: str) -> None:
    """Somebody's flow drops all that the node says, and its link stays up: or no more."""
    port = lab.ovs.ofport(lab.namespace("web-2"))
    where = f"priority=65000,in_port={port}"
    if verb == "add":
        lab.ovs.ofctl("add-flow", "br0", f"cookie=0xf0e4,{where},actions=drop")
    else:
        lab.ovs.ofctl("--strict", "del-flows", "br0", where)


def test_the_primary_dies_and_its_address_lives_on(tmp_path: Path) -> None:
    """Its own IPv6 address is the group's; its link is cut; later it comes back, rebooted.

    The client's entry for the address is removed, so that it has to be asked for and answered by
    the switch; no connection on a secondary is disturbed.
    """
    health = {**FROM, "kind": "http", "path": "/ping"}
    with running(tmp_path, lab=Lab6, health=health) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        holder.do("open", count=30, **TO)
        lab.link(PRIMARY, up=False)
        lab.wait_event("failed", PRIMARY)
        lab.until(lambda: lab.group()["live"], "the switch was not told")
        lab.client.run("ip", "-6", "neighbour", "flush", "dev", "eth0")
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert seen.failed == ()
        assert PRIMARY not in seen.nodes
        known = lab.client.run("ip", "-6", "neighbour", "show", ADDRESS).stdout
        assert "02:00:00:00:01:01" in known
        held = holder.do("check")
        assert held["moved"] == 0
        lab.consistent()
        lab.restart_controller()
        lab.until(lambda: lab.states() and lab.group()["live"], "it does not come back")
        lab.consistent()
        lab.link(PRIMARY, up=True)  # which takes an interface's IPv6 addresses away: a reboot
        lab.primary.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
        lab.primary.run("ip", "address", "replace", f"{ADDRESS}/64", "dev", "eth0")
        lab.until(lambda: PRIMARY in lab.serving(), "the primary does not come back")
        assert "dadfailed" not in lab.primary.run("ip", "-6", "address").stdout
