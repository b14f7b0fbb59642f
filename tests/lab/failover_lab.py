"""A group under a real controller, with everything that can fail within a test's reach.

Owns a private switch that others use too, the primary, a client, ryu-manager as a child process,
and the configuration that is written for it; and the proof at the end of every test that the
switch holds what a fresh computation wants, that foreign entries are as they were, and that
nothing is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sncontroller import config, installed
from sncontroller.bridge import Entries
from sncontroller.core import ofctl
from sncontroller.core.layout import PRIMARY_INDEX, Index
from sncontroller.core.plan import Drain, Older, PlanNode, View, desired
from sncontroller.lab.controller import Controller, Endpoints
from sncontroller.lab.leftovers import Scope, leftovers, snapshot
from sncontroller.lab.namespaces import namespace_pids, namespaces, remove_namespace
from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError
from sncontroller.lab.service import Service
from tests import switch
from tests.dataplane.world import Client, eventually

BRIDGE, GROUP, PRIMARY = "br0", "web", "web-1"
ADDRESS, PROBES_FROM = "10.0.0.10", "10.0.0.254"
PATIENCE_S = 90.0
REPOSITORY = Path(__file__).parents[2]
SERVICE = Service(page_bytes=64, rate_bps=1_000_000_000)
FOREIGN_FLOWS = (
    "cookie=0xf0e1,priority=0,actions=NORMAL",
    "cookie=0xf0e2,priority=65000,dl_type=0x88cc,actions=drop",
    "cookie=0xf0e3,table=17,priority=1,udp,nw_src=10.0.0.0/24,actions=group:7",
)
FOREIGN_GROUP = "group_id=7,type=indirect,bucket=actions=NORMAL"
_DELIVERS = {"warming", "active", "draining"}


@dataclass(frozen=True, slots=True)
class Visit:
    """One short connection, as the client saw it."""

    began_s: float
    ended_s: float
    node: str
    error: str


@dataclass(frozen=True, slots=True)
class Visits:
    """All of a client's short connections."""

    all: tuple[Visit, ...]

    @property
    def failed(self) -> tuple[Visit, ...]:
        """Those that were refused, reset, timed out or cut short."""
        return tuple(visit for visit in self.all if visit.error)

    def since(self, time_s: float) -> Visits:
        """Those that began at that time or later."""
        return Visits(tuple(visit for visit in self.all if visit.began_s >= time_s))

    @property
    def nodes(self) -> frozenset[str]:
        """Who answered."""
        return frozenset(visit.node for visit in self.all if visit.node)

    def slowest_s(self) -> float:
        """The longest that any of them took."""
        return max((visit.ended_s - visit.began_s for visit in self.all), default=0.0)


class Visitor(Client):
    """A client host with the agent that times every connection."""

    def __init__(self, host: Host) -> None:
        super().__init__(_OtherAgent(host.ovs, host.bridge, host.name, host.link))


class _OtherAgent(Host):
    """The same host, on which another agent is started than the one that ``Client`` names."""

    def popen(self, *_: str, **options: Any) -> subprocess.Popen[Any]:
        """Start our agent, whatever was asked for."""
        command = (sys.executable, "-m", "tests.lab.failover_agent")
        return super().popen(*command, cwd=REPOSITORY, **options)


