"""A group whose secondaries are ready machines of a pool, under a real controller with traffic.

Each machine answers with its own name, whatever node it is at the moment, so that the clients'
answers tell which machine served.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sncontroller.hypervisors.pool import NODE
from sncontroller.lab.namespaces import namespace_pids
from sncontroller.lab.net import Host, Link, isolate
from tests.dataplane.world import eventually
from tests.lab.failover_lab import (
    ADDRESS,
    BRIDGE,
    GROUP,
    PRIMARY,
    PROBES_FROM,
    SERVICE,
    Lab,
    running,
    visits,
)

TO = {"address": ADDRESS, "port": 80}
READY = ("vm2", "vm3", "vm4")
DRAIN = {"idle_s": 1, "deadline_s": 60}
HEALTH = {"kind": "http", "path": "/ping", "source": PROBES_FROM, "interval_s": 0.5, "fall": 10}
"""A probe may be late beside the clients: that is no death."""


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


class Pool:
    """The machines of a lab's pool, and what is written on their ports."""

    def __init__(self, lab: Lab, machines: dict[str, Host]) -> None:
        self.lab = lab
        self.machines = machines

    def section(self, **changes: Any) -> dict[str, Any]:
        """The plugin's; the commands give a machine the group's address, and take it away."""
        inside = ["ip", "-n", "{port}", "address"]
        return {
            "plugin": "pool",
            "ovsdb": f"unix:{self.lab.hypervisor_socket}",
            "nodes": [{"port": name, "mac": host.mac} for name, host in self.machines.items()],
            "on_allocate": [*inside, "replace", "{group_addresses}/32", "dev", "lo"],
            "on_release": [*inside, "flush", "dev", "lo", "scope", "global"],
            **changes,
        }

    def allocated(self) -> dict[str, str]:
        """The node that each machine in use is, by what is written on its port."""
        found = {}
        for name in self.machines:
            ids = self.lab.ovs.vsctl("get", "interface", name, "external_ids")
            if NODE in ids:
                found[name] = ids.partition(f"{NODE}=")[2].strip("}\n").partition(",")[0]
        return found

    def prepared(self) -> set[str]:
        """The machines that hold the group's address."""
        hosts = self.machines.items()
        return {name for name, host in hosts if ADDRESS in host.run("ip", "address").stdout}

    def expect(self, *machines: str) -> None:
        """Wait until these machines, and no others, are allocated, prepared and serving."""

        def holds() -> bool:
            nodes, states = self.allocated(), self.lab.states()
            named = {PRIMARY, *nodes.values()}
            one_each = len(nodes) == len(set(nodes.values())) == len(machines)
            return one_each and states == dict.fromkeys(named, "active")

        self.lab.until(holds, f"{machines} do not serve")
        assert (set(self.allocated()), self.prepared()) == (set(machines), set(machines))


@contextmanager
def with_a_pool(directory: Path, **changes: Any) -> Iterator[Pool]:
    """A group with three ready machines, none in use; in the end none is in use again."""
    with running(directory, nodes=1) as lab:
        machines = {name: ready_machine(lab, name, n) for n, name in enumerate(READY, 2)}
        pool = Pool(lab, machines)
        lab.write(hypervisor=pool.section(**changes), drain=DRAIN, health=HEALTH)
        lab.ask("reload", {})
        yield pool
        scale(lab, 1)
        pool.expect()


def ready_machine(lab: Lab, name: str, number: int) -> Host:
    """A machine that runs the service and has been on the bridge all along."""
    link = Link(f"10.0.0.{10 + number}/24", mac=f"02:00:00:00:01:0{number}")
    host = lab.stack.enter_context(Host(lab.ovs, BRIDGE, name, link))
    serve(lab, name, host)
    return host


def serve(lab: Lab, name: str, host: Host) -> None:
    """Start a machine's service, and wait until it listens."""
    host.popen(*SERVICE.command(name, str(lab.directory / name)))
    eventually(lambda: ":80" in host.run("ss", "-Hltn").stdout)


def scale(lab: Lab, nodes: int) -> float:
    """Ask for so many nodes; when."""
    at_s = time.time()
    lab.ask(f"groups/{GROUP}/scale", {"nodes": nodes})
    return at_s


