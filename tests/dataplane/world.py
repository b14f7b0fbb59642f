"""A bridge with clients and nodes on it: real Open vSwitch, real namespaces, real servers.

Owns what every data plane test stands on. A ``World`` has a private Open vSwitch with one bridge,
nodes that run nginx (and a UDP echo), clients that run ``agent``, and installs compiled tables the
way the controller does: the difference to what is installed, as one atomic bundle.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sncontroller.core import layout as at
from sncontroller.core.diff import diff
from sncontroller.core.entries import EMPTY, Table
from sncontroller.core.layout import PRIMARY_INDEX, Index, Layout, Zone
from sncontroller.core.model import GroupSpec
from sncontroller.core.plan import Drain, Older, PlanNode, View, desired
from sncontroller.core.slots import slot_table
from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs, program
from tests.switch import bundle, dump

BRIDGE, NEXT_BRIDGE = "br0", "br1"
HERE = Path(__file__).parent
ADDRESS = "10.0.0.10"
PREFIX, PREFIX6 = 16, 64
COMMAND_TIMEOUT_S = 120.0
_NGINX = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000;
    server {{
        {listen}
        add_header X-Node {name} always;
        location / {{ return 200 "{name}\\n"; }}
    }}
}}
"""


def group_spec(**changes: Any) -> GroupSpec:
    """A group with the least that a group needs, and these changes."""
    raw: dict[str, Any] = {
        "name": "web",
        "id": 161,
        "match": {"address": ADDRESS, "protocol": "tcp", "ports": [80]},
        "primary": {"port": "vm1"},
        "scaling": {"policy": "manual"},
        "health": {"kind": "none"},
        **changes,
    }
    return GroupSpec.model_validate(raw)


def with_prefix(address: str) -> str:
    """The address as a host in the bridge's network has it."""
    return f"{address}/{PREFIX6 if ':' in address else PREFIX}"


class Node:
    """A service node: a host that holds the group's address and serves it."""

    def __init__(self, world: World, spec: GroupSpec, index: int, ports: Sequence[int]) -> None:
        own_ip = index == PRIMARY_INDEX and spec.arp == "primary"
        v4, v6 = f"10.0.{spec.zone % 200 + 1}.{index}", f"fd00::{spec.zone:x}:{index:x}"
        address = spec.address if own_ip else v6 if ":" in spec.address else v4
        self.index, self.name = Index(index), f"{spec.name}-{index}"
        link = Link(
            with_prefix(address),
            mac="02:00:00:00:01:01" if own_ip else at.node_mac(spec.zone, self.index),
            loopback=() if own_ip else (spec.address,),
            tag=spec.match.vlan,
        )
        port = "vm1" if index == PRIMARY_INDEX else at.port_name(spec.zone, self.index)
        self.host = Host(world.ovs, BRIDGE, port, link)
        self.world, self.ports = world, ports
        self.mac = str(link.mac)

    def start(self) -> None:
        """Make the host and serve HTTP, and UDP echo, on all the ports."""
        self.host.start()
        directory = self.world.directory / self.host.name
        directory.mkdir()
        everywhere = "[::]:" if ":" in self.host.ip else ""
        listen = " ".join(f"listen {everywhere}{port} backlog=4096;" for port in self.ports)
        conf = _NGINX.format(directory=directory, listen=listen, name=self.name)
        (directory / "nginx.conf").write_text(conf)
        self.host.popen(program("nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf"))
        echo = self.host.popen(
            sys.executable,
            str(HERE / "udp_echo.py"),
            self.name,
            *map(str, self.ports),
            *(["--ipv6"] if ":" in self.host.ip else []),
            stdout=subprocess.PIPE,
        )
        self.world.stack.enter_context(echo.stdout)
        assert echo.stdout.readline() == b"ready\n"
        eventually(lambda: f":{self.ports[-1]} " in self.host.run("ss", "-ltn").stdout)

    @property
    def plan(self) -> PlanNode:
        """The node as the compiler wants it."""
        return PlanNode(self.index, self.host.ofport, self.mac)

    def link(self, up: bool) -> None:
        """Plug the switch's end of the cable in or out."""
        subprocess.run(
            ["ip", "link", "set", self.host.name, "up" if up else "down"], check=True, timeout=10
        )


