"""Bridges of a private Open vSwitch, without datapath: entries are real, packets are injected."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from sncontroller.core.layout import Layout
from sncontroller.lab.ovs import PrivateOvs
from tests.openflow.link import Connected
from tests.switch import dump

PORTS = {"vm1": 1, "sn00a1-2": 2, "sn00a1-3": 3, "client": 9}


@pytest.fixture(scope="session")
def ovs() -> Iterator[PrivateOvs]:
    """Two daemons for all tests of a run."""
    with PrivateOvs() as running:
        yield running


@dataclass(frozen=True)
class Bridge:
    """A bridge with four ports of type dummy, and connections to it."""

    ovs: PrivateOvs
    name: str
    connections: list[Connected]

    def connect(self, layout: Layout | None = None) -> Connected:
        """A ``Switch`` that has not started yet."""
        self.connections.append(Connected(self.ovs.directory, self.name, layout))
        return self.connections[-1]

    def up(self, layout: Layout | None = None) -> Connected:
        """A ``Switch`` that has emitted ``SwitchUp``, which is left out of its events."""
        connected = self.connect(layout)
        connected.switch.start()
        connected.settle()
        return connected

    def ofctl(self, command: str, *arguments: str) -> str:
        """The output of ``ovs-ofctl COMMAND BRIDGE ...``."""
        return self.ovs.ofctl("-O", "OpenFlow13", command, self.name, *arguments)

    def dump(self) -> tuple[str, ...]:
        """Our entries as ``ovs-ofctl`` shows them, sorted."""
        return dump(self.ovs, self.name)

    def remove(self) -> None:
        """Take the bridge away, and the connections to it; idempotent."""
        for connection in self.connections:
            connection.link.close()
        self.ovs.del_bridge(self.name)

    def inject(self, port: str, *packets: str) -> None:
        """Let packets come in by a port, in OVS's flow syntax; when it returns they are counted."""
        for packet in packets:
            self.ovs.appctl("netdev-dummy/receive", f"{self.name}-{port}", packet)
        self.ovs.appctl("revalidator/purge")


@pytest.fixture
def bridge(ovs: PrivateOvs, new_bridge: Callable[[PrivateOvs], Bridge]) -> Bridge:
    """A bridge of its own."""
    return new_bridge(ovs)


@pytest.fixture
def new_bridge() -> Iterator[Callable[[PrivateOvs], Bridge]]:
    """Makes bridges, and removes them."""
    made: list[Bridge] = []

    def make(ovs: PrivateOvs) -> Bridge:
        name = f"of{next(_numbers)}"
        ovs.add_bridge(name, datapath_type="dummy", fail_mode="secure")
        for port, number in PORTS.items():
            ovs.add_port(name, f"{name}-{port}", type="dummy", ofport=number)
        made.append(Bridge(ovs, name, []))
        return made[-1]

    yield make
    for bridge in made:
        if bridge.ovs.pids:
            bridge.remove()


_numbers = itertools.count(1)
