"""Where new flows go on a real switch: exact turns, fewest connections, a surge into the warm pool.

Everything is real: the controller, the switch, the nodes, the connections. The figures that are
printed (``pytest -s``) are in docs/scaling.md.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from sncontroller.lab.net import isolate
from tests.dataplane.world import Client
from tests.lab.failover_lab import ADDRESS, PRIMARY, Lab, running, visits

TO = {"address": ADDRESS, "port": 80}
THREE = (PRIMARY, "web-2", "web-3")


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


def flows(lab: Lab) -> dict[str, float]:
    """The pinned flows of each node, as the controller counts them."""
    return {n["name"]: n["signals"]["active_flows"] for n in lab.group()["nodes"]}


def reload(lab: Lab, **changes: object) -> None:
    """Change the group's configuration under the running controller."""
    lab.write(**changes)
    lab.ask("reload", {})


def manual(nodes: int) -> dict[str, object]:
    """So many nodes in rotation."""
    return {"policy": "manual", "min": 1, "max": 6, "nodes": nodes}


def hold(lab: Lab, holder: Client, count: int, address: str) -> dict[str, int]:
    """So many held connections from an address of their own; how many each node has.

    With the client's first address they could use a port again whose last connection has just
    ended, and Open vSwitch may take that one's FIN for theirs (docs/failover.md).
    """
    lab.client.run("ip", "address", "replace", f"{address}/24", "dev", "eth0")
    opened = holder.do("open", count=count, source=address, **TO)
    assert opened["failed"] == 0
    nodes: dict[str, int] = opened["nodes"]
    return nodes


def test_round_robin_and_least_connections_are_exact(tmp_path: Path) -> None:
    """Short connections in turn to a hair; held ones to who has the fewest, also after a kill."""
    with running(tmp_path, pinning="reactive", balance={"kind": "round-robin"}) as lab:
        agent, old, new = lab.visitor(), lab.visitor(), lab.visitor()
        seen = visits(agent, agent.start("visit", total=301, width=8, **TO))
        assert seen.failed == ()
        turns = Counter(visit.node for visit in seen.all)
        print(f"\nround robin, 301 connections, 8 at a time: {dict(turns)}")
        assert sorted(turns.values()) == [100, 100, 101]

        assert hold(lab, old, 18, "10.0.0.102") == dict.fromkeys(THREE, 6)
        lab.until(lambda: set(flows(lab).values()) == {6}, "short connections are still counted")
        reload(lab, balance={"kind": "least-connections"}, scaling=manual(4))
        lab.active(*THREE, "web-4")
        opened = hold(lab, new, 6, "10.0.0.103")
        print(f"least connections, 6 each on three nodes, a fourth joins; 6 more: {opened}")
        assert opened == {"web-4": 6}

        assert old.do("close")["broken"] == 0
        lab.until(lambda: flows(lab) == {**dict.fromkeys(THREE, 0), "web-4": 6}, "not counted")
        lab.restart_controller()
        lab.active(*THREE, "web-4")
        lab.until(lambda: flows(lab).get("web-4") == 6, "the pins were not counted")
        opened = hold(lab, old, 18, "10.0.0.104")
        print(f"controller killed, 6 on web-4, none elsewhere; 18 more: {opened}")
        assert opened == dict.fromkeys(THREE, 6)
        for holder in (old, new):
            held = holder.do("check")
            assert (held["broken"], held["moved"]) == (0, 0)
            holder.do("close")


def test_the_warm_pool(tmp_path: Path) -> None:
    """A surge, a controller that is killed, and a dead primary, each with a node that is ready."""
    with running(tmp_path, nodes=1, pool={"warm": 1}) as lab:
        agent = lab.visitor()
        lab.until(lambda: lab.states().get("web-2") == "standby", "nobody is warm")
        lab.consistent()
        booted = lab.events("standby", "web-2")[0]["took_s"]
        started = lab.namespace("web-2")

        lab.restart_controller()
        lab.until(lambda: lab.states().get("web-2") == "standby", "it is not warm again")
        assert (lab.namespace("web-2"), set(lab.states())) == (started, {PRIMARY, "web-2"})

        number = agent.start("visit", total=100_000, width=4, pause_s=0.005, **TO)
        time.sleep(0.3)
        surge_s = time.time()
        lab.ask("groups/web/scale", {"nodes": 2})
        lab.until(lambda: lab.group()["live"], "the switch was not told")
        told_s = time.time()
        assert lab.events("active", "web-2")[-1]["time_s"] - surge_s < booted
        lab.until(lambda: lab.node("web-2")["signals"]["new_flows_per_s"], "it gets no flow")
        agent.do("halt")
        seen = visits(agent, number)
        assert seen.failed == ()
        assert "web-2" in seen.since(told_s).nodes
        first = min(visit.began_s for visit in seen.since(surge_s).all if visit.node == "web-2")
        print(
            f"\nsurge: boot took {booted:.3f} s; warm node's first connection"
            f" {first - surge_s:.3f} s after the wish, {len(seen.all)} connections, 0 failed"
        )
        lab.until(lambda: lab.states().get("web-3") == "standby", "the pool was not filled again")
        lab.ask("groups/web/scale", {"nodes": 1})
        lab.until(lambda: set(lab.states()) == {PRIMARY, "web-3"}, "too many are kept")
        lab.consistent()

        number = agent.start("visit", total=100_000, width=4, pause_s=0.005, **TO)
        cut_s = time.time()
        lab.link(PRIMARY, up=False)
        lab.wait_event("primary", since=cut_s)
        lab.until(lambda: lab.group()["live"], "the switch was not told")
        told_s = time.time()
        agent.do("halt")
        visits(agent, number)
        after = visits(agent, agent.start("visit", total=100, **TO))
        print(
            f"primary dead without a secondary: told after {told_s - cut_s:.3f} s;"
            f" {len(after.all)} connections after it, {len(after.failed)} failed"
        )
        assert after.nodes == {"web-3"}
        assert after.failed == ()
        lab.link(PRIMARY, up=True)
        lab.until(lambda: lab.node(PRIMARY)["role"] == "primary", "it is not the primary again")
        reload(lab, pool={"warm": 0})