class Lab:
    """The group, its switch, its client and its controller; made by :func:`running`."""

    address, probes_from, client_address, prefix = ADDRESS, PROBES_FROM, "10.0.0.101", 24
    subnet, own_addresses = "10.0.0.0/24", "10.0.0.20-10.0.0.60"

    def __init__(self, directory: Path, stack: ExitStack, changes: dict[str, Any]) -> None:
        self.directory = directory
        self.stack = stack
        self.changes = changes
        self.endpoints = Endpoints()
        self.configuration = directory / "sn.yaml"
        self.older = Older.PRIMARY
        self.ovs = stack.enter_context(PrivateOvs(directory / "ovs"))
        self.ovs.add_bridge(BRIDGE, fail_mode="secure", controller=self.endpoints.target)
        self.hypervisor_socket = directory / "hypervisor.sock"
        self.hypervisor_socket.symlink_to(self.ovs.db.removeprefix("unix:"))
        self.add_foreign()
        self.foreign = switch.foreign(self.ovs, BRIDGE)
        self.primary = stack.enter_context(
            Host(
                self.ovs,
                BRIDGE,
                "vm1",
                Link(self.with_prefix(self.address), mac="02:00:00:00:01:01"),
            )
        )
        link = Link(self.with_prefix(self.client_address))
        self.client = stack.enter_context(Host(self.ovs, BRIDGE, "cli1", link))
        self.serve_primary()
        self.write()
        self.controller = Controller(
            self.endpoints, self.configuration, directory / "controller.log"
        )
        stack.callback(self.controller.stop)

    # what there is

    def with_prefix(self, address: str) -> str:
        """An address as a host in the network has it."""
        return f"{address}/{self.prefix}"

    def add_foreign(self) -> None:
        """Entries of others, as whoever owns the bridge would put them there."""
        self.ovs.ofctl("add-group", BRIDGE, FOREIGN_GROUP)
        for flow in FOREIGN_FLOWS:
            self.ovs.ofctl("add-flow", BRIDGE, flow)

    def command(self, node: str, directory: str) -> tuple[str, ...]:
        """What serves in a node."""
        return SERVICE.command(node, directory)

    def serve_primary(self) -> None:
        """Start the primary's service, and wait until it listens."""
        self.primary.popen(*self.command(PRIMARY, str(self.directory / PRIMARY)))
        eventually(lambda: ":80" in self.primary.run("ss", "-Hltn").stdout)

    def write(self, **changes: Any) -> None:
        """Write the configuration; ``changes`` replace sections of the group."""
        group: dict[str, Any] = {
            "bridge": BRIDGE,
            "match": {"address": self.address, "ports": [80]},
            "primary": {"port": "vm1"},
            "health": {
                "kind": "http",
                "path": "/ping",
                "source": self.probes_from,
                "interval_s": 0.2,
                "fall": 3,
            },
            "drain": {"idle_s": 2, "deadline_s": 60},
            "pin": {"fin_idle_s": 1},
            "scaling": {"policy": "manual", "min": 1, "max": 6, "nodes": 3},
            "hypervisor": self.hypervisor(),
        }
        self.changes = {**self.changes, **changes}
        raw = {
            "controller": f"failover-{os.getpid()}",
            "poll_interval_s": 0.5,
            "state_dir": str(self.directory / "state"),
            "groups": {GROUP: {**group, **self.changes}},
        }
        self.configuration.write_text(yaml.safe_dump(raw, sort_keys=False))

    def hypervisor(self, **changes: Any) -> dict[str, Any]:
        """The plugin's section."""
        return {
            "plugin": "netns",
            "bridge": BRIDGE,
            "ovsdb": f"unix:{self.hypervisor_socket}",
            "subnet": self.subnet,
            "addresses": self.own_addresses,
            "workdir": str(self.directory / "nodes"),
            "command": list(self.command("{name}", "{directory}")),
            **changes,
        }

    def visitor(self) -> Visitor:
        """One more agent on the client's host."""
        made = Visitor(self.client)
        self.stack.callback(made.close)
        made.do("halt")  # it answers: its interpreter is up
        return made

    # faults

    def namespace(self, node: str) -> str:
        """The namespace of a node, which is called like its port."""
        return "vm1" if node == PRIMARY else str(self.node(node)["port"])

    def link(self, node: str, up: bool) -> float:
        """Set the node's own interface up or down: the switch's end loses its carrier; when."""
        command = f"ip -n {self.namespace(node)} link set eth0 {'up' if up else 'down'}"
        subprocess.run(command.split(), check=True, timeout=10)
        return time.time()

    def signal(self, node: str, number: signal.Signals) -> float:
        """Send the node's service a signal; when."""
        pids = namespace_pids(self.namespace(node))
        assert pids, f"no process in {node}"
        at_s = time.time()
        for pid in pids:
            os.kill(pid, number)
        return at_s

    def restart_controller(self) -> None:
        """SIGKILL, and a new process."""
        self.controller.kill()
        self.controller.start()

    # what the controller says

    def ask(self, path: str, body: object = None) -> Any:
        """The answer of the northbound API; a POST when there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoints.rest}/v1/{path}", data)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def verb(self, node: str, verb: str) -> float:
        """Ask for something of a node; when."""
        at_s = time.time()
        self.ask(f"groups/{GROUP}/nodes/{node}/{verb}", {})
        return at_s

    def group(self) -> dict[str, Any]:
        """The group as ``GET /v1/status`` shows it; raises ``OSError`` without a controller."""
        found: dict[str, Any] = self.ask("status")["groups"][0]
        return found

    def node(self, name: str) -> dict[str, Any]:
        """One node of it."""
        return next(node for node in self.group()["nodes"] if node["name"] == name)

    def states(self) -> dict[str, str]:
        """The nodes' states by name; empty while the controller does not answer."""
        try:
            return {node["name"]: node["state"] for node in self.group()["nodes"]}
        except OSError:
            return {}

    def events(self, kind: str, node: str | None = None, since: float = 0) -> list[dict[str, Any]]:
        """The entries of the event log of that kind, about that node, oldest first."""
        return [
            event
            for event in self.group()["events"]
            if event["kind"] == kind and event["time_s"] >= since
            if node is None or event["node"] == node
        ]

    def wait_event(
        self, kind: str, node: str | None = None, since: float = 0, saying: str = ""
    ) -> dict[str, Any]:
        """The first such event, once it is there; its reason has ``saying`` in it."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.events(kind, node, since) if saying in e["reason"]]

        self.until(found, f"no event {kind} of {node} that says {saying!r}")
        return found()[0]

    def serving(self) -> set[str]:
        """The nodes that take new flows."""
        return {name for name, state in self.states().items() if state == "active"}

    def active(self, *names: str) -> None:
        """Wait until exactly these nodes serve and the switch has been told."""

        def holds() -> bool:
            return self.serving() == set(names) and bool(self.group()["live"])

        self.until(holds, f"{names} are not what serves")

    def until(self, holds: Callable[[], object], otherwise: str) -> None:
        """Wait until it holds; fail with what the controller says when it does not."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{otherwise}:\n{self.told()}")
            time.sleep(0.05)

    def told(self) -> str:
        """What an operator would look at."""
        try:
            group = self.group()
        except OSError as error:
            return f"the controller does not answer: {error}"
        nodes = [f"{n['name']} {n['state']} {n['slots']}: {n['reason']}" for n in group["nodes"]]
        told = "{time_s:.2f} {kind} {node}: {reason}"
        events = [told.format(**event) for event in group["events"]]
        return "\n".join([*nodes, *events])

    # what the switch says

    def slots(self) -> tuple[Index, ...]:
        """The owners in the slot table on the switch, whatever pinning put it there."""
        lines = switch.dump(self.ovs, BRIDGE)
        return installed.slots(Entries(frozenset(), frozenset(x for x in lines if "group_id" in x)))

    def goes_straight(self) -> bool:
        """Whether the switch sends SYNs straight to their slots."""
        return installed.straight(Entries(frozenset(switch.dump(self.ovs, BRIDGE)), frozenset()))

    def consistent(self) -> None:
        """Compute everything again from what the controller says: the switch has exactly that."""
        self.until(lambda: self.group()["live"], "the switch was never told")
        deadline = time.monotonic() + PATIENCE_S
        while different := self._different_now():  # a status and a dump are not of one moment
            assert time.monotonic() < deadline, "\n".join(["it has not:", *different, self.told()])
            time.sleep(0.1)

    def _different_now(self) -> list[str]:
        try:
            return self._different()
        except LabError as error:
            return [f"a port went meanwhile: {error}"]

    def _different(self) -> list[str]:
        """What the switch has too much (+) and too little (-)."""
        group = self.group()
        there = self.ovs.vsctl("list-ports", BRIDGE).split()
        loaded = config.load(str(self.configuration))
        nodes = {node["index"]: node for node in group["nodes"]}
        owners = self.slots()
        counted = {i: owners.count(Index(i)) for i in nodes}
        if counted != {i: node["slots"] for i, node in nodes.items()}:
            return [f"slots {counted}"]
        first = nodes[PRIMARY_INDEX]
        view = View(
            nodes=tuple(
                PlanNode(
                    Index(i),
                    self.ovs.ofport(node["port"]),
                    node["mac"],
                    drain=_drain(node),
                    delivers=node["state"] in _DELIVERS,
                )
                for i, node in sorted(nodes.items())
                if node["port"] in there and node["mac"] and node["state"] != "gone"
            ),
            slots=owners,
            primary=Index(next(i for i, n in nodes.items() if n["role"] == "primary")),
            primary_mac=first["mac"],
            primary_port=self.ovs.ofport(first["port"]),
            primary_serves=first["state"] in _DELIVERS,
            older=self.older,
            straight=self.goes_straight(),
        )
        wanted = set(ofctl.lines(desired(loaded.groups[0], view, loaded.switch.layout)))
        there_is = set(switch.dump(self.ovs, BRIDGE))
        more = [f"+ {line}" for line in sorted(there_is - wanted)]
        return more + [f"- {line}" for line in sorted(wanted - there_is)]

    def quit(self) -> None:
        """The proof at the end: consistent, foreign entries untouched, all nodes taken away."""
        self.consistent()
        assert switch.foreign(self.ovs, BRIDGE) == self.foreign
        self.ask(f"groups/{GROUP}/scale", {"nodes": 1})
        self.until(lambda: set(self.states()) == {PRIMARY}, "secondaries are still there")
        self.consistent()
        self.controller.expect_running()
        assert self.controller.stop() == 0
        assert "Traceback" not in (self.directory / "controller.log").read_text()
        assert switch.foreign(self.ovs, BRIDGE) == self.foreign


