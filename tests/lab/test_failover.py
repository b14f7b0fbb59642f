"""Nodes that die, hang, flap and drain; a primary that dies; a controller and a switch that die.

Everything is real: the controller, the switch, the nodes, the connections. The figures that are
printed (``pytest -s``) are in docs/failover.md.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from sncontroller.core.plan import Older
from sncontroller.lab.namespaces import namespaces
from sncontroller.lab.net import isolate
from tests.lab.failover_lab import ADDRESS, BRIDGE, PRIMARY, PROBES_FROM, running, visits

TO = {"address": ADDRESS, "port": 80}
ALL = (PRIMARY, "web-2", "web-3")
FAST = {"kind": "http", "path": "/ping", "source": PROBES_FROM, "interval_s": 0.1, "fall": 3}


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


# Nodes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pinning", "least"), [("conntrack", 5000), ("learn", 1500)])
def test_a_link_that_goes_down(tmp_path: Path, pinning: str, least: int) -> None:
    """No connection that begins after the cut fails; the node is out, and comes back."""
    drain = {"idle_s": 1, "deadline_s": 3}  # a pin of a cut connection sees no end of it
    pin = {"fin_idle_s": 60}  # no port comes round just as its pin expires: docs/failover.md
    with running(tmp_path, pinning=pinning, drain=drain, pin=pin) as lab:
        agent = lab.visitor()
        number = agent.start("visit", total=2 * least, width=8, **TO)
        time.sleep(0.3)
        cut_s = lab.link("web-2", up=False)
        failed = lab.wait_event("failed", "web-2")
        seen = visits(agent, number)
        after = seen.since(cut_s)
        print(
            f"\nlink down, {pinning}: {len(seen.all)} connections; begun after the cut"
            f" {len(after.all)}, failed {len(after.failed)}, slowest {after.slowest_s():.3f} s; cut"
            f" in the middle {len(seen.failed)}; noticed after {failed['time_s'] - cut_s:.3f} s"
        )
        assert len(after.all) >= least
        assert after.failed == ()
        assert seen.nodes >= set(ALL)
        assert failed["reason"] == "its link is down"
        lab.consistent()
        lab.link("web-2", up=True)
        lab.active(*ALL)


@pytest.mark.alone
def test_a_service_that_hangs(tmp_path: Path) -> None:
    """Link up, handshakes accepted, no answer: the node is out; then nobody waits for it."""
    with running(tmp_path, health=FAST) as lab:
        agent = lab.visitor()
        took = []
        for node in ("web-2", "web-3"):
            hung_s = lab.signal(node, signal.SIGSTOP)
            failed = lab.wait_event("failed", node, since=hung_s)
            lab.until(lambda: lab.group()["live"], "the switch was not told")
            took.append(failed["time_s"] - hung_s)
            seen = visits(agent, agent.start("visit", total=300, **TO))
            assert seen.failed == ()
            assert node not in seen.nodes
            assert "3 probes failed, last: accepts, but no HTTP status line" in failed["reason"]
            lab.consistent()
            lab.signal(node, signal.SIGCONT)
            lab.active(*ALL)
        print(f"\nhang, interval 0.1 s, fall 3: out after {[f'{s:.3f}' for s in took]} s")


@pytest.mark.alone
def test_one_that_flaps(tmp_path: Path) -> None:
    """After its third fall it answers and stays out; its status says why; the others serve."""
    with running(tmp_path, health={**FAST, "fall": 2}) as lab:
        agent = lab.visitor()
        for falls in (1, 2, 3):
            hung_s = lab.signal("web-2", signal.SIGSTOP)
            lab.wait_event("failed", "web-2", since=hung_s)
            back_s = lab.signal("web-2", signal.SIGCONT)
            if falls < 3:
                lab.wait_event("active", "web-2", since=back_s)
        held = "answers, but fell 3 times: held back for"
        lab.until(lambda: held in lab.node("web-2")["reason"], "it is not held back")
        assert lab.node("web-2")["health"]["detail"] == "HTTP 200"
        assert lab.node("web-2")["state"] == "failed"
        print(f"\nflapping: {lab.node('web-2')['reason']}")
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert seen.failed == ()
        assert "web-2" not in seen.nodes
        lab.consistent()
        lab.verb("web-2", "drain")
        lab.wait_event("stopped", "web-2")


# The breaker -------------------------------------------------------------------------------------


@pytest.mark.alone
def test_probes_that_get_lost_everywhere(tmp_path: Path) -> None:
    """Somebody's flow drops the probes' answers: nothing is taken out, nobody notices."""
    with running(tmp_path, health=FAST) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        assert holder.do("open", count=30, **TO)["failed"] == 0
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        number = agent.start("visit", total=100_000, width=4, **TO)
        drop = f"priority=65000,ip,nw_dst={PROBES_FROM}"
        lost_s = time.time()
        lab.ovs.ofctl("add-flow", BRIDGE, f"cookie=0xf0e4,{drop},actions=drop")
        breaker = lab.wait_event("breaker")
        time.sleep(2)
        lab.ovs.ofctl("--strict", "del-flows", BRIDGE, drop)
        agent.do("halt")
        holder.do("stop")
        seen, held = visits(agent, number), holder.wait(churn)
        out = [event["node"] for event in lab.events("failed")]
        print(
            f"\nprobes lost everywhere: breaker after {breaker['time_s'] - lost_s:.3f} s, taken out"
            f" {out}, {len(seen.all)} connections, {len(seen.failed)} failed; held {held}"
        )
        assert "nothing is taken out, check the probes' path" in breaker["reason"]
        assert out == []
        assert seen.failed == ()
        assert (held["broken"], held["moved"]) == (0, 0)
        lab.active(*ALL)


@pytest.mark.alone
def test_services_that_all_hang(tmp_path: Path) -> None:
    """All nodes look dead, and are: they keep their slots, and serve again without a change."""
    with running(tmp_path, health=FAST) as lab:
        slots = lab.slots()
        for node in ALL:
            lab.signal(node, signal.SIGSTOP)
        lab.wait_event("breaker")
        time.sleep(1)
        assert set(lab.states().values()) == {"active"}
        for node in ALL:
            lab.signal(node, signal.SIGCONT)
        agent = lab.visitor()
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert seen.failed == ()
        assert lab.slots() == slots
        lab.active(*ALL)


# The primary -------------------------------------------------------------------------------------


@pytest.mark.alone
def test_the_primary_dies(tmp_path: Path) -> None:
    """Its own IP is the group's: the address lives on, and secondaries' connections with it."""
    with running(tmp_path) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        assert holder.do("open", count=60, **TO)["failed"] == 0
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        number = agent.start("visit", total=100_000, width=4, pause_s=0.005, **TO)
        time.sleep(0.5)
        lab.signal(PRIMARY, signal.SIGKILL)
        cut_s = time.time()
        lab.link(PRIMARY, up=False)
        lab.client.run("ip", "neigh", "flush", "dev", "eth0")
        flushed_s = time.time()
        promoted = lab.wait_event("primary", since=cut_s)
        time.sleep(2)
        agent.do("halt")
        holder.do("stop")
        seen, held = visits(agent, number), holder.wait(churn)
        after = seen.since(flushed_s)
        good = min(visit.ended_s for visit in after.all if not visit.error)
        print(
            f"\nprimary dead: promoted after {promoted['time_s'] - cut_s:.3f} s; first good"
            f" connection {good - flushed_s:.3f} s after its ARP entry went, slowest"
            f" {after.slowest_s():.3f} s, {len(after.all)} after it, {len(after.failed)} failed;"
            f" held: {held}"
        )
        assert after.failed == ()
        assert after.nodes >= {"web-2", "web-3"}
        assert held["moved"] == 0
        assert held["broken"] == held["nodes"][PRIMARY]  # no others
        assert promoted["node"] == "web-2"
        lab.consistent()
        lab.link(PRIMARY, up=True)
        lab.serve_primary()
        lab.until(lambda: lab.node(PRIMARY)["role"] == "primary", "it is not the primary again")
        lab.active(*ALL)


# The controller and the switch -------------------------------------------------------------------


@pytest.mark.parametrize("pinning", ["conntrack", "learn"])
def test_the_controller_is_killed(tmp_path: Path, pinning: str) -> None:
    """Nobody notices; the new one has the same nodes in the same slots."""
    # no pin of ``learn`` expires in time for a client to use its port again: docs/failover.md
    waits = {"pin": {"fin_idle_s": 60}, "drain": {"idle_s": 1, "deadline_s": 2}}
    with running(tmp_path, pinning=pinning, **waits) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        assert holder.do("open", count=30, **TO)["failed"] == 0
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        number = agent.start("visit", total=100_000, width=4, **TO)
        slots, spaces = lab.slots(), namespaces()
        lab.controller.kill()
        killed_s = time.time()
        time.sleep(1)
        lab.controller.start()
        lab.active(*ALL)
        time.sleep(2)  # long enough for a list of the nodes and a poll
        agent.do("halt")
        holder.do("stop")
        seen, held = visits(agent, number), holder.wait(churn)
        print(f"\ncontroller killed, {pinning}: {len(seen.all)} connections, {held}")
        for visit in seen.failed:
            print(f"{visit.began_s - killed_s:.3f} s after the kill: {visit.error}")
        assert seen.failed == ()
        assert (held["broken"], held["moved"]) == (0, 0)
        assert lab.slots() == slots
        assert namespaces() == spaces
        assert {event["reason"] for event in lab.events("started")} <= {"found at the hypervisor"}


def test_a_controller_that_starts_while_the_primary_is_dead(tmp_path: Path) -> None:
    """The new one finds its switch, goes on answering for the address, and gives nobody up."""
    with running(tmp_path) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        lab.write(bridge=None, hypervisor=lab.hypervisor(boot_deadline_s=5))
        lab.ovs.del_port("vm1")
        lab.until(lambda: lab.serving() == {"web-2", "web-3", "web-4"}, "it is not replaced")
        assert holder.do("open", count=30, **TO)["failed"] == 0
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        spaces = namespaces()
        lab.restart_controller()
        time.sleep(8)  # longer than a boot may take
        lab.client.run("ip", "neigh", "flush", "dev", "eth0")
        seen = visits(agent, agent.start("visit", total=100, **TO))
        holder.do("stop")
        held = holder.wait(churn)
        holder.do("close")
        assert seen.failed == ()
        assert (held["broken"], held["moved"]) == (0, 0)
        assert namespaces() == spaces
        lab.ovs.add_port(BRIDGE, "vm1")
        lab.until(lambda: lab.node(PRIMARY)["role"] == "primary", "it is not the primary again")
        lab.active(*ALL)


@pytest.mark.parametrize("pinning", ["conntrack", "learn"])
def test_the_switch_daemon_is_killed(tmp_path: Path, pinning: str) -> None:
    """All entries come back as they were, slot by slot; new connections work."""
    with running(tmp_path, pinning=pinning) as lab:
        slots = lab.slots()
        killed_s = time.time()
        lab.ovs.restart_vswitchd()
        lab.add_foreign()  # whose they are puts them back, as we do ours
        lab.older = Older.SLOTS
        back = lab.wait_event("switch_up", since=killed_s)
        lab.active(*ALL)
        print(f"\nswitch killed, {pinning}: connected after {back['time_s'] - killed_s:.3f} s")
        assert lab.slots() == slots
        agent = lab.visitor()
        seen = visits(agent, agent.start("visit", total=300, **TO))
        assert seen.failed == ()
        assert seen.nodes == set(ALL)


# Drain and fail ----------------------------------------------------------------------------------


def test_drain_waits_for_a_held_connection(tmp_path: Path) -> None:
    """The node stays for those that it has, takes no new ones, can be undrained, then goes."""
    with running(tmp_path) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        assert holder.do("open", count=30, **TO)["nodes"]["web-2"] > 0
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        lab.verb("web-2", "drain")
        lab.active(PRIMARY, "web-3", "web-4")
        lab.verb("web-2", "undrain")
        lab.active(*ALL)
        lab.verb("web-2", "drain")
        lab.active(PRIMARY, "web-3", "web-4")
        seen = visits(agent, agent.start("visit", total=300, **TO))
        time.sleep(4)  # twice drain.idle_s
        assert lab.states()["web-2"] == "draining"
        assert seen.failed == ()
        assert "web-2" not in seen.nodes
        lab.consistent()
        holder.do("stop")
        held = holder.wait(churn)
        assert (held["broken"], held["moved"]) == (0, 0)
        holder.do("close")
        lab.until(lambda: "web-2" not in lab.states(), "it does not go")
        assert lab.events("drained", "web-2")


def test_an_operator_says_that_a_node_is_dead(tmp_path: Path) -> None:
    """Its new connections go elsewhere at once, and the node is replaced."""
    with running(tmp_path) as lab:
        agent = lab.visitor()
        number = agent.start("visit", total=3000, **TO)
        time.sleep(0.2)
        lab.verb("web-2", "fail")
        lab.until(lambda: lab.group()["live"], "the switch was not told")
        told_s = time.time()
        after = visits(agent, number).since(told_s)
        assert after.all
        assert after.failed == ()
        assert "web-2" not in after.nodes
        lab.wait_event("stopped", "web-2")
        lab.until(lambda: len(lab.states()) == 3, "it was not replaced")


def test_a_drain_survives_the_controller(tmp_path: Path) -> None:
    """A draining node drains on under the next controller, also where no other replaces it."""
    scaling = {"policy": "manual", "min": 1, "max": 3, "nodes": 3}
    broken = ["/no/such/program"]
    with running(tmp_path, scaling=scaling) as lab:
        holder = lab.visitor()
        assert holder.do("open", count=30, **TO)["nodes"]["web-2"] > 0
        churn = holder.start("churn", rounds=1000, pause_s=0.05)
        lab.write(hypervisor=lab.hypervisor(command=broken))
        lab.ask("reload", {})
        lab.verb("web-2", "drain")
        lab.active(PRIMARY, "web-3")
        lab.restart_controller()
        lab.active(PRIMARY, "web-3")
        time.sleep(2)  # long enough for a list of the nodes and a poll
        assert lab.states()["web-2"] == "draining"
        holder.do("stop")
        assert holder.wait(churn)["broken"] == 0
        lab.write(hypervisor=lab.hypervisor())
        lab.ask("reload", {})
        lab.active(PRIMARY, "web-3", "web-4")
        lab.verb("web-2", "undrain")
        lab.active(*ALL)


def test_what_an_operator_set_survives_the_controller(tmp_path: Path) -> None:
    """The policy would want one node; it goes on waiting until the number is given back."""
    scaling, capacity = {"policy": "target", "max": 4}, {"bits_per_s": 1_000_000_000}
    with running(tmp_path, nodes=1, scaling=scaling, capacity=capacity) as lab:
        lab.ask("groups/web/scale", {"nodes": 3})
        lab.active(*ALL)
        lab.restart_controller()
        lab.active(*ALL)
        assert (lab.group()["override"], lab.group()["wanted"]) == (3, 3)
        lab.ask("groups/web/scale", {"nodes": None})
        lab.restart_controller()
        lab.active(*ALL)
        assert lab.group()["override"] is None


# The hypervisor ----------------------------------------------------------------------------------


def test_a_hypervisor_that_cannot(tmp_path: Path) -> None:
    """A wrong command, then a database that is gone: the group serves on, and says why."""
    with running(tmp_path, nodes=2) as lab:
        agent = lab.visitor()
        number = agent.start("visit", total=100_000, width=4, pause_s=0.005, **TO)
        lab.write(hypervisor=lab.hypervisor(command=["no-such-program"]))
        lab.ask("reload", {})
        lab.ask("groups/web/scale", {"nodes": 3})
        said = lab.wait_event("plugin_error")
        assert "no program 'no-such-program'" in said["reason"]
        lab.write(hypervisor=lab.hypervisor())
        lab.ask("reload", {})
        lab.until(lambda: len(lab.serving()) == 3, "it does not recover")

        lab.hypervisor_socket.rename(tmp_path / "away")
        gone_s = time.time()
        lab.ask("groups/web/scale", {"nodes": 4})
        said = lab.wait_event("plugin_error", since=gone_s)
        print(f"\nno database: {said['reason']}")
        (tmp_path / "away").rename(lab.hypervisor_socket)
        lab.until(lambda: len(lab.serving()) == 4, "it does not recover")
        agent.do("halt")
        assert visits(agent, number).failed == ()
