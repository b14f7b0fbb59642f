"""Every packet of a connection reaches one node, however often the slots change hands."""

from __future__ import annotations

import pytest

from tests.dataplane.world import ADDRESS, World, group_spec, reassignments
from sncontroller.core import ofctl

VIP="10.0.0.10"

@pytest.mark.parametrize("pinning", ["conntrack", "learn"])
@pytest.mark.parametrize("arp", ["primary", "switch"])
def test_held(world: World, pinning: str, arp: str) -> None:
    spec = group_spec(pinning=pinning, arp=arp, match={"address": VIP, "protocol": ["tcp","udp"], "ports": [80, "8000-8003"]})
    world.add_nodes(spec, 1, 2, 3, ports=(80,8000,8001,8002,8003))
    world.install(spec)
    c = world.client()
    print(c.host.run("ping","-c1","-W2",VIP).stdout)
    r = c.do("open", address=VIP, port=80, count=100)
    print(r)
    r = c.do("open", address=VIP, port=8003, count=100)
    print(r)
    r = c.do("udp_open", address=VIP, port=8001, count=100)
    print(r)
    churn = c.start("churn", rounds=10000)
    for slots in reassignments([1,2,3], 20, 7):
        world.install(spec, slots)
        print(c.do("burst", address=VIP, port=80, total=100))
    c.do("stop")
    print(c.wait(churn))
    import time; time.sleep(12)
    for slots in reassignments([1,2,3], 1, 8):
        world.install(spec, slots)
    print(c.do("check"))
    print(world.ovs.appctl("dpctl/dump-flows")[:3000])
    assert 0
