"""A node with as many pins as it may have: flows follow the slots, until there is room again."""

from __future__ import annotations

from dataclasses import replace

from sncontroller.core.plan import Older
from tests.dataplane.world import ADDRESS, World, eventually, group_spec


def test_flows_without_pins_and_with_them_again(world: World) -> None:
    """Nothing breaks while slots stay whose they are, and later not at all: they get their pins."""
    spec = group_spec(pinning="learn")
    world.add_nodes(spec, 1, 2, 3)
    full = tuple(replace(node.plan, pins=False) for node in world.nodes.values())
    world.install(spec, nodes=full, older=Older.SLOTS)
    client = world.client()
    burst = client.do("burst", address=ADDRESS, port=80, total=100)
    assert (burst["made"], set(burst["nodes"])) == (100, {"web-1", "web-2", "web-3"})
    assert client.do("open", address=ADDRESS, port=80, count=30)["failed"] == 0
    assert world.pins() == 0
    world.install(spec, older=Older.SLOTS)

    def pinned() -> bool:
        seen = client.do("check")
        assert (seen["held"], seen["broken"], seen["moved"]) == (30, 0, 0)
        return world.pins() >= 30

    eventually(pinned)
    world.install(spec, (1,) * 256, older=Older.SLOTS)
    seen = client.do("check")
    assert (seen["held"], seen["broken"], seen["moved"]) == (30, 0, 0)