class Client:
    """A client host with an ``agent`` in it; commands may overlap."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process = host.popen(
            sys.executable, str(HERE / "agent.py"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._ids = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._unread = b""

    def start(self, do: str, **arguments: Any) -> int:
        """Begin a command; what it says comes from :meth:`wait`."""
        number = next(self._ids)
        line = json.dumps({"id": number, "do": do, **arguments})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return number

    def wait(self, number: int) -> dict[str, Any]:
        """The answer to a command that was begun."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        pipe = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while number not in self._answers:
                assert selector.select(deadline - time.monotonic()), "the agent does not answer"
                # from the pipe: a line that Python has read ahead would be waited for in vain
                said = os.read(pipe, 2**20)
                assert said, "the agent has ended"
                *lines, self._unread = (self._unread + said).split(b"\n")
                for answer in map(json.loads, lines):
                    self._answers[answer.pop("id")] = answer
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return answer

    def do(self, do: str, **arguments: Any) -> dict[str, Any]:
        """A command from beginning to end."""
        return self.wait(self.start(do, **arguments))

    def close(self) -> None:
        """End the agent; its sockets go with it."""
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@dataclass
class World:
    """The bridge and all that is on it; a context manager."""

    directory: Path
    layout: Layout = field(default_factory=Layout)
    other_config: Mapping[str, str] = field(default_factory=dict)
    nodes: dict[Index, Node] = field(default_factory=dict)
    installed: Table = EMPTY
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.ovs = self.stack.enter_context(PrivateOvs(self.directory / "ovs"))
        self.ovs.add_bridge(BRIDGE, fail_mode="secure", other_config=self.other_config)
        self.ovs.ofctl("add-flow", BRIDGE, "priority=0,actions=NORMAL")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    # who is there

    def host(self, name: str, address: str, bridge: str = BRIDGE, **link: Any) -> Host:
        """A host that belongs to no group."""
        host = Host(self.ovs, bridge, name, Link(with_prefix(address), **link))
        return self.stack.enter_context(host)

    def client(self, name: str = "cli1", address: str = "10.0.0.101", **link: Any) -> Client:
        """A host with an agent."""
        return self.agent(self.host(name, address, **link))

    def agent(self, host: Host) -> Client:
        """An agent in a host that is there."""
        client = Client(host)
        self.stack.callback(client.close)
        return client

    def trunk(self, name: str) -> int:
        """A second bridge behind a port that carries tagged packets; the port's number."""
        self.ovs.add_bridge(NEXT_BRIDGE)
        self.ovs.add_port(NEXT_BRIDGE, "uplink", type="patch", options={"peer": name})
        return self.ovs.add_port(BRIDGE, name, type="patch", options={"peer": "uplink"})

    def add_nodes(self, spec: GroupSpec, *indexes: int, ports: Sequence[int] = (80,)) -> None:
        """Start these nodes of the group."""
        for index in indexes:
            node = Node(self, spec, index, ports)
            self.stack.callback(node.host.stop)
            node.start()
            self.nodes[node.index] = node

    # what is installed

    def view(self, slots: Sequence[int] | None = None, **changes: Any) -> View:
        """All nodes active, slots shared evenly, but for these changes."""
        draining = frozenset(changes.pop("draining", ()))
        gone = frozenset(changes.pop("gone", ()))
        failed = frozenset(changes.pop("failed", ()))
        nodes = [node.plan for i, node in self.nodes.items() if i not in gone]
        if slots is None:
            out = draining | failed
            slots = slot_table(None, {n.index: float(n.index not in out) for n in nodes})
        given: dict[str, Any] = {
            "nodes": tuple(
                replace(
                    n,
                    drain=Drain() if n.index in draining else None,
                    delivers=n.index not in failed,
                    failed=n.index in failed,
                )
                for n in nodes
            ),
            "slots": tuple(map(Index, slots)),
            "primary": PRIMARY_INDEX,
            "primary_mac": self.nodes[PRIMARY_INDEX].mac,
            "older": Older.PRIMARY,
        }
        return View(**{**given, **changes})

    def install(self, spec: GroupSpec, slots: Sequence[int] | None = None, **changes: Any) -> Table:
        """Make the compiled view what the bridge has of ours."""
        return self.replace(desired(spec, self.view(slots, **changes), self.layout))

    def replace(self, table: Table) -> Table:
        """Apply the difference to ``table`` as one bundle."""
        operations = diff(table, self.installed)
        if operations:
            self.ovs.ofctl("-O", "OpenFlow13", "bundle", BRIDGE, "-", stdin=bundle(operations))
        self.installed = table
        return table

    def revalidated(self) -> None:
        """Wait until no datapath flow stems from an older table; one sweep may be under way."""
        for _ in range(2):
            self.ovs.appctl("revalidator/wait")

    def dump(self, *, pins: bool = False) -> tuple[str, ...]:
        """Our entries as the switch has them, sorted; without the ones that were learned."""
        return dump(self.ovs, BRIDGE, pins=pins)

    # what happens

    def counters(self) -> dict[str, float]:
        """The userspace datapath's counters: ``pmd-stats-show``."""
        said = self.ovs.appctl("dpif-netdev/pmd-stats-show")
        numbers: dict[str, float] = {}
        for name, value in re.findall(r"^\s+([a-z. -]+): ([\d.]+)", said, re.MULTILINE):
            numbers[name] = numbers.get(name, 0) + float(value)
        return numbers

    def clear_counters(self) -> None:
        """Start the datapath's counters again."""
        self.ovs.appctl("dpif-netdev/pmd-stats-clear")

    def passes(self) -> float:
        """Datapath passes per packet since the counters were cleared."""
        numbers = self.counters()
        received = numbers["packets received"]
        return (received + numbers["packet recirculations"]) / received

    def flow_counters(self, kind: at.Kind, zone: Zone, index: int) -> int:
        """Packets that the entries with this cookie have counted."""
        cookie = f"cookie={at.cookie(kind, zone, index):#x}/-1"
        said = self.ovs.ofctl("dump-aggregate", BRIDGE, cookie)
        return int(re.search(r"packet_count=(\d+)", said)[1])

    def pins(self) -> int:
        """How many learned entries there are."""
        return len(self.dump(pins=True)) - len(self.dump())


def eventually(holds: Callable[[], bool], patience_s: float = 15.0) -> None:
    """Return when ``holds`` is true; fail after a long time."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def reassignments(nodes: Sequence[int], count: int, seed: int) -> Iterator[tuple[int, ...]]:
    """``count`` random assignments of all 256 slots to the nodes."""
    import random

    dice = random.Random(seed)
    for _ in range(count):
        yield tuple(dice.choice(list(nodes)) for _ in range(256))
