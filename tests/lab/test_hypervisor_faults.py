"""Hypervisors that do not what they should, under a real controller, switch, nodes and clients.

The faults are in a server of the ``rest`` protocol in front of real nodes, or in the nodes
themselves. Each time the group serves with what it has, the event log says why, and in the end
exactly the wanted nodes exist.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from sncontroller.config import load
from sncontroller.core.layout import Index, node_mac, port_name
from sncontroller.hypervisors.base import Hypervisor, NodeRequest, Owner
from sncontroller.hypervisors.netns import Netns
from sncontroller.lab.namespaces import namespaces
from sncontroller.lab.net import isolate
from tests.lab.failover_lab import ADDRESS, GROUP, PRIMARY, REPOSITORY, Lab, running, visits

TO = {"address": ADDRESS, "port": 80}
TIMEOUT_S = 2.0
EXAMPLE = REPOSITORY / "docs" / "examples" / "rest_hypervisor.py"


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


# A hypervisor's API with faults ------------------------------------------------------------------


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("rest_hypervisor", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rest_hypervisor = _example()


class Faulty(rest_hypervisor.Request):  # type: ignore[misc]
    """The example server's requests, with the server's fault."""

    def _answer(self, call: Callable[[Hypervisor, str], Any]) -> None:
        server, starts = self.server, self.command == "PUT"
        if starts and server.fault == "full":
            self._send(HTTPStatus.INSUFFICIENT_STORAGE, {"error": "no room for another VM"})
        elif self.command == "DELETE" and self.path.rpartition("/")[2] in server.lost:
            self._send(HTTPStatus.NOT_FOUND, {"error": "no such VM"})
        else:
            with suppress(BrokenPipeError):
                super()._answer(call)

    def _send(self, status: int, body: Any) -> None:
        fault = self.server.fault if self.command == "PUT" else None
        if fault == "slow":  # it does what was asked, and says so when nobody listens any more
            time.sleep(2 * TIMEOUT_S)
        while fault == "hangs" and self.server.fault == fault:
            time.sleep(0.05)
        if fault == "wrong":
            body = {"message": "welcome to the captive portal"}
        if self.command == "GET":
            body["nodes"] = [n for n in body["nodes"] if n["name"] not in self.server.lost]
        super()._send(status, body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Api:
    """The server; ``fault`` is slow, hangs, wrong or full, ``lost`` nodes are not shown."""

    def __init__(self, section: dict[str, Any]) -> None:
        self._server = rest_hypervisor.Server(section, "127.0.0.1", 0)
        self._server.RequestHandlerClass = Faulty
        self._server.fault, self._server.lost = None, set()
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self, name: str | None) -> None:
        """From now on, until the next one."""
        self._server.fault = name

    def lose(self, *names: str) -> None:
        """These nodes, and no others, are not shown."""
        self._server.lost = set(names)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def behind_an_api(directory: Path) -> Iterator[tuple[Lab, Api]]:
    """A group whose nodes are made by way of the server; none yet."""
    with running(directory, nodes=1) as lab:
        api = Api(lab.hypervisor())
        lab.stack.callback(api.close)
        reload(lab, hypervisor={"plugin": "rest", "url": api.url, "timeout_s": TIMEOUT_S})
        yield lab, api


def reload(lab: Lab, **changes: Any) -> None:
    """Change the group's configuration; nodes are listed anew, and tried at once."""
    lab.write(**changes)
    lab.ask("reload", {})


def scale(lab: Lab, nodes: int) -> float:
    """Ask for so many nodes; when."""
    at_s = time.time()
    lab.ask(f"groups/{GROUP}/scale", {"nodes": nodes})
    return at_s


def expect(lab: Lab, nodes: int) -> None:
    """Wait until so many nodes serve, and no others exist: neither here nor there."""

    def holds() -> bool:
        states = list(lab.states().values())
        return states == ["active"] * nodes and len(secondaries()) == nodes - 1

    lab.until(holds, f"{nodes} nodes are not what there is, beside {secondaries()}")


def secondaries() -> set[str]:
    """The namespaces of all nodes but the primary."""
    return {name for name in namespaces() if name.startswith("sn")}


FAULTS = (
    ("slow", "Read timed out"),
    ("full", "507 no room for another VM"),
    ("wrong", "no answer of the node protocol: name: Field required"),
)


def test_an_api_that_does_not_what_it_should(tmp_path: Path) -> None:
    """The group serves on; the reason is in the log; when it works again, the node comes, once."""
    with behind_an_api(tmp_path) as (lab, api):
        scale(lab, 2)
        expect(lab, 2)
        agent = lab.visitor()
        number = agent.start("visit", total=100_000, width=4, pause_s=0.005, **TO)
        for nodes, (fault, said) in enumerate(FAULTS, 3):
            api.fault(fault)
            asked_s = scale(lab, nodes)
            error = lab.wait_event("plugin_error", f"web-{nodes}", since=asked_s, saying=said)
            print(f"\n{fault}: {error['reason']}")
            if fault == "wrong":  # another try is no use; what it made is taken away
                assert error["reason"].endswith("; again in 60 s")
                expect(lab, nodes - 1)
                api.fault(None)
                reload(lab, hypervisor={**lab.changes["hypervisor"], "timeout_s": 5})
            else:
                assert error["reason"].endswith("; again in 1 s")
                if fault == "full":
                    lab.until(partial(second_pause, lab, asked_s), "the pause does not grow")
                api.fault(None)
            expect(lab, nodes)
        time.sleep(0.5)
        agent.do("halt")
        seen = visits(agent, number)
        assert seen.failed == ()
        assert seen.nodes == {PRIMARY, "web-2", "web-3", "web-4", "web-5"}