def _drain(node: Mapping[str, Any]) -> Drain | None:
    """The drain of a node as a status shows it."""
    return Drain(int(node["since_s"]), node["asked"]) if node["state"] == "draining" else None


@contextmanager
def running(
    directory: Path, nodes: int = 3, lab: type[Lab] | None = None, **changes: Any
) -> Iterator[Lab]:
    """A group of that many nodes, all active; at the end the proof that all is well, and nothing.

    ``changes`` replace sections of the group's configuration; ``lab`` may be another kind of it.
    """
    before = snapshot(Scope((directory,), (f"SNCONTROLLER_NODE=failover-{os.getpid()}/",)))
    names = set(namespaces())
    scaling = {"policy": "manual", "min": 1, "max": 6, "nodes": nodes}
    with ExitStack() as stack:
        stack.callback(_remove_all_but, names)
        made = (lab or Lab)(directory, stack, {"scaling": scaling, **changes})
        made.controller.start()
        made.active(*(f"{GROUP}-{i}" for i in range(1, nodes + 1)))
        made.consistent()
        yield made
        made.quit()
    shutil.rmtree(directory / "nodes", ignore_errors=True)
    assert leftovers(before) == ()


def _remove_all_but(names: set[str]) -> None:
    """Namespaces that a failed test left."""
    for name in set(namespaces()) - names:
        remove_namespace(name)


def visits(agent: Client, running_command: int) -> Visits:
    """What a ``visit`` saw, once it has ended."""
    said: Sequence[Sequence[Any]] = agent.wait(running_command)["visits"]
    return Visits(tuple(Visit(*visit) for visit in said))
