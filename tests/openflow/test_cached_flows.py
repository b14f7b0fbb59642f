"""``learn``: what Open vSwitch caches of a connection's first packet ends with what it found."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sncontroller.core.commands import Apply
from sncontroller.core.layout import Layout
from tests.openflow.conftest import Bridge
from tests.openflow.tables import ZONE, compiled
from tests.openflow.test_polls import holding, segment

ALL_PORTS = {"address": "10.0.0.10", "protocol": "tcp"}
SOURCES = range(1000, 1016)
IN_TIME_S = 5.0
"""The revalidator looks at all cached flows when an entry changes, at the latest after 0.5 s."""


def send(bridge: Bridge, source: int, flags: str = "syn") -> None:
    """A packet from the client, and its cached flow stays."""
    bridge.ovs.appctl("netdev-dummy/receive", f"{bridge.name}-client", segment(source, flags))


def cached(bridge: Bridge, source: int) -> bool:
    """Whether the datapath has a flow for the client's port."""
    shown = bridge.ovs.appctl("dpctl/dump-flows", "dummy@ovs-dummy")
    return f"tcp(src={source},dst=80)" in shown


def ended(bridge: Bridge, source: int) -> bool:
    """Whether it has none any more, in time."""
    until = time.monotonic() + IN_TIME_S
    while cached(bridge, source) and time.monotonic() < until:
        time.sleep(0.02)
    return not cached(bridge, source)


def pins(bridge: Bridge) -> int:
    """Entries that ``learn`` wrote."""
    return bridge.ofctl("dump-flows", f"table={Layout().pin_table}").count("priority=")


@pytest.mark.parametrize("draining", [(), (3,)])
@pytest.mark.parametrize("match", [{}, {"match": ALL_PORTS}])
def test_a_port_that_is_used_again_finds_no_old_flow(
    bridge: Bridge, match: dict[str, Any], draining: tuple[int, ...]
) -> None:
    """A SYN's flow goes when its pin is there, and that of a SYN with a pin when its pin goes.

    Either would bring a later SYN from that port to a node, and no pin would be written.
    """
    connected = holding(bridge, compiled(pinning="learn", **match))
    for source in SOURCES:
        send(bridge, source)
    assert all(ended(bridge, source) for source in SOURCES)
    after = compiled(pinning="learn", draining=draining, **match)
    connected.switch.apply(Apply(connected.link.id, ZONE, 2, after))
    connected.settle()
    for source in SOURCES:
        send(bridge, source)
        assert cached(bridge, source)
    bridge.ofctl("del-flows", f"table={Layout().pin_table}")
    assert all(ended(bridge, source) for source in SOURCES)
    for source in SOURCES:
        send(bridge, source)
    assert pins(bridge) == len(SOURCES)


def test_a_connection_has_one_flow(bridge: Bridge) -> None:
    """Whatever flags its packets have, once it has its pin."""
    holding(bridge, compiled(pinning="learn"))
    send(bridge, 1000)
    assert ended(bridge, 1000)
    for flags in ("ack", "psh|ack", "fin|ack", "ack"):
        send(bridge, 1000, flags)
    shown = bridge.ovs.appctl("dpctl/dump-flows", "dummy@ovs-dummy").splitlines()
    assert len([line for line in shown if "tcp(src=1000" in line]) == 1