def test_a_call_that_never_returns(tmp_path: Path) -> None:
    """It is ended at its deadline, with the process that it held, and made again; not two nodes."""
    with behind_an_api(tmp_path) as (lab, api):
        section = {**lab.changes["hypervisor"], "timeout_s": 60}
        reload(lab, hypervisor={**section, "call_deadline_s": 3})
        api.fault("hangs")
        asked_s = scale(lab, 2)
        error = lab.wait_event("plugin_error", "web-2", since=asked_s)
        print(f"\n{error['reason']}")
        why = "cannot start it: start web-2: no answer within 3 s; the plugin process was ended"
        assert error["reason"] == f"{why}; again in 1 s"
        api.fault(None)
        reload(lab, hypervisor=section)
        expect(lab, 2)


def second_pause(lab: Lab, since: float) -> bool:
    """Whether the second pause since then was twice as long."""
    errors = lab.events("plugin_error", since=since)
    return any(error["reason"].endswith("; again in 2 s") for error in errors)


def test_a_node_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    """It is replaced; when it is there again, there is one too many, and one goes."""
    with behind_an_api(tmp_path) as (lab, api):
        scale(lab, 2)
        expect(lab, 2)
        lost_s = time.time()
        api.lose("web-2")
        reload(lab, drain={"idle_s": 1, "deadline_s": 59})
        failed = lab.wait_event("failed", "web-2", since=lost_s)
        assert failed["reason"] == "the hypervisor has it no longer"
        lab.until(lambda: lab.serving() == {PRIMARY, "web-3"}, "it is not replaced")
        lab.until(lambda: "web-2" not in lab.states(), "it is not forgotten")
        assert len(secondaries()) == 2
        back_s = time.time()
        api.lose()
        reload(lab, drain={"idle_s": 1, "deadline_s": 58})
        back = lab.wait_event("started", "web-2", since=back_s)
        assert back["reason"] == "found at the hypervisor"
        expect(lab, 2)


# Nodes that are no good --------------------------------------------------------------------------


def test_nodes_that_never_come_into_service(tmp_path: Path) -> None:
    """Each says what it lacks, is destroyed, and the next one waits longer; then all is well."""
    with running(tmp_path, nodes=1) as lab:
        for command, why in (
            (["sleep", "1000"], "no service within 1 s: "),
            (
                ["sh", "-c", "ip link set eth0 down; exec sleep 1000"],
                "its port did not come up within 1 s; ",
            ),
        ):
            reload(lab, hypervisor=lab.hypervisor(command=command, boot_deadline_s=1))
            asked_s = scale(lab, 2)
            lab.until(lambda since=asked_s: len(lab.events("failed", since=since)) > 1, "once")
            reasons = [event["reason"] for event in lab.events("failed", since=asked_s)]
            print("", *reasons, sep="\n")
            assert all(reason.startswith(why) for reason in reasons)
            assert pause_s(reasons[1]) == 2 * pause_s(reasons[0])
            assert lab.serving() == {PRIMARY}
            scale(lab, 1)
            expect(lab, 1)
        reload(lab, hypervisor=lab.hypervisor())
        scale(lab, 2)
        expect(lab, 2)


def pause_s(reason: str) -> int:
    """The pause at the end of a reason."""
    return int(reason.rpartition(" in ")[2].removesuffix(" s"))


# Orphans -----------------------------------------------------------------------------------------


def test_orphans_found_at_the_start(tmp_path: Path) -> None:
    """A node of ours that neither switch nor controller knows is destroyed, or put to use."""
    with running(tmp_path, nodes=1) as lab:
        restart_with_an_orphan(lab, Index(4), "destroy", nodes=2)
        lab.active(PRIMARY, "web-2")
        stopped = lab.events("stopped", "web-4")[0]["reason"]
        assert stopped == "found at the hypervisor: orphans are destroyed"
        expect(lab, 2)
        restart_with_an_orphan(lab, Index(5), "adopt", nodes=3)
        lab.active(PRIMARY, "web-2", "web-5")
        assert lab.events("started", "web-5")[0]["reason"] == "found at the hypervisor"
        expect(lab, 3)


def restart_with_an_orphan(lab: Lab, index: Index, orphans: str, nodes: int) -> None:
    """Kill the controller, make the node, and start one that wants so many."""
    lab.controller.kill()
    start_orphan(lab, index)
    scaling = {"policy": "manual", "min": 1, "max": 6, "nodes": nodes}
    lab.write(hypervisor=lab.hypervisor(orphans=orphans), scaling=scaling)
    lab.controller.start()


def start_orphan(lab: Lab, index: Index) -> None:
    """Make a node as the controller would have, which then died without telling the switch."""
    config = load(lab.configuration)
    (group,) = config.groups
    assert group.hypervisor is not None
    plugin = Netns(group.hypervisor.config, Owner(config.controller, GROUP))  # type: ignore[arg-type]
    mac, port = node_mac(group.zone, index), port_name(group.zone, index)
    plugin.start_node(NodeRequest(f"{GROUP}-{index}", index, port, mac, (ADDRESS,)))