def slotted(lab: Lab) -> set[str]:
    """The nodes that have slots, which may be a second after they became active."""
    return {node["name"] for node in lab.group()["nodes"] if node["slots"]}


def test_no_connection_notices_how_machines_come_and_go(tmp_path: Path) -> None:
    """Short ones all succeed, long ones stay where they are, and one machine too many is said."""
    with with_a_pool(tmp_path) as pool:
        lab = pool.lab
        agent, holder = lab.visitor(), lab.visitor()
        number = agent.start("visit", total=200_000, width=2, pause_s=0.02, **TO)
        scale(lab, 3)
        pool.expect("vm2", "vm3")
        held = holder.do("open", count=20, **TO)["nodes"]
        assert held["vm2"] > 0
        assert held["vm3"] > 0
        churn = holder.start("churn", rounds=2000, pause_s=0.05)
        asked_s = scale(lab, 5)
        said = lab.wait_event("plugin_error", since=asked_s)["reason"]
        assert "the pool has no free node: 3 of 3 are in use" in said
        assert said.endswith("; again in 1 s")
        scale(lab, 4)
        pool.expect("vm2", "vm3", "vm4")
        lab.until(lambda: len(slotted(lab)) == 4, "the fourth gets no flows")
        time.sleep(2)  # in which it gets some
        (kept,) = (name for name, node in pool.allocated().items() if node == "web-2")
        scale(lab, 2)
        lab.until(lambda: lab.serving() == {PRIMARY, "web-2"}, "the others do not drain")
        time.sleep(1)
        holder.do("stop")
        asked = holder.wait(churn)
        holder.do("close")
        pool.expect(kept)
        agent.do("halt")
        seen = visits(agent, number)
        print(f"\npool: {len(seen.all)} connections, held {asked}")
        assert seen.failed == ()
        assert seen.nodes == {PRIMARY, "vm2", "vm3", "vm4"}
        assert (asked["broken"], asked["moved"]) == (0, 0)


def test_a_machine_that_fails_is_replaced_from_the_pool(tmp_path: Path) -> None:
    """One whose link is cut, then one whose service is dead; once mended, each serves again."""
    with with_a_pool(tmp_path, boot_deadline_s=2) as pool:
        lab = pool.lab
        scale(lab, 2)
        pool.expect("vm2")
        lab.link("web-2", up=False)
        lab.wait_event("failed", "web-2")
        pool.expect("vm3")
        for pid in namespace_pids("vm4"):
            os.kill(pid, signal.SIGKILL)
        asked_s = scale(lab, 4)
        lab.until(lambda: lab.events("failed", since=asked_s), "a dead service is no failure")
        why = lab.events("failed", since=asked_s)[0]["reason"]
        assert why.startswith("no service within 2 s: ")
        refused = lab.wait_event("plugin_error", since=asked_s)["reason"]
        assert "link of port vm2 is down" in refused
        assert lab.serving() == {PRIMARY, pool.allocated()["vm3"]}
        print(f"\n{why}\n{refused}")
        pool.machines["vm2"].run("ip", "link", "set", "eth0", "up")
        serve(lab, "vm4", pool.machines["vm4"])
        lab.write(drain={**DRAIN, "deadline_s": 59})
        lab.ask("reload", {})  # what waits for its next try is tried at once
        pool.expect("vm2", "vm3", "vm4")


def test_the_controller_is_killed_while_a_machine_is_prepared(tmp_path: Path) -> None:
    """Afterwards the wanted nodes exist, once each, and no machine is lost to the pool."""
    slow = ["sh", "-c", "sleep 1; exec ip -n $0 address replace $1/32 dev lo"]
    words = ["{port}", "{group_addresses}"]
    with with_a_pool(tmp_path, on_allocate=[*slow, *words]) as pool:
        lab = pool.lab
        lab.write(scaling={**lab.changes["scaling"], "nodes": 3})
        lab.ask("reload", {})
        lab.until(lambda: len(pool.allocated()) == 2, "no machine is taken")
        lab.restart_controller()
        lab.active(PRIMARY, "web-2", "web-3")
        lab.until(lambda: len(pool.allocated()) == 2, "one is taken twice")
        pool.expect(*pool.allocated())
