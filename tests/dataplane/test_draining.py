"""A draining node keeps its flows and gets no new one, not even on an old 5-tuple."""

from __future__ import annotations

import pytest

from tests.dataplane.world import ADDRESS, World, group_spec

PINNINGS = ("conntrack", "learn")
WHERE = {"address": ADDRESS, "protocol": ["tcp", "udp"], "ports": [80]}
SOURCE_PORTS = range(20_001, 20_013)


@pytest.mark.parametrize("pinning", PINNINGS)
def test_flows_of_a_draining_node_stay_to_their_end(world: World, pinning: str) -> None:
    """Established TCP and UDP flows go on; everything new goes to the others."""
    spec = group_spec(pinning=pinning, match=WHERE)
    world.add_nodes(spec, 1, 2, 3)
    world.install(spec)
    client = world.client()
    client.do("open", address=ADDRESS, port=80, count=60)
    before = client.do("udp_open", address=ADDRESS, port=80, count=60)
    world.install(spec, draining={2})
    world.revalidated()
    burst = client.do("burst", address=ADDRESS, port=80, total=200)
    assert set(burst["nodes"]) == {"web-1", "web-3"}
    assert burst["made"] == 200
    seen = client.do("check")
    assert (seen["broken"], seen["moved"]) == (0, 0)
    assert seen["nodes"]["web-2"] > before["nodes"]["web-2"] > 10
    world.install(spec)
    again = client.do("check")
    assert (again["broken"], again["moved"], again["nodes"]) == (0, 0, seen["nodes"])


@pytest.mark.parametrize("pinning", PINNINGS)
def test_a_syn_on_an_old_pin_goes_elsewhere(world: World, pinning: str) -> None:
    """A client that lost its power comes back on the same ports, to a node that takes it.

    Its old connections were never closed, so the switch still has their pins. The new connections
    stay where they are from then on.
    """
    spec = group_spec(pinning=pinning, match=WHERE)
    world.add_nodes(spec, 1, 2, 3)
    world.install(spec, (2,) * 256)
    client = world.client()
    for port in SOURCE_PORTS:
        client.do("open", address=ADDRESS, port=80, source_port=port)
    client.do("vanish")
    world.install(spec, (1, 3) * 128, draining={2})
    world.revalidated()
    for port in SOURCE_PORTS:
        assert client.do("open", address=ADDRESS, port=80, source_port=port)["failed"] == 0
    seen = client.do("check")
    assert (seen["broken"], seen["moved"]) == (0, 0)
    assert set(seen["nodes"]) == {"web-1", "web-3"}
    for slots in ((3,) * 256, (1,) * 256):
        world.install(spec, slots, draining={2})
        seen = client.do("check")
        assert (seen["held"], seen["broken"], seen["moved"]) == (len(SOURCE_PORTS), 0, 0)


@pytest.mark.parametrize("pinning", PINNINGS)
def test_a_udp_flow_stays_with_a_draining_node(world: World, pinning: str) -> None:
    """UDP has no beginning that one could see: the same ports are the same flow."""
    spec = group_spec(pinning=pinning, match=WHERE)
    world.add_nodes(spec, 1, 2, 3)
    world.install(spec, (2,) * 256)
    client = world.client()
    client.do("udp_open", address=ADDRESS, port=80, source_port=20_001)
    client.do("close")
    world.install(spec, (1, 3) * 128, draining={2})
    seen = client.do("udp_open", address=ADDRESS, port=80, source_port=20_001)
    assert seen["nodes"] == {"web-2": 1}


@pytest.mark.parametrize("pinning", PINNINGS)
def test_flows_of_a_failed_node_are_selected_anew(world: World, pinning: str) -> None:
    """Without the node's entries its pins count for nothing; the other nodes' stay."""
    spec = group_spec(pinning=pinning, match=WHERE)
    world.add_nodes(spec, 1, 2, 3)
    world.install(spec)
    client = world.client()
    opened = client.do("udp_open", address=ADDRESS, port=80, count=90)["nodes"]
    held = client.do("open", address=ADDRESS, port=80, count=90)["nodes"]
    world.install(spec, gone={2})
    seen = client.do("check")
    lost = held["web-2"] - opened.get("web-2", 0)
    assert seen["moved"] == opened["web-2"]
    assert 0 < seen["broken"] <= max(lost, held["web-2"])
    burst = client.do("burst", address=ADDRESS, port=80, total=100)
    assert (burst["made"], set(burst["nodes"])) == (100, {"web-1", "web-3"})
